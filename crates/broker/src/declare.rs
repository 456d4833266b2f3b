//! Declaring and deleting: with `bindings.rs`, the control plane of a virtual host.
//!
//! Every change holds the topology's write lock, so changes are in one order, in memory and in the
//! store alike. Permissions are the session's business; what exists and fits is this file's.

use std::sync::Arc;

use leveret_codec::{AMQPValue, FieldTable, LongString};
use leveret_deduplication::KeyLogs;
use leveret_message::arguments::argument;
use leveret_message::error::{ChannelError, Failure};
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::NOTHING_STAGED;
use leveret_queue::queue::answers::Deleted;
use leveret_queue::queue::counts::QueueCounts;
use leveret_queue::queue::effects::Effects;
use leveret_queue::queue::identity::{QueueIdentity, SessionId};
use leveret_queue::queue::kind::QueueKind;
use leveret_queue::queue::machine::Machine;
use leveret_routing::{Exchange, Topology};
use leveret_settings::declared::DeclaredProperties;
use leveret_settings::names::{ALTERNATE_EXCHANGE, QUEUE_TYPE};
use leveret_settings::{declared, equivalence};
use leveret_store_api::{Change, CommitPoint};

use crate::deadlines::Owner;
use crate::definitions::{Definition, ExchangeDefinition, QueueDefinition, Subject, remove_queue};
use crate::events::{Event, INTERNAL_USER};
use crate::exchange::{self, ExchangeLogs};
use crate::farewell;
use crate::handle::QueueHandle;
use crate::leaving::TopologyWriting;
use crate::vhost::VirtualHost;

/// How the addresses of direct reply-to begin.
pub(crate) const REPLY_ADDRESS_PREFIX: &str = "amq.rabbitmq.reply-to.";

/// What `queue.declare` asks for, its name already chosen.
#[derive(Clone, Debug)]
pub struct QueueDeclaration {
    /// The name.
    pub name: String,
    /// Survives a restart.
    pub durable: bool,
    /// Belongs to the declaring connection alone.
    pub exclusive: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// `x-` arguments.
    pub arguments: FieldTable,
}

impl QueueDeclaration {
    /// Gives a queue that names no type the default of its virtual host.
    ///
    /// rabbitmq: only where a queue of any type may have its properties
    pub fn choose_type(&mut self, default: Option<QueueKind>) {
        let fits = self.durable && !self.exclusive && !self.auto_delete;
        if let Some(kind) = default.filter(|_| fits)
            && argument(&self.arguments, QUEUE_TYPE).is_none()
        {
            let name = AMQPValue::LongString(LongString::from(kind.name()));
            self.arguments.insert(QUEUE_TYPE.into(), name);
        }
    }

    pub(crate) fn properties(&self) -> DeclaredProperties {
        DeclaredProperties {
            durable: self.durable,
            exclusive: self.exclusive,
            auto_delete: self.auto_delete,
        }
    }
}

/// A queue found or made.
#[derive(Debug)]
pub struct DeclaredQueue {
    /// The queue.
    pub queue: QueueHandle,
    /// What is in it.
    pub counts: QueueCounts,
    /// It was made by this call.
    pub created: bool,
    /// When the declaration is durable.
    pub point: CommitPoint,
}

/// Conditions of `queue.delete`.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeleteConditions {
    /// Only without consumers.
    pub if_unused: bool,
    /// Only without messages.
    pub if_empty: bool,
}

impl VirtualHost {
    /// Refuses another connection's exclusive queue.
    ///
    /// # Errors
    /// 405.
    pub fn check_exclusive(
        &self,
        queue: &QueueHandle,
        session: SessionId,
    ) -> Result<(), ChannelError> {
        match queue.identity().exclusive {
            Some(owner) if owner != session => Err(ChannelError::locked(queue.name(), self.name())),
            _ => Ok(()),
        }
    }

    /// Finds a queue for a passive declaration.
    ///
    /// # Errors
    /// 404, 405.
    pub fn declare_queue_passively(
        self: &Arc<Self>,
        name: &str,
        session: SessionId,
        now: Timestamp,
    ) -> Result<DeclaredQueue, ChannelError> {
        let queue = self.queue(name)?;
        // rabbitmq: whoever is to reply may ask whether the requester is still there
        if !is_reply_address(name) {
            self.check_exclusive(&queue, session)?;
        }
        self.carry_out(&queue, queue.touch(now), now);
        Ok(DeclaredQueue {
            counts: queue.counts(),
            point: self.point_of(queue.identity().durable),
            queue,
            created: false,
        })
    }

    /// When what is found is as durable as it says it is.
    pub fn point_of(&self, durable: bool) -> CommitPoint {
        if durable {
            self.services.definitions_point()
        } else {
            NOTHING_STAGED
        }
    }

    /// Gets rid of what an earlier start has put aside under a name that is deleted; answers when that,
    /// and every deletion before, is durable.
    pub(crate) fn forget_aside(&self, subject: &Subject) -> CommitPoint {
        let mut changes = Vec::new();
        self.services.aside.forget(subject, &mut changes);
        self.stage(&mut changes);
        self.services.definitions_point()
    }

    /// `VirtualHost::forget_aside` for a queue.
    pub fn forget_queue_aside(&self, name: &str) -> CommitPoint {
        self.forget_aside(&Subject::Queue(self.name().to_string(), name.to_owned()))
    }

    /// Finds or makes a queue. `by` is the user who declares it; `may_make` is asked whether it may be made, not where
    /// it exists.
    ///
    /// # Errors
    /// 405, 406 for arguments that are wrong or differ from the queue's; 541 when it cannot be stored; and what
    /// `may_make` says.
    pub fn declare_queue(
        self: &Arc<Self>,
        mut declaration: QueueDeclaration,
        session: SessionId,
        by: &str,
        now: Timestamp,
        may_make: impl FnOnce(&QueueDeclaration) -> Result<(), ChannelError>,
    ) -> Result<DeclaredQueue, Failure> {
        declaration.choose_type(self.default_queue_type());
        // rabbitmq: an exclusive queue is transient whatever is asked for; it dies with its connection
        declaration.durable &= !declaration.exclusive;
        let existing = self
            .queues
            .get(&declaration.name)
            .map(|queue| queue.clone());
        let queue = match existing {
            Some(queue) => queue,
            None => match self.create_queue(&declaration, session, by, now, may_make)? {
                Ok(declared) => {
                    self.services.churn.note_declared(true);
                    self.carry_out(&declared.queue, declared.queue.touch(now), now);
                    return Ok(declared);
                }
                Err(queue) => queue,
            },
        };
        self.check_same_queue(&queue, &declaration, session)?;
        self.services.churn.note_declared(false);
        self.carry_out(&queue, queue.touch(now), now);
        Ok(DeclaredQueue {
            counts: queue.counts(),
            queue,
            created: false,
            point: self.services.definitions_point(),
        })
    }

    fn check_same_queue(
        &self,
        queue: &QueueHandle,
        declaration: &QueueDeclaration,
        session: SessionId,
    ) -> Result<(), ChannelError> {
        let identity = queue.identity();
        let name = queue.name();
        if identity.exclusive.is_some_and(|owner| owner != session)
            || identity.exclusive.is_some() != declaration.exclusive
        {
            return Err(ChannelError::locked(name, self.name()));
        }
        let flags = [
            ("durable", identity.durable, declaration.durable),
            ("auto_delete", identity.auto_delete, declaration.auto_delete),
        ];
        for (flag, current, received) in flags {
            check_flag(flag, current, received, "queue", name, self.name())?;
        }
        equivalence::check_equivalent(
            &identity.arguments,
            &declaration.arguments,
            name,
            self.name(),
        )
    }

    /// Makes a queue; Ok(Err(queue)) if somebody else was faster.
    fn create_queue(
        self: &Arc<Self>,
        declaration: &QueueDeclaration,
        session: SessionId,
        by: &str,
        now: Timestamp,
        may_make: impl FnOnce(&QueueDeclaration) -> Result<(), ChannelError>,
    ) -> Result<Result<DeclaredQueue, QueueHandle>, Failure> {
        self.check_queue_limit(&declaration.name)?;
        may_make(declaration)?;
        declared::check(
            &declaration.arguments,
            declaration.properties(),
            &declaration.name,
            self.name(),
        )?;
        let mut topology = self.topology_without(|_| self.leaving.has(&declaration.name));
        if let Some(existing) = self.queues.get(&declaration.name) {
            return Ok(Err(existing.clone()));
        }
        self.check_queue_limit(&declaration.name)?;
        let options = self.options_in_force(&declaration.name, &declaration.arguments);
        let durable = declaration.durable;
        let definition = (durable && !declaration.exclusive)
            .then(|| self.define_queue(declaration, options.max_priority));
        let identity = QueueIdentity {
            id: self.services.next_queue_id(),
            name: declaration.name.clone(),
            vhost: Arc::clone(self.name()),
            durable,
            auto_delete: declaration.auto_delete,
            exclusive: declaration.exclusive.then_some(session),
            arguments: declaration.arguments.clone(),
        };
        let services = &self.services;
        let keeps = durable && !declaration.exclusive;
        let mut queue = Machine::new(
            options,
            keeps,
            declaration.auto_delete,
            Arc::clone(&services.store),
            services.memory,
            now,
        );
        let mut point = NOTHING_STAGED;
        let key_logs = definition.as_ref().and_then(|it| it.key_logs);
        if let Some(definition) = definition {
            let put = Definition::Queue(definition.clone()).put()?;
            for (log, level) in definition.log_ids().zip(0u8..=255) {
                queue.recover_level(level, log);
            }
            if let Some(logs) = definition.key_logs {
                queue.set_key_logs(logs, false);
            }
            point = services.stage_definitions(&mut vec![put]);
        }
        let queue = QueueHandle::new(
            identity,
            queue,
            key_logs,
            services.producers_max,
            &services.store,
            &services.census,
        );
        self.insert_queue(&mut topology, &queue);
        if !is_reply_address(queue.name()) {
            services.tell(|events| events.queue_created(&queue, by));
        }
        Ok(Ok(DeclaredQueue {
            counts: queue.counts(),
            queue,
            created: true,
            point,
        }))
    }

    fn define_queue(
        &self,
        declaration: &QueueDeclaration,
        max_priority: Option<u8>,
    ) -> QueueDefinition {
        let levels = 1 + usize::from(max_priority.unwrap_or(0));
        QueueDefinition {
            vhost: self.name().to_string(),
            name: declaration.name.clone(),
            auto_delete: declaration.auto_delete,
            arguments: declaration.arguments.clone(),
            logs: (0..levels)
                .map(|_| self.services.store.allocate_log().0)
                .collect(),
            key_logs: Some(KeyLogs::allocate(&self.services.store)),
        }
    }

    pub(crate) fn insert_queue(&self, topology: &mut Topology, queue: &QueueHandle) {
        // Only adds a route that led nowhere before, and those are not cached: the generation stays.
        topology.add_queue(queue.name(), queue.id());
        self.queues_by_id.insert(queue.id(), queue.clone());
        self.queues.insert(queue.name().to_owned(), queue.clone());
    }

    /// Deletes a queue for the user `by` if the conditions hold, as [`VirtualHost::delete_queue`]. Nothing comes between
    /// the look and the end, no message and no consumer.
    ///
    /// # Errors
    /// 406 when it is in use or not empty.
    pub fn delete_queue_if(
        self: &Arc<Self>,
        queue: &QueueHandle,
        conditions: DeleteConditions,
        by: &str,
    ) -> Result<(u64, CommitPoint), ChannelError> {
        let topology = self.topology.write();
        let current = self.queues.get(queue.name()).map(|current| current.id());
        if current != Some(queue.id()) {
            // Somebody else has deleted it; that may not be durable yet.
            return Ok((0, self.services.definitions_point()));
        }
        let deleted = queue.delete_if(|counts| self.check_conditions(queue, counts, conditions))?;
        self.queues.remove(queue.name());
        Ok(self.forget_deleted(topology, queue, deleted, by))
    }

    /// What was put aside under its name goes with a queue, too; the commit point of both.
    fn forget_aside_too(&self, queue: &QueueHandle, point: CommitPoint) -> CommitPoint {
        if self.services.aside.is_empty() {
            return point;
        }
        point.max(self.forget_queue_aside(queue.name()))
    }

    fn check_conditions(
        &self,
        queue: &QueueHandle,
        counts: QueueCounts,
        conditions: DeleteConditions,
    ) -> Result<(), ChannelError> {
        let why = if conditions.if_unused && counts.consumers > 0 {
            "in use"
        } else if conditions.if_empty && counts.ready + counts.waiting > 0 {
            "not empty"
        } else {
            return Ok(());
        };
        Err(ChannelError::precondition(format_args!(
            "queue '{}' in vhost '{}' {why}",
            queue.name(),
            self.name()
        )))
    }

    /// Deletes a queue for the user `by`, and what was put aside under its name; answers how many messages it had, and
    /// the commit point. It is no longer found, and its consumers are told once that is durable; of very many bindings
    /// some are left to [`VirtualHost::clear_some`].
    pub fn delete_queue(self: &Arc<Self>, queue: &QueueHandle, by: &str) -> (u64, CommitPoint) {
        let topology = self.topology.write();
        let removed = self
            .queues
            .remove_if(queue.name(), |_, current| current.id() == queue.id());
        if removed.is_none() {
            // Somebody else deletes it; that may not be durable yet.
            return (0, self.services.definitions_point());
        }
        self.forget_deleted(topology, queue, queue.delete(), by)
    }

    /// What is left to be done when a queue is deleted and gone from the names; answers what its deletion does.
    fn forget_deleted(
        self: &Arc<Self>,
        mut topology: TopologyWriting<'_>,
        queue: &QueueHandle,
        (deleted, effects): (Deleted, Effects),
        by: &str,
    ) -> (u64, CommitPoint) {
        self.queues_by_id.remove(&queue.id());
        self.leaving.add(queue);
        let gone = topology.remove_queue(queue.name(), queue.id());
        self.services.deadlines.forget(Owner::Queue(queue.id().0));
        let mut changes = deleted.changes;
        let identity = queue.identity();
        if identity.durable && identity.exclusive.is_none() {
            changes.push(remove_queue(self.name(), queue.name()));
        }
        let point = self.forget(&topology, &gone, changes, INTERNAL_USER);
        self.services.churn.note_deleted();
        if !is_reply_address(queue.name()) {
            self.services.tell(|_| Event::queue_deleted(queue, by));
        }
        drop(topology);
        self.services.pager.free(effects.garbage);
        farewell::tell_at(&self.services, deleted.orphans, point);
        (deleted.messages, self.forget_aside_too(queue, point))
    }

    pub(crate) fn stage(&self, changes: &mut Vec<Change<Message>>) -> CommitPoint {
        self.services.stage_definitions(changes)
    }

    /// Finds or makes an exchange. `by` is the user who declares it; `may_make` is asked whether it may be made, not
    /// where it exists.
    ///
    /// # Errors
    /// 406 when one of the same name differs, or its arguments are wrong; 541 when it cannot be stored; and what
    /// `may_make` says.
    pub fn declare_exchange(
        self: &Arc<Self>,
        exchange: Exchange,
        by: &str,
        may_make: impl FnOnce(&Exchange) -> Result<(), ChannelError>,
    ) -> Result<CommitPoint, Failure> {
        let mut topology = self.topology_without(|it| it.is_leaving(&exchange.name));
        if let Some(current) = topology.exchange(&exchange.name) {
            check_same_exchange(current, &exchange, self.name())?;
            return Ok(self.services.definitions_point());
        }
        may_make(&exchange)?;
        exchange::check(&exchange).map_err(ChannelError::precondition)?;
        let mut changes = Vec::new();
        let logs = ExchangeLogs::allocate(&exchange, &self.services.store);
        if exchange.durable {
            let definition = ExchangeDefinition::new(self.name(), &exchange).with_logs(logs);
            changes.push(Definition::Exchange(definition).put()?);
        }
        let name = exchange.name.clone();
        let alternate = self.alternate_in_force(&exchange);
        topology.declare_exchange(Exchange {
            alternate,
            ..exchange
        });
        self.consider_state(&mut topology, &name, Some(logs));
        self.routes_changed();
        self.tell_exchange(&topology, &name, by);
        Ok(self.stage(&mut changes))
    }

    /// Deletes an exchange for the user `by`; a missing one is no error. It is no longer found; of very many bindings
    /// some are left to [`VirtualHost::clear_some`].
    pub fn delete_exchange(self: &Arc<Self>, name: &str, by: &str) -> CommitPoint {
        self.take_exchange_out(self.topology.write(), name, by)
    }

    /// Deletes an exchange that nothing is bound to for the user `by`; a missing one is no error.
    ///
    /// # Errors
    /// 406 when it is in use.
    pub fn delete_exchange_if_unused(
        self: &Arc<Self>,
        name: &str,
        by: &str,
    ) -> Result<CommitPoint, ChannelError> {
        let topology = self.topology.write();
        if topology.exchange_in_use(name) {
            return Err(ChannelError::precondition(format_args!(
                "exchange '{name}' in vhost '{}' in use",
                self.name()
            )));
        }
        Ok(self.take_exchange_out(topology, name, by))
    }

    fn take_exchange_out(
        self: &Arc<Self>,
        mut topology: TopologyWriting<'_>,
        name: &str,
        by: &str,
    ) -> CommitPoint {
        let gone = topology.delete_exchange(name);
        let mut changes = Vec::new();
        let aside = Subject::Exchange(self.name().to_string(), name.to_owned());
        self.services.aside.forget(&aside, &mut changes);
        self.forget(&topology, &gone, changes, by)
            .max(self.point_of(gone.is_empty()))
    }
}

/// Whether a queue stands for the address of a direct reply.
fn is_reply_address(name: &str) -> bool {
    name.starts_with(REPLY_ADDRESS_PREFIX)
}

fn check_flag(
    flag: &str,
    current: bool,
    received: bool,
    kind: &str,
    name: &str,
    vhost: &str,
) -> Result<(), ChannelError> {
    if current == received {
        return Ok(());
    }
    Err(ChannelError::precondition(format_args!(
        "inequivalent arg '{flag}' for {kind} '{name}' in vhost '{vhost}': received '{received}' but current is '{current}'"
    )))
}

fn check_same_exchange(
    current: &Exchange,
    received: &Exchange,
    vhost: &str,
) -> Result<(), ChannelError> {
    let name = &current.name;
    if current.kind != received.kind {
        return Err(ChannelError::precondition(format_args!(
            "inequivalent arg 'type' for exchange '{name}' in vhost '{vhost}': received '{}' but current is '{}'",
            received.kind.name(),
            current.kind.name()
        )));
    }
    let flags = [
        ("durable", current.durable, received.durable),
        ("auto_delete", current.auto_delete, received.auto_delete),
        ("internal", current.internal, received.internal),
    ];
    for (flag, current, received) in flags {
        check_flag(flag, current, received, "exchange", name, vhost)?;
    }
    let argument = |exchange: &Exchange| argument(&exchange.arguments, ALTERNATE_EXCHANGE).cloned();
    equivalence::check_equivalent_argument(
        ALTERNATE_EXCHANGE,
        argument(current).as_ref(),
        argument(received).as_ref(),
        "exchange",
        name,
        vhost,
    )
}
