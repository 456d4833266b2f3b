//! Whether a plan fits: everything it mentions exists in the plan or the broker, every binding can be
//! made, and no limit is exceeded.

use std::collections::BTreeMap;

use leveret_routing::{Binding, Destination, QueueId, Topology};
use leveret_settings::declared;

use super::{BindingPlan, ImportError, InVhost, Located, LocatedInVhost, Plan};
use crate::broker::Broker;
use crate::declare::QueueDeclaration;
use crate::definitions::{Definition, PolicyDefinition};

/// Ids of queues that are not there yet; real ones are counted from the other end.
const PLANNED_QUEUE: u64 = u64::MAX;

/// A virtual host as it would be.
struct Trial {
    topology: Topology,
    queues: BTreeMap<String, QueueId>,
    /// How many of the queues are not there yet.
    planned: u64,
    queues_max: Option<u64>,
}

impl Trial {
    fn new(broker: &Broker, plan: &Plan, name: &str) -> Trial {
        let mut topology = Topology::new();
        let mut queues = BTreeMap::new();
        if let Some(vhost) = broker.vhost(name) {
            // Whether a binding can be made does not depend on others. All is copied a part at a time: there may be very
            // much of it, and nobody waits for this.
            let exchanges = vhost.exchange_names().into_iter();
            for exchange in exchanges.filter_map(|name| vhost.exchange(&name)) {
                topology.declare_exchange(exchange);
            }
            for queue in vhost.queue_handles() {
                topology.add_queue(queue.name(), queue.id());
                queues.insert(queue.name().to_owned(), queue.id());
            }
        }
        let planned_limits = plan.limits.iter().rfind(|it| it.it.vhost == name);
        let limits = planned_limits.map_or_else(|| broker.vhost_limits(name), |it| it.it.it);
        Trial {
            topology,
            queues,
            planned: 0,
            queues_max: limits.max_queues,
        }
    }

    /// Adds a queue if it is not there; the error is the limit it would exceed.
    fn add_queue(&mut self, name: &str) -> Result<(), u64> {
        if self.queues.contains_key(name) {
            return Ok(());
        }
        match self.queues_max {
            Some(limit) if self.queues.len() as u64 >= limit => return Err(limit),
            _ => {}
        }
        let id = QueueId(PLANNED_QUEUE - self.planned);
        self.planned += 1;
        self.topology.add_queue(name, id);
        self.queues.insert(name.to_owned(), id);
        Ok(())
    }
}

impl BindingPlan {
    /// The binding between things that exist; None where an end is missing.
    pub(super) fn resolve(
        &self,
        topology: &Topology,
        queue: impl FnOnce(&str) -> Option<QueueId>,
    ) -> Option<Binding> {
        topology.exchange(&self.source)?;
        let destination = if self.to_exchange {
            topology.exchange(&self.destination)?;
            Destination::Exchange(self.destination.clone())
        } else {
            Destination::Queue(queue(&self.destination)?)
        };
        Some(Binding {
            source: self.source.clone(),
            destination,
            routing_key: self.routing_key.clone().into_bytes(),
            arguments: self.arguments.clone(),
        })
    }
}

/// What cannot be stored is found before anything is changed.
fn check_storable<T>(it: &Located<T>, definition: &Definition) -> Result<(), ImportError> {
    definition.put().map(drop).map_err(|error| it.error(error))
}

impl Plan {
    /// Checks the plan against the broker.
    pub(super) fn check(&self, broker: &Broker) -> Result<(), ImportError> {
        let Plan {
            permissions,
            topic_permissions,
            ..
        } = self;
        for it in &self.vhosts {
            if broker.is_vhost_leaving(&it.it) {
                return Err(it.error(format_args!("virtual host '{}' is being deleted", it.it)));
            }
        }
        for it in permissions {
            self.check_user(broker, it, &it.it.it.user)?;
        }
        for it in topic_permissions {
            self.check_user(broker, it, &it.it.it.user)?;
        }
        self.check_vhosts(broker, permissions)?;
        self.check_vhosts(broker, topic_permissions)?;
        self.check_vhosts(broker, &self.limits)?;
        self.check_vhosts(broker, &self.exchanges)?;
        self.check_vhosts(broker, &self.queues)?;
        self.check_vhosts(broker, &self.bindings)?;
        for it in &self.policies {
            self.check_vhost(broker, it, &it.it.1.vhost)?;
            let (kind, spec) = it.it.clone();
            let definition = PolicyDefinition { kind, spec };
            check_storable(it, &Definition::Policy(definition))?;
        }
        for it in &self.parameters {
            check_storable(it, &Definition::Parameter(it.it.clone()))?;
        }
        self.check_topologies(broker)
    }

    fn check_vhosts<T>(
        &self,
        broker: &Broker,
        all: &[LocatedInVhost<T>],
    ) -> Result<(), ImportError> {
        all.iter()
            .try_for_each(|it| self.check_vhost(broker, it, &it.it.vhost))
    }

    fn check_vhost<T>(
        &self,
        broker: &Broker,
        it: &Located<T>,
        name: &str,
    ) -> Result<(), ImportError> {
        if broker.vhost(name).is_some() || self.vhosts.iter().any(|vhost| vhost.it == name) {
            return Ok(());
        }
        Err(it.error(format_args!(
            "virtual host '{name}' does not exist and is not among \"vhosts\""
        )))
    }

    fn check_user<T>(
        &self,
        broker: &Broker,
        it: &Located<T>,
        name: &str,
    ) -> Result<(), ImportError> {
        let planned = self.users.iter().any(|user| user.it.user.name == name);
        if planned || broker.users.get(name).is_some() {
            return Ok(());
        }
        Err(it.error(format_args!(
            "user '{name}' does not exist and is not among \"users\""
        )))
    }

    /// A queue's arguments, with the type that the virtual host gives it.
    fn check_queue(
        &self,
        broker: &Broker,
        placed: &LocatedInVhost<QueueDeclaration>,
    ) -> Result<(), ImportError> {
        let InVhost { vhost, it } = &placed.it;
        let planned = self.metadata.iter().filter(|it| it.it.vhost == *vhost);
        let default = match planned
            .filter_map(|it| it.it.it.default_queue_type)
            .next_back()
        {
            Some(kind) => Some(kind),
            None => broker.vhost(vhost).and_then(|it| it.default_queue_type()),
        };
        let mut declaration = it.clone();
        declaration.choose_type(default);
        let properties = declaration.properties();
        declared::check(&declaration.arguments, properties, &declaration.name, vhost)
            .map_err(|error| placed.error(error.text))
    }

    fn check_topologies(&self, broker: &Broker) -> Result<(), ImportError> {
        let mut trials: BTreeMap<&str, Trial> = BTreeMap::new();
        for it in &self.exchanges {
            let name = it.it.vhost.as_str();
            let trial = trials
                .entry(name)
                .or_insert_with(|| Trial::new(broker, self, name));
            trial.topology.declare_exchange(it.it.it.clone());
        }
        for it in &self.queues {
            let name = it.it.vhost.as_str();
            self.check_queue(broker, it)?;
            let trial = trials
                .entry(name)
                .or_insert_with(|| Trial::new(broker, self, name));
            trial.add_queue(&it.it.it.name).map_err(|limit| {
                it.error(format_args!(
                    "adding queue '{}' to virtual host '{name}' would exceed the limit of {limit} queue(s)",
                    it.it.it.name
                ))
            })?;
        }
        for it in &self.bindings {
            let name = it.it.vhost.as_str();
            let trial = trials
                .entry(name)
                .or_insert_with(|| Trial::new(broker, self, name));
            let queue = |queue: &str| trial.queues.get(queue).copied();
            if let Some(binding) = it.it.it.resolve(&trial.topology, queue) {
                trial
                    .topology
                    .bind(binding)
                    .map_err(|error| it.error(error))?;
            }
        }
        Ok(())
    }
}
