//! Who is here: open connections, their channels and consumers, as administrators see them.
//!
//! What counts is counted by the session it belongs to, once a batch, in [`Figure`]s that nobody else changes; it is read
//! when somebody asks. The locks here are leaves, taken when something is opened or closed and never for a message.

mod channel;
mod connection;
mod figure;
mod traffic;

use std::sync::Arc;

use dashmap::DashMap;
use leveret_queue::queue::identity::SessionId;
use parking_lot::Mutex;

pub use channel::{ChannelFacts, ChannelMode};
pub use connection::{ConnectionFacts, ConnectionIdentity, ConnectionState, ConsumerFacts};
pub use figure::Figure;
pub use traffic::{SIZES, Traffic, place_of_size};

/// All connections that are open.
#[derive(Debug)]
pub struct Roll {
    connections: DashMap<u64, Arc<ConnectionFacts>>,
    past: Mutex<Past>,
}

/// What connections did that have left.
#[derive(Debug, Default)]
struct Past {
    traffic: Traffic,
    /// How many they are.
    left: u64,
}

impl Default for Roll {
    fn default() -> Roll {
        Roll {
            connections: DashMap::with_shard_amount(16),
            past: Mutex::default(),
        }
    }
}

impl Roll {
    /// A connection is open.
    pub fn enter(&self, facts: &Arc<ConnectionFacts>) {
        let session = facts.identity.session;
        self.connections.insert(session.0, Arc::clone(facts));
    }

    /// It is not any more.
    pub fn leave(&self, session: SessionId) {
        let Some((_, facts)) = self.connections.remove(&session.0) else {
            return;
        };
        let traffic = Traffic {
            connections_closed: 1,
            publishers: 0,
            ..facts.traffic()
        };
        let mut past = self.past.lock();
        past.left += 1;
        past.traffic.add(&Traffic {
            channels_closed: traffic.channels_opened,
            ..traffic
        });
        facts.left.set(past.left);
    }

    /// What all connections did since the start, those that have left included.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        // One that leaves meanwhile is in one of the two, and in both it is passed over in the one.
        let connections = self.connections();
        let (mut traffic, left) = {
            let past = self.past.lock();
            (past.traffic.clone(), past.left)
        };
        for facts in connections {
            let is_in_past = (1..=left).contains(&facts.left.get());
            if !is_in_past {
                traffic.add(&facts.traffic());
            }
        }
        traffic
    }

    /// Those that are open, in no order.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<ConnectionFacts>> {
        let all = self.connections.iter();
        all.map(|facts| Arc::clone(&facts)).collect()
    }

    /// One of them.
    #[must_use]
    pub fn connection(&self, session: SessionId) -> Option<Arc<ConnectionFacts>> {
        let found = self.connections.get(&session.0);
        found.map(|facts| Arc::clone(&facts))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use leveret_codec::ChannelNumber;
    use leveret_message::Timestamp;

    use super::*;

    fn facts(session: u64) -> Arc<ConnectionFacts> {
        let address = SocketAddr::from(([127, 0, 0, 1], 5672));
        Arc::new(ConnectionFacts::new(ConnectionIdentity {
            session: SessionId(session),
            remote: address,
            local: address,
            user: "guest".into(),
            mechanism: "PLAIN",
            vhost: "/".into(),
            connected_at: Timestamp(1),
            heartbeat_s: 0,
            frame_max: 0,
            channel_max: 1,
            client_properties: Arc::default(),
        }))
    }

    fn open_channel(facts: &ConnectionFacts, serial: u64, published: u64) {
        let channel = Arc::new(ChannelFacts::new(ChannelNumber(1), serial, Timestamp(1)));
        channel.note_published(published, Timestamp(1));
        facts.open_channel(&channel);
    }

    #[test]
    fn what_those_did_that_are_gone_still_counts() {
        let roll = Roll::default();
        let (first, second) = (facts(1), facts(2));
        roll.enter(&first);
        roll.enter(&second);
        open_channel(&first, 1, 3);
        open_channel(&first, 2, 4);
        open_channel(&second, 1, 5);
        first.close_channel(1);
        let seen = |roll: &Roll| {
            let it = roll.traffic();
            let connections = (it.connections_opened, it.connections_closed);
            let channels = (it.channels_opened, it.channels_closed);
            (connections, channels, it.publishers, it.published)
        };
        assert_eq!(seen(&roll), ((2, 0), (3, 1), 2, 12));
        roll.leave(SessionId(1));
        roll.leave(SessionId(1));
        assert_eq!(seen(&roll), ((2, 1), (3, 2), 1, 12));
        roll.leave(SessionId(2));
        assert_eq!(seen(&roll), ((2, 2), (3, 3), 0, 12));
    }
}
