//! `tx`: publishes and settlements kept back until commit, then made durable as one unit.
//!
//! Messages enter their queues hidden, dead letters of what is rejected too; everything is staged as one
//! change of the store. Once that is durable the messages show and the settlements happen
//! ([`crate::commit`]): nobody sees half a transaction, before a crash or after. What a queue's limit refuses
//! is no part of it, and the commit's answer is an error then.

use std::sync::Arc;

use leveret_codec::protocol::{AMQPClass, tx as wire};
use leveret_store::Change;

use super::Link;
use super::attended::AttendedPublish;
use super::channel::PublishMode;
use super::connection::{Committed, Connection, Parked};
use super::publish::return_message;
use super::unacked::Unacked;
use crate::commit::{PendingCommit, QueueSettlements, Rest};
use crate::dead_letter::{self, Composed};
use crate::error::{ChannelError, ConnectionError, Failure};
use crate::exchange::{Gated, Gatekeeper, Gates, Numbers, Plan, without_blind_copies};
use crate::memory_pool::{Pool, Portion};
use crate::message::Message;
use crate::queue::handle::{Outcome, QueueHandle, QueueSettlement};
use crate::time::Timestamp;
use crate::vhost::Targets;

enum Kept {
    Plain {
        message: Message,
        targets: Targets,
        mandatory: bool,
    },
    /// Past exchanges that keep something, or with its producer's number: decided at the commit.
    Attended {
        publish: AttendedPublish,
        random: u64,
    },
}

/// What a channel has done since `tx.select` or the last commit.
#[derive(Default)]
pub(super) struct Transaction {
    publishes: Vec<Kept>,
    settlements: Vec<(Unacked, Outcome)>,
    bytes: usize,
    memory: Option<Portion>,
}

impl Transaction {
    /// Keeps a publish back.
    pub(super) fn publish(
        &mut self,
        message: Message,
        targets: Targets,
        mandatory: bool,
        bytes_max: usize,
    ) -> Result<(), Failure> {
        self.reserve(&message, bytes_max)?;
        self.publishes.push(Kept::Plain {
            message,
            targets,
            mandatory,
        });
        Ok(())
    }

    /// Keeps a publish back that is looked at by itself.
    pub(super) fn publish_attended(
        &mut self,
        publish: AttendedPublish,
        random: u64,
        bytes_max: usize,
    ) -> Result<(), Failure> {
        self.reserve(&publish.message, bytes_max)?;
        self.publishes.push(Kept::Attended { publish, random });
        Ok(())
    }

    /// What it has of the memory of all.
    pub(super) fn portion(&self) -> Option<&Portion> {
        self.memory.as_ref()
    }

    pub(super) fn memory(&mut self, pool: &Arc<Pool>, now: Timestamp) -> &mut Portion {
        self.memory.get_or_insert_with(|| Portion::new(pool, now))
    }

    /// How much it wants for itself and `more` that it does not have.
    pub(super) fn memory_wanted(&self, more: usize) -> usize {
        let taken = self.memory.as_ref().map_or(0, Portion::taken);
        self.bytes.saturating_add(more).saturating_sub(taken)
    }

    /// Whether a body of `more` bytes is refused for its size.
    pub(super) fn would_be_too_large(&self, more: usize, bytes_max: usize) -> bool {
        self.bytes.saturating_add(more) > bytes_max
    }

    fn reserve(&mut self, message: &Message, bytes_max: usize) -> Result<(), Failure> {
        self.bytes += message.memory_bytes();
        if self.bytes > bytes_max {
            return Err(ChannelError::precondition(format_args!(
                "transaction is larger than the {bytes_max} bytes allowed"
            ))
            .into());
        }
        Ok(())
    }

    /// Keeps a settlement back.
    pub(super) fn settle(&mut self, unacked: Unacked, outcome: Outcome) {
        self.settlements.push((unacked, outcome));
    }

    /// Forgets everything; the deliveries that were to be settled come back, oldest first.
    pub(super) fn roll_back(&mut self) -> Vec<Unacked> {
        let mut unacked: Vec<Unacked> = std::mem::take(self)
            .settlements
            .into_iter()
            .map(|(unacked, _)| unacked)
            .collect();
        unacked.sort_by_key(|unacked| unacked.tag);
        unacked
    }
}

/// A transaction's settlements, ready to be staged.
#[derive(Default)]
struct Settled {
    /// What is left to be done in each queue when they are durable.
    by_queue: QueueSettlements,
    letters: Vec<Composed>,
    changes: Vec<Change<Message>>,
}

impl Connection {
    pub(super) fn tx_method(
        &mut self,
        link: &mut Link,
        number: u16,
        method: &wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method {
            wire::AMQPMethod::Select(_) => {
                let channel = self.channel(number)?;
                match channel.mode {
                    PublishMode::Confirm(_) => {
                        return Err(ChannelError::precondition(
                            "cannot switch from confirm to tx mode",
                        )
                        .into());
                    }
                    PublishMode::Plain => channel.mode = PublishMode::Transaction(Box::default()),
                    PublishMode::Transaction(_) => {}
                }
                link.send(
                    number,
                    &AMQPClass::Tx(wire::AMQPMethod::SelectOk(wire::SelectOk {})),
                );
                Ok(())
            }
            wire::AMQPMethod::Commit(_) => self.commit(link, number, now),
            wire::AMQPMethod::Rollback(_) => {
                let unacked = self.transaction(number)?.roll_back();
                let ledger = &mut self.channel(number)?.ledger;
                for unacked in unacked {
                    ledger.put_back(unacked);
                }
                self.expect_settlements(number);
                link.send(
                    number,
                    &AMQPClass::Tx(wire::AMQPMethod::RollbackOk(wire::RollbackOk {})),
                );
                Ok(())
            }
            _ => Err(ConnectionError::command_invalid("unimplemented method").into()),
        }
    }

    fn transaction(&mut self, number: u16) -> Result<&mut Transaction, Failure> {
        match &mut self.channel(number)?.mode {
            PublishMode::Transaction(transaction) => Ok(transaction),
            _ => Err(ChannelError::precondition("channel is not transactional").into()),
        }
    }

    fn commit(&mut self, link: &mut Link, number: u16, now: Timestamp) -> Result<(), Failure> {
        let mut transaction = std::mem::take(self.transaction(number)?);
        let vhost = Arc::clone(&self.vhost);
        let Settled {
            by_queue,
            letters,
            changes,
        } = self.settle_apart(&transaction.settlements, now);
        let mut gated = self.gates_of(&transaction.publishes, &letters);
        let mut gates = Gates::lock(&mut gated);
        if let Err(error) = self.check_numbers(&transaction.publishes, &mut gates) {
            // The channel closes, and rolls it back.
            std::mem::swap(self.transaction(number)?, &mut transaction);
            return Err(error.into());
        }
        let mut plan = Plan::new(vhost.services.next_ticket(), changes);
        let ticket = plan.ticket();
        let publishes = transaction.publishes;
        self.hide_publishes(link, number, publishes, &mut plan, &mut gates, now);
        // What happens to dead letters is not the publisher's concern.
        let refused = plan.has_refused();
        for letter in &letters {
            let mut verdict = vhost.judge(&letter.passing(), &mut gates, now);
            verdict.retain(|queue| letter.may_enter(queue));
            plan.take(verdict, &letter.passing(), &mut gates, now);
        }
        // Also with no changes: what was published before to what it is a duplicate of is waited for.
        let point = vhost.services.store.stage(&mut plan.changes);
        plan.begin_delays(&vhost, point, now);
        gates.bury_the_deleted(&vhost);
        gates.set_alarms(&vhost, now);
        drop(gates);
        let (hidden_in, refused_letters) = plan.into_hidden();
        for queue in &hidden_in {
            queue.hidden_staged_at(ticket, point);
        }
        let mut credit = 0;
        for (unacked, _) in transaction.settlements {
            credit += u32::from(unacked.consumer.is_some());
            self.queues.release(unacked.queue);
        }
        let rest = Rest {
            hidden_in,
            settlements: by_queue,
            letters: refused_letters,
        };
        let committed = Committed {
            commit: PendingCommit::new(&vhost, point, now, rest),
            channel: number,
            credit,
            _memory: transaction.memory,
            refused,
        };
        let mut reply = Vec::new();
        leveret_codec::write_method(
            &mut reply,
            number,
            &AMQPClass::Tx(wire::AMQPMethod::CommitOk(wire::CommitOk {})),
        );
        let parked = Parked {
            point,
            reply,
            committed: Some(committed),
        };
        self.park(link, parked);
        Ok(())
    }

    /// What makes the settlements durable, dead letters and all. Nothing has happened yet.
    fn settle_apart(&self, settlements: &[(Unacked, Outcome)], now: Timestamp) -> Settled {
        let mut settled = Settled::default();
        for (unacked, outcome) in settlements {
            let Some(queue) = self.queues.queue(unacked.queue) else {
                continue;
            };
            let settlement = QueueSettlement {
                in_flight: unacked.in_flight.clone(),
                consumer: unacked.consumer,
                outcome: *outcome,
                delivered_at: unacked.delivered_at,
            };
            let known = settled
                .by_queue
                .iter_mut()
                .find(|(other, _)| other.id() == queue.id());
            match known {
                Some((_, settlements)) => settlements.push(settlement),
                None => settled.by_queue.push((queue.clone(), vec![settlement])),
            }
        }
        let changes = &mut settled.changes;
        for (queue, settlements) in &mut settled.by_queue {
            for letter in queue.settle_apart(settlements, now, changes) {
                changes.extend(dead_letter::acknowledgement(&letter));
                let composed = dead_letter::compose_for(queue, &letter, now);
                settled.letters.extend(composed);
            }
        }
        settled
    }

    /// The exchanges with a memory on the ways of all these.
    fn gates_of(&self, publishes: &[Kept], letters: &[Composed]) -> Gated {
        let mut gated = Gated::new();
        for letter in letters {
            self.vhost.gates_on_the_way(&letter.passing(), &mut gated);
        }
        for kept in publishes {
            match kept {
                Kept::Plain { targets, .. } => {
                    let looking = targets.iter().filter(|queue| queue.deduplicates());
                    gated.extend(looking.cloned().map(Gatekeeper::Queue));
                }
                Kept::Attended { publish, random } => {
                    let exchange = publish.message.exchange_and_key().0;
                    let exchange = String::from_utf8_lossy(exchange);
                    if publish.number.is_some() {
                        self.vhost.attend_to_producers(&exchange);
                    }
                    let passing = publish.passing(&exchange, *random, false);
                    self.vhost.gates_on_the_way(&passing, &mut gated);
                }
            }
        }
        gated
    }

    /// Whether producers' numbers leave none out: there is no `basic.nack` in a transaction, and half of
    /// one is never carried out.
    fn check_numbers(&self, publishes: &[Kept], gates: &mut Gates<'_>) -> Result<(), ChannelError> {
        let mut numbers = Numbers::default();
        for kept in publishes {
            let Kept::Attended { publish, random } = kept else {
                continue;
            };
            if let Some(number) = publish.number {
                let exchange = publish.message.exchange_and_key().0;
                let exchange = String::from_utf8_lossy(exchange);
                let passing = publish.passing(&exchange, *random, false);
                for keeper in self.vhost.number_keepers(&passing) {
                    numbers.check(keeper, &number, gates)?;
                }
            }
        }
        Ok(())
    }

    /// Has queues and exchanges take the publishes without showing them.
    fn hide_publishes(
        &mut self,
        link: &mut Link,
        number: u16,
        publishes: Vec<Kept>,
        plan: &mut Plan,
        gates: &mut Gates<'_>,
        now: Timestamp,
    ) {
        let mut queues: Vec<(QueueHandle, Vec<Message>)> = Vec::new();
        for kept in publishes {
            let (message, targets, mandatory) = match kept {
                Kept::Plain {
                    message,
                    targets,
                    mandatory,
                } => (message, targets, mandatory),
                Kept::Attended { publish, random } => {
                    // What was published before enters its queues before.
                    for (queue, messages) in &mut queues {
                        plan.enter_all(queue, messages.drain(..), now);
                    }
                    let exchange = publish.message.exchange_and_key().0;
                    let exchange = String::from_utf8_lossy(exchange);
                    let passing = publish.passing(&exchange, random, false);
                    let verdict = self.vhost.judge(&passing, gates, now);
                    if passing.returned && !verdict.is_duplicate() {
                        let message = without_blind_copies(publish.message.clone());
                        return_message(link, number, &message);
                    }
                    plan.take(verdict, &passing, gates, now);
                    continue;
                }
            };
            if targets.is_empty() && mandatory {
                return_message(link, number, &without_blind_copies(message.clone()));
            }
            for target in targets {
                match queues
                    .iter_mut()
                    .find(|(queue, _)| queue.id() == target.id())
                {
                    Some((_, messages)) => messages.push(message.clone()),
                    None => queues.push((target, vec![message.clone()])),
                }
            }
        }
        for (queue, messages) in &mut queues {
            plan.enter_all(queue, messages.drain(..), now);
        }
    }
}
