//! Spans of messages that bring a `traceparent` (W3C Trace Context) in their headers: published, routed, in a queue,
//! delivered, settled. Only what its sender has marked as sampled is watched.
//!
//! ```text
//!   the sender's span ── publish ─┬─ route
//!                                 └─ queue ── deliver ── settle      (a queue, and what follows, for each it goes to)
//! ```
//! Who watches is told through [`Spans::set_waker`], and takes what is finished. What is remembered meanwhile is bounded:
//! of a message that waits behind very many others the span of its queue is not told, and what follows hangs on the
//! sender's. Nothing here is called while nobody watches.

use std::collections::VecDeque;
use std::collections::hash_map::{HashMap, RandomState};
use std::hash::{BuildHasher, Hash};
use std::task::Waker;

use leveret_codec::{RawTable, decode_header};
use leveret_message::{Message, Timestamp};
use leveret_queue::mailbox::InFlight;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use leveret_routing::QueueId;
use leveret_store_api::Sequence;
use parking_lot::Mutex;

use crate::handle::QueueHandle;

/// The header that says which trace a message belongs to.
const TRACEPARENT: &str = "traceparent";
/// Messages in queues, and deliveries, that are remembered.
const REMEMBERED_MAX: usize = 1 << 14;
/// Finished spans that wait to be taken.
const FINISHED_MAX: usize = 1 << 14;

/// A trace, and a span of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Place {
    /// The trace.
    pub trace: u128,
    /// The span.
    pub span: u64,
}

/// What a span is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The broker takes something from a client.
    Takes,
    /// The broker gives something to a client.
    Gives,
    /// The broker does something by itself.
    Inside,
}

/// What is said of a span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// A text.
    Text(String),
    /// A number.
    Number(u64),
}

/// A finished span.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Span {
    /// Where it is.
    pub place: Place,
    /// The span it hangs on, of the same trace.
    pub parent: u64,
    /// What it is called.
    pub name: String,
    /// What it is of.
    pub role: Role,
    /// When it began.
    pub begin: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// More about it.
    pub said: Vec<(&'static str, Said)>,
}

/// All that is watched.
#[derive(Debug, Default)]
pub struct Spans {
    random: RandomState,
    inside: Mutex<Inside>,
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug, Default)]
struct Inside {
    made: u64,
    /// Messages that were published and not delivered, the earliest first.
    waiting: Remembered<(Place, QueueId), Waiting>,
    /// Deliveries that are not settled.
    delivered: Remembered<(QueueId, u8, Sequence), Waiting>,
    finished: Vec<Span>,
    /// So many found no room.
    lost: u64,
}

/// A span that has not ended.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    place: Place,
    parent: u64,
    since: Timestamp,
}

/// What is known by a key, of each key the earliest first. The earliest of all goes when there are too many.
#[derive(Debug)]
struct Remembered<K, V> {
    by_key: HashMap<K, VecDeque<V>>,
    order: VecDeque<K>,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self {
            by_key: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, V> Remembered<K, V> {
    fn add(&mut self, key: K, value: V) {
        if self.order.len() >= REMEMBERED_MAX
            && let Some(earliest) = self.order.pop_front()
        {
            // One that was taken since has left its key here: then there is nothing to forget.
            drop(self.take(&earliest));
        }
        self.order.push_back(key);
        self.by_key.entry(key).or_default().push_back(value);
    }

    fn take(&mut self, key: &K) -> Option<V> {
        let values = self.by_key.get_mut(key)?;
        let value = values.pop_front();
        if values.is_empty() {
            self.by_key.remove(key);
        }
        value
    }
}

/// What a `traceparent` says, if its trace is sampled.
fn parse(text: &[u8]) -> Option<Place> {
    let text = std::str::from_utf8(text).ok()?;
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (span, flags) = (parts.next()?, parts.next()?);
    let is_hex = |part: &str, length| {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        part.len() == length && part.bytes().all(digit)
    };
    let is_known =
        is_hex(version, 2) && version != "ff" && (version != "00" || parts.next().is_none());
    if !(is_known && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2)) {
        return None;
    }
    let place = Place {
        trace: u128::from_str_radix(trace, 16).ok()?,
        span: u64::from_str_radix(span, 16).ok()?,
    };
    let is_sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (is_sampled && place.trace != 0 && place.span != 0).then_some(place)
}

fn place_in(headers: Option<RawTable<'_>>) -> Option<Place> {
    parse(headers?.get(TRACEPARENT.as_bytes())?.as_bytes()?)
}

/// The sender's span.
fn place_of(message: &Message) -> Option<Place> {
    let header = decode_header(message.header()).ok()?;
    place_in(header.properties.headers)
}

fn text(text: impl AsRef<[u8]>) -> Said {
    Said::Text(String::from_utf8_lossy(text.as_ref()).into_owned())
}

impl Spans {
    /// Woken when there is something to take.
    pub fn set_waker(&self, waker: Waker) {
        *self.waker.lock() = Some(waker);
    }

    /// Takes some of what is finished; and how many spans found no room since the last time.
    #[must_use]
    pub fn take(&self, most: usize) -> (Vec<Span>, u64) {
        let mut inside = self.inside.lock();
        let count = most.min(inside.finished.len());
        let lost = std::mem::take(&mut inside.lost);
        (inside.finished.drain(..count).collect(), lost)
    }

    /// A message is on its way to these queues.
    pub fn published(&self, message: &Message, queues: &[QueueHandle], now: Timestamp) {
        let Some(sender) = place_of(message) else {
            return;
        };
        let (exchange, routing_key) = message.exchange_and_key();
        let mut inside = self.inside.lock();
        let place = self.place(&mut inside, sender);
        let route = self.place(&mut inside, sender);
        let names = || {
            vec![
                ("messaging.destination.name", text(exchange)),
                (
                    "messaging.rabbitmq.destination.routing_key",
                    text(routing_key),
                ),
            ]
        };
        let mut said = names();
        said.push((
            "messaging.message.body.size",
            Said::Number(message.body_bytes()),
        ));
        inside.finish(Span {
            place,
            parent: sender.span,
            name: format!("publish {}", String::from_utf8_lossy(exchange)),
            role: Role::Takes,
            begin: now,
            end: now,
            said,
        });
        let mut said = names();
        said.push(("leveret.queues", Said::Number(queues.len() as u64)));
        inside.finish(Span {
            place: route,
            parent: place.span,
            name: "route".to_owned(),
            role: Role::Inside,
            begin: now,
            end: now,
            said,
        });
        for queue in queues {
            let waiting = Waiting {
                place: self.place(&mut inside, sender),
                parent: place.span,
                since: now,
            };
            inside.waiting.add((sender, queue.id()), waiting);
        }
        drop(inside);
        self.wake();
    }

    /// A message goes out of a queue to a client.
    pub fn delivered(&self, queue: &QueueHandle, in_flight: &InFlight, now: Timestamp) {
        let Some(sender) = place_of(&in_flight.message) else {
            return;
        };
        let name = || ("messaging.destination.name", text(queue.name()));
        let mut inside = self.inside.lock();
        let mut parent = sender.span;
        // Another time, its wait began when it came back, which nobody knows.
        if let Some(waited) = inside.waiting.take(&(sender, queue.id())) {
            parent = waited.place.span;
            inside.finish(Span {
                place: waited.place,
                parent: waited.parent,
                name: format!("queue {}", queue.name()),
                role: Role::Inside,
                begin: waited.since,
                end: now,
                said: vec![name()],
            });
        }
        let place = self.place(&mut inside, sender);
        let redelivered = Said::Number(in_flight.redelivered.into());
        inside.finish(Span {
            place,
            parent,
            name: format!("deliver {}", queue.name()),
            role: Role::Gives,
            begin: now,
            end: now,
            said: vec![name(), ("leveret.redelivered", redelivered)],
        });
        let waiting = Waiting {
            place: self.place(&mut inside, sender),
            parent: place.span,
            since: now,
        };
        let key = (queue.id(), in_flight.level, in_flight.sequence);
        inside.delivered.add(key, waiting);
        drop(inside);
        self.wake();
    }

    /// Deliveries out of a queue are settled.
    pub fn settled(&self, queue: &QueueHandle, settlements: &[QueueSettlement], now: Timestamp) {
        let mut inside = self.inside.lock();
        if inside.delivered.by_key.is_empty() {
            return;
        }
        for settlement in settlements {
            let (level, sequence, _) = settlement.delivery.place();
            let Some(delivered) = inside.delivered.take(&(queue.id(), level, sequence)) else {
                continue;
            };
            let outcome = outcome(settlement.outcome);
            inside.finish(Span {
                place: delivered.place,
                parent: delivered.parent,
                name: format!("{outcome} {}", queue.name()),
                role: Role::Takes,
                begin: delivered.since,
                end: now,
                said: vec![
                    ("messaging.destination.name", text(queue.name())),
                    ("leveret.outcome", text(outcome)),
                ],
            });
        }
        let has_news = !inside.finished.is_empty();
        drop(inside);
        if has_news {
            self.wake();
        }
    }

    /// A new span of the same trace.
    fn place(&self, inside: &mut Inside, of: Place) -> Place {
        inside.made += 1;
        // Zero would be none.
        let span = self.random.hash_one(inside.made) | 1;
        Place { span, ..of }
    }

    fn wake(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }
}

impl Inside {
    fn finish(&mut self, span: Span) {
        if self.finished.len() < FINISHED_MAX {
            self.finished.push(span);
        } else {
            self.lost += 1;
        }
    }
}

/// What a client did, or what its leaving did.
fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Acknowledged => "ack",
        Outcome::Rejected | Outcome::Dropped => "reject",
        Outcome::Requeued | Outcome::Decided => "requeue",
        Outcome::Returned | Outcome::Undelivered | Outcome::Uncounted => "return",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_if_it_is_whole_and_sampled() {
        let place = Place {
            trace: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span: 0xb7ad_6b71_6920_3331,
        };
        assert_eq!(parse(PLACE.as_bytes()), Some(place));
        let later = format!("{}-what is new", PLACE.replacen("00", "cc", 1));
        assert_eq!(parse(later.as_bytes()), Some(place));
        for wrong in [
            String::new(),
            PLACE.replace("-01", "-00"),
            PLACE.replace("-01", "-1"),
            PLACE.replace("00-", "ff-"),
            PLACE.to_uppercase(),
            format!("{PLACE}-more"),
            format!("00-{:032}-b7ad6b7169203331-01", 0),
            format!("00-0af7651916cd43dd8448eb211c80319c-{:016}-01", 0),
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn the_earliest_is_forgotten_when_there_are_too_many() {
        let mut remembered = Remembered::default();
        for number in 0..REMEMBERED_MAX {
            remembered.add(number / 2, number);
        }
        assert_eq!(remembered.take(&1), Some(2));
        remembered.add(usize::MAX, 0);
        assert_eq!((remembered.take(&0), remembered.take(&0)), (Some(1), None));
        assert_eq!((remembered.take(&1), remembered.take(&1)), (Some(3), None));
        assert_eq!(remembered.take(&usize::MAX), Some(0));
    }
}
