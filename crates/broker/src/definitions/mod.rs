//! How durable definitions are written into the store: one key a thing, JSON values, and field tables
//! in them as the AMQP bytes they are.
//!
//! A key is a letter for the kind and a JSON array of the names, so that no name can run into the
//! next. Fields may be added to the values (serde defaults), never reused for something else.
//! Nothing is written that could not be read back: see [`Definition::put`].

mod arguments;
mod subject;

use leveret_access::grant::TopicPermission;
use leveret_access::limits::VhostLimits;
use leveret_access::permission::Permission;
use leveret_access::users::User;
use leveret_codec::FieldTable;
use leveret_deduplication::KeyLogs;
use leveret_message::Message;
use leveret_routing::{Binding, Exchange, ExchangeKind};
use leveret_settings::policy::{Policy, PolicyKind, PolicySpec};
use leveret_store_api::{Change, LogId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::exchange::ExchangeLogs;
use crate::parameters::Parameter;
use crate::vhost_metadata::VhostMetadata;
pub(crate) use arguments::encoded;
use leveret_message::error::DefinitionError;
pub(crate) use subject::{Ends, Subject};

/// A virtual host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(from = "StoredVhost")]
pub(crate) struct VhostDefinition {
    /// Its name.
    pub(crate) name: String,
    /// What is said of it.
    #[serde(flatten)]
    pub(crate) metadata: VhostMetadata,
    /// It is being deleted, and everything in it: a start goes on with that.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) leaves: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A virtual host was its name alone once.
#[derive(Deserialize)]
#[serde(untagged)]
enum StoredVhost {
    Name(String),
    Whole {
        name: String,
        #[serde(flatten)]
        metadata: VhostMetadata,
        #[serde(default)]
        leaves: bool,
    },
}

impl From<StoredVhost> for VhostDefinition {
    fn from(stored: StoredVhost) -> VhostDefinition {
        let (name, metadata, leaves) = match stored {
            StoredVhost::Name(name) => (name, VhostMetadata::default(), false),
            StoredVhost::Whole {
                name,
                metadata,
                leaves,
            } => (name, metadata, leaves),
        };
        VhostDefinition {
            name,
            metadata,
            leaves,
        }
    }
}

/// A durable exchange.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ExchangeDefinition {
    vhost: String,
    name: String,
    #[serde(with = "kind_name")]
    kind: ExchangeKind,
    auto_delete: bool,
    internal: bool,
    #[serde(with = "arguments")]
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
            kind: exchange.kind,
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

    /// The virtual host it is in, itself as declared, and its logs.
    #[must_use]
    pub(crate) fn into_exchange(self) -> (String, Exchange, ExchangeLogs) {
        let exchange = Exchange {
            kind: self.kind,
            name: self.name,
            durable: true,
            auto_delete: self.auto_delete,
            internal: self.internal,
            arguments: self.arguments,
            alternate: self.alternate,
        };
        (self.vhost, exchange, self.logs)
    }
}

/// The type of an exchange by its name.
mod kind_name {
    use leveret_routing::ExchangeKind;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(kind: &ExchangeKind, to: S) -> Result<S::Ok, S::Error> {
        kind.name().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<ExchangeKind, D::Error> {
        let name = String::deserialize(from)?;
        ExchangeKind::parse(&name)
            .ok_or_else(|| de::Error::custom(format_args!("unknown exchange type '{name}'")))
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
    #[serde(with = "arguments")]
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
    #[serde(with = "arguments")]
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

    /// Its ends.
    #[must_use]
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            vhost: self.vhost.clone(),
            source: self.source.clone(),
            destination: self.destination.clone(),
            to_exchange: self.to_exchange,
            routing_key: self.routing_key.clone(),
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
    /// A virtual host.
    VirtualHost(VhostDefinition),
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

fn key(kind: u8, names: &Value) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend(names.to_string().into_bytes());
    key
}

/// A routing key: text, or a list of octets where it is none.
fn routing_key(key: &[u8]) -> Value {
    match std::str::from_utf8(key) {
        Ok(text) => Value::from(text),
        Err(_) => Value::from(key),
    }
}

/// The longest definition, key and value together.
const BYTES_MAX: usize = 16 << 20;
/// JSON may nest as deep as this; what is written never does.
const JSON_DEPTH_MAX: usize = 512;

/// Reads JSON of any depth that a stack is made for. (`serde_json` stops at 128, which tables that
/// were kept as JSON exceed.)
fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, String> {
    if depth(json) > JSON_DEPTH_MAX {
        return Err("it is nested too deep".to_owned());
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    reader.disable_recursion_limit();
    let parsed = T::deserialize(&mut reader).map_err(|error| error.to_string())?;
    reader.end().map_err(|error| error.to_string())?;
    Ok(parsed)
}

/// How deep lists and objects are inside each other.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

/// Steps behind the end of a string whose beginning was taken.
fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

impl Definition {
    pub(crate) fn key(&self) -> Vec<u8> {
        match self {
            Definition::VirtualHost(it) => key(b'v', &json!([it.name])),
            Definition::User(it) => key(b'u', &json!([it.name])),
            Definition::Permission(it) => key(b'p', &json!([it.vhost, it.user])),
            Definition::Exchange(it) => exchange_key(&it.vhost, &it.name),
            Definition::Queue(it) => queue_key(&it.vhost, &it.name),
            Definition::Binding(it) => key(
                b'b',
                &json!([
                    it.vhost,
                    it.source,
                    it.destination,
                    it.to_exchange,
                    routing_key(&it.routing_key),
                    encoded(&it.arguments),
                ]),
            ),
            Definition::Policy(it) => key(
                b'o',
                &json!([it.spec.vhost, it.kind.component(), it.spec.name]),
            ),
            Definition::TopicPermission(it) => {
                key(b't', &json!([it.vhost, it.user, it.permission.exchange]))
            }
            Definition::Limits(it) => key(b'l', &json!([it.vhost])),
            Definition::Parameter(it) => key(b'r', &json!([it.vhost, it.component, it.name])),
        }
    }

    fn value(&self) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Definition::VirtualHost(it) => serde_json::to_vec(it),
            Definition::User(it) => serde_json::to_vec(it),
            Definition::Permission(it) => serde_json::to_vec(it),
            Definition::Exchange(it) => serde_json::to_vec(it),
            Definition::Queue(it) => serde_json::to_vec(it),
            Definition::Binding(it) => serde_json::to_vec(it),
            Definition::Policy(it) => serde_json::to_vec(it),
            Definition::TopicPermission(it) => serde_json::to_vec(it),
            Definition::Limits(it) => serde_json::to_vec(it),
            Definition::Parameter(it) => serde_json::to_vec(it),
        }
    }

    /// The virtual host that it goes with.
    pub(crate) fn vhost(&self) -> Option<&str> {
        match self {
            Definition::VirtualHost(it) => Some(&it.name),
            Definition::User(_) => None,
            Definition::Permission(it) => Some(&it.vhost),
            Definition::Exchange(it) => Some(&it.vhost),
            Definition::Queue(it) => Some(&it.vhost),
            Definition::Binding(it) => Some(&it.vhost),
            Definition::Policy(it) => Some(&it.spec.vhost),
            Definition::TopicPermission(it) => Some(&it.vhost),
            Definition::Limits(it) => Some(&it.vhost),
            Definition::Parameter(it) => it.vhost.as_deref(),
        }
    }

    /// Its place in the order in which definitions depend on each other.
    pub(crate) fn rank(&self) -> u8 {
        match self {
            Definition::VirtualHost(_) => 0,
            Definition::User(_) => 1,
            Definition::Permission(_) | Definition::TopicPermission(_) => 2,
            Definition::Parameter(_) | Definition::Limits(_) | Definition::Policy(_) => 3,
            Definition::Exchange(_) => 4,
            Definition::Queue(_) => 5,
            Definition::Binding(_) => 6,
        }
    }

    /// The change that writes it, once it has been read back as a start would.
    ///
    /// # Errors
    /// A start could not read it, or would read something else.
    pub(crate) fn put(&self) -> Result<Change<Message>, DefinitionError> {
        let key = self.key();
        self.encode(&key)
            .map(|value| Change::PutDefinition {
                key: key.clone(),
                value,
            })
            .map_err(|reason| DefinitionError {
                what: Subject::of(&key).to_string(),
                reason,
            })
    }

    fn encode(&self, key: &[u8]) -> Result<Vec<u8>, String> {
        let value = self.value().map_err(|error| error.to_string())?;
        if key.len() + value.len() > BYTES_MAX {
            return Err(format!("it has more than {BYTES_MAX} bytes"));
        }
        let back = Definition::read(key, &value)?;
        let again = back.value().map_err(|error| error.to_string())?;
        if back.key() == key && again == value {
            Ok(value)
        } else {
            Err("it would not come back as it is".to_owned())
        }
    }

    /// The change that removes it.
    #[must_use]
    pub(crate) fn remove(&self) -> Change<Message> {
        Change::RemoveDefinition { key: self.key() }
    }

    /// Reads one back: the code of a start, and of everybody who has to know what a start can read.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(key: &[u8], value: &[u8]) -> Result<Definition, String> {
        let definition = match key.first() {
            Some(b'v') => Definition::VirtualHost(parse(value)?),
            Some(b'u') => Definition::User(parse(value)?),
            Some(b'p') => Definition::Permission(parse(value)?),
            Some(b'e') => Definition::Exchange(parse(value)?),
            Some(b'q') => Definition::Queue(parse(value)?),
            Some(b'b') => Definition::Binding(parse(value)?),
            Some(b'o') => Definition::Policy(parse(value)?),
            Some(b't') => Definition::TopicPermission(parse(value)?),
            Some(b'l') => Definition::Limits(parse(value)?),
            Some(b'r') => Definition::Parameter(parse(value)?),
            _ => return Err("it is of a kind that only a newer version knows".to_owned()),
        };
        if let Definition::Policy(it) = &definition {
            Policy::parse(it.kind, it.spec.clone()).map_err(|error| error.to_string())?;
        }
        Ok(definition)
    }
}

fn exchange_key(vhost: &str, name: &str) -> Vec<u8> {
    key(b'e', &json!([vhost, name]))
}

fn queue_key(vhost: &str, name: &str) -> Vec<u8> {
    key(b'q', &json!([vhost, name]))
}

/// The change that removes an exchange's definition.
#[must_use]
pub(crate) fn remove_exchange(vhost: &str, name: &str) -> Change<Message> {
    Change::RemoveDefinition {
        key: exchange_key(vhost, name),
    }
}

/// The change that removes a queue's definition.
#[must_use]
pub(crate) fn remove_queue(vhost: &str, name: &str) -> Change<Message> {
    Change::RemoveDefinition {
        key: queue_key(vhost, name),
    }
}

/// The logs that the value of a definition names, whether it can be read otherwise or not; None if not
/// even that can be told.
pub(crate) fn logs_named(value: &[u8]) -> Option<Vec<LogId>> {
    let value: Value = parse(value).ok()?;
    let mut logs = Vec::new();
    collect_logs(value.get("logs")?, &mut logs);
    if let Some(keys) = value.get("key_logs") {
        collect_logs(keys, &mut logs);
    }
    Some(logs)
}

fn collect_logs(value: &Value, logs: &mut Vec<LogId>) {
    match value {
        Value::Number(number) => logs.extend(number.as_u64().map(LogId)),
        Value::Array(members) => members.iter().for_each(|it| collect_logs(it, logs)),
        Value::Object(fields) => fields.values().for_each(|it| collect_logs(it, logs)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}
