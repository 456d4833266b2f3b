//! What a definition is of, as far as its key tells: for people, and for what is put aside by name.

use std::fmt;

use serde::Deserialize;
use serde_json::Value;

/// What a definition is of.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Subject {
    /// A queue: virtual host and name.
    Queue(String, String),
    /// An exchange: virtual host and name.
    Exchange(String, String),
    /// A binding.
    Binding(Ends),
    /// A topic permission: virtual host, user and exchange.
    TopicPermission(String, String, String),
    /// Anything else, in words.
    Other(String),
}

/// The ends of a binding, and its key.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq)]
pub(crate) struct Ends {
    pub(crate) vhost: String,
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) to_exchange: bool,
    pub(crate) routing_key: Vec<u8>,
}

impl Ends {
    /// The things at both ends.
    pub(crate) fn subjects(&self) -> [Subject; 2] {
        let exchange = |name: &str| Subject::Exchange(self.vhost.clone(), name.to_owned());
        let destination = if self.to_exchange {
            exchange(&self.destination)
        } else {
            Subject::Queue(self.vhost.clone(), self.destination.clone())
        };
        [exchange(&self.source), destination]
    }
}

impl Subject {
    /// Reads a key. One that is not understood is shown as it is.
    pub(crate) fn of(key: &[u8]) -> Subject {
        let known = key
            .split_first()
            .and_then(|(kind, names)| read(*kind, &super::parse(names).ok()?));
        known.unwrap_or_else(|| Subject::Other(format!("'{}'", key.escape_ascii())))
    }
}

fn read(kind: u8, names: &Value) -> Option<Subject> {
    let name = |at: usize| names.get(at)?.as_str();
    let in_vhost = |what: fmt::Arguments<'_>| {
        Some(Subject::Other(match name(0) {
            Some(vhost) => format!("{what} in virtual host '{vhost}'"),
            None => what.to_string(),
        }))
    };
    match kind {
        b'q' => Some(Subject::Queue(name(0)?.to_owned(), name(1)?.to_owned())),
        b'e' => Some(Subject::Exchange(name(0)?.to_owned(), name(1)?.to_owned())),
        // An object once, with all that the value has.
        b'b' if names.is_object() => Ends::deserialize(names).ok().map(Subject::Binding),
        b'b' => Some(Subject::Binding(Ends {
            vhost: name(0)?.to_owned(),
            source: name(1)?.to_owned(),
            destination: name(2)?.to_owned(),
            to_exchange: names.get(3)?.as_bool()?,
            routing_key: match names.get(4)? {
                Value::String(text) => text.as_bytes().to_vec(),
                octets => Vec::deserialize(octets).ok()?,
            },
        })),
        b'v' => Some(Subject::Other(format!("virtual host '{}'", name(0)?))),
        b'u' => Some(Subject::Other(format!("user '{}'", name(0)?))),
        b'p' => in_vhost(format_args!("the permissions of user '{}'", name(1)?)),
        b't' => Some(Subject::TopicPermission(
            name(0)?.to_owned(),
            name(1)?.to_owned(),
            name(2)?.to_owned(),
        )),
        b'l' => in_vhost(format_args!("the limits")),
        b'o' => in_vhost(format_args!("{} '{}'", name(1)?, name(2)?)),
        b'r' => in_vhost(format_args!("parameter '{}'", name(2)?)),
        _ => None,
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Queue(vhost, name) => write!(f, "queue '{name}' in virtual host '{vhost}'"),
            Subject::Exchange(vhost, name) => {
                write!(f, "exchange '{name}' in virtual host '{vhost}'")
            }
            Subject::Binding(it) => write!(
                f,
                "the binding from exchange '{}' to {} '{}' in virtual host '{}'",
                it.source,
                if it.to_exchange { "exchange" } else { "queue" },
                it.destination,
                it.vhost
            ),
            Subject::TopicPermission(vhost, user, exchange) => write!(
                f,
                "the topic permission of user '{user}' on exchange '{exchange}' in virtual host '{vhost}'"
            ),
            Subject::Other(text) => f.write_str(text),
        }
    }
}
