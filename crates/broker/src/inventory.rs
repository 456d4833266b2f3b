//! What there is, for whoever shows it from outside AMQP: who may look, and lists of virtual hosts,
//! queues, exchanges and the policies in force on them. Changes nothing, and holds no lock longer than
//! it takes to copy handles and names.

use std::net::IpAddr;
use std::task::Waker;

use leveret_access::brake::Verdict;
use leveret_access::grant::Grant;
use leveret_access::permission::{Access, Resource};
use leveret_access::users::User;
use leveret_deduplication::DeduplicationCounts;
use leveret_message::Timestamp;
use leveret_message::error::ChannelError;
use leveret_routing::{Binding, Destination, Exchange, QueueId, Topology};
use leveret_settings::by_policy::effective;
use leveret_settings::declared;
use leveret_settings::policy::{Policy, PolicyKind};
use leveret_store_api::CommitPoint;
use serde_json::{Map, Value};

use crate::broker::Broker;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LoginError {
    /// The name or the password is wrong.
    Credentials,
    /// The user may only come from this machine.
    NotLoopback,
}

/// The policies that apply to a queue or exchange.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppliedPolicies {
    /// The name of the users' policy.
    pub policy: Option<String>,
    /// The name of the operator's policy.
    pub operator_policy: Option<String>,
    /// What both of them set.
    pub definition: Map<String, Value>,
}

/// So much is copied before others may have the topology.
const SLICE: usize = 1024;

/// Which bindings are meant.
#[derive(Clone, Copy, Debug)]
pub enum BindingsOf<'a> {
    /// All.
    All,
    /// Those from this exchange.
    Source(&'a str),
    /// Those to this queue or exchange.
    Destination(&'a Destination),
}

impl BindingsOf<'_> {
    /// The bindings at the places from `from`, [`SLICE`] of them at most; None where there are no more
    /// places.
    fn slice(self, topology: &Topology, from: usize) -> Option<Vec<Binding>> {
        let part: Vec<Binding> = match self {
            BindingsOf::All => {
                if from >= topology.binding_places() {
                    return None;
                }
                return Some(topology.bindings_at(from..from + SLICE).cloned().collect());
            }
            BindingsOf::Source(name) => {
                let part = topology.bindings_of_source_at(name, from..from + SLICE);
                part.cloned().collect()
            }
            BindingsOf::Destination(destination) => {
                let part = topology.bindings_of_destination_at(destination, from..from + SLICE);
                part.cloned().collect()
            }
        };
        (!part.is_empty()).then_some(part)
    }
}

impl AppliedPolicies {
    fn new(user: Option<&Policy>, operator: Option<&Policy>) -> AppliedPolicies {
        let definition = |policy: &Policy| policy.spec.definition.clone();
        let of_user = user.map(definition).unwrap_or_default();
        let of_operator = operator.map(definition).unwrap_or_default();
        AppliedPolicies {
            policy: user.map(|policy| policy.spec.name.clone()),
            operator_policy: operator.map(|policy| policy.spec.name.clone()),
            definition: effective(of_user, &of_operator),
        }
    }
}

/// Whether an address is this machine's own.
#[must_use]
pub fn is_loopback(address: IpAddr) -> bool {
    address.to_canonical().is_loopback()
}

impl Broker {
    /// Whether somebody who comes by something else than AMQP may try to log in now. To be asked before
    /// [`Broker::log_in`].
    #[must_use]
    pub fn consider_login(&self, name: &str, from: IpAddr, now: Timestamp) -> Verdict {
        self.brake.consider(from, name.as_bytes(), now)
    }

    /// Lets in a user who comes by something else than AMQP.
    ///
    /// # Errors
    /// Why not.
    pub fn log_in(
        &self,
        name: &str,
        password: &[u8],
        from: IpAddr,
        now: Timestamp,
    ) -> Result<User, LoginError> {
        let is_known = self.users.authenticate(name, password);
        self.services.churn.http().note(is_known);
        if !is_known {
            self.brake.failed(from, name.as_bytes(), now);
            return Err(LoginError::Credentials);
        }
        self.brake.succeeded(from, name.as_bytes());
        if self.config.loopback_users.iter().any(|user| user == name) && !is_loopback(from) {
            return Err(LoginError::NotLoopback);
        }
        self.users.get(name).ok_or(LoginError::Credentials)
    }

    /// Whether a user may connect to a virtual host.
    #[must_use]
    pub fn may_enter(&self, vhost: &str, user: &str) -> bool {
        self.users.grant(vhost, user).is_some()
    }

    /// Checks one access of a user.
    ///
    /// # Errors
    /// 403 with RabbitMQ's text.
    pub fn check_access(
        &self,
        vhost: &str,
        user: &str,
        access: Access,
        resource: Resource<'_>,
    ) -> Result<(), ChannelError> {
        match self.users.grant(vhost, user) {
            Some(grant) => grant.check(access, resource),
            None => Grant::none(user, vhost).check(access, resource),
        }
    }

    /// Open AMQP connections.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        let vhosts = self.vhosts();
        vhosts.iter().map(|vhost| vhost.connection_count()).sum()
    }

    /// Open channels.
    #[must_use]
    pub fn channel_count(&self) -> u64 {
        self.users.channel_count()
    }

    /// Wakes `waker` once everything up to `point` is on stable storage; false, and no wake, if it is
    /// already.
    #[must_use]
    pub fn wake_when_durable(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.services.store.wake_at(point, waker)
    }
}

impl VirtualHost {
    /// All queues, in no order.
    #[must_use]
    pub fn queue_handles(&self) -> Vec<QueueHandle> {
        self.queues.iter().map(|queue| queue.clone()).collect()
    }

    /// The bindings that were made, in no order: those that the default exchange has follow from the
    /// queues' names.
    #[must_use]
    pub fn bindings(&self, of: BindingsOf<'_>) -> Vec<Binding> {
        let mut copied = Vec::new();
        let mut from = 0;
        while let Some(slice) = of.slice(&self.topology.read(), from) {
            copied.extend(slice);
            from += SLICE;
        }
        copied
    }

    /// The name of a queue.
    #[must_use]
    pub fn queue_name(&self, id: QueueId) -> Option<String> {
        let queue = self.queues_by_id.get(&id)?;
        Some(queue.name().to_owned())
    }

    /// The names of all exchanges, in no order.
    #[must_use]
    pub fn exchange_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let mut from = 0;
        loop {
            let topology = self.topology.read();
            if from >= topology.exchange_places() {
                return names;
            }
            let slice = topology.exchanges_at(from..from + SLICE);
            names.extend(slice.map(|exchange| exchange.name.clone()));
            from += SLICE;
        }
    }

    /// All exchanges, in no order.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        let mut copied = Vec::new();
        let mut from = 0;
        loop {
            let topology = self.topology.read();
            if from >= topology.exchange_places() {
                return copied;
            }
            copied.extend(topology.exchanges_at(from..from + SLICE).cloned());
            from += SLICE;
        }
    }

    /// What an exchange has counted of duplicates; None: it does not look for them, or is not there.
    #[must_use]
    pub fn deduplication_counts(&self, exchange: &str) -> Option<DeduplicationCounts> {
        self.stateful(exchange)?.deduplication_counts()
    }

    /// How many bindings lead from an exchange.
    #[must_use]
    pub fn binding_count(&self, source: &str) -> usize {
        self.topology.read().binding_count(source)
    }

    /// An exchange by name.
    #[must_use]
    pub fn exchange(&self, name: &str) -> Option<Exchange> {
        self.topology.read().exchange(name).cloned()
    }

    /// The policies that apply to a queue.
    #[must_use]
    pub fn policies_of_queue(&self, queue: &QueueHandle) -> AppliedPolicies {
        let identity = queue.identity();
        let kind = declared::kind(&identity.arguments);
        let policies = self.policies.read();
        let of_kind = |by| policies.for_queue(by, &identity.name, kind);
        AppliedPolicies::new(of_kind(PolicyKind::User), of_kind(PolicyKind::Operator))
    }

    /// The policies that apply to an exchange.
    #[must_use]
    pub fn policies_of_exchange(&self, name: &str) -> AppliedPolicies {
        // rabbitmq: no policy applies to the default exchange
        if name.is_empty() {
            return AppliedPolicies::default();
        }
        let policies = self.policies.read();
        let of_kind = |by| policies.for_exchange(by, name);
        AppliedPolicies::new(of_kind(PolicyKind::User), of_kind(PolicyKind::Operator))
    }
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn mapped_loopback_addresses_are_loopback() {
        for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(is_loopback(address.parse().unwrap()), "{address}");
        }
        assert!(!is_loopback("10.0.0.1".parse().unwrap()));
    }
}
