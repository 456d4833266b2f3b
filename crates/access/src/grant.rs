//! What one user may do in one virtual host, compiled: permissions on resources, and on the topics
//! of topic exchanges.

use leveret_message::error::ChannelError;
use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;
use crate::pattern::Pattern;
use crate::permission::{Access, Permission, Resource};

/// A user's topic permission on one exchange, as stored. Where there is none, every topic is allowed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TopicPermission {
    /// The topic exchange.
    pub exchange: String,
    /// Pattern for the routing keys published with; `{username}` and `{vhost}` stand for the names.
    pub write: String,
    /// Pattern for the keys bound with.
    pub read: String,
}

impl TopicPermission {
    /// No topic of `exchange` is permitted.
    pub fn none(exchange: &str) -> TopicPermission {
        TopicPermission {
            exchange: exchange.to_owned(),
            write: String::new(),
            read: String::new(),
        }
    }
}

/// The topics of one exchange.
#[derive(Clone, Debug)]
struct TopicGrant {
    exchange: String,
    write: Pattern,
    read: Pattern,
}

/// One user's compiled permissions in one virtual host.
#[derive(Clone, Debug)]
pub struct Grant {
    user: String,
    vhost: String,
    permission: Permission,
    configure: Pattern,
    write: Pattern,
    read: Pattern,
    topics: Vec<TopicGrant>,
}

/// An expression that is not understood allows nothing.
fn compile(expression: &str, user: &str, vhost: &str) -> Pattern {
    Pattern::of_permission(expression).unwrap_or_else(|error| {
        tracing::error!(
            user,
            vhost,
            expression = %excerpt(expression),
            error,
            "a permission is no regular expression"
        );
        Pattern::Never
    })
}

impl Grant {
    /// Compiles the patterns.
    pub(crate) fn new<'a>(
        user: &str,
        vhost: &str,
        permission: &Permission,
        topics: impl Iterator<Item = &'a TopicPermission>,
    ) -> Grant {
        let pattern = |expression: &str| compile(expression, user, vhost);
        // rabbitmq: the names are put into the expression as they are
        let topic = |expression: &str| {
            let expanded = expression
                .replace("{username}", user)
                .replace("{vhost}", vhost);
            compile(&expanded, user, vhost)
        };
        Grant {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            permission: permission.clone(),
            configure: pattern(&permission.configure),
            write: pattern(&permission.write),
            read: pattern(&permission.read),
            topics: topics
                .map(|it| TopicGrant {
                    exchange: it.exchange.clone(),
                    write: topic(&it.write),
                    read: topic(&it.read),
                })
                .collect(),
        }
    }

    /// Nothing is allowed (any more).
    pub fn none(user: &str, vhost: &str) -> Grant {
        Grant {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            permission: Permission::default(),
            configure: Pattern::Never,
            write: Pattern::Never,
            read: Pattern::Never,
            topics: Vec::new(),
        }
    }

    /// The patterns it was compiled from.
    #[must_use]
    pub fn permission(&self) -> &Permission {
        &self.permission
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

    /// Whether the user has a topic permission on this exchange; if not, [`Grant::check_topic`] has
    /// nothing to say.
    #[must_use]
    pub fn restricts_topics(&self, exchange: &str) -> bool {
        self.topics.iter().any(|topic| topic.exchange == exchange)
    }

    /// Checks a routing or binding key of a topic exchange.
    ///
    /// # Errors
    /// 403 ACCESS_REFUSED with RabbitMQ's text.
    pub fn check_topic(
        &self,
        access: Access,
        exchange: &str,
        key: &[u8],
    ) -> Result<(), ChannelError> {
        let Some(topic) = self.topics.iter().find(|topic| topic.exchange == exchange) else {
            return Ok(());
        };
        let pattern = match access {
            Access::Write => &topic.write,
            Access::Read => &topic.read,
            Access::Configure => return Ok(()),
        };
        let key = String::from_utf8_lossy(key);
        if pattern.matches(&key) {
            return Ok(());
        }
        Err(ChannelError::no_topic_permission(
            access.name(),
            &key,
            exchange,
            &self.vhost,
            &self.user,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(topics: &[TopicPermission]) -> Grant {
        Grant::new("ann", "/", &Permission::full(), topics.iter())
    }

    #[test]
    fn topics_are_free_where_no_topic_permission_is() {
        let grant = grant(&[]);
        assert!(!grant.restricts_topics("amq.topic"));
        assert_eq!(grant.check_topic(Access::Write, "amq.topic", b"x"), Ok(()));
    }

    #[test]
    fn the_names_of_user_and_vhost_are_put_in() {
        let grant = grant(&[TopicPermission {
            exchange: "amq.topic".to_owned(),
            write: r"^{username}\.".to_owned(),
            read: "^{vhost}$".to_owned(),
        }]);
        let check = |access, key: &str| grant.check_topic(access, "amq.topic", key.as_bytes());
        assert_eq!(check(Access::Write, "ann.a"), Ok(()));
        assert_eq!(check(Access::Read, "/"), Ok(()));
        assert_eq!(
            check(Access::Write, "bob.a").unwrap_err().text,
            "ACCESS_REFUSED - write access to topic 'bob.a' in exchange topic 'amq.topic' in vhost '/' refused for user 'ann'"
        );
        assert!(check(Access::Read, "ann.a").is_err());
        assert_eq!(grant.check_topic(Access::Read, "other", b"x"), Ok(()));
    }

    #[test]
    fn a_permission_that_is_no_expression_allows_nothing() {
        let permission = Permission {
            write: "(".to_owned(),
            ..Permission::full()
        };
        let grant = Grant::new("ann", "/", &permission, [].iter());
        assert!(grant.check(Access::Write, Resource::Queue("q")).is_err());
        assert!(grant.check(Access::Read, Resource::Queue("q")).is_ok());
    }
}
