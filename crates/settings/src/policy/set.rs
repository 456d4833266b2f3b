//! The policies of one virtual host, and which of them applies to a name.

use std::collections::BTreeMap;

use leveret_queue::queue::kind::QueueKind;

use super::{Policy, PolicyKind};
use crate::by_policy::PolicySettings;

/// All policies of a virtual host, by name.
#[derive(Debug, Default)]
pub struct Policies {
    user: BTreeMap<String, Policy>,
    operator: BTreeMap<String, Policy>,
}

impl Policies {
    /// Those that users, or the operator, set.
    pub fn of_kind(&self, kind: PolicyKind) -> &BTreeMap<String, Policy> {
        match kind {
            PolicyKind::User => &self.user,
            PolicyKind::Operator => &self.operator,
        }
    }

    fn of_kind_mut(&mut self, kind: PolicyKind) -> &mut BTreeMap<String, Policy> {
        match kind {
            PolicyKind::User => &mut self.user,
            PolicyKind::Operator => &mut self.operator,
        }
    }

    /// Adds or replaces one.
    pub fn put(&mut self, kind: PolicyKind, policy: Policy) {
        self.of_kind_mut(kind)
            .insert(policy.spec.name.clone(), policy);
    }

    /// Removes one, if there is one of that name.
    pub fn remove(&mut self, kind: PolicyKind, name: &str) -> Option<Policy> {
        self.of_kind_mut(kind).remove(name)
    }

    /// The policy that applies to a queue.
    pub fn for_queue(&self, kind: PolicyKind, name: &str, queue: QueueKind) -> Option<&Policy> {
        highest(self.of_kind(kind), |policy| {
            policy.applies_to_queue(name, queue)
        })
    }

    /// The policy that applies to an exchange.
    pub fn for_exchange(&self, kind: PolicyKind, name: &str) -> Option<&Policy> {
        highest(self.of_kind(kind), |policy| {
            policy.applies_to_exchange(name)
        })
    }

    /// What the policies say to a queue.
    pub fn queue_settings(&self, name: &str, queue: QueueKind) -> PolicySettings {
        merged(
            self.for_queue(PolicyKind::User, name, queue),
            self.for_queue(PolicyKind::Operator, name, queue),
        )
    }

    /// What the policies say to an exchange.
    pub fn exchange_settings(&self, name: &str) -> PolicySettings {
        merged(
            self.for_exchange(PolicyKind::User, name),
            self.for_exchange(PolicyKind::Operator, name),
        )
    }
}

/// Of those that apply the one with the highest priority, and among equals the first by name.
fn highest(
    policies: &BTreeMap<String, Policy>,
    applies: impl Fn(&Policy) -> bool,
) -> Option<&Policy> {
    let mut best: Option<&Policy> = None;
    for policy in policies.values() {
        let higher = best.is_none_or(|best| policy.spec.priority > best.spec.priority);
        if higher && applies(policy) {
            best = Some(policy);
        }
    }
    best
}

fn merged(policy: Option<&Policy>, operator: Option<&Policy>) -> PolicySettings {
    match (policy, operator) {
        (None, None) => PolicySettings::default(),
        (Some(one), None) | (None, Some(one)) => one.settings.clone(),
        (Some(policy), Some(operator)) => policy.settings.clone().limited_by(&operator.settings),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::{ApplyTo, PolicySpec};
    use crate::value::Value as Said;

    fn policy(name: &str, apply_to: &str, priority: i64, definition: &Value) -> Policy {
        let spec = PolicySpec {
            vhost: "/".to_owned(),
            name: name.to_owned(),
            pattern: "^a".to_owned(),
            apply_to: ApplyTo::parse(apply_to).unwrap(),
            priority,
            definition: definition.as_object().unwrap().clone(),
        };
        Policy::parse(PolicyKind::User, spec).unwrap()
    }

    fn policies(all: impl IntoIterator<Item = Policy>) -> Policies {
        let mut policies = Policies::default();
        for policy in all {
            policies.put(PolicyKind::User, policy);
        }
        policies
    }

    fn name_for<'a>(policies: &'a Policies, queue: &str, kind: QueueKind) -> Option<&'a str> {
        policies
            .for_queue(PolicyKind::User, queue, kind)
            .map(|policy| policy.spec.name.as_str())
    }

    #[test]
    fn only_the_highest_priority_applies() {
        let ttl = json!({"message-ttl": 1});
        let policies = policies([
            policy("c", "queues", 1, &ttl),
            policy("b", "queues", 5, &ttl),
            policy("a", "queues", 5, &json!({"max-length": 1})),
        ]);
        assert_eq!(name_for(&policies, "a1", QueueKind::Classic), Some("a"));
        assert_eq!(name_for(&policies, "b1", QueueKind::Classic), None);
        let settings = policies.queue_settings("a1", QueueKind::Classic);
        assert_eq!(settings.get("x-max-length"), Some(&Said::Number(1)));
        assert_eq!(settings.get("x-message-ttl"), None);
    }

    #[test]
    fn apply_to_chooses_types() {
        let bytes = json!({"max-length-bytes": 1});
        let cases = [
            ("all", [true, true, true, true]),
            ("queues", [true, true, true, false]),
            ("classic_queues", [true, false, false, false]),
            ("quorum_queues", [false, true, false, false]),
            ("streams", [false, false, true, false]),
            ("exchanges", [false, false, false, true]),
        ];
        for (apply_to, expected) in cases {
            let policies = policies([policy("p", apply_to, 0, &bytes)]);
            let queue = |kind| name_for(&policies, "a", kind).is_some();
            let found = [
                queue(QueueKind::Classic),
                queue(QueueKind::Quorum),
                queue(QueueKind::Stream),
                policies.for_exchange(PolicyKind::User, "a").is_some(),
            ];
            assert_eq!(found, expected, "{apply_to}");
        }
    }

    #[test]
    fn a_policy_with_a_key_for_another_type_gives_way_to_the_next() {
        let policies = policies([
            policy(
                "quorum",
                "queues",
                9,
                &json!({"delivery-limit": 3, "max-length": 1}),
            ),
            policy("any", "queues", 1, &json!({"max-length": 2})),
        ]);
        assert_eq!(name_for(&policies, "a", QueueKind::Quorum), Some("quorum"));
        assert_eq!(name_for(&policies, "a", QueueKind::Classic), Some("any"));
        assert_eq!(name_for(&policies, "a", QueueKind::Stream), None);
    }
}
