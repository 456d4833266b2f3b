//! See [`crate::check`].

use std::collections::BTreeSet;

use leveret_message::Store;
use leveret_store_api::Sequence;

use super::Queue;
use super::hidden::HiddenCounts;
use crate::check::{Faults, OfQueue};

impl Queue {
    /// `held`: what sessions have of its messages. With a `store` nobody is at work, and all is durable.
    pub fn check(&self, held: &OfQueue, store: Option<&Store>, faults: &mut Faults) {
        if self.deleted {
            return;
        }
        faults.same("changes that are not staged", self.changes.len(), 0);
        let mut ready = 0;
        let (mut memory, mut body_bytes) = (0, 0);
        let mut hidden = HiddenCounts::default();
        let mut logs = BTreeSet::new();
        for (index, level) in self.levels.iter().enumerate() {
            let counted = level.check(faults);
            ready += counted.messages;
            memory += counted.memory;
            body_bytes += counted.body_bytes;
            hidden.add(counted.hidden);
            faults.holds(
                "no level above the top has messages",
                index <= self.top || counted.messages == 0,
            );
            if let Some(log) = level.log {
                faults.holds("a log is of one level", logs.insert(log));
            }
            if let Some(store) = store {
                self.check_stored(index, counted.stored, held, store, faults);
            }
        }
        faults.same("ready", self.ready, ready);
        faults.same("memory of the ready ones", self.ready_memory, memory);
        faults.same("bytes of the ready ones", self.ready_body_bytes, body_bytes);
        faults.same("hidden", self.hidden, hidden);
        faults.holds(
            "what is promised is hidden",
            self.promised.messages <= hidden.messages
                && self.promised.body_bytes <= hidden.body_bytes,
        );
        self.retries.check(faults);
        self.consumers.check(faults);
        self.check_in_flight(held, store.is_some(), faults);
    }

    /// What the store has of a level is in the queue, waits for its retry, or is in flight.
    fn check_stored(
        &self,
        index: usize,
        ready: u64,
        held: &OfQueue,
        store: &Store,
        faults: &mut Faults,
    ) {
        let (Ok(number), Some(log)) = (u8::try_from(index), self.levels[index].log) else {
            return;
        };
        if store.is_volatile() {
            return;
        }
        let of_level = |place: &&(u8, Sequence, bool)| place.0 == number && place.2;
        let in_flight = held.places.iter().filter(of_level).count() as u64;
        let counted = ready + in_flight + self.retries.stored(number);
        let live = store.log_state(log).map_or(0, |state| state.live);
        // What could not be read may be read after the next start, and is in no queue until then.
        let damaged = self.statistics.totals().discarded.damaged;
        if damaged == 0 {
            faults.same("messages in the store", live, counted);
        }
    }

    fn check_in_flight(&self, held: &OfQueue, is_whole: bool, faults: &mut Faults) {
        let ready = self.levels.iter().zip(0u8..=255);
        let ready = ready.flat_map(|(level, number)| level.places().map(move |at| (number, at)));
        let mut inside: BTreeSet<(u8, Sequence)> = BTreeSet::new();
        for place in ready.chain(self.retries.places()) {
            faults.holds("a message is in the queue once", inside.insert(place));
        }
        for &(level, sequence, _) in &held.places {
            faults.holds(
                "a message is in the queue, or out of it once",
                inside.insert((level, sequence)),
            );
        }
        let of_consumers = self.consumers.in_flight();
        faults.holds(
            "what consumers hold is in flight",
            of_consumers
                .values()
                .map(|&held| u64::from(held))
                .sum::<u64>()
                <= self.in_flight,
        );
        if is_whole {
            faults.same("in flight", self.in_flight, held.in_flight);
            for (consumer, in_flight) in of_consumers {
                let counted = held.by_consumer.get(&consumer).copied().unwrap_or(0);
                faults.same("in flight to a consumer", in_flight, counted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leveret_codec::{ContentHeader, write_names};
    use leveret_message::{Body, Message, MessageScratch, Timestamp};
    use leveret_store_api::MemoryStore;

    use super::*;
    use crate::queue::effects::Effects;
    use crate::queue::memory::QueueMemory;
    use crate::queue::options::QueueOptions;
    use crate::queue::publish::Batch;

    const NOW: Timestamp = Timestamp(1_000);

    /// A queue with three messages.
    fn queue() -> Queue {
        let mut names = Vec::new();
        write_names(&mut names, b"", b"q");
        let header = ContentHeader::default();
        let mut scratch = MessageScratch::default();
        let message = Message::compose(&mut scratch, &names, &header, Body::Borrowed(b"body"));
        let store = Arc::new(MemoryStore::new());
        let memory = QueueMemory {
            head_bytes: 1 << 20,
            tail_bytes: 1 << 20,
            publisher_ahead_bytes: 1 << 20,
        };
        let options = QueueOptions::default();
        let mut queue = Queue::new(options, false, false, store, memory, NOW);
        let messages = std::iter::repeat_n(message, 3);
        let mut effects = Effects::default();
        let mut batch = Batch::of(messages);
        queue.publish(&mut batch, NOW, &mut Vec::new(), &mut effects);
        queue
    }

    fn faults(queue: &Queue, held: &OfQueue) -> Vec<String> {
        let store: Store = Arc::new(MemoryStore::new());
        let mut faults = Faults::default();
        queue.check(held, Some(&store), &mut faults);
        faults.into_found()
    }

    #[test]
    fn what_balances_has_no_faults() {
        let mut queue = queue();
        assert_eq!(faults(&queue, &OfQueue::default()), [""; 0]);
        queue.get(false, NOW, &mut Effects::default());
        let held = OfQueue {
            in_flight: 1,
            places: vec![(0, Sequence(0), false)],
            ..OfQueue::default()
        };
        assert_eq!(faults(&queue, &held), [""; 0]);
    }

    #[test]
    fn each_wrong_count_is_found() {
        type Breaks = fn(&mut Queue);
        let wrong: [(&str, Breaks); 7] = [
            ("ready", |it| it.ready += 1),
            ("memory of the ready ones", |it| it.ready_memory -= 1),
            ("bytes of the ready ones", |it| it.ready_body_bytes += 1),
            ("in flight", |it| it.in_flight += 1),
            ("hidden", |it| it.hidden.messages += 1),
            ("what is promised is hidden", |it| it.promised.messages += 1),
            ("ready: 3, counted 2", |it| drop(it.levels[0].pop())),
        ];
        for (expected, breaks) in wrong {
            let mut queue = queue();
            breaks(&mut queue);
            let found = faults(&queue, &OfQueue::default()).join("\n");
            assert!(found.contains(expected), "{expected}: {found}");
        }
    }
}
