//! Dead-lettering: the one place that composes new headers for an existing message.
//!
//! The `x-death` array and its companions follow RabbitMQ's dead-letter guide (4.x). The message
//! and its acknowledgement in the queue it leaves share one commit with its arrival in the next
//! queue, so that after a crash it is never in neither.

use std::sync::Arc;

use leveret_codec::{
    AMQPValue, FieldArray, FieldTable, RawTable, RawValue, decode_header, value_as_integer,
    write_field, write_names,
};
use leveret_deduplication::Look;
use leveret_message::arguments::text;
use leveret_message::{Body, Message, MessageScratch, Timestamp};
use leveret_queue::queue::effects::{DeadLetter, DeadLetterReason, Effects};
use leveret_routing::RouteInput;
use leveret_store_api::Change;
use leveret_store_api::failpoint::{self, Failpoint};
use parking_lot::Mutex;

use crate::broker::Broker;
use crate::exchange::{AT_ONCE_MAX, Incoming, Passage, Slice, Unit};
use crate::handle::QueueHandle;
use crate::services::{Party, Services, Task};
use crate::vhost::{Targets, VirtualHost};

/// Letters that are moved before others have their turn.
pub(crate) const LETTERS_MAX: usize = 256;

impl Broker {
    /// Moves on what is left of a queue's dead letters.
    pub(crate) fn go_on_moving(&self, queue: &QueueHandle, now: Timestamp) {
        if let Some(vhost) = self.vhost_to_care_for(&queue.identity().vhost) {
            let left = vhost.move_letters(queue, &mut { LETTERS_MAX }, now);
            vhost.carry_out_all(left, now);
        }
    }
}

impl VirtualHost {
    /// Moves letters out of a queue's outbox, in order: at most `letters_max`, which it counts down by one for each
    /// queue that gets one, and leaves the others to the pager. For its only mover; answers what their new queues left to
    /// be done.
    pub(crate) fn move_letters(
        self: &Arc<Self>,
        queue: &QueueHandle,
        letters_max: &mut usize,
        now: Timestamp,
    ) -> Vec<(QueueHandle, Effects)> {
        let mut left = Vec::new();
        while *letters_max > 0 {
            let Some((letter, left_at)) = queue.outbox().next() else {
                return left;
            };
            let now = now.max(left_at);
            match self.dead_letter(queue, letter, now) {
                Ok(of_letter) => {
                    *letters_max = letters_max.saturating_sub(of_letter.len().max(1));
                    left.extend(of_letter);
                }
                Err(passage) => {
                    let moving = Moving {
                        vhost: Arc::clone(self),
                        queue: queue.clone(),
                        letter: Mutex::new(Some(passage)),
                    };
                    self.services.pager.ask(Party::Task(Arc::new(moving)));
                    return left;
                }
            }
        }
        self.services.pager.ask(Party::Letters(queue.clone()));
        left
    }

    /// Publishes one dead letter; answers what its new queues left to be done.
    ///
    /// # Errors
    /// What cannot be done at once.
    fn dead_letter(
        self: &Arc<Self>,
        source: &QueueHandle,
        letter: DeadLetter,
        now: Timestamp,
    ) -> Result<Vec<(QueueHandle, Effects)>, Box<Passage>> {
        failpoint::reached(Failpoint::BeforeDeadLetter);
        let acknowledgement = acknowledgement(&letter);
        let Some(composed) = compose_for(source, &letter, now) else {
            self.services
                .store
                .stage(&mut acknowledgement.into_iter().collect());
            return Ok(Vec::new());
        };
        let barred = composed.barred();
        let incoming = composed.incoming(&barred);
        let (mut targets, stateful) = self.route_letter(&composed);
        if !barred.is_empty() {
            targets.retain(|target| incoming.admits(target));
        }
        let settles = acknowledgement.into_iter().collect();
        if stateful || targets.iter().any(QueueHandle::deduplicates) {
            return self
                .publish_past(&incoming, settles, now)
                .map(|passed| passed.left);
        }
        if targets.len() > AT_ONCE_MAX {
            return Err(Passage::to_queues(&incoming, settles, targets, self));
        }
        let mut unit = Unit::new(self.services.next_ticket(), settles);
        for target in targets {
            let message = std::iter::once(composed.message.clone());
            unit.enter(&target, message, Look::Moved, now);
        }
        let left = unit.finish(self, now).left;
        failpoint::reached(Failpoint::AfterDeadLetter);
        Ok(left)
    }

    fn route_letter(&self, composed: &Composed) -> (Targets, bool) {
        let keys: Vec<&[u8]> = composed.more_keys.iter().map(Vec::as_slice).collect();
        let decoded = composed.message.decode_header().ok();
        let input = RouteInput {
            headers: decoded
                .as_ref()
                .and_then(|header| header.properties.headers),
            more_keys: &keys,
            ..RouteInput::new(&composed.routing_key)
        };
        self.route_internally(&composed.exchange, &input)
    }
}

/// The change that takes the message out of the queue it leaves, if the store has it.
fn acknowledgement(letter: &DeadLetter) -> Option<Change<Message>> {
    letter.log.map(|log| Change::Acknowledge {
        log,
        first: letter.in_flight.sequence,
        count: 1,
    })
}

/// The message as the dead-letter exchange of the queue it leaves gets it; None: it goes nowhere.
fn compose_for(source: &QueueHandle, letter: &DeadLetter, now: Timestamp) -> Option<Composed> {
    let options = source.options();
    let exchange = options.dead_letter_exchange?;
    let routing_key = options.dead_letter_routing_key;
    compose(
        source.name(),
        &exchange,
        routing_key.as_deref(),
        letter,
        now,
    )
}

/// A dead letter ready for routing.
struct Composed {
    message: Message,
    exchange: String,
    reason: DeadLetterReason,
    random: u64,
    routing_key: Vec<u8>,
    more_keys: Vec<Vec<u8>>,
    /// Queue and reason of each death, newest first.
    deaths: Vec<(String, String)>,
}

impl Composed {
    /// Its way from the dead-letter exchange.
    fn incoming<'a>(&'a self, barred: &'a [String]) -> Incoming<'a> {
        Incoming {
            exchange: &self.exchange,
            resumes: false,
            returned: false,
            look: Look::Moved,
            message: &self.message,
            random: self.random,
            barred,
        }
    }

    /// A message that has come full circle with no rejection is dropped: these queues do not get it.
    fn barred(&self) -> Vec<String> {
        if self.reason == DeadLetterReason::Rejected {
            return Vec::new();
        }
        let deaths = self.deaths.iter();
        let unforced = deaths.take_while(|(_, reason)| reason != DeadLetterReason::Rejected.name());
        unforced.map(|(queue, _)| queue.clone()).collect()
    }
}

/// A letter on its way that could not be moved at once. Until it is there its queue's mover is this.
struct Moving {
    vhost: Arc<VirtualHost>,
    queue: QueueHandle,
    letter: Mutex<Option<Box<Passage>>>,
}

impl std::fmt::Debug for Moving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Moving({})", self.queue.name())
    }
}

impl Task for Moving {
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        let task: Arc<dyn Task> = Arc::<Moving>::clone(&self);
        let waker = self.vhost.services.waker(&task);
        let mut left = Vec::new();
        // Whoever is woken before it is back in its place waits for it.
        let mut place = self.letter.lock();
        let Some(letter) = place.as_mut() else {
            return;
        };
        let slice = letter.go_on(&self.vhost, services.step_cost, &waker, &mut left, now);
        if slice == Slice::Last {
            *place = None;
        }
        drop(place);
        self.vhost.carry_out_all(left, now);
        match slice {
            Slice::Last => {
                failpoint::reached(Failpoint::AfterDeadLetter);
                services.pager.ask(Party::Letters(self.queue.clone()));
            }
            Slice::More => services.pager.ask(Party::Task(task)),
            Slice::Waits => {}
        }
    }
}

fn long_string(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

/// Makes the message as the dead-letter exchange gets it; None if what was stored is not readable.
fn compose(
    queue: &str,
    exchange: &str,
    new_key: Option<&str>,
    letter: &DeadLetter,
    now: Timestamp,
) -> Option<Composed> {
    let message = &letter.in_flight.message;
    let (old_exchange, old_key) = message.exchange_and_key();
    let mut properties = message.decode_header().ok()?.properties;
    let present = properties.headers.unwrap_or_default();
    let marks = message.marks();
    let copies = strings(present.get(b"CC"));
    let mut old_keys = vec![long_string(old_key)];
    old_keys.extend(copies.iter().map(|key| long_string(key.as_slice())));
    let old_exchange = String::from_utf8_lossy(old_exchange).into_owned();
    let reason = letter.reason.name();

    // rabbitmq: what clients publish under these names is theirs, and says nothing of deaths (4.0)
    let earlier = marks.died.then(|| earlier_deaths(present));
    let entries = with_death(
        earlier.unwrap_or_default(),
        queue,
        reason,
        &old_exchange,
        old_keys,
        properties.expiration,
        now,
    );
    let deaths = entries
        .iter()
        .map(|entry| (text_of(entry, "queue"), text_of(entry, "reason")))
        .collect();
    // All other headers keep their bytes.
    let mut fields = Vec::with_capacity(present.as_encoded().len() + 512);
    present.copy_fields(&mut fields, |name| match name {
        b"CC" => new_key.is_none(),
        name if is_death_header(name) => marks.died && name.starts_with(FIRST_DEATH.as_bytes()),
        _ => true,
    });
    let entries: Vec<AMQPValue> = entries.into_iter().map(AMQPValue::FieldTable).collect();
    let entries = AMQPValue::FieldArray(FieldArray::from(entries));
    write_field(&mut fields, DEATHS, &entries);
    for (key, value) in [
        ("queue", queue),
        ("reason", reason),
        ("exchange", &old_exchange),
    ] {
        let first = format!("{FIRST_DEATH}{key}");
        if !marks.died || present.get(first.as_bytes()).is_none() {
            write_field(&mut fields, &first, &long_string(value));
        }
        let last = format!("{LAST_DEATH}{key}");
        write_field(&mut fields, &last, &long_string(value));
    }
    let (routing_key, more_keys, marks) = match new_key {
        Some(key) => {
            let key = key.as_bytes().to_vec();
            (key, Vec::new(), marks.without_blind_keys())
        }
        None => {
            // rabbitmq: all keys it was published with, those of BCC too
            let blind_keys = marks.blind_keys().map(<[u8]>::to_vec);
            let more_keys = copies.into_iter().chain(blind_keys).collect();
            (old_key.to_vec(), more_keys, marks)
        }
    };
    properties.headers = Some(RawTable::from_encoded(&fields));
    // Else the dead letter would expire again.
    properties.expiration = None;
    let header = properties.encode_header(message.body_bytes());
    let mut names = Vec::new();
    write_names(&mut names, exchange.as_bytes(), &routing_key);
    let body = message.large_body().map_or_else(
        || Body::Borrowed(message.body()),
        |body| Body::Owned(body.clone()),
    );
    let header = decode_header(&header).ok()?;
    let scratch = &mut MessageScratch::default();
    let message = Message::compose_marked(scratch, &names, marks.of_the_dead(), &header, body);
    Some(Composed {
        message,
        exchange: exchange.to_owned(),
        reason: letter.reason,
        random: letter.in_flight.sequence.0,
        routing_key,
        more_keys,
        deaths,
    })
}

/// The strings of an array value.
fn strings(value: Option<RawValue<'_>>) -> Vec<Vec<u8>> {
    let Some(RawValue::Array(array)) = value else {
        return Vec::new();
    };
    let string = |value| match value {
        Ok(RawValue::LongString(text)) => Some(text.to_vec()),
        _ => None,
    };
    array.iter().filter_map(string).collect()
}

/// The header with all deaths, and how those with the first and the latest one begin.
const DEATHS: &str = "x-death";
const FIRST_DEATH: &str = "x-first-death-";
const LAST_DEATH: &str = "x-last-death-";

/// Whether dead-lettering writes this header.
fn is_death_header(name: &[u8]) -> bool {
    let of_one = |prefix: &str| {
        let which = name.strip_prefix(prefix.as_bytes());
        which.is_some_and(|which| matches!(which, b"queue" | b"reason" | b"exchange"))
    };
    name == DEATHS.as_bytes() || of_one(FIRST_DEATH) || of_one(LAST_DEATH)
}

/// The deaths that a message carries, newest first.
fn earlier_deaths(headers: RawTable<'_>) -> Vec<FieldTable> {
    let Some(RawValue::Array(array)) = headers.get(DEATHS.as_bytes()) else {
        return Vec::new();
    };
    let entry = |value| match value {
        Ok(RawValue::Table(entry)) => Some(entry.to_table()),
        _ => None,
    };
    array.iter().filter_map(entry).collect()
}

fn text_of(entry: &FieldTable, key: &str) -> String {
    entry.inner().get(key).and_then(text).unwrap_or_default()
}

/// Puts this death in front, joined with an earlier one of the same queue and reason.
fn with_death(
    mut entries: Vec<FieldTable>,
    queue: &str,
    reason: &str,
    exchange: &str,
    routing_keys: Vec<AMQPValue>,
    expiration: Option<&[u8]>,
    now: Timestamp,
) -> Vec<FieldTable> {
    let earlier = entries
        .iter()
        .position(|entry| text_of(entry, "queue") == queue && text_of(entry, "reason") == reason);
    let entry = match earlier.map(|at| entries.remove(at)) {
        Some(mut entry) => {
            let count = entry
                .inner()
                .get("count")
                .and_then(value_as_integer)
                .unwrap_or(0);
            entry.insert(
                "count".into(),
                AMQPValue::LongLongInt(count.saturating_add(1)),
            );
            entry
        }
        None => {
            let mut entry = FieldTable::default();
            entry.insert("count".into(), AMQPValue::LongLongInt(1));
            entry.insert("reason".into(), long_string(reason));
            entry.insert("queue".into(), long_string(queue));
            entry.insert("time".into(), AMQPValue::Timestamp(now.seconds()));
            entry.insert("exchange".into(), long_string(exchange));
            entry.insert(
                "routing-keys".into(),
                AMQPValue::FieldArray(FieldArray::from(routing_keys)),
            );
            if let Some(expiration) = expiration {
                entry.insert("original-expiration".into(), long_string(expiration));
            }
            entry
        }
    };
    entries.insert(0, entry);
    entries
}
