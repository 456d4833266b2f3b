//! What a path names. Paths, and the names in them, are RabbitMQ's.

use super::answer::Refusal;

/// What a request is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Resource {
    /// `/api/overview`
    Overview,
    /// `/api/queues`, `/api/queues/{vhost}`
    Queues(Option<String>),
    /// `/api/queues/{vhost}/{name}`
    Queue {
        /// The virtual host.
        vhost: String,
        /// The queue.
        name: String,
    },
    /// `/api/exchanges`, `/api/exchanges/{vhost}`
    Exchanges(Option<String>),
    /// `/api/exchanges/{vhost}/{name}`
    Exchange {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        name: String,
    },
    /// `/api/exchanges/{vhost}/{name}/delayed`; Leveret's own
    DelayedMessages {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        exchange: String,
    },
    /// `/api/exchanges/{vhost}/{name}/delayed/{id}`; Leveret's own
    DelayedMessage {
        /// The virtual host.
        vhost: String,
        /// The exchange.
        exchange: String,
        /// The message.
        id: u64,
    },
}

impl Resource {
    /// The virtual host it is in.
    pub(super) fn vhost(&self) -> Option<&str> {
        match self {
            Self::Overview => None,
            Self::Queues(vhost) | Self::Exchanges(vhost) => vhost.as_deref(),
            Self::Queue { vhost, .. }
            | Self::Exchange { vhost, .. }
            | Self::DelayedMessages { vhost, .. }
            | Self::DelayedMessage { vhost, .. } => Some(vhost),
        }
    }
}

/// What RabbitMQ's management plugin has below `/api`, and Leveret has not (yet).
const NOT_HERE: [&str; 30] = [
    "aliveness-test",
    "all-configuration",
    "auth",
    "auth_attempts",
    "bindings",
    "channels",
    "cluster-name",
    "connections",
    "consumers",
    "definitions",
    "deprecated-features",
    "extensions",
    "feature-flags",
    "federation-links",
    "global-parameters",
    "health",
    "index",
    "login",
    "nodes",
    "operator-policies",
    "parameters",
    "permissions",
    "policies",
    "rebalance",
    "reset",
    "shovels",
    "topic-permissions",
    "user-limits",
    "vhost-limits",
    "whoami",
];

/// More of them, which have things below them that are asked for often.
const NOT_HERE_EITHER: [&str; 4] = ["users", "vhosts", "stream", "version"];

/// Reads a path (without the query).
pub(super) fn parse(path: &str) -> Result<Resource, Refusal> {
    let mut parts = path
        .strip_prefix("/api/")
        .ok_or(Refusal::NotFound)?
        .split('/');
    let kind = parts.next().unwrap_or_default();
    let mut names = parts.map(decode).collect::<Result<Vec<_>, _>>()?;
    // A slash at the end names nothing more.
    if names.last().is_some_and(String::is_empty) {
        names.pop();
    }
    let mut names = names.into_iter();
    let mut next = || names.next();
    let resource = match (kind, next(), next(), next(), next(), next()) {
        ("overview", None, ..) => Resource::Overview,
        ("queues", vhost, None, ..) => Resource::Queues(vhost),
        ("queues", Some(vhost), Some(name), None, ..) => Resource::Queue { vhost, name },
        ("exchanges", vhost, None, ..) => Resource::Exchanges(vhost),
        ("exchanges", Some(vhost), Some(name), None, ..) => Resource::Exchange {
            vhost,
            name: exchange(name),
        },
        ("exchanges", Some(vhost), Some(name), Some(delayed), id, None) if delayed == "delayed" => {
            delayed_messages(vhost, exchange(name), id)?
        }
        ("queues" | "exchanges", Some(_), Some(_), Some(part), ..)
            if ["bindings", "contents", "get", "actions", "publish", "unack"]
                .contains(&part.as_str()) =>
        {
            return Err(not_here(&format!("{kind}/…/{part}")));
        }
        (kind, ..) if NOT_HERE.contains(&kind) || NOT_HERE_EITHER.contains(&kind) => {
            return Err(not_here(kind));
        }
        _ => return Err(Refusal::NotFound),
    };
    Ok(resource)
}

fn not_here(what: &str) -> Refusal {
    Refusal::NotImplemented(format!("Leveret has no /api/{what} yet"))
}

fn delayed_messages(
    vhost: String,
    exchange: String,
    id: Option<String>,
) -> Result<Resource, Refusal> {
    let Some(id) = id else {
        return Ok(Resource::DelayedMessages { vhost, exchange });
    };
    // What is no number is no message's.
    let id = id.parse().map_err(|_| Refusal::NotFound)?;
    Ok(Resource::DelayedMessage {
        vhost,
        exchange,
        id,
    })
}

/// rabbitmq: the default exchange goes by this name in paths
fn exchange(name: String) -> String {
    if name == "amq.default" {
        String::new()
    } else {
        name
    }
}

/// Undoes percent encoding.
pub(super) fn decode(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::bad("the path or query is not percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let (Some(high), Some(low)) = (high, low) else {
            return Err(bad());
        };
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| bad())?);
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        let check = |path, expected| assert_eq!(parse(path), Ok(expected), "{path}");
        let slash = || "/".to_owned();
        check("/api/overview", Resource::Overview);
        check("/api/queues/", Resource::Queues(None));
        check("/api/queues/%2F", Resource::Queues(Some(slash())));
        check(
            "/api/queues/%2f/a%20b",
            Resource::Queue {
                vhost: slash(),
                name: "a b".to_owned(),
            },
        );
        check(
            "/api/exchanges/v/amq.default",
            Resource::Exchange {
                vhost: "v".to_owned(),
                name: String::new(),
            },
        );
        let (vhost, exchange) = (slash(), "x".to_owned());
        check(
            "/api/exchanges/%2F/x/delayed",
            Resource::DelayedMessages { vhost, exchange },
        );
        let (vhost, exchange) = (slash(), "x".to_owned());
        check(
            "/api/exchanges/%2F/x/delayed/12",
            Resource::DelayedMessage {
                vhost,
                exchange,
                id: 12,
            },
        );
    }

    #[test]
    fn what_is_not_there_is_told_apart() {
        for path in [
            "/",
            "/api",
            "/api/",
            "/api/zz",
            "/api/overview/x",
            "/api/exchanges/v/x/delayed/y",
        ] {
            assert_eq!(parse(path), Err(Refusal::NotFound), "{path}");
        }
        for path in [
            "/api/connections",
            "/api/users/x/permissions",
            "/api/queues/v/q/contents",
        ] {
            assert!(
                matches!(parse(path), Err(Refusal::NotImplemented(_))),
                "{path}"
            );
        }
        for path in ["/api/queues/%2", "/api/queues/%zz", "/api/queues/%ff"] {
            assert!(matches!(parse(path), Err(Refusal::Bad(..))), "{path}");
        }
    }
}
