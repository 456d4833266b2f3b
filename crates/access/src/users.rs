//! Users and what they may do: passwords, tags, and configure/write/read permissions per vhost.
//!
//! Permissions are regular expressions over resource names, as in RabbitMQ's access-control guide.
//! Changes are staged in the store by the caller; this file only keeps and answers.

use std::sync::Arc;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

pub use crate::grant::{Grant, TopicPermission};
use crate::limits::UserLimits;
use crate::password::{self, HashingAlgorithm};
use crate::permission::Permission;
use crate::tally::Tally;

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
    /// What it may have open.
    #[serde(default)]
    pub limits: UserLimits,
}

impl User {
    fn has_tag(&self, among: &[&str]) -> bool {
        self.tags.iter().any(|tag| among.contains(&tag.as_str()))
    }

    /// Tagged `administrator`.
    #[must_use]
    pub fn is_administrator(&self) -> bool {
        self.has_tag(&["administrator"])
    }

    /// Tagged as one who may see what concerns all virtual hosts.
    #[must_use]
    pub fn is_monitor(&self) -> bool {
        self.has_tag(&["administrator", "monitoring"])
    }

    /// Tagged as one who may set policies.
    #[must_use]
    pub fn is_policymaker(&self) -> bool {
        self.has_tag(&["policymaker"])
    }

    /// Tagged as one who may publish in the name of others.
    #[must_use]
    pub fn is_impersonator(&self) -> bool {
        self.has_tag(&["impersonator"])
    }

    /// Tagged as one who may look at anything at all.
    #[must_use]
    pub fn is_management(&self) -> bool {
        self.has_tag(&["administrator", "monitoring", "policymaker", "management"])
    }
}

/// A user's connections and channels.
#[derive(Debug, Default)]
pub struct UserTallies {
    /// Open connections.
    pub connections: Arc<Tally>,
    /// Open channels.
    pub channels: Arc<Tally>,
}

/// A virtual host and a user in it.
type VhostAndUser = (String, String);

/// All users and permissions.
#[derive(Debug, Default)]
pub struct Users {
    users: DashMap<String, User>,
    tallies: DashMap<String, Arc<UserTallies>>,
    permissions: DashMap<VhostAndUser, Permission>,
    topic_permissions: DashMap<VhostAndUser, Vec<TopicPermission>>,
    /// Compiled from the two above.
    grants: DashMap<VhostAndUser, Arc<Grant>>,
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

    /// All users, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<User> {
        self.users.iter().map(|user| user.clone()).collect()
    }

    /// Removes a user; what is permitted to it is removed apart.
    pub fn remove(&self, name: &str) -> Option<User> {
        self.users.remove(name).map(|(_, user)| user)
    }

    /// All permissions, with the virtual host and the user, in no order.
    #[must_use]
    pub fn permissions(&self) -> Vec<(String, String, Permission)> {
        let all = self.permissions.iter();
        all.map(|it| {
            let (vhost, user) = it.key().clone();
            (vhost, user, it.value().clone())
        })
        .collect()
    }

    /// All topic permissions, with the virtual host and the user, in no order.
    #[must_use]
    pub fn topic_permissions_of_all(&self) -> Vec<(String, String, TopicPermission)> {
        let mut all = Vec::new();
        for it in &self.topic_permissions {
            let (vhost, user) = it.key();
            let each = it.value().iter().cloned();
            all.extend(each.map(|permission| (vhost.clone(), user.clone(), permission)));
        }
        all
    }

    /// Whether `password` is `name`'s. A blank one is nobody's.
    #[must_use]
    pub fn authenticate(&self, name: &str, password: &[u8]) -> bool {
        self.users.get(name).is_some_and(|user| {
            password::matches(password, &user.password_hash, &user.hashing_algorithm)
        })
    }

    /// What limits a user.
    #[must_use]
    pub fn limits(&self, name: &str) -> UserLimits {
        self.users
            .get(name)
            .map(|user| user.limits)
            .unwrap_or_default()
    }

    /// What a user has open.
    pub fn tallies(&self, name: &str) -> Arc<UserTallies> {
        Arc::clone(&self.tallies.entry(name.to_owned()).or_default())
    }

    /// The channels that all users have open.
    pub fn channel_count(&self) -> u64 {
        self.tallies
            .iter()
            .map(|of_user| of_user.channels.count())
            .sum()
    }

    /// Sets a user's permissions in a virtual host.
    pub fn permit(&self, vhost: &str, user: &str, permission: Permission) {
        let place = (vhost.to_owned(), user.to_owned());
        self.permissions.insert(place.clone(), permission);
        self.compile(place);
    }

    /// Sets a user's topic permission on one exchange of a virtual host.
    pub fn permit_topics(&self, vhost: &str, user: &str, permission: TopicPermission) {
        let place = (vhost.to_owned(), user.to_owned());
        {
            let mut all = self.topic_permissions.entry(place.clone()).or_default();
            all.retain(|known| known.exchange != permission.exchange);
            all.push(permission);
        }
        self.compile(place);
    }

    /// Takes a user's permissions in a virtual host away.
    pub fn forbid(&self, vhost: &str, user: &str) -> Option<Permission> {
        let place = (vhost.to_owned(), user.to_owned());
        let (_, permission) = self.permissions.remove(&place)?;
        self.grants.remove(&place);
        Some(permission)
    }

    /// Takes a user's topic permission on one exchange away.
    pub fn forbid_topics(
        &self,
        vhost: &str,
        user: &str,
        exchange: &str,
    ) -> Option<TopicPermission> {
        let place = (vhost.to_owned(), user.to_owned());
        let gone = {
            let mut all = self.topic_permissions.get_mut(&place)?;
            let at = all.iter().position(|known| known.exchange == exchange)?;
            all.remove(at)
        };
        self.topic_permissions
            .remove_if(&place, |_, left| left.is_empty());
        self.compile(place);
        Some(gone)
    }

    fn compile(&self, place: VhostAndUser) {
        let Some(permission) = self.permissions.get(&place).map(|it| it.clone()) else {
            // Rights on topics alone let nobody in.
            return;
        };
        let topics = self.topic_permissions.get(&place).map(|it| it.clone());
        let grant = Grant::new(
            &place.1,
            &place.0,
            &permission,
            topics.unwrap_or_default().iter(),
        );
        self.grants.insert(place, Arc::new(grant));
    }

    /// The user's compiled permissions in a virtual host; None: the user may not even connect to it.
    #[must_use]
    pub fn grant(&self, vhost: &str, user: &str) -> Option<Arc<Grant>> {
        self.grants
            .get(&(vhost.to_owned(), user.to_owned()))
            .map(|grant| Arc::clone(&grant))
    }

    /// The user's permissions in a virtual host; None: the user may not even connect to it.
    #[must_use]
    pub fn permission(&self, vhost: &str, user: &str) -> Option<Permission> {
        self.permissions
            .get(&(vhost.to_owned(), user.to_owned()))
            .map(|permission| permission.clone())
    }

    /// The user's topic permissions in a virtual host.
    #[must_use]
    pub fn topic_permissions(&self, vhost: &str, user: &str) -> Vec<TopicPermission> {
        self.topic_permissions
            .get(&(vhost.to_owned(), user.to_owned()))
            .map(|all| all.clone())
            .unwrap_or_default()
    }
}
