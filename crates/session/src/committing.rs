//! `tx.commit`: what a transaction kept back is made durable as one unit, in steps (see [`crate::giving_back`]) but
//! for that one moment.
//!
//! ```text
//!  settle: what makes the settlements durable  ─> look: who has a gate on the ways ─> shut the gates
//!          ─> hide: the publishes, in their queues ─> stage: all of it, at once ─> open the gates
//!          ─> tell: the queues that ─> release: the deliveries ─> wait until it is durable ─> show
//! ```
//! Messages enter their queues hidden; everything is staged as one change of the store. Once that is durable the
//! messages show and the settlements happen ([`leveret_broker::commit`]): nobody sees half a transaction, before a crash or
//! after. What a queue's limit refuses is no part of it, and the commit's answer is an error then.
//!
//! Gates are held from the look at what they guard until everything is staged. What fits into a step locks them for so
//! long; what does not keeps them shut, and whoever comes to them meanwhile waits.

use std::sync::Arc;

use leveret_broker::commit::{PendingCommit, Rest};
use leveret_broker::exchange::{
    Gated, Gatekeeper, Gates, Numbers, ShutGates, Shutting, Slice, Unit, without_blind_copies,
};
use leveret_broker::handle::QueueHandle;
use leveret_codec::ChannelNumber;
use leveret_codec::protocol::{AMQPClass, tx as wire};
use leveret_deduplication::Look;
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use leveret_routing::QueueId;
use rustc_hash::FxHashMap;

use super::commit_job::{
    ByNumber, Committing, GatedOnce, Partial, QUEUE_COST, QueuesLeft, SettledByQueue, Stage,
};
use super::connection::{COMMIT, Connection};
use super::job::Job;
use super::link::Link;
use super::methods::encoded;
use super::parked::{Committed, Parked};
use super::returned::return_message;
use super::stateful_publish::StatefulPublish;
use super::transaction::{Kept, Transaction};
use super::unacked::Unacked;

/// What it costs to have a queue take a message.
const MESSAGE_COST: usize = 2;
/// What it costs to route a message.
const ROUTE_COST: usize = 16;
/// What it costs to shut a gate, or to open it.
const GATE_COST: usize = 2;

/// Publishes on their way into their queues, by queue.
#[derive(Default)]
struct ByQueue {
    queues: Vec<(QueueHandle, Vec<Message>)>,
    places: FxHashMap<QueueId, usize>,
}

impl ByQueue {
    fn push(&mut self, queue: QueueHandle, message: Message) {
        let last = self.queues.len();
        let place = *self.places.entry(queue.id()).or_insert(last);
        match self.queues.get_mut(place) {
            Some((_, messages)) => messages.push(message),
            None => self.queues.push((queue, vec![message])),
        }
    }

    /// All of them enter.
    fn enter(&mut self, unit: &mut Unit, now: Timestamp) {
        for (queue, messages) in self.queues.drain(..) {
            unit.enter(&queue, messages.into_iter(), Look::Published, now);
        }
        self.places.clear();
    }
}

impl Connection {
    pub(super) fn commit(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        transaction: Transaction,
        now: Timestamp,
    ) {
        let committing = Committing {
            channel: number,
            stage: Stage::Settle,
            at: 0,
            at_queue: 0,
            transaction,
            settled: SettledByQueue::default(),
            rejected: SettledByQueue::default(),
            gated: GatedOnce::default(),
            gates: None,
            numbers: Numbers::default(),
            cost: 0,
            partial: None,
            unit: Unit::new(self.vhost.services.next_ticket(), Vec::new()),
            credit: 0,
        };
        self.begin_now(link, Job::Committing(Box::new(committing)), now);
    }

    /// As much of a commit as fits into a step. After the last one nothing is left but to wait, or it has failed.
    pub(super) fn commit_step(
        &mut self,
        link: &mut Link,
        committing: &mut Committing,
        now: Timestamp,
    ) -> Slice {
        let mut left = self.step_cost().max(1);
        while left > 0 {
            let cost = match committing.stage {
                Stage::Settle => self.settle_apart(committing, left),
                Stage::LookAtPublishes => self.look_at_publishes(committing, left),
                Stage::HideAtOnce => match self.hide_at_once(link, committing, now) {
                    Ok(true) => left,
                    Ok(false) => return self.wait_at_gates(committing),
                    Err(error) => return self.fail_commit(link, committing, &error, now),
                },
                Stage::ShutGates => {
                    let Some(gates) = &mut committing.gates else {
                        committing.enter(Stage::CheckNumbers);
                        continue;
                    };
                    let most = left.div_ceil(GATE_COST);
                    match gates.shut_some(most, link.mailbox.waker()) {
                        Shutting::Done => committing.enter(Stage::CheckNumbers),
                        Shutting::More => {}
                        Shutting::Waits => return self.wait_at_gates(committing),
                    }
                    left
                }
                Stage::CheckNumbers => match self.check_numbers(committing, left) {
                    Ok(cost) => cost,
                    Err(error) => return self.fail_commit(link, committing, &error, now),
                },
                Stage::HidePublishes => {
                    let mut shut = committing.gates.take();
                    let mut gates = shut.as_mut().map_or_else(Gates::none, ShutGates::gates);
                    let cost = self.hide_publishes(link, committing, &mut gates, left, now);
                    drop(gates);
                    committing.gates = shut;
                    cost
                }
                Stage::BecomeDurable => {
                    self.stage_transaction(committing);
                    // Of very many changes that is what a step is there for.
                    left
                }
                Stage::OpenGates => {
                    let most = left.div_ceil(GATE_COST);
                    let gates = committing.gates.as_mut();
                    if gates.is_some_and(|gates| gates.open_some(&self.vhost, most, now)) {
                        left
                    } else {
                        committing.gates = None;
                        committing.enter(Stage::BeginDelays);
                        0
                    }
                }
                Stage::BeginDelays => {
                    let most = left.div_ceil(ROUTE_COST);
                    if !committing.unit.begin_delays(&self.vhost, most, now) {
                        committing.enter(Stage::Tell);
                    }
                    most
                }
                Stage::Tell => {
                    let most = left.div_ceil(QUEUE_COST);
                    committing.tell(most)
                }
                Stage::Release => match committing.transaction.settlements.pop() {
                    Some((unacked, _)) => {
                        committing.credit += u32::from(unacked.consumer.is_some());
                        self.delivering.release_queue(unacked.queue);
                        1
                    }
                    None => {
                        self.await_durability(link, committing);
                        return Slice::Last;
                    }
                },
            };
            left = left.saturating_sub(cost);
        }
        Slice::More
    }

    /// Somebody else has shut a gate. Where nobody will open it the transaction is rolled back.
    fn wait_at_gates(&mut self, committing: &mut Committing) -> Slice {
        if self.waiting.gives_up() {
            self.undo_commit(committing);
            return Slice::Last;
        }
        Slice::Waits
    }

    /// Nothing has happened yet, and nothing of it will.
    fn fail_commit(
        &mut self,
        link: &mut Link,
        committing: &mut Committing,
        error: &ChannelError,
        now: Timestamp,
    ) -> Slice {
        committing.gates = None;
        // The channel closes, and rolls it back.
        self.undo_commit(committing);
        self.fail_channel(link, committing.channel, error, COMMIT, now);
        Slice::Last
    }

    fn undo_commit(&mut self, committing: &mut Committing) {
        if let Ok(transaction) = self.transaction(committing.channel) {
            *transaction = std::mem::take(&mut committing.transaction);
        }
    }

    /// What makes settlements durable. Nothing has happened yet. Answers what it cost.
    fn settle_apart(&self, committing: &mut Committing, most: usize) -> usize {
        let mut settled = ByNumber::default();
        let mut rejected = ByNumber::default();
        let mut cost = 0;
        let settlements = committing.transaction.settlements.iter_from(committing.at);
        for (unacked, outcome) in settlements {
            if cost >= most {
                break;
            }
            committing.at += 1;
            cost += outcome.cost() + unacked.delivery.cost_of_reading();
            let parts = match outcome {
                Outcome::Rejected => &mut rejected,
                _ => &mut settled,
            };
            cost += parts.push(unacked.queue, settlement(unacked, *outcome));
        }
        if cost < most {
            committing.enter(Stage::LookAtPublishes);
        }
        let store = &self.vhost.services.store;
        let parts = settled.into_parts().map(|part| (part, false));
        let parts = parts.chain(rejected.into_parts().map(|part| (part, true)));
        for ((number, mut part), is_rejected) in parts {
            let Some(queue) = self.delivering.queue(number) else {
                continue;
            };
            queue.read_apart(store, &mut part);
            queue.settle_apart(&mut part, &mut committing.unit.changes);
            let by_queue = match is_rejected {
                true => &mut committing.rejected,
                false => &mut committing.settled,
            };
            by_queue.push(queue, part);
        }
        cost
    }

    /// Finds those with a gate on the ways of publishes.
    fn look_at_publishes(&self, committing: &mut Committing, most: usize) -> usize {
        let Committing {
            transaction,
            gated,
            at,
            at_queue,
            cost: later,
            ..
        } = committing;
        let mut cost = 0;
        for kept in transaction.publishes.iter_from(*at) {
            if cost >= most {
                break;
            }
            match kept {
                Kept::Wide { queues, .. } => {
                    let rest = queues.get(*at_queue..).unwrap_or_default();
                    let some = rest.len().min(most - cost);
                    cost += some;
                    *later += some * MESSAGE_COST;
                    let found = rest.iter().take(some);
                    let found = found.filter_map(|id| self.vhost.queue_by_id(*id));
                    let looking = found.filter(QueueHandle::deduplicates);
                    gated.extend(looking.map(Gatekeeper::Queue));
                    if some < rest.len() {
                        *at_queue += some;
                        break;
                    }
                    *at_queue = 0;
                    cost += 1;
                }
                Kept::Plain { targets, .. } => {
                    cost += targets.len().max(1);
                    *later += (1 + targets.len()) * MESSAGE_COST;
                    let looking = targets.iter().filter(|queue| queue.deduplicates());
                    gated.extend(looking.cloned().map(Gatekeeper::Queue));
                }
                Kept::Stateful { publish, random } => {
                    cost += ROUTE_COST;
                    let exchange = publish.message.exchange_and_key().0;
                    let exchange = String::from_utf8_lossy(exchange);
                    if publish.number.is_some() {
                        self.vhost.keep_numbers_of(&exchange);
                    }
                    let incoming = publish.incoming(&exchange, *random, false);
                    let mut on_the_way = Gated::new();
                    let queues = self.vhost.gates_on_the_way(&incoming, &mut on_the_way);
                    gated.extend(on_the_way);
                    cost += queues;
                    *later += 2 * ROUTE_COST + queues * MESSAGE_COST;
                }
            }
            *at += 1;
        }
        if cost < most {
            let gated = std::mem::take(gated);
            self.prepare_gates(committing, gated);
        }
        cost
    }

    /// All is looked at: what is to become of the gates.
    fn prepare_gates(&self, committing: &mut Committing, mut gated: GatedOnce) {
        let stage = if gated.is_empty() {
            Stage::HidePublishes
        } else if committing.cost <= self.step_cost() {
            committing.gated = gated;
            Stage::HideAtOnce
        } else {
            let ticket = committing.unit.ticket();
            committing.gates = Some(ShutGates::new(ticket, gated.take()));
            Stage::ShutGates
        };
        committing.enter(stage);
    }

    /// Hides and stages everything with the gates locked. False: one of them is shut.
    fn hide_at_once(
        &mut self,
        link: &mut Link,
        committing: &mut Committing,
        now: Timestamp,
    ) -> Result<bool, ChannelError> {
        let vhost = Arc::clone(&self.vhost);
        let mut gated = committing.gated.take();
        let Some(mut gates) = Gates::lock(&mut gated, link.mailbox.waker()) else {
            committing.gated.extend(gated);
            return Ok(false);
        };
        for kept in committing.transaction.publishes.iter_from(0) {
            self.check_number(kept, &mut committing.numbers, &mut gates)?;
        }
        self.hide_publishes(link, committing, &mut gates, usize::MAX, now);
        self.stage_transaction(committing);
        gates.set_alarms(&vhost, now);
        Ok(true)
    }

    /// Checks producers' numbers behind gates that are shut; answers what it cost.
    fn check_numbers(
        &self,
        committing: &mut Committing,
        most: usize,
    ) -> Result<usize, ChannelError> {
        let Committing {
            transaction,
            gates,
            numbers,
            at,
            ..
        } = committing;
        let mut gates = gates.as_mut().map_or_else(Gates::none, ShutGates::gates);
        let mut cost = 0;
        for kept in transaction.publishes.iter_from(*at) {
            if cost >= most {
                return Ok(cost);
            }
            *at += 1;
            cost += 1;
            if self.check_number(kept, numbers, &mut gates)? {
                cost += ROUTE_COST;
            }
            gates.let_go();
        }
        drop(gates);
        committing.enter(Stage::HidePublishes);
        Ok(cost)
    }

    /// Whether a producer's number leaves none out: there is no `basic.nack` in a transaction, and half of
    /// one is never carried out. Answers whether there is a number.
    fn check_number(
        &self,
        kept: &Kept,
        numbers: &mut Numbers,
        gates: &mut Gates<'_>,
    ) -> Result<bool, ChannelError> {
        let Kept::Stateful { publish, random } = kept else {
            return Ok(false);
        };
        let Some(number) = publish.number else {
            return Ok(false);
        };
        let exchange = publish.message.exchange_and_key().0;
        let exchange = String::from_utf8_lossy(exchange);
        let incoming = publish.incoming(&exchange, *random, false);
        for keeper in self.vhost.number_keepers(&incoming) {
            numbers.check(keeper, &number, gates)?;
        }
        Ok(true)
    }

    /// Has queues and exchanges take publishes without showing them, for up to about `most`; answers what it cost.
    fn hide_publishes(
        &mut self,
        link: &mut Link,
        committing: &mut Committing,
        gates: &mut Gates<'_>,
        most: usize,
        now: Timestamp,
    ) -> usize {
        let mut by_queue = ByQueue::default();
        let mut cost = 0;
        while cost < most {
            let next = match committing.partial.take() {
                Some(partial) => Some(partial),
                None => match committing.transaction.publishes.pop() {
                    Some(Kept::Plain {
                        message,
                        targets,
                        mandatory,
                    }) => {
                        if targets.is_empty() {
                            let number = committing.channel;
                            if mandatory {
                                let returned = without_blind_copies(message.clone());
                                return_message(link, number, &returned);
                            }
                            self.note_unroutable(number, &message, mandatory);
                        }
                        Some(Partial::Plain(
                            message,
                            QueuesLeft::Found(targets.into_iter()),
                        ))
                    }
                    Some(Kept::Wide { message, queues }) => Some(Partial::Plain(
                        message,
                        QueuesLeft::Named(queues.into_iter()),
                    )),
                    Some(Kept::Stateful { publish, random }) => {
                        cost += 2 * ROUTE_COST;
                        Some(self.judge(link, committing, publish, random, gates, now))
                    }
                    None => None,
                },
            };
            match next {
                Some(Partial::Plain(message, mut targets)) => {
                    cost += MESSAGE_COST;
                    while cost < most && targets.len() > 0 {
                        cost += MESSAGE_COST;
                        if let Some(target) = targets.next(&self.vhost) {
                            by_queue.push(target, message.clone());
                        }
                    }
                    if targets.len() > 0 {
                        committing.partial = Some(Partial::Plain(message, targets));
                    }
                }
                Some(Partial::Stateful(publish, random, mut taking)) => {
                    // What was published before enters its queues before.
                    by_queue.enter(&mut committing.unit, now);
                    let some = most.saturating_sub(cost).div_ceil(MESSAGE_COST).max(1);
                    cost += some.min(taking.left()) * MESSAGE_COST;
                    let exchange = publish.message.exchange_and_key().0;
                    let exchange = String::from_utf8_lossy(exchange);
                    let incoming = publish.incoming(&exchange, random, false);
                    let unit = &mut committing.unit;
                    if unit.take_some(&mut taking, &incoming, gates, some, now) {
                        committing.partial = Some(Partial::Stateful(publish, random, taking));
                    }
                    gates.let_go();
                }
                None => {
                    committing.enter(Stage::BecomeDurable);
                    break;
                }
            }
        }
        cost += by_queue.queues.len() * QUEUE_COST;
        by_queue.enter(&mut committing.unit, now);
        cost
    }

    /// Decides which queues and exchanges take a publish.
    fn judge(
        &mut self,
        link: &mut Link,
        committing: &mut Committing,
        publish: StatefulPublish,
        random: u64,
        gates: &mut Gates<'_>,
        now: Timestamp,
    ) -> Partial {
        let exchange = publish.message.exchange_and_key().0;
        let exchange = String::from_utf8_lossy(exchange);
        let incoming = publish.incoming(&exchange, random, false);
        let verdict = self.vhost.judge(&incoming, gates, now);
        if !publish.routable && !verdict.is_duplicate() {
            let number = committing.channel;
            if incoming.returned {
                let message = without_blind_copies(publish.message.clone());
                return_message(link, number, &message);
            }
            self.note_unroutable(number, &publish.message, incoming.returned);
        }
        let taking = committing.unit.begin_to_take(verdict, &incoming);
        Partial::Stateful(publish, random, Box::new(taking))
    }

    /// Stages everything. Also with no changes: what was published before to what it is a duplicate of is waited for.
    fn stage_transaction(&self, committing: &mut Committing) {
        let store = &self.vhost.services.store;
        committing.unit.stage(|changes| store.stage(changes));
        committing.enter(Stage::OpenGates);
    }

    /// The client is answered, and everything shows, when it is durable.
    fn await_durability(&mut self, link: &mut Link, committing: &mut Committing) {
        let services = &self.vhost.services;
        let unit = std::mem::take(&mut committing.unit);
        let (point, refused) = (unit.point(), unit.has_refused());
        let rest = Rest::new(committing.settled.take(), committing.rejected.take(), unit);
        let commit = PendingCommit::new(&self.vhost, point, rest);
        if self.leaves {
            commit.finish_alone(services);
            return;
        }
        let ok = AMQPClass::Tx(wire::AMQPMethod::CommitOk(wire::CommitOk {}));
        let parked = Parked {
            point,
            reply: encoded(committing.channel, &ok),
            committed: Some(Committed {
                commit,
                channel: committing.channel,
                credit: committing.credit,
                _memory: committing.transaction.memory.take(),
                refused,
            }),
        };
        self.park(link, parked);
    }
}

fn settlement(unacked: &Unacked, outcome: Outcome) -> QueueSettlement {
    QueueSettlement {
        delivery: unacked.delivery.clone(),
        consumer: unacked.consumer,
        outcome,
        delivered_at: unacked.delivered_at,
    }
}
