//! Giving back what may be much, in steps: deliveries that are settled together, and all that a channel or a
//! connection holds when it closes.
//!
//! A step is bounded in work. Between two steps the session's task lets others have their turn; no input is
//! taken meanwhile and no delivery is sent, so that the client sees one thing after another.
//!
//! ```text
//!  closing:  withdraw the consumers ─> delete queues that go with them ─> empty the mailbox ─> roll back, give back the ledgers, oldest first
//!            ─> give back what was not sent ─> deliver to others ─> forget the consumers ─> answer
//! ```
//! All consumers are withdrawn, in all queues, before any message goes back: it would come to one that is
//! about to go. What comes back to a queue is delivered when all of it is back, so that it goes out in the
//! queue's order.

use std::collections::VecDeque;

use leveret_broker::events::INTERNAL_USER;
use leveret_broker::mailbox::{ConsumerSlot, Delivery};
use leveret_broker::queue::consumers::ConsumerRef;
use leveret_broker::queue::handle::giving_back::GivingBack;
use leveret_broker::queue::handle::{Held, Outcome, QueueHandle, QueueSettlement};
use leveret_broker::time::Timestamp;
use rustc_hash::FxHashMap;

use super::channel::PublishMode;
use super::connection::Connection;
use super::job::{Afterwards, Closing, Job, Settling, Stage, Starting, Undelivered, Whose};
use super::link::Link;
use super::queue_table::QueueNumber;
use super::unacked::Unacked;

/// What it costs to lock a queue that has little to do then, where an acknowledgement costs 1.
const QUEUE_COST: usize = 64;
/// What it costs to have a queue deliver.
const START_COST: usize = 256;
/// What it costs to delete a queue.
const DELETION_COST: usize = 512;
/// What it costs to withdraw or to forget a consumer.
const CONSUMER_COST: usize = 4;

/// Reading so many bytes of a message for its settlement costs 1.
pub(super) const READ_FOR_ONE: usize = 4096;

/// What it costs to settle a delivery, in addition, if its message must be read for that.
#[inline]
pub(super) fn cost_of_reading(held: &Held) -> usize {
    held.unread() / READ_FOR_ONE
}

impl Connection {
    /// What one step may cost.
    pub(super) fn step_cost(&self) -> usize {
        self.vhost.services.step_cost
    }

    /// Whether something is under way that goes on with the next [`Connection::go_on`].
    pub(super) fn is_working(&self) -> bool {
        self.waiting.is_working()
    }

    /// Has `job` done in steps, behind what is under way.
    pub(super) fn begin(&mut self, link: &Link, job: Job) {
        self.waiting.begin(link, job);
    }

    /// Does one step of what is under way; asks to be called again if there is more.
    pub(super) fn go_on(&mut self, link: &mut Link, now: Timestamp) {
        let Some(mut job) = self.waiting.next_job() else {
            return;
        };
        let goes_on = match &mut job {
            Job::Settling(settling) => self.settle_step(settling, now),
            Job::RollingBack(rolling) => self.roll_back_step(link, rolling),
            Job::Clearing(clearing) => self.clear_step(link, clearing),
            Job::Spreading(spreading) => self.spread_step(link, spreading, now),
            Job::Committing(committing) => self.commit_step(link, committing, now),
            Job::Showing(showing) => self.show_step(link, showing, now),
            Job::TakingBack(taking) => self.take_back_step(link, taking, now),
            Job::Starting(starting) => self.start_step(link, starting, now),
            Job::Telling => self.tell_some(link),
            Job::Closing(closing) => self.close_step(link, closing, now),
        };
        if goes_on {
            self.waiting.go_on_with(job);
        }
        let has_read = std::mem::take(&mut self.has_read);
        self.waiting.end_step(link, has_read);
    }

    /// Does all of a piece of work that fits into one step at once, and the rest later.
    pub(super) fn begin_now(&mut self, link: &mut Link, job: Job, now: Timestamp) {
        let is_next = !self.is_working();
        self.begin(link, job);
        if is_next {
            self.go_on(link, now);
        }
    }

    fn settle_step(&mut self, settling: &mut Settling, now: Timestamp) -> bool {
        let Settling {
            channel,
            up_to,
            outcome,
            ..
        } = *settling;
        let more = self.settle_some(channel, up_to, outcome);
        match outcome {
            Outcome::Acknowledged | Outcome::Rejected => self.flush_settlements(now),
            _ => self.flush_quietly(now),
        }
        if !more {
            let starting = Starting {
                queues: self.take_quiet(),
                reply: std::mem::take(&mut settling.reply),
            };
            self.waiting.go_on_with(Job::Starting(starting));
        }
        more
    }

    /// As [`Connection::flush_settlements`]; what comes back is not delivered yet.
    pub(super) fn flush_quietly(&mut self, now: Timestamp) {
        self.gathered = 0;
        let (vhost, quiet) = (&self.vhost, &mut self.quiet);
        let store = &vhost.services.store;
        self.queues.drain_settlements(store, |queue, settlements| {
            quiet
                .entry(queue.id())
                .or_insert_with(|| GivingBack::begin(queue, now));
            let effects = queue.settle_quietly(settlements, now);
            vhost.care(queue, effects, now);
        });
    }

    /// The queues that have something to deliver since [`Connection::flush_quietly`].
    pub(super) fn take_quiet(&mut self) -> Vec<GivingBack> {
        std::mem::take(&mut self.quiet).into_values().collect()
    }

    /// Lets some of the queues deliver.
    fn start_step(&mut self, link: &mut Link, starting: &mut Starting, now: Timestamp) -> bool {
        let most = (self.step_cost() / START_COST).max(1);
        let from = starting.queues.len().saturating_sub(most);
        for giving in starting.queues.drain(from..) {
            let (queue, effects) = giving.finish(now);
            self.vhost.care(&queue, effects, now);
        }
        if starting.queues.is_empty() {
            self.flush_settlements(now);
            link.output.buffer().extend_from_slice(&starting.reply);
        }
        !starting.queues.is_empty()
    }

    /// Gathers settlements of what is unacknowledged up to a tag, as many as fit into a step. Answers
    /// whether there are more.
    pub(super) fn settle_some(&mut self, number: u16, up_to: u64, outcome: Outcome) -> bool {
        let left = self.step_cost().saturating_sub(self.gathered);
        let Some(channel) = self.channels.get_mut(number) else {
            return false;
        };
        let at_least = usize::from(self.gathered == 0);
        let ledger = &mut channel.ledger;
        let mut count = 0;
        if let PublishMode::Transaction(transaction) = &mut channel.mode
            && outcome != Outcome::Returned
        {
            let more = ledger.take_some(up_to, left.max(at_least), |unacked| {
                count += 1;
                transaction.settle(unacked, outcome);
            });
            self.gathered += count;
            self.consider_settled(number);
            return more;
        }
        let mut credit = 0;
        let cost = outcome.cost();
        let queues = &mut self.queues;
        let mut most = (left / cost).max(at_least);
        let mut unread = 0;
        if ledger.has_older() {
            (most, unread) = ledger.readable(0, most, left.saturating_mul(READ_FOR_ONE));
            queues.expect_unread();
        }
        let more = ledger.take_some(up_to, most, |unacked: Unacked| {
            count += 1;
            credit += u32::from(unacked.consumer.is_some());
            queues.settle(unacked.queue, unacked.settled(outcome), true);
        });
        self.gathered += count * cost + unread / READ_FOR_ONE;
        self.has_read |= unread > 0;
        if channel.credit.give_back(credit) && self.freed.last() != Some(&number) {
            self.freed.push(number);
        }
        more
    }

    /// Gives up a channel; what it holds goes back before it is `afterwards` and the client is told.
    pub(super) fn close_channel(
        &mut self,
        link: &mut Link,
        number: u16,
        afterwards: Afterwards,
        reply: Vec<u8>,
        now: Timestamp,
    ) {
        let slots = self.consumers.slots_of_channel(number).collect();
        if let Some(channel) = self.channels.get_mut(number) {
            channel.credit.leave_all();
            channel.assembly = None;
        }
        let closing = Closing {
            channels: vec![number],
            afterwards,
            reply,
            ..Connection::closing(Whose::Channel(number), slots)
        };
        self.begin_now(link, Job::Closing(Box::new(closing)), now);
    }

    /// Gives up everything, in steps of [`Connection::go_on`].
    pub(super) fn leave(&mut self, link: &mut Link) {
        let now = link.now;
        self.leaves = true;
        let _written = self.publish_large();
        self.flush(link, now);
        // A commit under way is not undone.
        if let Some(committed) = self
            .waiting
            .take_parked()
            .and_then(|parked| parked.committed)
        {
            committed.commit.finish_alone(&self.vhost.services);
        }
        self.waiting.release_hold(link);
        for channel in self.channels.iter() {
            channel.credit.leave_all();
        }
        let slots: Vec<ConsumerSlot> = self.consumers.slots().collect();
        let consumes = !slots.is_empty();
        let closing = Closing {
            channels: self.channels.numbers(),
            ..Connection::closing(Whose::Connection, slots)
        };
        let job = Job::Closing(Box::new(closing));
        if consumes {
            // Others that go in this moment say so first: nothing is to come from one of them to another.
            self.begin(link, job);
        } else {
            self.begin_now(link, job, now);
        }
    }

    fn closing(whose: Whose, slots: Vec<ConsumerSlot>) -> Closing {
        Closing {
            whose,
            stage: Stage::Withdraw,
            withdrawn: 0,
            consumers: FxHashMap::default(),
            slots,
            doomed: Vec::new(),
            left: Vec::new(),
            starting: Vec::new(),
            channels: Vec::new(),
            undelivered: VecDeque::new(),
            afterwards: Afterwards::Gone,
            reply: Vec::new(),
        }
    }

    /// As much of closing as fits into a step. False: it is done.
    fn close_step(&mut self, link: &mut Link, closing: &mut Closing, now: Timestamp) -> bool {
        let mut left = self.step_cost();
        while left > 0 {
            let cost = match closing.stage {
                Stage::Withdraw => self.withdraw_some(closing, left, now),
                Stage::Doom => match closing.doomed.pop() {
                    Some(queue) => {
                        self.vhost.delete_queue(&queue, INTERNAL_USER);
                        DELETION_COST
                    }
                    None if self.vhost.clear_some() => left,
                    None => {
                        closing.stage = Stage::Empty;
                        0
                    }
                },
                Stage::Empty => {
                    closing.undelivered = self.empty_mailbox(link, closing.whose, now);
                    closing.stage = Stage::GiveBack;
                    self.step_cost() / 2
                }
                Stage::GiveBack => self.give_back_some(closing, now),
                Stage::Undelivered => {
                    let cost = self.settle_undelivered(&mut closing.undelivered, now);
                    if closing.undelivered.is_empty() {
                        closing.starting = self.take_quiet();
                        closing.stage = Stage::Start;
                    }
                    cost
                }
                Stage::Start => {
                    let starts = if let Some(giving) = closing.starting.pop() {
                        Some(giving.finish(now))
                    } else {
                        closing.left.pop().map(|queue| {
                            let effects = queue.start(now);
                            (queue, effects)
                        })
                    };
                    match starts {
                        Some((queue, effects)) => {
                            self.vhost.care(&queue, effects, now);
                            START_COST
                        }
                        None => {
                            closing.stage = Stage::Forget;
                            0
                        }
                    }
                }
                Stage::Forget => match closing.slots.pop() {
                    Some(slot) => {
                        self.forget_consumer(link, slot);
                        CONSUMER_COST
                    }
                    None if closing.whose == Whose::Connection => {
                        closing.stage = Stage::DeleteQueues;
                        0
                    }
                    None => {
                        self.end_channels(link, closing);
                        return false;
                    }
                },
                Stage::DeleteQueues => match self.exclusive_queues.pop() {
                    Some(queue) => {
                        self.vhost.delete_queue(&queue, INTERNAL_USER);
                        DELETION_COST
                    }
                    None if self.vhost.clear_some() => left,
                    None => {
                        self.end_channels(link, closing);
                        self.tell_closed(link);
                        return false;
                    }
                },
            };
            left = left.saturating_sub(cost);
        }
        true
    }

    /// Withdraws consumers for up to about `cost`; answers what it cost.
    fn withdraw_some(&mut self, closing: &mut Closing, cost: usize, now: Timestamp) -> usize {
        let mut by_queue: Vec<(QueueNumber, Vec<ConsumerRef>)> = Vec::new();
        let mut places: FxHashMap<QueueNumber, usize> = FxHashMap::default();
        let mut spent = 0;
        while spent < cost
            && let Some(&slot) = closing.slots.get(closing.withdrawn)
        {
            closing.withdrawn += 1;
            spent += CONSUMER_COST;
            let Some(consumer) = self.consumers.get(slot) else {
                continue;
            };
            *closing.consumers.entry(consumer.channel).or_default() += 1;
            let place = *places.entry(consumer.queue).or_insert(by_queue.len());
            match by_queue.get_mut(place) {
                Some((_, consumers)) => consumers.push(consumer.reference),
                None => {
                    spent += QUEUE_COST;
                    by_queue.push((consumer.queue, vec![consumer.reference]));
                }
            }
        }
        if spent < cost {
            closing.stage = Stage::Doom;
        }
        for (number, consumers) in by_queue {
            let Some(queue) = self.queues.queue(number).cloned() else {
                continue;
            };
            let mut effects = queue.withdraw(&consumers, now);
            if std::mem::take(&mut effects.delete_queue) {
                closing.doomed.push(queue.clone());
            }
            self.vhost.care(&queue, effects, now);
            let latest = closing.left.last().map(QueueHandle::id);
            if latest != Some(queue.id()) {
                closing.left.push(queue);
            }
        }
        spent
    }

    /// Takes the mailbox out: what was meant for consumers that go is answered, the rest is dealt with as usual.
    fn empty_mailbox(
        &mut self,
        link: &mut Link,
        whose: Whose,
        now: Timestamp,
    ) -> VecDeque<Undelivered> {
        link.mailbox.take(&mut self.letters);
        link.mailbox.stay_awake();
        match whose {
            Whose::Channel(number) => {
                let undelivered = self.take_undelivered(|consumer| consumer.channel == number);
                self.finish_letters(link, now);
                undelivered
            }
            Whose::Connection => {
                let undelivered = self.take_undelivered(|_| true);
                self.letters.notices.clear();
                self.letters.stalled.clear();
                undelivered
            }
        }
    }

    /// Takes out of the letters what was on its way to consumers that go.
    pub(super) fn take_undelivered(
        &mut self,
        goes: impl Fn(&super::consumers::Consumer) -> bool,
    ) -> VecDeque<Undelivered> {
        let mut undelivered = VecDeque::new();
        let mut others = Vec::new();
        for delivery in std::mem::take(&mut self.letters.deliveries) {
            let Some(consumer) = self.consumers.get(delivery.consumer) else {
                continue;
            };
            if !goes(consumer) {
                others.push(delivery);
                continue;
            }
            let Delivery { in_flight, .. } = delivery;
            // A delivery without acknowledgement that is not stored was never counted as in flight.
            let counted = !consumer.no_ack || in_flight.stored;
            let settlement = QueueSettlement {
                held: Held::Message(in_flight),
                consumer: (!consumer.no_ack).then_some(consumer.reference),
                outcome: if counted {
                    Outcome::Undelivered
                } else {
                    Outcome::Uncounted
                },
                delivered_at: Timestamp::NEVER,
            };
            undelivered.push_back((consumer.queue, settlement));
        }
        self.letters.deliveries = others;
        undelivered
    }

    /// Gives back a part of what the channels have not settled; answers what it cost.
    fn give_back_some(&mut self, closing: &mut Closing, now: Timestamp) -> usize {
        let Some(&number) = closing.channels.last() else {
            closing.stage = Stage::Undelivered;
            return 0;
        };
        let most = self.step_cost();
        if let Some(channel) = self.channels.get_mut(number)
            && let PublishMode::Transaction(transaction) = &mut channel.mode
            && transaction.roll_back_some(&mut channel.ledger, most)
        {
            return most;
        }
        let more = self.settle_some(number, u64::MAX, Outcome::Returned);
        let cost = self.gathered;
        self.flush_quietly(now);
        if !more {
            closing.channels.pop();
        }
        cost + 1
    }

    /// Gives back a part of what was not sent; answers what it cost.
    pub(super) fn settle_undelivered(
        &mut self,
        undelivered: &mut VecDeque<Undelivered>,
        now: Timestamp,
    ) -> usize {
        let cost = Outcome::Undelivered.cost();
        let count = undelivered.len().min((self.step_cost() / cost).max(1));
        for (queue, settlement) in undelivered.drain(..count) {
            self.queues.settle(queue, settlement, false);
        }
        self.flush_quietly(now);
        count * cost
    }

    /// The channels are empty.
    fn end_channels(&mut self, link: &mut Link, closing: &Closing) {
        let consumers_of = |number| closing.consumers.get(&number).copied().unwrap_or_default();
        match closing.whose {
            Whose::Channel(number) => {
                self.tell_channel_closed(link, number, consumers_of(number));
                match closing.afterwards {
                    Afterwards::Gone => {
                        self.channels.remove(number);
                    }
                    Afterwards::AwaitsCloseOk => {
                        if let Some(channel) = self.channels.get_mut(number) {
                            channel.reset_closing();
                        }
                    }
                }
                link.output.buffer().extend_from_slice(&closing.reply);
            }
            Whose::Connection => {
                let numbers = self.channels.numbers();
                for number in numbers {
                    self.tell_channel_closed(link, number, consumers_of(number));
                }
                self.channels.clear();
            }
        }
    }
}
