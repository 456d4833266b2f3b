//! A binding brings what its source remembers, in slices. Nobody passes the source meanwhile: its gate is shut, so that
//! a message is in the history that the binding brings or comes by it, never both.
//!
//! ```text
//!  to a queue:      shut the gate ─> enter: the history, hidden ─> bind, staged with it as one ─> show ─> open
//!  to an exchange:  shut the gate ─> copy the history ─> bind ─> open ─> pass: each message from there, by itself
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use leveret_deduplication::Look;
use leveret_message::error::{ChannelError, Failure};
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::effects::Effects;
use leveret_routing::{Binding, Destination};
use leveret_store_api::CommitPoint;
use parking_lot::Mutex;

use crate::exchange::{
    Gated, Gatekeeper, Incoming, Passage, ShutGates, Shutting, Slice, StatefulExchange, Unit,
    without_blind_copies,
};
use crate::handle::QueueHandle;
use crate::services::{Party, Services, Task};
use crate::vhost::VirtualHost;

/// What it costs to have a message of a history enter its queue, where an acknowledgement costs 1.
const MESSAGE_COST: usize = 2;
/// What it costs to have it pass an exchange, and what each queue costs then.
const PASS_COST: usize = 32;
const QUEUE_COST: usize = 8;
/// What it costs to have a queue deliver.
const START_COST: usize = 256;

/// What became of a binding that was to be added.
pub enum Bound {
    /// It is there, and durable at this point.
    At(CommitPoint),
    /// It is there when its history is.
    Brings(Box<Bringing>),
}

impl Bound {
    /// Nobody waits for it: does what is left of it, or has the pager do so if others are in the way.
    ///
    /// # Errors
    /// Those of [`VirtualHost::bind`].
    pub(crate) fn finish(self, now: Timestamp) -> Result<(), Failure> {
        let Bound::Brings(mut bringing) = self else {
            return Ok(());
        };
        loop {
            match bringing.go_on(usize::MAX, Waker::noop(), now)? {
                Slice::Last => return Ok(()),
                Slice::More => {}
                Slice::Waits => break,
            }
        }
        let vhost = Arc::clone(&bringing.vhost);
        let alone = Alone(Mutex::new(Some(bringing)));
        vhost.services.pager.ask(Party::Task(Arc::new(alone)));
        Ok(())
    }
}

enum Stage {
    Shut,
    /// So much of the history is on its way.
    Bring(usize),
    Bind,
    Times,
    Show,
    Deliver,
    Open,
    Pass,
}

/// A binding with a history, on its way.
pub struct Bringing {
    vhost: Arc<VirtualHost>,
    binding: Binding,
    /// Its destination, if that is a queue.
    queue: Option<QueueHandle>,
    by: String,
    stage: Stage,
    source: Option<Arc<StatefulExchange>>,
    gate: Option<ShutGates>,
    /// What enters a queue.
    unit: Unit,
    has_entered: bool,
    /// What goes to an exchange.
    messages: VecDeque<Message>,
    passage: Option<Box<Passage>>,
    point: CommitPoint,
}

impl std::fmt::Debug for Bringing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bringing({})", self.binding.source)
    }
}

impl Bringing {
    /// It begins.
    pub(crate) fn new(vhost: &Arc<VirtualHost>, binding: Binding, by: &str) -> Bringing {
        let queue = match &binding.destination {
            Destination::Queue(id) => vhost.queue_by_id(*id),
            Destination::Exchange(_) => None,
        };
        Bringing {
            queue,
            unit: Unit::new(vhost.services.next_ticket(), Vec::new()),
            vhost: Arc::clone(vhost),
            binding,
            by: by.to_owned(),
            stage: Stage::Shut,
            source: None,
            gate: None,
            has_entered: false,
            messages: VecDeque::new(),
            passage: None,
            point: CommitPoint::NONE,
        }
    }

    /// When all of it is durable.
    pub fn point(&self) -> CommitPoint {
        self.point
    }

    /// Goes on for up to about `most`, where an acknowledgement costs 1. After the last slice it is called no more.
    ///
    /// # Errors
    /// Those of [`VirtualHost::bind`]: it is over then.
    pub fn go_on(&mut self, most: usize, waker: &Waker, now: Timestamp) -> Result<Slice, Failure> {
        let mut rest = most.max(1);
        while rest > 0 {
            let cost = match self.stage {
                Stage::Shut => match self.shut(waker)? {
                    Slice::More => 1,
                    end => return Ok(end),
                },
                Stage::Bring(from) => self.bring(from, rest, now),
                Stage::Bind => {
                    let cost = self.unit.changes.len() / 4;
                    self.bind()?;
                    cost
                }
                Stage::Times => match self.unit.begin_times(rest, now) {
                    0 => self.enter(Stage::Show),
                    begun => begun,
                },
                Stage::Show => {
                    while self.unit.show_some(usize::MAX) > 0 {}
                    self.enter(Stage::Deliver)
                }
                Stage::Deliver => match self.unit.deliver_next(now) {
                    Some((queue, effects)) => {
                        self.vhost.carry_out(&queue, effects, now);
                        START_COST
                    }
                    None => match self.unit.send_next(now) {
                        Some((count, queue, effects)) => {
                            self.vhost.carry_out(&queue, effects, now);
                            START_COST + count
                        }
                        None => self.enter(Stage::Open),
                    },
                },
                Stage::Open => {
                    if let Some(mut gate) = self.gate.take() {
                        gate.open_some(&self.vhost, 1, now);
                    }
                    self.enter(Stage::Pass)
                }
                Stage::Pass => match self.pass_next(rest, waker, now) {
                    Ok(cost) => cost,
                    Err(end) => return Ok(end),
                },
            };
            rest = rest.saturating_sub(cost);
        }
        Ok(Slice::More)
    }

    fn enter(&mut self, stage: Stage) -> usize {
        self.stage = stage;
        0
    }

    /// Shuts the gate of the source.
    fn shut(&mut self, waker: &Waker) -> Result<Slice, Failure> {
        let source = self.vhost.stateful(&self.binding.source);
        let source = source.filter(|source| source.remembers());
        if let Some(source) = &source {
            let gated = Gated::from_elem(Gatekeeper::Exchange(Arc::clone(source)), 1);
            let mut gate = ShutGates::new(self.unit.ticket(), gated);
            if gate.shut_some(1, waker) != Shutting::Done {
                return Ok(Slice::Waits);
            }
            if source.is_gone() {
                // There may be another by its name.
                return Ok(Slice::More);
            }
            self.gate = Some(gate);
        }
        self.check_queue()?;
        self.vhost.check_new(&self.binding)?;
        if self.vhost.topology.read().is_bound(&self.binding) {
            self.point = self.vhost.services.definitions_point();
            return Ok(Slice::Last);
        }
        self.source = source;
        self.stage = Stage::Bring(0);
        Ok(Slice::More)
    }

    /// Brings a part of the history; answers what it cost.
    fn bring(&mut self, from: usize, most: usize, now: Timestamp) -> usize {
        let most = most.div_ceil(MESSAGE_COST);
        let source = self.source.as_ref();
        let some = source.map_or_else(Vec::new, |source| source.remembered(from, most));
        if some.is_empty() {
            return self.enter(Stage::Bind);
        }
        let count = some.len();
        match &self.binding.destination {
            Destination::Queue(_) => {
                if let Some(queue) = &self.queue {
                    let messages = some.into_iter().map(without_blind_copies);
                    self.unit.enter(queue, messages, Look::Moved, now);
                    self.has_entered = true;
                }
            }
            Destination::Exchange(_) => self.messages.extend(some),
        }
        self.stage = Stage::Bring(from + count);
        count * MESSAGE_COST
    }

    /// Adds the binding, in one commit with its history.
    fn bind(&mut self) -> Result<(), Failure> {
        let mut bound = Ok((CommitPoint::NONE, false));
        let (vhost, binding, by) = (&self.vhost, &self.binding, &self.by);
        self.unit.stage(|changes| {
            bound = vhost.bind_with(binding.clone(), by, changes);
            match bound {
                Ok((point, true)) => point,
                _ => CommitPoint::NONE,
            }
        });
        match bound {
            Ok((point, true)) => self.point = point,
            // With the queue goes what entered it.
            Err(failure) => {
                self.check_queue()?;
                if !self.has_entered {
                    return Err(failure);
                }
                // It was there for a moment, and has gone with its source.
                self.stage_alone();
            }
            Ok(_) => self.stage_alone(),
        }
        while self.unit.tell_some(usize::MAX) > 0 {}
        self.stage = Stage::Times;
        Ok(())
    }

    /// Whether the queue is still there.
    fn check_queue(&self) -> Result<(), ChannelError> {
        match &self.queue {
            Some(queue) if queue.is_deleted() => {
                Err(ChannelError::no_queue(queue.name(), self.vhost.name()))
            }
            _ => Ok(()),
        }
    }

    fn stage_alone(&mut self) {
        let store = &self.vhost.services.store;
        self.unit.stage(|changes| store.stage(changes));
        self.point = self.unit.point();
    }

    /// Has the next message go on from the exchange that was bound; answers what it cost, or how this ends.
    fn pass_next(&mut self, most: usize, waker: &Waker, now: Timestamp) -> Result<usize, Slice> {
        let mut left: Vec<(QueueHandle, Effects)> = Vec::new();
        if let Some(passage) = &mut self.passage {
            let slice = passage.go_on(&self.vhost, most, waker, &mut left, now);
            let point = passage.point();
            self.vhost.carry_out_all(left, now);
            if slice != Slice::Last {
                return Err(slice);
            }
            self.point = self.point.max(point);
            self.passage = None;
            return Ok(PASS_COST);
        }
        let Destination::Exchange(exchange) = &self.binding.destination else {
            return Err(Slice::Last);
        };
        let message = self.messages.pop_front().ok_or(Slice::Last)?;
        let incoming = Incoming {
            exchange,
            resumes: false,
            returned: false,
            look: Look::Moved,
            message: &message,
            random: self.vhost.services.next_random(),
            barred: &[],
        };
        match self.vhost.publish_past(&incoming, Vec::new(), now) {
            Ok(passed) => {
                self.point = self.point.max(passed.point);
                let queues = passed.left.len();
                self.vhost.carry_out_all(passed.left, now);
                Ok(PASS_COST + queues * QUEUE_COST)
            }
            Err(passage) => {
                self.passage = Some(passage);
                Ok(most)
            }
        }
    }
}

/// A binding that nobody waits for.
#[derive(Debug)]
struct Alone(Mutex<Option<Box<Bringing>>>);

impl Task for Alone {
    fn go_on(self: Arc<Self>, services: &Services, now: Timestamp) {
        let task: Arc<dyn Task> = Arc::<Alone>::clone(&self);
        // Whoever is woken before it is back in its place waits for it.
        let mut place = self.0.lock();
        let Some(bringing) = place.as_mut() else {
            return;
        };
        let waker = bringing.vhost.services.waker(&task);
        match bringing.go_on(services.step_cost, &waker, now) {
            Ok(Slice::More) => services.pager.ask(Party::Task(task)),
            Ok(Slice::Waits) => {}
            Ok(Slice::Last) => *place = None,
            Err(failure) => {
                let source = bringing.binding.source.as_str();
                tracing::warn!(source, ?failure, "binding left out");
                *place = None;
            }
        }
    }
}
