//! How durable definitions are written into the store: one key a thing, JSON values.
//!
//! A key is a letter for the kind and a JSON array of the names, so that no name can run into the
//! next. Fields may be added to the values (serde defaults), never reused for something else.

use leveret_codec::FieldTable;
use leveret_routing::{Binding, Exchange, ExchangeKind};
use leveret_store::{Change, LogId};
use serde::{Deserialize, Serialize};

use crate::administration::Parameter;
use crate::deduplication::KeyLogs;
use crate::exchange::ExchangeLogs;
use crate::limits::VhostLimits;
use crate::message::Message;
use crate::policy::{PolicyKind, PolicySpec};
use crate::users::{Permission, TopicPermission, User};

/// A durable exchange.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ExchangeDefinition {
    vhost: String,
    name: String,
    kind: String,
    auto_delete: bool,
    internal: bool,
    arguments: FieldTable,
    alternate: Option<String>,
    #[serde(default)]
    logs: ExchangeLogs,
}

impl ExchangeDefinition {
    /// As stored.
    #[must_use]
    pub(crate) fn new(vhost: &str, exchange: &Exchange) -> ExchangeDefinition {
        ExchangeDefinition {
            vhost: vhost.to_owned(),
            name: exchange.name.clone(),
            kind: exchange.kind.name().to_owned(),
            auto_delete: exchange.auto_delete,
            internal: exchange.internal,
            arguments: exchange.arguments.clone(),
            alternate: exchange.alternate.clone(),
            logs: ExchangeLogs::default(),
        }
    }

    /// With the logs in which it keeps what it keeps.
    #[must_use]
    pub(crate) fn with_logs(self, logs: ExchangeLogs) -> ExchangeDefinition {
        ExchangeDefinition { logs, ..self }
    }

    /// As declared, and its logs; None if the kind is not known (any more).
    #[must_use]
    pub(crate) fn into_exchange(self) -> Option<(String, Exchange, ExchangeLogs)> {
        let exchange = Exchange {
            kind: ExchangeKind::parse(&self.kind)?,
            name: self.name,
            durable: true,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: self.arguments,
            alternate: self.alternate,
        };
        Some((self.vhost, exchange, self.logs))
    }
}

/// A durable queue.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct QueueDefinition {
    /// The virtual host it is in.
    pub(crate) vhost: String,
    /// Its name.
    pub(crate) name: String,
    /// Goes with its last consumer.
    pub(crate) auto_delete: bool,
    /// As declared.
    pub(crate) arguments: FieldTable,
    /// The log of each priority level.
    pub(crate) logs: Vec<u64>,
    /// The logs of the keys of what was published to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key_logs: Option<KeyLogs>,
}

impl QueueDefinition {
    /// The logs of its levels, lowest priority first.
    pub(crate) fn log_ids(&self) -> impl Iterator<Item = LogId> + '_ {
        self.logs.iter().map(|&log| LogId(log))
    }
}

/// A binding between durable things.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct BindingDefinition {
    /// The virtual host it is in.
    pub(crate) vhost: String,
    /// The exchange messages come from.
    pub(crate) source: String,
    /// The name of the queue or exchange they go to.
    pub(crate) destination: String,
    /// Whether the destination is an exchange.
    pub(crate) to_exchange: bool,
    /// The binding key.
    pub(crate) routing_key: Vec<u8>,
    /// The binding's arguments.
    pub(crate) arguments: FieldTable,
}

impl BindingDefinition {
    /// As stored; `destination` is the queue's or exchange's name.
    #[must_use]
    pub(crate) fn new(
        vhost: &str,
        binding: &Binding,
        destination: &str,
        to_exchange: bool,
    ) -> BindingDefinition {
        BindingDefinition {
            vhost: vhost.to_owned(),
            source: binding.source.clone(),
            destination: destination.to_owned(),
            to_exchange,
            routing_key: binding.routing_key.clone(),
            arguments: binding.arguments.clone(),
        }
    }
}

/// A user's permissions in one virtual host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PermissionDefinition {
    /// The virtual host.
    pub(crate) vhost: String,
    /// The user.
    pub(crate) user: String,
    /// The patterns.
    pub(crate) permission: Permission,
}

/// A policy of either kind.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct PolicyDefinition {
    /// Who set it.
    pub(crate) kind: PolicyKind,
    /// The policy.
    pub(crate) spec: PolicySpec,
}

/// A user's topic permission.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct TopicPermissionDefinition {
    /// The virtual host.
    pub(crate) vhost: String,
    /// The user.
    pub(crate) user: String,
    /// The exchange and the patterns.
    pub(crate) permission: TopicPermission,
}

/// What limits a virtual host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct LimitsDefinition {
    /// The virtual host.
    pub(crate) vhost: String,
    /// The limits.
    pub(crate) limits: VhostLimits,
}

/// One durable thing.
#[derive(Clone, Debug)]
pub(crate) enum Definition {
    /// A virtual host by name.
    VirtualHost(String),
    /// A user.
    User(User),
    /// A user's permissions.
    Permission(PermissionDefinition),
    /// An exchange.
    Exchange(ExchangeDefinition),
    /// A queue.
    Queue(QueueDefinition),
    /// A binding.
    Binding(BindingDefinition),
    /// A policy.
    Policy(PolicyDefinition),
    /// A user's topic permission.
    TopicPermission(TopicPermissionDefinition),
    /// A virtual host's limits.
    Limits(LimitsDefinition),
    /// A runtime parameter that means nothing to this broker.
    Parameter(Parameter),
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Names, numbers and tables always have a JSON form.
    serde_json::to_vec(value).unwrap_or_default()
}

fn key(kind: u8, names: &impl Serialize) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(json(names));
    key
}

impl Definition {
    fn key(&self) -> Vec<u8> {
        match self {
            Definition::VirtualHost(name) => key(b'v', &[name]),
            Definition::User(user) => key(b'u', &[&user.name]),
            Definition::Permission(it) => key(b'p', &[&it.vhost, &it.user]),
            Definition::Exchange(it) => key(b'e', &[&it.vhost, &it.name]),
            Definition::Queue(it) => key(b'q', &[&it.vhost, &it.name]),
            Definition::Binding(it) => key(b'b', it),
            Definition::Policy(it) => {
                key(b'o', &[&it.spec.vhost, it.kind.component(), &it.spec.name])
            }
            Definition::TopicPermission(it) => {
                key(b't', &[&it.vhost, &it.user, &it.permission.exchange])
            }
            Definition::Limits(it) => key(b'l', &[&it.vhost]),
            Definition::Parameter(it) => key(b'r', &(&it.vhost, &it.component, &it.name)),
        }
    }

    fn value(&self) -> Vec<u8> {
        match self {
            Definition::VirtualHost(name) => json(name),
            Definition::User(it) => json(it),
            Definition::Permission(it) => json(it),
            Definition::Exchange(it) => json(it),
            Definition::Queue(it) => json(it),
            Definition::Binding(it) => json(it),
            Definition::Policy(it) => json(it),
            Definition::TopicPermission(it) => json(it),
            Definition::Limits(it) => json(it),
            Definition::Parameter(it) => json(it),
        }
    }

    /// The change that writes it.
    #[must_use]
    pub(crate) fn put(&self) -> Change<Message> {
        Change::PutDefinition {
            key: self.key(),
            value: self.value(),
        }
    }

    /// The change that removes it.
    #[must_use]
    pub(crate) fn remove(&self) -> Change<Message> {
        Change::RemoveDefinition { key: self.key() }
    }

    /// Reads one back.
    ///
    /// # Errors
    /// What is wrong with it: an unknown kind (a newer version's) or damaged JSON.
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Definition, String> {
        let parsed = match key.first() {
            Some(b'v') => serde_json::from_slice(value).map(Definition::VirtualHost),
            Some(b'u') => serde_json::from_slice(value).map(Definition::User),
            Some(b'p') => serde_json::from_slice(value).map(Definition::Permission),
            Some(b'e') => serde_json::from_slice(value).map(Definition::Exchange),
            Some(b'q') => serde_json::from_slice(value).map(Definition::Queue),
            Some(b'b') => serde_json::from_slice(value).map(Definition::Binding),
            Some(b'o') => serde_json::from_slice(value).map(Definition::Policy),
            Some(b't') => serde_json::from_slice(value).map(Definition::TopicPermission),
            Some(b'l') => serde_json::from_slice(value).map(Definition::Limits),
            Some(b'r') => serde_json::from_slice(value).map(Definition::Parameter),
            _ => return Err(format!("unknown kind of definition {:?}", key.first())),
        };
        parsed.map_err(|error| {
            format!(
                "definition {} is damaged: {error}",
                String::from_utf8_lossy(key)
            )
        })
    }
}
