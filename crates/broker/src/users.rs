//! Users and what they may do: passwords, tags, and configure/write/read permissions per vhost.
//!
//! Permissions are regular expressions over resource names, as in RabbitMQ's access-control guide.
//! Changes are staged in the store by the caller; this file only keeps and answers.

use dashmap::DashMap;
use regex::bytes::Regex;
use serde::{Deserialize, Serialize};

use crate::error::ChannelError;
use crate::password::{self, HashingAlgorithm};

/// A user as stored.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct User {
    /// The name.
    pub name: String,
    /// Base64 of salt and hash; empty: no password will do.
    pub password_hash: String,
    /// How the hash was made.
    #[serde(default)]
    pub hashing_algorithm: HashingAlgorithm,
    /// `administrator`, `monitoring`, ...
    #[serde(default)]
    pub tags: Vec<String>,
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Create or delete it, or alter its behaviour.
    Configure,
    /// Put messages into it.
    Write,
    /// Take messages out of it.
    Read,
}

impl Access {
    /// As it stands in error texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Access::Configure => "configure",
            Access::Write => "write",
            Access::Read => "read",
        }
    }
}

/// What is accessed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource<'a> {
    /// An exchange by name.
    Exchange(&'a str),
    /// A queue by name.
    Queue(&'a str),
}

/// The three patterns of one user in one virtual host, as stored.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Permission {
    /// Pattern for [`Access::Configure`].
    pub configure: String,
    /// Pattern for [`Access::Write`].
    pub write: String,
    /// Pattern for [`Access::Read`].
    pub read: String,
}

impl Permission {
    /// Everything is allowed.
    #[must_use]
    pub fn full() -> Permission {
        let all = || ".*".to_owned();
        Permission {
            configure: all(),
            write: all(),
            read: all(),
        }
    }
}

/// A pattern ready for matching.
#[derive(Clone, Debug)]
enum Pattern {
    All,
    Nothing,
    Regex(Regex),
}

impl Pattern {
    fn new(pattern: &str) -> Result<Pattern, regex::Error> {
        match pattern {
            ".*" => Ok(Pattern::All),
            // rabbitmq: an empty pattern stands for '^$'
            "" | "^$" => Ok(Pattern::Nothing),
            other => Regex::new(other).map(Pattern::Regex),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Pattern::All => true,
            Pattern::Nothing => name.is_empty(),
            Pattern::Regex(regex) => regex.is_match(name.as_bytes()),
        }
    }
}

/// One user's compiled permissions in one virtual host.
#[derive(Clone, Debug)]
pub struct Grant {
    user: String,
    vhost: String,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
}

impl Grant {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// When one of them is not a regular expression.
    pub fn new(user: &str, vhost: &str, permission: &Permission) -> Result<Grant, regex::Error> {
        Ok(Grant {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: Pattern::new(&permission.configure)?,
            write: Pattern::new(&permission.write)?,
            read: Pattern::new(&permission.read)?,
        })
    }

    /// Checks one access.
    ///
    /// # Errors
    /// 403 ACCESS_REFUSED with RabbitMQ's text.
    pub fn check(&self, access: Access, resource: Resource<'_>) -> Result<(), ChannelError> {
        let (kind, name) = match resource {
            // rabbitmq: the default exchange goes by this name in permissions
            Resource::Exchange("") => ("exchange", "amq.default"),
            Resource::Exchange(name) => ("exchange", name),
            Resource::Queue(name) => ("queue", name),
        };
        let pattern = match access {
            Access::Configure => &self.configure,
            Access::Write => &self.write,
            Access::Read => &self.read,
        };
        if pattern.matches(name) {
            return Ok(());
        }
        Err(ChannelError::no_permission(
            access.name(),
            kind,
            name,
            &self.vhost,
            &self.user,
        ))
    }
}

/// All users and permissions.
#[derive(Debug, Default)]
pub struct Users {
    users: DashMap<String, User>,
    /// By virtual host and user.
    permissions: DashMap<(String, String), Permission>,
}

impl Users {
    /// Whether there is no user at all: a store that was just created.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Adds or replaces a user.
    pub fn put(&self, user: User) {
        self.users.insert(user.name.clone(), user);
    }

    /// A user by name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<User> {
        self.users.get(name).map(|user| user.clone())
    }

    /// Whether `password` is `name`'s.
    #[must_use]
    pub fn authenticate(&self, name: &str, password: &[u8]) -> bool {
        self.users.get(name).is_some_and(|user| {
            password::matches(password, &user.password_hash, user.hashing_algorithm)
        })
    }

    /// Sets a user's permissions in a virtual host.
    pub fn permit(&self, vhost: &str, user: &str, permission: Permission) {
        self.permissions
            .insert((vhost.to_owned(), user.to_owned()), permission);
    }

    /// The user's permissions in a virtual host; None: the user may not even connect to it.
    #[must_use]
    pub fn permission(&self, vhost: &str, user: &str) -> Option<Permission> {
        self.permissions
            .get(&(vhost.to_owned(), user.to_owned()))
            .map(|permission| permission.clone())
    }
}
