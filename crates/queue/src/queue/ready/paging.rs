//! How a level's messages leave memory and come back: the tail's oldest become the paged run, the
//! paged run's first are read into the head. Says what is to be written and read; does neither.

use leveret_message::{Message, Timestamp};
use leveret_store_api::broken::without;
use leveret_store_api::{
    Change, CommitPoint, DamagedMessage, Enqueue, LogId, Sequence, StoredMessage,
};

use super::{Entry, Level, PageIn, Paged, Unready, Whose};
use crate::queue::delivery_count::DeliveryCount;

/// So many messages leave memory, or are spilled, before others may have the queue.
const SLICE: usize = 4096;
/// So many messages are read together, however small they are.
const READ_MAX: usize = 2048;

impl Level {
    /// Whether the tail holds more than its window.
    pub(crate) fn is_crowded(&self, tail_window: usize) -> bool {
        self.tail_memory > tail_window
    }

    /// Moves the tail's oldest messages into the paged run until the tail fits its window. Messages
    /// the store does not have yet are spilled to it first, and leave memory at a later call. Of very many some are
    /// left; answers whether that is so.
    pub(crate) fn page_out(
        &mut self,
        tail_window: usize,
        durable: CommitPoint,
        allocate: impl FnOnce() -> LogId,
        spill: &mut Vec<Change<Message>>,
    ) -> bool {
        if self.tail_memory <= tail_window {
            return false;
        }
        while let Some(&(below, point)) = self.staged.front() {
            if point > durable {
                break;
            }
            self.durable_below = below;
            self.staged.pop_front();
        }
        let mut left = SLICE;
        while self.tail_memory > tail_window {
            let Some(front) = self.tail.front() else {
                break;
            };
            if left == 0 {
                return true;
            }
            left -= 1;
            let waits = front.stored
                && (front.sequence.0 >= self.durable_below || self.hidden.contains(front.sequence));
            // Behind a message that waits for the store others are spilled by the window, so that the
            // store knows how far behind it is and publishers are held for it.
            if !front.stored || (waits && self.tail_unstored > tail_window) {
                return self.spill_tail(allocate, spill);
            }
            if waits {
                return false;
            }
            let Some(entry) = self.tail.pop_front() else {
                break;
            };
            let memory = entry.message.memory_bytes();
            self.tail_memory -= memory;
            let until = Sequence(entry.sequence.0 + 1);
            let paged = self.paged.get_or_insert(Paged {
                from: entry.sequence,
                until,
                count: 0,
                memory: 0,
                body_bytes: 0,
            });
            paged.until = until;
            paged.count += 1;
            paged.memory += memory as u64;
            paged.body_bytes += entry.message.body_bytes();
        }
        false
    }

    /// Spills the tail's oldest messages that the store does not have; answers whether there are more.
    fn spill_tail(
        &mut self,
        allocate: impl FnOnce() -> LogId,
        spill: &mut Vec<Change<Message>>,
    ) -> bool {
        let log = *self.log.get_or_insert_with(allocate);
        let mut first = u64::MAX;
        let mut left = SLICE;
        let mut unstored = self.tail_unstored;
        for entry in self.tail.iter_mut().filter(|entry| !entry.stored) {
            if left == 0 {
                break;
            }
            left -= 1;
            entry.stored = true;
            unstored = without(unstored, entry.message.memory_bytes(), "memory not stored");
            first = first.min(entry.sequence.0);
            spill.push(Change::Enqueue(Enqueue {
                log,
                sequence: entry.sequence,
                flags: 0,
                time_ms: entry.expires_at.0,
                transient: true,
                payload: entry.message.clone(),
            }));
        }
        self.tail_unstored = if left > 0 { 0 } else { unstored };
        // What is spilled now reaches the disk later than anything staged before.
        self.durable_below = self.durable_below.min(first);
        self.staged.retain(|&(below, _)| below <= first);
        self.tail_unstored > 0
    }

    /// Puts a message back that is to leave memory once the store has it; what the store does not have
    /// is added to `spill`.
    pub(crate) fn put_back_leaving(
        &mut self,
        mut entry: Entry,
        allocate: impl FnOnce() -> LogId,
        spill: &mut Vec<Change<Message>>,
    ) {
        if !entry.stored {
            entry.stored = true;
            spill.push(Change::Enqueue(Enqueue {
                log: *self.log.get_or_insert_with(allocate),
                sequence: entry.sequence,
                flags: 0,
                time_ms: entry.expires_at.0,
                transient: true,
                payload: entry.message.clone(),
            }));
        }
        self.returned.insert_leaving(entry);
    }

    /// Lets what came back leave memory beyond `window`; answers whether more of it is to leave. `staged`
    /// says when everything staged so far is durable.
    pub(crate) fn page_out_returned(
        &mut self,
        durable: CommitPoint,
        window: usize,
        staged: impl FnOnce() -> CommitPoint,
    ) -> bool {
        if self.returned.awaits_staging() {
            self.returned.staged_at(staged());
        }
        self.returned.page_out(durable, window);
        self.returned.is_crowded(window)
    }

    /// Whether the head runs low while messages wait that only the store has.
    pub(crate) fn wants_page_in(&self, head_window: usize) -> bool {
        let is_wanted = || match self.returned.first_on_disk() {
            Some(_) => self.returned_run_low(head_window),
            None => self.paged.is_some() && self.head_runs_low(head_window),
        };
        !self.loading && self.log.is_some() && is_wanted()
    }

    /// Whether there is room for what came back and is on disk, or it is next.
    fn returned_run_low(&self, head_window: usize) -> bool {
        self.returned.first_is_on_disk() || self.returned.memory() <= head_window / 2
    }

    /// Whether there is room at the head for what comes from the store.
    pub(crate) fn head_runs_low(&self, head_window: usize) -> bool {
        self.returned.memory() + self.head_memory <= head_window / 2
    }

    /// What should be read now, if anything; answers once until [`Level::loaded`] is called.
    pub(crate) fn page_in_request(
        &mut self,
        level: u8,
        head_window: usize,
        bytes_max: usize,
    ) -> Option<PageIn> {
        if !self.wants_page_in(head_window) {
            return None;
        }
        self.request(level, bytes_max)
    }

    /// What must be read to have a message at the head, whether or not a read is under way.
    pub(crate) fn urgent_request(&mut self, level: u8, bytes_max: usize) -> Option<PageIn> {
        let returned_is_next = self.returned.first_is_on_disk() && self.next_came_back();
        let is_needed = returned_is_next || (self.head.is_empty() && self.returned.is_empty());
        if is_needed {
            self.request(level, bytes_max)
        } else {
            None
        }
    }

    fn request(&mut self, level: u8, bytes_max: usize) -> Option<PageIn> {
        let log = self.log?;
        let (whose, from, messages_max) = match self.returned.first_on_disk() {
            Some((first, count)) => {
                let count = usize::try_from(count).unwrap_or(usize::MAX);
                (Whose::Returned, first, count.min(READ_MAX))
            }
            None => (Whose::Paged, self.paged?.from, READ_MAX),
        };
        self.loading = true;
        Some(PageIn {
            level,
            log,
            from,
            messages_max,
            bytes_max,
            epoch: self.epoch,
            whose,
        })
    }

    /// How often a message that comes from the store was delivered: only those from before the start were.
    fn count_before(&self, sequence: Sequence, retries: u8, count: u32) -> DeliveryCount {
        let before = self.delivered_before;
        let by_place = if sequence < before.uncertain_below {
            DeliveryCount::PERHAPS
        } else {
            DeliveryCount::of(u16::from(sequence < before.below))
        };
        // A retry says how often it came back.
        let by_retries = DeliveryCount::of(u16::from(retries));
        let noted = DeliveryCount::from_stored(count);
        noted.max(by_retries).max(by_place)
    }

    /// What was asked for could not be read; it may be asked for again.
    pub(crate) fn read_failed(&mut self, request: &PageIn) {
        if request.epoch == self.epoch {
            self.loading = false;
        }
    }

    /// Takes in what was read. What is not ready at `now`, or not there, is added to `unready`.
    pub(crate) fn loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        mut damaged: Vec<DamagedMessage<Message>>,
        expires: impl Fn(&StoredMessage<Message>) -> Timestamp,
        now: Timestamp,
        unready: &mut Unready,
    ) {
        if request.epoch != self.epoch {
            messages.clear();
            return;
        }
        self.loading = false;
        if request.whose == Whose::Returned {
            return self.returned_loaded(request, messages, damaged, expires, unready);
        }
        let Some(mut paged) = self.paged.take() else {
            messages.clear();
            return;
        };
        let found = !messages.is_empty() || !damaged.is_empty();
        let run = paged.from..paged.until;
        messages.retain(|stored| run.contains(&stored.sequence));
        damaged.retain(|damaged| run.contains(&damaged.sequence));
        if messages.is_empty() && damaged.is_empty() {
            if found {
                // Another read was faster.
                self.paged = Some(paged);
            } else {
                // The store has none of the rest.
                paged.lose_all(&mut unready.lost);
            }
            return;
        }
        if !self.decided.is_empty() {
            // These are on their way elsewhere.
            let last = leveret_message::damaged::last_of(messages, &damaged);
            messages.retain(|stored| !self.decided.contains(stored.sequence));
            damaged.retain(|damaged| !self.decided.contains(damaged.sequence));
            if let Some(last) = last.filter(|_| messages.is_empty()) {
                paged.from = Sequence(last.0 + 1);
            }
        }
        let next = damaged
            .last()
            .map_or(paged.from, |last| Sequence(last.sequence.0 + 1));
        paged.lose(damaged.len() as u64, &mut unready.lost);
        unready.damaged = damaged
            .into_iter()
            .map(|damaged| {
                let (retries, count) = damaged
                    .head
                    .as_ref()
                    .map_or((0, 0), |head| (head.flags, head.count));
                let delivery_count = self.count_before(damaged.sequence, retries, count);
                (damaged, delivery_count)
            })
            .collect();
        for stored in messages.drain(..) {
            let memory = stored.payload.memory_bytes();
            paged.from = Sequence(stored.sequence.0 + 1);
            paged.count = without(paged.count, 1, "messages of a run");
            (paged.memory, paged.body_bytes) = unready.lost.read(
                (paged.memory, paged.body_bytes),
                memory as u64,
                stored.payload.body_bytes(),
            );
            let (retries, time) = (stored.flags, Timestamp(stored.time_ms));
            let expires_at = expires(&stored);
            let delivery_count = self.count_before(stored.sequence, stored.flags, stored.count);
            let entry = Entry {
                sequence: stored.sequence,
                redelivered: !delivery_count.is_none(),
                message: stored.payload,
                expires_at,
                delivery_count,
                retries,
                stored: true,
            };
            if u32::from(entry.delivery_count.certain()) > unready.limit {
                unready.spent.push(entry);
            } else if retries > 0 && time > now {
                unready.waiting.push((time, entry));
            } else {
                self.head_memory += memory;
                self.head.push_back(entry);
            }
        }
        paged.from = paged.from.max(next);
        if paged.count > 0 && paged.from < paged.until {
            self.paged = Some(paged);
        } else {
            paged.lose_all(&mut unready.lost);
        }
    }

    /// Takes in what came back and had left memory. What the store does not have is forgotten.
    fn returned_loaded(
        &mut self,
        request: &PageIn,
        messages: &mut Vec<StoredMessage<Message>>,
        damaged: Vec<DamagedMessage<Message>>,
        expires: impl Fn(&StoredMessage<Message>) -> Timestamp,
        unready: &mut Unready,
    ) {
        let Unready {
            limit, spent, lost, ..
        } = unready;
        let end = Sequence(request.from.0 + request.messages_max as u64);
        let last = messages.last().map(|last| Sequence(last.sequence.0 + 1));
        for stored in messages.drain(..) {
            let sequence = stored.sequence;
            let bytes = (
                stored.payload.memory_bytes() as u64,
                stored.payload.body_bytes(),
            );
            // Another read may have been faster.
            let read = self.returned.read_back(sequence, Some(bytes), lost);
            let Some(came) = read else {
                continue;
            };
            let entry = Entry {
                sequence,
                expires_at: expires(&stored),
                retries: came.retries,
                message: stored.payload,
                delivery_count: came.delivery_count,
                redelivered: came.redelivered,
                stored: true,
            };
            if u32::from(came.delivery_count.certain()) > *limit {
                spent.push(entry);
            } else {
                self.returned.insert(entry);
            }
        }
        let last_damaged = damaged.last().map(|last| Sequence(last.sequence.0 + 1));
        for damaged in damaged {
            let read = self.returned.read_back(damaged.sequence, None, lost);
            if let Some(came) = read {
                unready.damaged.push((damaged, came.delivery_count));
            }
        }
        let until = last.max(last_damaged).map_or(end, |last| last.min(end));
        self.returned.forget(request.from, until, lost);
    }
}
