//! Binding and unbinding, and bindings as they are stored.

use std::sync::Arc;

use leveret_message::Message;
use leveret_message::error::{ChannelError, Failure};
use leveret_queue::queue::identity::SessionId;
use leveret_routing::{BindError, Binding, Cleared, Destination, QueueId, Removed, Topology};
use leveret_store_api::{Change, CommitPoint};

use crate::bringing::{Bound, Bringing};
use crate::definitions::{BindingDefinition, Definition, Ends, Subject};
use crate::events::Event;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

impl VirtualHost {
    /// Adds a binding for the user `by`; one that exists is no error. What its source remembers goes to its
    /// destination, in slices.
    ///
    /// # Errors
    /// 404, 406; 541 when it cannot be stored.
    pub fn bind(self: &Arc<Self>, binding: Binding, by: &str) -> Result<Bound, Failure> {
        let source = self.stateful(&binding.source);
        if source.is_some_and(|source| source.remembers()) {
            self.check_new(&binding)?;
            let bringing = Bringing::new(self, binding, by);
            return Ok(Bound::Brings(Box::new(bringing)));
        }
        let (point, _) = self.bind_with(binding, by, &mut Vec::new())?;
        Ok(Bound::At(point))
    }

    /// Whether a binding may be added, or is there.
    ///
    /// # Errors
    /// Those of [`VirtualHost::bind`].
    pub(crate) fn check_new(&self, binding: &Binding) -> Result<(), Failure> {
        let topology = self.topology.read();
        self.check_ends(&topology, binding)?;
        self.put_of(&topology, binding)?;
        topology
            .check_binding(binding)
            .map_err(|error| self.bind_failure(&error).into())
    }

    /// What makes a binding durable, if it is to be.
    fn put_of(
        &self,
        topology: &Topology,
        binding: &Binding,
    ) -> Result<Option<Change<Message>>, Failure> {
        let definition = self.define_binding(topology, binding, &Removed::default());
        let put = definition.map(|it| Definition::Binding(it).put());
        Ok(put.transpose()?)
    }

    /// Adds a binding in one commit with `changes`, and answers when that is durable and whether it is new. Without it
    /// nothing is staged.
    ///
    /// # Errors
    /// Those of [`VirtualHost::bind`].
    pub(crate) fn bind_with(
        &self,
        binding: Binding,
        by: &str,
        changes: &mut Vec<Change<Message>>,
    ) -> Result<(CommitPoint, bool), Failure> {
        let mut topology = self.topology.write();
        self.check_ends(&topology, &binding)?;
        let put = self.put_of(&topology, &binding)?;
        let added = topology
            .bind(binding.clone())
            .map_err(|error| self.bind_failure(&error))?;
        if !added {
            return Ok((self.services.definitions_point(), false));
        }
        changes.extend(put);
        self.routes_changed();
        self.set_listeners(&topology);
        self.tell_binding(&binding, |ends| Event::binding_created(ends, by));
        Ok((self.stage(changes), true))
    }

    /// A binding to a queue, to be added.
    ///
    /// # Errors
    /// 404, of both ends the exchange's first; 405, after what is wrong with the binding itself.
    pub fn binding_to_add(
        &self,
        binding: impl FnOnce(Destination) -> Binding,
        source: &str,
        queue: &str,
        session: SessionId,
    ) -> Result<Binding, ChannelError> {
        if self.topology.read().exchange(source).is_none() {
            return Err(ChannelError::no_exchange(source, self.name()));
        }
        let queue = self.queue(queue)?;
        let binding = binding(Destination::Queue(queue.id()));
        self.check_exclusive(&queue, session).map_err(|locked| {
            let wrong = self.topology.read().check_binding(&binding).err();
            wrong.map_or(locked, |error| self.bind_failure(&error))
        })?;
        Ok(binding)
    }

    fn check_ends(&self, topology: &Topology, binding: &Binding) -> Result<(), ChannelError> {
        if topology.exchange(&binding.source).is_none() {
            return Err(ChannelError::no_exchange(&binding.source, self.name()));
        }
        match &binding.destination {
            Destination::Exchange(name) if topology.exchange(name).is_none() => {
                Err(ChannelError::no_exchange(name, self.name()))
            }
            _ => Ok(()),
        }
    }

    fn bind_failure(&self, error: &BindError) -> ChannelError {
        match error {
            BindError::NoExchange(name) => ChannelError::no_exchange(name, self.name()),
            BindError::DefaultExchange => ChannelError::default_exchange(),
            other => ChannelError::precondition(other),
        }
    }

    /// The binding to a queue that is to be removed; None where there is none.
    ///
    /// # Errors
    /// 405, if there is one.
    pub fn binding_to_remove(
        &self,
        binding: impl FnOnce(Destination) -> Binding,
        queue: &str,
        session: SessionId,
    ) -> Result<Option<Binding>, ChannelError> {
        let Ok(queue) = self.queue(queue) else {
            return Ok(None);
        };
        let binding = binding(Destination::Queue(queue.id()));
        if !self.topology.read().is_bound(&binding) {
            return Ok(None);
        }
        self.check_exclusive(&queue, session)?;
        Ok(Some(binding))
    }

    /// Removes a binding for the user `by`. Neither a missing one nor a missing end is an error.
    pub fn unbind(self: &Arc<Self>, binding: &Binding, by: &str) -> CommitPoint {
        let mut topology = self.topology.write();
        let gone = topology.unbind(binding);
        let mut changes = Vec::new();
        self.forget_binding_aside(binding, &mut changes);
        self.forget(&topology, &gone, changes, by)
            .max(self.point_of(gone.is_empty()))
    }

    /// The stored form of a binding; None when either end is not durable. `gone` are those of which nothing is left.
    pub(crate) fn define_binding(
        &self,
        topology: &Topology,
        binding: &Binding,
        gone: &Removed,
    ) -> Option<BindingDefinition> {
        let durable_exchange = |name: &str| {
            let cleared = || {
                gone.cleared.iter().find_map(|it| match it {
                    Cleared::Exchange(exchange) if exchange.name == name => Some(exchange),
                    _ => None,
                })
            };
            let exchange = topology.exchange_even_leaving(name).or_else(cleared);
            exchange.is_some_and(|exchange| exchange.durable)
        };
        if !durable_exchange(&binding.source) {
            return None;
        }
        let (name, to_exchange) = match &binding.destination {
            Destination::Exchange(name) => (durable_exchange(name).then(|| name.clone())?, true),
            Destination::Queue(id) => {
                let queue = self.queue_even_leaving(*id)?;
                let identity = queue.identity();
                (
                    (identity.durable && identity.exclusive.is_none())
                        .then(|| identity.name.clone())?,
                    false,
                )
            }
        };
        Some(BindingDefinition::new(
            self.name(),
            binding,
            &name,
            to_exchange,
        ))
    }

    /// A queue, also if it is leaving.
    pub(crate) fn queue_even_leaving(&self, id: QueueId) -> Option<QueueHandle> {
        let found = self.queues_by_id.get(&id).map(|queue| queue.clone());
        found.or_else(|| self.leaving.get(id))
    }

    /// `VirtualHost::forget_aside` for bindings to a queue, whatever their arguments.
    pub fn forget_bindings_aside(
        &self,
        source: &str,
        queue: &str,
        routing_key: &str,
    ) -> CommitPoint {
        self.forget_aside(&Subject::Binding(Ends {
            vhost: self.name().to_string(),
            source: source.to_owned(),
            destination: queue.to_owned(),
            to_exchange: false,
            routing_key: routing_key.as_bytes().to_vec(),
        }))
    }

    /// Gets rid of bindings between the same ends, with the same key, that were put aside.
    fn forget_binding_aside(&self, binding: &Binding, changes: &mut Vec<Change<Message>>) {
        if self.services.aside.is_empty() {
            return;
        }
        let (destination, to_exchange) = match &binding.destination {
            Destination::Exchange(name) => (name.clone(), true),
            Destination::Queue(id) => match self.queues_by_id.get(id) {
                Some(queue) => (queue.name().to_owned(), false),
                None => return,
            },
        };
        let ends = Ends {
            vhost: self.name().to_string(),
            source: binding.source.clone(),
            destination,
            to_exchange,
            routing_key: binding.routing_key.clone(),
        };
        self.services.aside.forget(&Subject::Binding(ends), changes);
    }
}
