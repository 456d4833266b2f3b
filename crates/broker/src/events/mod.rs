//! The event exchange: what happens in the broker (queues, bindings, connections, users come and go)
//! is told to `amq.rabbitmq.event` in the default virtual host, by RabbitMQ's routing keys and headers.
//!
//! An event is composed where it happens, often under the topology's lock, and only if something is
//! bound; it waits in a leaf here until the timer task publishes it (`publish`). Nothing on the way of
//! a message knows of this.

mod administration;
mod connection;
mod properties;
mod publish;
mod topology;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret_codec::encode_table;
use leveret_message::Timestamp;
use leveret_routing::{Exchange, ExchangeKind};
use parking_lot::Mutex;

pub use connection::{Agreed, Closed, ConsumerTold, Dialled};
use properties::Properties;

/// The exchange that events go to.
pub(crate) const EVENT_EXCHANGE: &str = "amq.rabbitmq.event";
/// rabbitmq: who did what nobody asked for
pub const INTERNAL_USER: &str = "rmq-internal";
/// Events that may wait, bytes; more of them than this are lost.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What an event costs besides its headers, bytes.
const EVENT_BYTES: usize = 64;

/// Something that happened.
#[derive(Debug, Eq, PartialEq)]
pub struct Event {
    key: &'static str,
    /// An encoded table.
    headers: Vec<u8>,
}

impl Event {
    fn new(key: &'static str, properties: Properties) -> Event {
        Event {
            key,
            headers: encode_table(&properties.into_table()),
        }
    }

    fn bytes(&self) -> usize {
        EVENT_BYTES + self.headers.len()
    }
}

#[derive(Debug, Default)]
struct Waiting {
    events: VecDeque<Event>,
    bytes: usize,
    lost: u64,
    /// The timer task is to come, or is at work.
    called: bool,
}

/// Some of the events that waited.
#[derive(Debug, Default)]
struct Taken {
    events: VecDeque<Event>,
    lost: u64,
}

/// The events that wait to be published. A leaf of the lock order.
#[derive(Debug)]
pub struct Events {
    /// Something is bound to the exchange.
    heard: AtomicBool,
    waiting: Mutex<Waiting>,
    /// What was found while the broker was being opened, when nobody could hear of it yet; None once it is open.
    found: Mutex<Option<Vec<Event>>>,
    node: Box<str>,
    /// When the broker was opened, seconds: it makes process ids unique over restarts.
    opened_s: u64,
}

impl Events {
    pub(crate) fn new(node: &str, opened: Timestamp) -> Events {
        Events {
            heard: AtomicBool::new(false),
            waiting: Mutex::default(),
            found: Mutex::new(Some(Vec::new())),
            node: node.into(),
            opened_s: opened.0 / 1000,
        }
    }

    /// Whether anybody would get an event.
    pub fn is_heard(&self) -> bool {
        self.heard.load(Ordering::Relaxed)
    }

    /// Something is bound to the exchange now, or nothing any more.
    pub(crate) fn set_heard(&self, heard: bool) {
        self.heard.store(heard, Ordering::Relaxed);
    }

    /// Keeps an event for those who will hear it once the broker is open; gives it back if it is.
    pub(crate) fn keep(&self, event: Event) -> Option<Event> {
        match &mut *self.found.lock() {
            Some(found) => {
                found.push(event);
                None
            }
            None => Some(event),
        }
    }

    /// The broker is open: what was kept until now.
    pub(crate) fn open(&self) -> Vec<Event> {
        self.found.lock().take().unwrap_or_default()
    }

    /// Adds an event; true if the timer task must be called.
    pub(crate) fn push(&self, event: Event) -> bool {
        let mut waiting = self.waiting.lock();
        if waiting.bytes >= WAITING_BYTES_MAX {
            waiting.lost += 1;
            return false;
        }
        waiting.bytes += event.bytes();
        waiting.events.push_back(event);
        !std::mem::replace(&mut waiting.called, true)
    }

    /// Takes the oldest; [`Events::told`] follows.
    fn take(&self, count_max: usize) -> Taken {
        let mut waiting = self.waiting.lock();
        let count = waiting.events.len().min(count_max);
        let events: VecDeque<Event> = waiting.events.drain(..count).collect();
        waiting.bytes -= events.iter().map(Event::bytes).sum::<usize>();
        if waiting.events.is_empty() {
            waiting.events.shrink_to(count_max);
        }
        Taken {
            events,
            lost: std::mem::take(&mut waiting.lost),
        }
    }

    /// What was taken is published; answers whether others wait, for which the caller is to come again.
    fn told(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.called = !waiting.events.is_empty();
        waiting.called
    }

    /// A process id in RabbitMQ's form: 0 is a connection, other numbers are its channels.
    fn process(&self, session: u64, channel: u64) -> String {
        format!("<{}.{}.{session}.{channel}>", self.node, self.opened_s)
    }
}

/// The exchange as it is declared in the default virtual host.
pub(crate) fn event_exchange() -> Exchange {
    Exchange {
        name: EVENT_EXCHANGE.to_owned(),
        kind: ExchangeKind::Topic,
        durable: true,
        auto_delete: false,
        internal: true,
        arguments: leveret_codec::FieldTable::default(),
        alternate: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(number: usize) -> Event {
        Event::new("k", Properties::default().number("n", number as u64))
    }

    #[test]
    fn events_are_taken_in_order_and_the_taker_is_called_once() {
        let events = Events::new("n", Timestamp(1_000));
        let called: Vec<bool> = (0..3).map(|number| events.push(event(number))).collect();
        assert_eq!(called, [true, false, false]);
        let taken = events.take(2);
        assert_eq!(taken.events, [event(0), event(1)]);
        assert!(events.told() && !events.push(event(3)));
        let taken = events.take(9);
        assert_eq!(taken.events, [event(2), event(3)]);
        // Until these are published nobody else comes.
        assert!(!events.push(event(4)) && events.told());
        assert_eq!(events.take(9).events, [event(4)]);
        assert!(!events.told() && events.push(event(5)));
    }

    #[test]
    fn more_than_the_bound_is_lost_and_counted() {
        let events = Events::new("n", Timestamp(1_000));
        let text = "x".repeat(1 << 20);
        let large = || Event::new("k", Properties::default().text("t", &text));
        for _ in 0..70 {
            events.push(large());
        }
        let taken = events.take(1_000);
        assert_eq!((taken.events.len(), taken.lost), (64, 6));
        assert_eq!(events.waiting.lock().bytes, 0);
        assert!(!events.told() && events.push(large()));
        assert_eq!(events.take(1).lost, 0);
    }

    #[test]
    fn processes_have_ids_like_erlangs() {
        let events = Events::new("leveret@host", Timestamp(1_700_000_000_123));
        assert_eq!(events.process(7, 2), "<leveret@host.1700000000.7.2>");
    }
}
