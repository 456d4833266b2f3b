//! Events become messages: persistent, without a body, with the time in the properties and, exact to a
//! millisecond, in a header.

use leveret_codec::{
    AMQPValue, FieldTable, Properties, RawTable, decode_header, encode_table, write_names,
};
use leveret_message::{Body, Message, MessageScratch, Timestamp};

use super::{EVENT_EXCHANGE, Event, Taken, WAITING_BYTES_MAX};
use crate::broker::{Broker, DEFAULT_VHOST};

/// Events that are published before others have their turn.
const BATCH_MAX: usize = 512;
const PERSISTENT: u8 = 2;
/// When events are looked at again that wait for the store.
const STORE_BEHIND_MS: u64 = 50;

impl Broker {
    /// Publishes events that wait.
    pub(crate) fn publish_events(&self, now: Timestamp) {
        if self.is_store_far_behind() {
            let later = now + STORE_BEHIND_MS;
            self.services.publish_events_at(later);
            return;
        }
        let Taken { events, lost, more } = self.services.events.take(BATCH_MAX);
        if lost > 0 {
            tracing::warn!(lost, "more events at a time than can wait");
        }
        if more {
            self.services.publish_events_at(now + 1);
        }
        let Some(vhost) = self.vhost(DEFAULT_VHOST) else {
            return;
        };
        for event in events {
            if let Some(message) = event.compose(now) {
                vhost.publish_from_within(&message, now);
            }
        }
    }

    /// Whether so much is staged that events, whom nobody holds back, would add to it without a bound.
    /// An alarm still gets through when publishers are held back already.
    fn is_store_far_behind(&self) -> bool {
        let bound = self.config.store_behind_bytes + WAITING_BYTES_MAX as u64;
        self.services.store.staged_bytes() > bound
    }
}

impl Event {
    /// None for a header larger than a header may be.
    fn compose(self, now: Timestamp) -> Option<Message> {
        let mut time = FieldTable::default();
        let milliseconds = i64::try_from(now.0).unwrap_or(i64::MAX);
        time.insert(
            "timestamp_in_ms".into(),
            AMQPValue::LongLongInt(milliseconds),
        );
        let mut headers = self.headers;
        headers.extend(encode_table(&time));
        let properties = Properties {
            headers: Some(RawTable::from_encoded(&headers)),
            delivery_mode: Some(PERSISTENT),
            timestamp: Some(now.0 / 1000),
            ..Properties::default()
        };
        let mut names = Vec::new();
        write_names(&mut names, EVENT_EXCHANGE.as_bytes(), self.key.as_bytes());
        let header = properties.encode_header(0);
        let header = decode_header(&header).ok()?;
        Some(Message::compose(
            &mut MessageScratch::default(),
            &names,
            &header,
            Body::Borrowed(&[]),
        ))
    }
}
