//! A connection as administrators see it, with its consumers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use leveret_codec::{ChannelNumber, FieldTable, decode_table};
use leveret_message::Timestamp;
use leveret_queue::queue::consumers::ConsumerRef;
use leveret_queue::queue::identity::SessionId;
use leveret_routing::QueueId;
use parking_lot::Mutex;

use super::channel::ChannelFacts;
use super::figure::Figure;
use super::traffic::{SIZES, Traffic};

/// So many consumers are copied before their session may add others.
const SLICE: usize = 1024;

/// What a connection is at.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ConnectionState {
    /// It takes what comes.
    #[default]
    Running,
    /// It is held back for a moment, for those who come after it.
    Flow,
    /// The store is full, and nothing was published by it.
    Blocking,
    /// The store is full, and it is not read from.
    Blocked,
    /// What it held goes back.
    Closing,
}

impl ConnectionState {
    const ALL: [ConnectionState; 5] = [
        ConnectionState::Running,
        ConnectionState::Flow,
        ConnectionState::Blocking,
        ConnectionState::Blocked,
        ConnectionState::Closing,
    ];

    /// RabbitMQ's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ConnectionState::Running => "running",
            ConnectionState::Flow => "flow",
            ConnectionState::Blocking => "blocking",
            ConnectionState::Blocked => "blocked",
            ConnectionState::Closing => "closing",
        }
    }
}

/// A consumer.
#[derive(Debug)]
pub struct ConsumerFacts {
    /// Its channel.
    pub channel: ChannelNumber,
    /// Its consumer tag.
    pub tag: Box<[u8]>,
    /// What it consumes.
    pub queue: QueueId,
    /// What its queue knows it by.
    pub reference: ConsumerRef,
    /// Deliveries are settled by being sent.
    pub no_ack: bool,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged deliveries it may have; 0: no limit.
    pub prefetch: u16,
    /// Of `basic.consume`, encoded; empty where there are none.
    pub arguments: Box<[u8]>,
}

impl ConsumerFacts {
    /// The arguments of `basic.consume`.
    #[must_use]
    pub fn arguments(&self) -> FieldTable {
        table(&self.arguments)
    }
}

/// What never changes about a connection.
#[derive(Debug)]
pub struct ConnectionIdentity {
    /// Whose it is.
    pub session: SessionId,
    /// The client's address.
    pub remote: SocketAddr,
    /// The address it came to.
    pub local: SocketAddr,
    /// Who logged in.
    pub user: Box<str>,
    /// The SASL mechanism it was done with.
    pub mechanism: &'static str,
    /// Where to.
    pub vhost: Arc<str>,
    /// When it was opened.
    pub connected_at: Timestamp,
    /// How often each side sends something, seconds; 0 is never.
    pub heartbeat_s: u64,
    /// The longest frame.
    pub frame_max: u32,
    /// How many channels it may have.
    pub channel_max: u16,
    /// What the client said of itself, encoded.
    pub client_properties: Arc<[u8]>,
}

impl ConnectionIdentity {
    /// RabbitMQ's name for it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} -> {}", self.remote, self.local)
    }

    /// What the client said of itself.
    #[must_use]
    pub fn client_properties(&self) -> FieldTable {
        table(&self.client_properties)
    }
}

/// The channels of a connection.
#[derive(Debug, Default)]
struct Channels {
    open: Vec<Arc<ChannelFacts>>,
    /// What those did that are not open any more.
    past: Traffic,
}

/// A connection. All figures are its session's to change.
#[derive(Debug)]
pub struct ConnectionFacts {
    /// What never changes.
    pub identity: ConnectionIdentity,
    /// Bytes received.
    pub received_bytes: Figure,
    /// Times something was received.
    pub received: Figure,
    /// Bytes sent.
    pub sent_bytes: Figure,
    /// Times something was sent.
    pub sent: Figure,
    /// Bytes to be sent.
    pub to_send: Figure,
    /// Messages published, by their sizes, see [`SIZES`].
    sizes: [Figure; SIZES.len()],
    size_bytes: Figure,
    state: Figure,
    /// Which of the connections that have left it is, counted from 1; 0: it has not.
    pub(super) left: Figure,
    channels: Mutex<Channels>,
    /// By their session's slots.
    consumers: Mutex<BTreeMap<u32, Arc<ConsumerFacts>>>,
}

impl ConnectionFacts {
    /// A connection that is opened just now.
    #[must_use]
    pub fn new(identity: ConnectionIdentity) -> ConnectionFacts {
        ConnectionFacts {
            identity,
            received_bytes: Figure::default(),
            received: Figure::default(),
            sent_bytes: Figure::default(),
            sent: Figure::default(),
            to_send: Figure::default(),
            sizes: Default::default(),
            size_bytes: Figure::default(),
            left: Figure::default(),
            state: Figure::default(),
            channels: Mutex::default(),
            consumers: Mutex::default(),
        }
    }

    /// It is at something else from now on.
    #[inline]
    pub fn set_state(&self, state: ConnectionState) {
        self.state.set(state as u64);
    }

    /// What it is at.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        let all = ConnectionState::ALL.into_iter();
        let mut known = all.filter(|state| *state as u64 == self.state.get());
        known.next().unwrap_or_default()
    }

    /// A channel is open.
    pub fn open_channel(&self, channel: &Arc<ChannelFacts>) {
        self.channels.lock().open.push(Arc::clone(channel));
    }

    /// A channel is not any more.
    pub fn close_channel(&self, serial: u64) {
        let mut channels = self.channels.lock();
        let mut open = channels.open.iter();
        if let Some(place) = open.position(|it| it.serial == serial) {
            let closed = channels.open.swap_remove(place);
            channels.past.add(&Traffic {
                channels_closed: 1,
                publishers: 0,
                ..closed.traffic()
            });
        }
    }

    /// Its channels, in no order.
    #[must_use]
    pub fn channels(&self) -> Vec<Arc<ChannelFacts>> {
        self.channels.lock().open.clone()
    }

    /// How many channels it has.
    #[must_use]
    pub fn channel_count(&self) -> usize {
        self.channels.lock().open.len()
    }

    /// Messages of these sizes were published, with so many bytes; takes them out of `sizes`.
    #[inline]
    pub fn note_sizes(&self, sizes: &mut [u64; SIZES.len()], bytes: u64) {
        for (figure, count) in self.sizes.iter().zip(sizes) {
            if *count > 0 {
                figure.add(std::mem::take(count));
            }
        }
        self.size_bytes.add(bytes);
    }

    /// What it did.
    pub(super) fn traffic(&self) -> Traffic {
        let mut traffic = Traffic {
            connections_opened: 1,
            sizes: std::array::from_fn(|at| self.sizes.get(at).map_or(0, Figure::get)),
            size_bytes: self.size_bytes.get(),
            received_bytes: self.received_bytes.get(),
            received: self.received.get(),
            sent_bytes: self.sent_bytes.get(),
            sent: self.sent.get(),
            ..Traffic::default()
        };
        let channels = self.channels.lock();
        traffic.add(&channels.past);
        for channel in &channels.open {
            traffic.add(&channel.traffic());
        }
        traffic
    }

    /// It has a consumer in a slot of its session's.
    pub fn add_consumer(&self, slot: u32, consumer: ConsumerFacts) {
        let consumer = Arc::new(consumer);
        self.consumers.lock().insert(slot, consumer);
    }

    /// It has no consumer there any more.
    pub fn remove_consumer(&self, slot: u32) {
        let removed = self.consumers.lock().remove(&slot);
        drop(removed);
    }

    /// Its consumers, in no order. Of very many a part is copied at a time.
    #[must_use]
    pub fn consumers(&self) -> Vec<Arc<ConsumerFacts>> {
        let mut all = Vec::new();
        let mut from = Some(0);
        while let Some(first) = from {
            let consumers = self.consumers.lock();
            let slice = consumers.range(first..).take(SLICE);
            let before = all.len();
            from = None;
            for (slot, consumer) in slice {
                all.push(Arc::clone(consumer));
                from = slot.checked_add(1);
            }
            if all.len() - before < SLICE {
                break;
            }
        }
        all
    }
}

fn table(encoded: &[u8]) -> FieldTable {
    decode_table(encoded).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> ConnectionFacts {
        let address = SocketAddr::from(([127, 0, 0, 1], 5672));
        ConnectionFacts::new(ConnectionIdentity {
            session: SessionId(1),
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
        })
    }

    #[test]
    fn channels_come_and_go() {
        let facts = facts();
        for serial in 1..=3 {
            let channel = ChannelFacts::new(ChannelNumber(7), serial, Timestamp(1));
            facts.open_channel(&Arc::new(channel));
        }
        facts.close_channel(2);
        facts.close_channel(2);
        let mut left: Vec<u64> = facts.channels().iter().map(|it| it.serial).collect();
        left.sort_unstable();
        assert_eq!((left, facts.channel_count()), (vec![1, 3], 2));
    }

    #[test]
    fn states_are_kept() {
        let facts = facts();
        assert_eq!(facts.state(), ConnectionState::Running);
        for state in ConnectionState::ALL {
            facts.set_state(state);
            assert_eq!(facts.state(), state);
        }
    }
}
