//! Events become messages: persistent, without a body, with the time in the properties and, exact to a
//! millisecond, in a header.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_codec::{
    AMQPValue, FieldTable, Properties, RawTable, decode_header, encode_table, write_names,
};
use leveret_message::{Body, Message, MessageScratch, Timestamp};
use leveret_store_api::broken::broken;
use parking_lot::Mutex;

use super::{EVENT_EXCHANGE, Event, Taken, WAITING_BYTES_MAX};
use crate::broker::{Broker, DEFAULT_VHOST};
use crate::handle::QueueHandle;
use crate::services::{Party, Services, Task};
use crate::vhost::VirtualHost;

/// Events that are taken together.
const BATCH_MAX: usize = 512;
/// Queues that take an event before others have their turn.
const STEP_MAX: usize = 64;
const PERSISTENT: u8 = 2;
/// Finding so many queues costs as much as having one take an event.
const QUEUES_FOR_ONE: usize = 16;
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
        let Taken { events, lost } = self.services.events.take(BATCH_MAX);
        if lost > 0 {
            tracing::warn!(lost, "more events at a time than can wait");
        }
        let Some(vhost) = self.vhost(DEFAULT_VHOST) else {
            broken(&"there is no default virtual host");
            return;
        };
        let telling = Telling {
            vhost,
            rest: Mutex::new(Some(Rest {
                events,
                current: None,
            })),
        };
        Arc::new(telling).go_on(&self.services, now);
    }

    /// Whether so much is staged that events, whom nobody holds back, would add to it without a bound.
    /// An alarm still gets through when publishers are held back already.
    fn is_store_far_behind(&self) -> bool {
        let bound = self.config.store_behind_bytes + WAITING_BYTES_MAX as u64;
        self.services.store.staged_bytes() > bound
    }
}

/// Events on their way to those who listen, who may be very many.
struct Telling {
    vhost: Arc<VirtualHost>,
    /// None: all is told.
    rest: Mutex<Option<Rest>>,
}

/// What is left of them.
struct Rest {
    events: VecDeque<Event>,
    /// One that not all queues have got.
    current: Option<(Message, smallvec::IntoIter<[QueueHandle; 1]>)>,
}

impl std::fmt::Debug for Telling {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Telling")
    }
}

impl Task for Telling {
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        let task: Arc<dyn Task> = Arc::<Telling>::clone(&self);
        let waker = self.vhost.services.waker(&task);
        // Whoever is woken before it is back in its place waits for it.
        let mut place = self.rest.lock();
        let Some(rest) = place.as_mut() else {
            return;
        };
        let mut left = STEP_MAX;
        while left > 0 {
            let Some((message, queues)) = &mut rest.current else {
                let Some(event) = rest.events.pop_front() else {
                    *place = None;
                    if services.events.told() {
                        services.publish_events_at(now + 1);
                    }
                    return;
                };
                let message = event.compose(now);
                let targets = message
                    .as_ref()
                    .and_then(|it| self.vhost.route_from_within(it, now));
                // A list of queues costs something, too.
                let cost = 1 + targets.as_ref().map_or(0, |it| it.len() / QUEUES_FOR_ONE);
                left = left.saturating_sub(cost);
                rest.current = message.zip(targets.map(IntoIterator::into_iter));
                continue;
            };
            while left > 0
                && let Some(queue) = queues.as_slice().first()
            {
                if !self.vhost.publish_to(queue, message, &waker, now) {
                    // It goes on when the queue takes something again.
                    return;
                }
                queues.next();
                left -= 1;
            }
            if queues.len() == 0 {
                rest.current = None;
            }
        }
        services.pager.ask(Party::Task(task));
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
