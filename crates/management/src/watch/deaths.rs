//! Which queues got dead letters within the hour: those to which the dead letters of queues go that lost some.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::view::{QueueId, QueueView, Timestamp};

const HOUR: u64 = 3_600_000;
/// Deaths within this time are one note.
const NOTE: u64 = 60_000;

/// Virtual host, exchange and routing key.
type Way = (String, String, Option<String>);

#[derive(Debug, Default)]
pub(super) struct Deaths {
    /// Of the queues that lost some: how many, in all, were seen.
    seen: HashMap<QueueId, u64>,
    /// Of the queues that got some: when and how many.
    got: HashMap<QueueId, VecDeque<(Timestamp, u64)>>,
    /// Where the dead letters of queues with the same settings go: looked up once a look.
    ways: HashMap<Way, Vec<QueueId>>,
    /// All queues to which dead letters go.
    graves: HashSet<QueueId>,
}

impl Deaths {
    /// Begins a look.
    pub(super) fn begin(&mut self) {
        self.ways.clear();
        self.graves.clear();
    }

    /// A queue has lost so many so far. `is_young`: the broker was started within the hour, so that those of the first
    /// look died within it too.
    pub(super) fn note(&mut self, queue: &QueueView, total: u64, is_young: bool, now: Timestamp) {
        let Some((exchange, key)) = queue.dead_letters_to() else {
            return;
        };
        let way = (queue.vhost().to_owned(), exchange, key);
        let targets = self
            .ways
            .entry(way)
            .or_insert_with_key(|(_, exchange, key)| {
                queue.dead_letter_queues(exchange, key.as_deref())
            });
        self.graves.extend(targets.iter().copied());
        if total == 0 {
            return;
        }
        let before = self.seen.insert(queue.id(), total);
        let new = total
            - before
                .unwrap_or(if is_young { 0 } else { total })
                .min(total);
        if new == 0 {
            return;
        }
        for target in targets {
            let notes = self.got.entry(*target).or_default();
            match notes.back_mut().filter(|(at, _)| now - *at < NOTE) {
                Some((_, count)) => *count += new,
                None => notes.push_back((now, new)),
            }
        }
    }

    /// Lets go of what is older than an hour.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.got.retain(|_, notes| {
            while notes.front().is_some_and(|(at, _)| now - *at > HOUR) {
                notes.pop_front();
            }
            !notes.is_empty()
        });
    }

    /// Whether dead letters go to a queue.
    pub(super) fn is_grave(&self, queue: QueueId) -> bool {
        self.graves.contains(&queue)
    }

    /// How many a queue got within the hour.
    pub(super) fn within_the_hour(&self, queue: QueueId) -> u64 {
        let notes = self.got.get(&queue).into_iter().flatten();
        notes.map(|(_, count)| count).sum()
    }
}
