//! Policies: settings for all queues and exchanges whose name matches a pattern, changeable at any
//! time. Parsed and checked once (`settings`), kept per virtual host (`set`), merged with a queue's
//! arguments (`crate::in_force`); what a change does to live queues is in `vhost_policies`.
//!
//! Rules and error texts are RabbitMQ's (policies guide).

pub mod set;
pub(crate) mod settings;

use leveret_access::excerpt::excerpt;
use leveret_access::pattern::Pattern;
use leveret_message::error::DefinitionError;
use leveret_queue::queue::kind::QueueKind;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::by_policy::PolicySettings;
use crate::kinds::Kinds;

/// Who sets a policy.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum PolicyKind {
    /// Users with the tag `policymaker`.
    #[serde(rename = "policy")]
    User,
    /// The operator; may only lower what users ask for.
    #[serde(rename = "operator_policy")]
    Operator,
}

impl PolicyKind {
    /// The component of its runtime parameters.
    #[must_use]
    pub fn component(self) -> &'static str {
        match self {
            PolicyKind::User => "policy",
            PolicyKind::Operator => "operator_policy",
        }
    }
}

/// What a policy applies to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of any type.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    /// What `apply-to` says.
    #[must_use]
    pub fn parse(name: &str) -> Option<ApplyTo> {
        match name {
            "all" => Some(ApplyTo::All),
            "queues" => Some(ApplyTo::Queues),
            "classic_queues" => Some(ApplyTo::ClassicQueues),
            "quorum_queues" => Some(ApplyTo::QuorumQueues),
            "streams" => Some(ApplyTo::Streams),
            "exchanges" => Some(ApplyTo::Exchanges),
            _ => None,
        }
    }

    fn covers(self, kind: QueueKind) -> bool {
        match self {
            ApplyTo::All | ApplyTo::Queues => true,
            ApplyTo::ClassicQueues => kind == QueueKind::Classic,
            ApplyTo::QuorumQueues => kind == QueueKind::Quorum,
            ApplyTo::Streams => kind == QueueKind::Stream,
            ApplyTo::Exchanges => false,
        }
    }
}

/// A policy as it is set, stored and shown.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct PolicySpec {
    /// The virtual host.
    pub vhost: String,
    /// Its name, unique in the virtual host among policies of its kind.
    pub name: String,
    /// A regular expression for the names of queues and exchanges.
    pub pattern: String,
    /// What it applies to.
    #[serde(rename = "apply-to", default)]
    pub apply_to: ApplyTo,
    /// Of all that match, the one with the highest priority applies.
    #[serde(default)]
    pub priority: i64,
    /// The settings.
    pub definition: Map<String, Value>,
}

/// Why a policy is not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PolicyError {
    /// There is no such virtual host.
    #[error("vhost '{0}' not found")]
    NoVhost(String),
    /// It says nothing.
    #[error("no policy provided")]
    Empty,
    /// Its pattern is no regular expression.
    #[error("pattern '{pattern}' is not a valid regular expression: {reason}")]
    Pattern {
        /// The pattern, or its beginning.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A key is not known, or not one that operator policies take. Shown as RabbitMQ shows it.
    #[error("{0} are not recognised policy settings")]
    Keys(String),
    /// A value is not of the right form.
    #[error("{value} is not a valid {what}")]
    Value {
        /// The value, shown as RabbitMQ shows it.
        value: String,
        /// What it should be.
        what: &'static str,
    },
    /// A key of the deduplication plugin is neither true nor false.
    #[error("'{key}' must be a boolean, got {value}")]
    Flag {
        /// The key.
        key: String,
        /// The value, shown as RabbitMQ shows it.
        value: String,
    },
    /// It cannot be stored.
    #[error(transparent)]
    Unstorable(#[from] DefinitionError),
}

/// A policy ready to be applied.
#[derive(Clone, Debug)]
pub struct Policy {
    /// As it was set.
    pub spec: PolicySpec,
    pub(crate) settings: PolicySettings,
    pattern: Pattern,
    /// The queue types that all keys are for.
    kinds: Kinds,
}

impl Policy {
    /// Checks a policy.
    pub fn parse(kind: PolicyKind, spec: PolicySpec) -> Result<Policy, PolicyError> {
        let pattern = Pattern::new(&spec.pattern).map_err(|reason| PolicyError::Pattern {
            pattern: excerpt(&spec.pattern).into_owned(),
            reason,
        })?;
        let (settings, kinds) = settings::parse(kind, &spec.definition)?;
        Ok(Policy {
            spec,
            settings,
            pattern,
            kinds,
        })
    }

    /// rabbitmq: a policy with any key that is not for the queue's type does not apply to it at all
    fn applies_to_queue(&self, name: &str, kind: QueueKind) -> bool {
        self.spec.apply_to.covers(kind) && self.kinds.have(kind) && self.pattern.matches(name)
    }

    fn applies_to_exchange(&self, name: &str) -> bool {
        matches!(self.spec.apply_to, ApplyTo::All | ApplyTo::Exchanges)
            && self.pattern.matches(name)
    }
}
