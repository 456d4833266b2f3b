//! Definitions as RabbitMQ exports them (`json`): read into a [`Plan`] of typed things (`read`),
//! checked against the broker as a whole (`check`), then carried out (`apply`). What is wrong is found
//! before anything is changed.
//!
//! Carrying out a plan twice changes nothing the second time. Nothing is deleted.

mod apply;
mod check;
mod json;
mod node;
mod read;
#[cfg(test)]
mod tests;

use leveret_access::grant::TopicPermission;
use leveret_access::limits::VhostLimits;
use leveret_access::permission::Permission;
use leveret_access::users::User;
use leveret_codec::FieldTable;
use leveret_routing::Exchange;
use leveret_settings::policy::{PolicyKind, PolicySpec};

use crate::declare::QueueDeclaration;
use crate::parameters::Parameter;
use crate::vhost_metadata::VhostChanges;

/// What is wrong with a definitions file, and where.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct ImportError {
    /// Such as `queues[3].arguments` or `line 4, column 7`.
    pub place: String,
    /// What is wrong there.
    pub message: String,
}

/// Something and where in the file it stands.
#[derive(Clone, Debug)]
struct Located<T> {
    place: String,
    it: T,
}

impl<T> Located<T> {
    fn error(&self, message: impl std::fmt::Display) -> ImportError {
        ImportError {
            place: self.place.clone(),
            message: message.to_string(),
        }
    }
}

/// Something in a virtual host.
#[derive(Clone, Debug)]
struct InVhost<T> {
    vhost: String,
    it: T,
}

type LocatedInVhost<T> = Located<InVhost<T>>;

/// A user, with the password in the clear if the file has it so.
#[derive(Clone, Debug)]
struct UserPlan {
    user: User,
    password: Option<String>,
}

/// A user's name and what is permitted.
#[derive(Clone, Debug)]
struct ForUser<T> {
    user: String,
    it: T,
}

/// A binding whose ends are names.
#[derive(Clone, Debug)]
struct BindingPlan {
    source: String,
    destination: String,
    to_exchange: bool,
    routing_key: String,
    arguments: FieldTable,
}

/// All that a definitions file asks for.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    vhosts: Vec<Located<String>>,
    /// What the file says of them.
    metadata: Vec<LocatedInVhost<VhostChanges>>,
    /// Virtual hosts of which the file says whether they are traced.
    traced: Vec<(String, bool)>,
    users: Vec<Located<UserPlan>>,
    permissions: Vec<LocatedInVhost<ForUser<Permission>>>,
    topic_permissions: Vec<LocatedInVhost<ForUser<TopicPermission>>>,
    limits: Vec<LocatedInVhost<VhostLimits>>,
    parameters: Vec<Located<Parameter>>,
    policies: Vec<Located<(PolicyKind, PolicySpec)>>,
    exchanges: Vec<LocatedInVhost<Exchange>>,
    queues: Vec<LocatedInVhost<QueueDeclaration>>,
    bindings: Vec<LocatedInVhost<BindingPlan>>,
}

impl std::fmt::Display for Plan {
    /// Counts what there is.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = [
            (self.vhosts.len(), "virtual hosts"),
            (self.users.len(), "users"),
            (self.policies.len(), "policies"),
            (self.exchanges.len(), "exchanges"),
            (self.queues.len(), "queues"),
            (self.bindings.len(), "bindings"),
        ];
        let counts = counts.map(|(count, what)| format!("{count} {what}"));
        f.write_str(&counts.join(", "))
    }
}
