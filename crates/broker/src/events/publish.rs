//! Events become messages: persistent, without a body, with the time in the properties and, exact to a
//! millisecond, in a header.

use leveret_codec::{
    AMQPValue, FieldTable, Properties, RawTable, decode_header, encode_table, write_names,
};

use super::{EVENT_EXCHANGE, Event, Taken};
use crate::broker::{Broker, DEFAULT_VHOST};
use crate::message::{Body, Message, MessageScratch};
use crate::services::Party;
use crate::time::Timestamp;

/// Events that are published before others have their turn.
const BATCH_MAX: usize = 512;
const PERSISTENT: u8 = 2;

impl Broker {
    /// Publishes events that wait.
    pub(crate) fn publish_events(&self, now: Timestamp) {
        let Taken { events, lost, more } = self.services.events.take(BATCH_MAX);
        if lost > 0 {
            tracing::warn!(lost, "more events at a time than can wait");
        }
        if more {
            self.services.deadlines.add(now + 1, Party::Events);
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
