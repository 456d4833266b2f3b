//! A message passes exchanges that keep something, or enters very many queues, in slices: what [`VirtualHost::pass`] does
//! at once for few queues. The gates on its way are shut meanwhile.
//!
//! ```text
//!  look: who has a gate on the way ─> shut the gates ─> judge: which queues get it
//!        ─> enter: they take it, hidden ─> stage ─> open the gates ─> show: it is delivered, queue by queue
//! ```

use std::sync::Arc;
use std::task::Waker;

use leveret_deduplication::Look;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::Effects;
use leveret_store_api::{Change, CommitPoint};
use parking_lot::Mutex;

use super::gates::{Gated, Gatekeeper, ShutGates, Shutting};
use super::incoming::Incoming;
use super::publish_past::{Taking, Verdict};
use super::unit::Unit;
use crate::handle::QueueHandle;
use crate::services::{Party, Services, Task};
use crate::vhost::{Targets, VirtualHost};

/// Up to so many queues a message enters at once.
pub(crate) const AT_ONCE_MAX: usize = 128;
/// What it costs to have a queue take a message, or show it, where an acknowledgement costs 1.
const QUEUE_COST: usize = 8;
/// What it costs to shut a gate or to open it.
const GATE_COST: usize = 2;
/// Of the queues whose dead letters are waited for, so many are remembered.
const LETTERS_MAX: usize = 4;

/// How far something has come that goes on in slices.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Slice {
    /// It is done.
    Last,
    /// There is more.
    More,
    /// It has to wait for a gate that somebody else has shut. The waker is woken when it is open.
    Waits,
}

enum Stage {
    Look,
    /// One queue gets it.
    Gate(QueueHandle),
    Shut(ShutGates),
    Judge(ShutGates),
    Enter(ShutGates, Box<Taking>),
    BecomeDurable(ShutGates),
    Open(ShutGates),
    Delays,
    Letters,
    Show,
}

/// A message on its way into its queues.
pub struct Passage {
    exchange: String,
    resumes: bool,
    returned: bool,
    look: Look,
    message: Message,
    random: u64,
    barred: Vec<String>,
    stage: Stage,
    unit: Unit,
    /// A queue that wants its publisher held back.
    pub hold_back: Option<QueueHandle>,
    /// Queues whose dead letters are on their way.
    pub letters: Vec<QueueHandle>,
}

impl std::fmt::Debug for Passage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Passage({})", self.exchange)
    }
}

impl Passage {
    /// One that begins.
    pub(crate) fn new(
        incoming: &Incoming<'_>,
        settles: Vec<Change<Message>>,
        vhost: &VirtualHost,
    ) -> Box<Passage> {
        let ticket = vhost.services.next_ticket();
        Box::new(Passage {
            exchange: incoming.exchange.to_owned(),
            resumes: incoming.resumes,
            returned: incoming.returned,
            look: incoming.look,
            message: incoming.message.clone(),
            random: incoming.random,
            barred: incoming.barred.to_vec(),
            stage: Stage::Look,
            unit: Unit::new(ticket, settles),
            hold_back: None,
            letters: Vec::new(),
        })
    }

    /// One of which it is known who has a gate on its way.
    pub(super) fn seen(
        incoming: &Incoming<'_>,
        settles: Vec<Change<Message>>,
        gated: Gated,
        vhost: &VirtualHost,
    ) -> Box<Passage> {
        let mut passage = Passage::new(incoming, settles, vhost);
        passage.stage = Stage::Shut(ShutGates::new(passage.unit.ticket(), gated));
        passage
    }

    /// One to queues that are known and look for nothing.
    pub(crate) fn to_queues(
        incoming: &Incoming<'_>,
        settles: Vec<Change<Message>>,
        targets: Targets,
        vhost: &VirtualHost,
    ) -> Box<Passage> {
        let mut passage = Passage::new(incoming, settles, vhost);
        let none = ShutGates::new(passage.unit.ticket(), Gated::new());
        let taking = passage
            .unit
            .begin_to_take(Verdict::to_queues(targets), incoming);
        passage.stage = Stage::Enter(none, Box::new(taking));
        passage
    }

    /// One to a queue that looks for duplicates, past no exchange.
    pub(crate) fn to_gate(
        incoming: &Incoming<'_>,
        queue: QueueHandle,
        vhost: &VirtualHost,
    ) -> Box<Passage> {
        let mut passage = Passage::new(incoming, Vec::new(), vhost);
        passage.stage = Stage::Gate(queue);
        passage
    }

    /// When all of it is durable.
    pub fn point(&self) -> CommitPoint {
        self.unit.point()
    }

    /// A queue's limit refused the message, or its producer left out numbers.
    pub fn has_refused(&self) -> bool {
        self.unit.has_refused()
    }

    /// The message was published before.
    pub fn is_duplicate(&self) -> bool {
        self.unit.is_known()
    }

    /// The message, with its BCC header.
    pub fn message(&self) -> &Message {
        &self.message
    }

    /// Goes on for up to about `most`, where an acknowledgement costs 1. What queues leave to be done is added to `left`.
    /// After the last slice it is called no more.
    pub fn go_on(
        &mut self,
        vhost: &VirtualHost,
        most: usize,
        waker: &Waker,
        left: &mut Vec<(QueueHandle, Effects)>,
        now: Timestamp,
    ) -> Slice {
        let mut rest = most.max(1);
        while rest > 0 {
            let cost = match self.next(vhost, rest, waker, left, now) {
                Ok(cost) => cost,
                Err(slice) => return slice,
            };
            rest = rest.saturating_sub(cost);
        }
        Slice::More
    }

    /// Does the next thing; answers what it cost, or why nothing more is to be done now.
    fn next(
        &mut self,
        vhost: &VirtualHost,
        most: usize,
        waker: &Waker,
        left: &mut Vec<(QueueHandle, Effects)>,
        now: Timestamp,
    ) -> Result<usize, Slice> {
        let incoming = Incoming {
            exchange: &self.exchange,
            resumes: self.resumes,
            returned: self.returned,
            look: self.look,
            message: &self.message,
            random: self.random,
            barred: &self.barred,
        };
        let unit = &mut self.unit;
        let mut cost = most;
        self.stage = match std::mem::replace(&mut self.stage, Stage::Look) {
            Stage::Look => {
                let mut gated = Gated::new();
                if vhost.gates_on_the_way(&incoming, &mut gated) <= AT_ONCE_MAX {
                    cost = QUEUE_COST;
                }
                Stage::Shut(ShutGates::new(unit.ticket(), gated))
            }
            Stage::Gate(queue) => {
                let gated = Gated::from_elem(Gatekeeper::Queue(queue.clone()), 1);
                let mut gates = ShutGates::new(unit.ticket(), gated);
                if gates.shut_some(1, waker) != Shutting::Done {
                    self.stage = Stage::Gate(queue);
                    return Err(Slice::Waits);
                }
                let targets = Targets::from_elem(queue, 1);
                let taking = unit.begin_to_take(Verdict::to_queues(targets), &incoming);
                cost = QUEUE_COST;
                Stage::Enter(gates, Box::new(taking))
            }
            Stage::Shut(mut gates) => match gates.shut_some(most.div_ceil(GATE_COST), waker) {
                Shutting::Done => {
                    cost = 0;
                    Stage::Judge(gates)
                }
                Shutting::More => Stage::Shut(gates),
                // The way may be another by then.
                Shutting::Waits => return Err(Slice::Waits),
            },
            Stage::Judge(mut gates) => {
                let verdict = vhost.judge(&incoming, &mut gates.gates(), now);
                let taking = unit.begin_to_take(verdict, &incoming);
                if taking.left() <= AT_ONCE_MAX {
                    cost = QUEUE_COST;
                }
                Stage::Enter(gates, Box::new(taking))
            }
            Stage::Enter(mut gates, mut taking) => {
                let some = most.div_ceil(QUEUE_COST).min(taking.left().max(1));
                cost = some * QUEUE_COST;
                let more = unit.take_some(&mut taking, &incoming, &mut gates.gates(), some, now);
                match more {
                    true => Stage::Enter(gates, taking),
                    false => Stage::BecomeDurable(gates),
                }
            }
            Stage::BecomeDurable(gates) => {
                // Of very many changes that is what a step is there for.
                cost = unit.changes.len() / 4;
                unit.stage_alone(vhost);
                Stage::Open(gates)
            }
            Stage::Open(mut gates) => {
                let some = most.div_ceil(GATE_COST);
                match gates.open_some(vhost, some, now) {
                    true => Stage::Open(gates),
                    false => {
                        cost = 0;
                        Stage::Delays
                    }
                }
            }
            Stage::Delays => {
                unit.begin_delays(vhost, usize::MAX, now);
                cost = 0;
                Stage::Letters
            }
            Stage::Letters => match unit.send_next(now) {
                Some((count, queue, effects)) => {
                    cost = QUEUE_COST + count;
                    self.letters.push(queue.clone());
                    left.push((queue, effects));
                    Stage::Letters
                }
                None => Stage::Show,
            },
            Stage::Show => {
                let Some((queue, effects)) = unit.show_next(now) else {
                    return Err(Slice::Last);
                };
                cost = QUEUE_COST;
                if effects.hold_back {
                    self.hold_back = Some(queue.clone());
                }
                if effects.letters {
                    self.letters.push(queue.clone());
                }
                left.push((queue, effects));
                Stage::Show
            }
        };
        self.letters.truncate(LETTERS_MAX);
        Ok(cost)
    }
}

/// A passage that nobody waits for.
struct Unawaited {
    vhost: Arc<VirtualHost>,
    passage: Mutex<Option<Box<Passage>>>,
}

impl std::fmt::Debug for Unawaited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unawaited")
    }
}

impl Task for Unawaited {
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        let task: Arc<dyn Task> = Arc::<Unawaited>::clone(&self);
        let waker = self.vhost.services.waker(&task);
        let mut left = Vec::new();
        // Whoever is woken before it is back in its place waits for it.
        let mut place = self.passage.lock();
        let Some(passage) = place.as_mut() else {
            return;
        };
        let slice = passage.go_on(&self.vhost, services.step_cost, &waker, &mut left, now);
        if slice == Slice::Last {
            *place = None;
        }
        drop(place);
        self.vhost.carry_out_all(left, now);
        if slice == Slice::More {
            services.pager.ask(Party::Task(task));
        }
    }
}

impl VirtualHost {
    /// A message that is to pass, behind others that wait.
    pub fn begin_to_pass(&self, incoming: &Incoming<'_>) -> Box<Passage> {
        Passage::new(incoming, Vec::new(), self)
    }

    /// Has the pager go on with a passage, for which nobody waits.
    pub(crate) fn pass_by_pager(self: &Arc<Self>, passage: Box<Passage>) {
        let unawaited = Unawaited {
            vhost: Arc::clone(self),
            passage: Mutex::new(Some(passage)),
        };
        self.services.pager.ask(Party::Task(Arc::new(unawaited)));
    }
}
