//! What policies and limits do to the queues and exchanges of a virtual host, as they are made and
//! as policies change.
//!
//! There may be very many queues and exchanges, so a change is applied to a few at a time, and each time to what the
//! policies are by then, which do not change before those few have it: of two changes the later one wins everywhere.
//! What is declared meanwhile has them anyway.

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use leveret_codec::FieldTable;
use leveret_deduplication::{Rules, WINDOW};
use leveret_message::arguments::{argument, text};
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::options::QueueOptions;
use leveret_routing::{Exchange, Topology};
use leveret_settings::declared;
use leveret_settings::in_force::options_in_force;
use leveret_settings::names::ALTERNATE_EXCHANGE;
use leveret_settings::policy::set::Policies;
use leveret_settings::policy::{Policy, PolicyError, PolicyKind, PolicySpec};
use leveret_settings::value::Value;
use leveret_store_api::{Change, CommitPoint};

use crate::definitions::{Definition, PolicyDefinition};
use crate::events::Event;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// So many exchanges are looked at before others may have the topology.
const SLICE: usize = 64;

impl VirtualHost {
    /// The policies of one kind, by name.
    #[must_use]
    pub fn policies(&self, kind: PolicyKind) -> Vec<PolicySpec> {
        let policies = self.policies.read();
        let specs = policies.of_kind(kind).values();
        specs.map(|policy| policy.spec.clone()).collect()
    }

    /// The name of the policy that applies to a queue.
    #[must_use]
    pub fn policy_of_queue(&self, kind: PolicyKind, queue: &QueueHandle) -> Option<String> {
        let identity = queue.identity();
        let policies = self.policies.read();
        policies
            .for_queue(kind, &identity.name, declared::kind(&identity.arguments))
            .map(|policy| policy.spec.name.clone())
    }

    /// The name of the policy that applies to an exchange.
    #[must_use]
    pub fn policy_of_exchange(&self, kind: PolicyKind, exchange: &str) -> Option<String> {
        let policies = self.policies.read();
        policies
            .for_exchange(kind, exchange)
            .map(|policy| policy.spec.name.clone())
    }

    /// Whether exactly this policy is set.
    pub(crate) fn has_policy(&self, kind: PolicyKind, spec: &PolicySpec) -> bool {
        let policies = self.policies.read();
        let known = policies.of_kind(kind).get(&spec.name);
        known.is_some_and(|policy| policy.spec == *spec)
    }

    /// Adds or replaces a policy.
    ///
    /// # Errors
    /// It cannot be stored.
    pub(crate) fn set_policy(
        self: &Arc<Self>,
        kind: PolicyKind,
        policy: Policy,
        now: Timestamp,
    ) -> Result<CommitPoint, PolicyError> {
        let definition = PolicyDefinition {
            kind,
            spec: policy.spec.clone(),
        };
        let put = Definition::Policy(definition).put()?;
        Ok(self.change_policies(now, |policies| {
            self.services.tell(|_| Event::policy_set(&policy.spec));
            policies.put(kind, policy);
            Some(put)
        }))
    }

    /// Removes a policy; a missing one is no error.
    pub(crate) fn delete_policy(
        self: &Arc<Self>,
        kind: PolicyKind,
        name: &str,
        now: Timestamp,
    ) -> CommitPoint {
        self.change_policies(now, |policies| {
            let policy = policies.remove(kind, name)?;
            self.services
                .tell(|_| Event::policy_cleared(kind, self.name(), name));
            let definition = PolicyDefinition {
                kind,
                spec: policy.spec,
            };
            Some(Definition::Policy(definition).remove())
        })
    }

    fn change_policies(
        self: &Arc<Self>,
        now: Timestamp,
        change: impl FnOnce(&mut Policies) -> Option<Change<Message>>,
    ) -> CommitPoint {
        let point = {
            // Whoever declares something now does so before, and it is found below, or after, with the new policies.
            let _topology = self.topology.write();
            let Some(change) = change(&mut self.policies.write()) else {
                return self.services.definitions_point();
            };
            self.stage(&mut vec![change])
        };
        self.apply_to_exchanges();
        self.apply_to_queues(now);
        point
    }

    /// Gives all exchanges the alternate exchange that policies say, and has them keep what policies ask for.
    pub(crate) fn apply_to_exchanges(&self) {
        let mut from = 0;
        loop {
            let mut topology = self.topology.write();
            if from >= topology.exchange_places() {
                return;
            }
            self.apply_to_some_exchanges(&mut topology, from..from + SLICE);
            from += SLICE;
        }
    }

    fn apply_to_some_exchanges(&self, topology: &mut Topology, places: Range<usize>) {
        let exchanges = topology.exchanges_at(places);
        let in_force: Vec<(String, Option<String>)> = exchanges
            .map(|exchange| (exchange.name.clone(), self.alternate_in_force(exchange)))
            .collect();
        for (name, alternate) in in_force {
            topology.set_alternate(&name, alternate);
            self.consider_state(topology, &name, None);
        }
        // Cached routes do not know of it.
        self.routes_changed();
    }

    /// What a policy has an exchange keep.
    pub(crate) fn deduplication_by_policy(&self, exchange: &str) -> Rules {
        // rabbitmq: no policy applies to the default exchange
        if exchange.is_empty() {
            return Rules::default();
        }
        let settings = self.policies.read().exchange_settings(exchange);
        Rules {
            window_ms: settings.get(WINDOW).and_then(Value::number),
        }
    }

    fn apply_to_queues(self: &Arc<Self>, now: Timestamp) {
        let queues: Vec<QueueHandle> = self.queues.iter().map(|queue| queue.clone()).collect();
        for queue in queues {
            let identity = queue.identity();
            let effects = {
                let policies = self.policies.read();
                let kind = declared::kind(&identity.arguments);
                let settings = policies.queue_settings(&identity.name, kind);
                queue.set_options(options_in_force(&identity.arguments, &settings), now)
            };
            self.carry_out(&queue, effects, now);
        }
    }

    /// The options of a queue under the policies of this moment.
    pub(crate) fn options_in_force(&self, name: &str, arguments: &FieldTable) -> QueueOptions {
        let kind = declared::kind(arguments);
        let settings = self.policies.read().queue_settings(name, kind);
        options_in_force(arguments, &settings)
    }

    /// Where an exchange's unroutable messages go: by argument, else by policy.
    pub(crate) fn alternate_in_force(&self, exchange: &Exchange) -> Option<String> {
        // rabbitmq: no policy applies to the default exchange
        if exchange.name.is_empty() {
            return None;
        }
        argument(&exchange.arguments, ALTERNATE_EXCHANGE)
            .and_then(text)
            .or_else(|| {
                let settings = self.policies.read().exchange_settings(&exchange.name);
                let alternate = settings.get(ALTERNATE_EXCHANGE)?;
                alternate.text().map(str::to_owned)
            })
    }

    /// Refuses one more queue where the virtual host has as many as it may have.
    pub(crate) fn check_queue_limit(&self, name: &str) -> Result<(), ChannelError> {
        let limit = self.limits.read().max_queues;
        match limit {
            Some(limit) if self.queues.len() as u64 >= limit => {
                Err(ChannelError::queue_limit(name, self.name(), limit))
            }
            _ => Ok(()),
        }
    }
}
