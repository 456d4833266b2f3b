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
use leveret_broker::exchange::Slice;
use leveret_codec::ChannelNumber;
use leveret_message::Timestamp;
use leveret_queue::mailbox::ConsumerSlot;
use leveret_queue::queue::settle::Outcome;
use rustc_hash::FxHashMap;

use super::connection::Connection;
use super::consumers::Consumer;
use super::job::{
    Afterwards, CONSUMER_COST, Closing, Job, Settling, Stage, Starting, Undelivered, Whose,
};
use super::link::Link;

/// What it costs to have a queue deliver.
const START_COST: usize = 256;
/// What it costs to delete a queue.
const DELETION_COST: usize = 1024;

fn more(goes_on: bool) -> Slice {
    match goes_on {
        true => Slice::More,
        false => Slice::Last,
    }
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
            // There is nothing to do, or the store is behind.
            return;
        };
        let slice = match &mut job {
            Job::Settling(settling) => more(self.settle_step(settling, now)),
            Job::RollingBack(rolling) => more(self.roll_back_step(link, rolling)),
            Job::Clearing(clearing) => more(self.clear_step(link, clearing)),
            Job::Flushing => self.flush_step(link, now),
            Job::Spreading(spreading) => self.spread_step(link, spreading, now),
            Job::Passing(incoming) => self.pass_step(link, incoming, now),
            Job::Bringing(bringing) => self.bring_step(link, bringing, now),
            Job::Committing(committing) => self.commit_step(link, committing, now),
            Job::Showing(showing) => more(self.show_step(link, showing, now)),
            Job::TakingBack(taking) => more(self.take_back_step(link, taking, now)),
            Job::Starting(starting) => more(self.start_step(link, starting, now)),
            Job::Telling => more(self.tell_some(link)),
            Job::Closing(closing) => more(self.close_step(link, closing, now)),
        };
        if slice != Slice::Last {
            self.waiting.go_on_with(job);
        }
        let has_read = self.delivering.take_has_read();
        self.waiting.end_step(link, has_read, slice == Slice::Waits);
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
        let channel = self.channels.get_mut(channel);
        let more =
            channel.is_some_and(|channel| self.delivering.settle_some(channel, up_to, outcome));
        match outcome {
            Outcome::Acknowledged | Outcome::Rejected => {
                self.delivering.flush_settlements(&self.channels, now);
            }
            _ => self.delivering.flush_quietly(now),
        }
        if !more {
            let starting = Starting {
                queues: self.delivering.take_quiet(),
                reply: std::mem::take(&mut settling.reply),
            };
            self.waiting.go_on_with(Job::Starting(starting));
        }
        more
    }

    /// Lets some of the queues deliver.
    fn start_step(&mut self, link: &mut Link, starting: &mut Starting, now: Timestamp) -> bool {
        let most = (self.step_cost() / START_COST).max(1);
        let from = starting.queues.len().saturating_sub(most);
        for giving in starting.queues.drain(from..) {
            let (queue, effects) = giving.finish(now);
            self.vhost.carry_out(&queue, effects, now);
        }
        if starting.queues.is_empty() {
            self.delivering.flush_settlements(&self.channels, now);
            link.output.buffer().extend_from_slice(&starting.reply);
        }
        !starting.queues.is_empty()
    }

    /// Gives up a channel; what it holds goes back before it is `afterwards` and the client is told.
    pub(super) fn close_channel(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        afterwards: Afterwards,
        reply: Vec<u8>,
        now: Timestamp,
    ) {
        let slots = self.delivering.slots_of_channel(number);
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
        let _written = self.publishing.batch_large(&mut self.channels);
        self.flush(link, now);
        self.publishing.end();
        // A commit under way is not undone.
        if let Some(committed) = self
            .waiting
            .take_parked()
            .and_then(|parked| parked.committed)
        {
            committed.commit.finish_alone(&self.vhost.services);
        }
        self.waiting.let_go_on(link);
        for channel in self.channels.iter() {
            channel.credit.leave_all();
        }
        let slots = self.delivering.slots();
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
                Stage::Withdraw => self.delivering.withdraw_some(closing, left, now),
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
                Stage::GiveBack => self
                    .delivering
                    .give_back_some(&mut self.channels, closing, now),
                Stage::Undelivered => {
                    let undelivered = &mut closing.undelivered;
                    let cost = self.delivering.settle_undelivered(undelivered, now);
                    if closing.undelivered.is_empty() {
                        closing.starting = self.delivering.take_quiet();
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
                            self.vhost.carry_out(&queue, effects, now);
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

    /// Takes the mailbox out: what was meant for consumers that go is answered, the rest is dealt with as usual.
    fn empty_mailbox(
        &mut self,
        link: &mut Link,
        whose: Whose,
        now: Timestamp,
    ) -> VecDeque<Undelivered> {
        self.delivering.take_mail(link);
        link.mailbox.stay_awake();
        match whose {
            Whose::Channel(number) => {
                let goes = |consumer: &Consumer| consumer.channel == number;
                let undelivered = self.delivering.take_undelivered(goes);
                self.deal_with_mail(link, now);
                undelivered
            }
            Whose::Connection => {
                self.delivering.drop_notices();
                self.delivering.take_undelivered(|_| true)
            }
        }
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
