//! What an administrator does, and what the broker raises an alarm about.

use leveret_access::grant::TopicPermission;
use leveret_access::limits::{UserLimits, VhostLimits};
use leveret_access::permission::Permission;
use leveret_access::users::User;
use leveret_settings::policy::{PolicyKind, PolicySpec};
use serde_json::Value;

use super::{Event, Events, INTERNAL_USER, Properties};
use crate::broker::Broker;
use crate::parameters::Parameter;

/// The entries of something that is stored as an object.
fn entries(properties: Properties, of: &impl serde::Serialize) -> Properties {
    match serde_json::to_value(of) {
        Ok(Value::Object(object)) => properties.entries(&object),
        _ => properties,
    }
}

fn named(name: &str) -> Properties {
    Properties::default().text("name", name).by(INTERNAL_USER)
}

/// rabbitmq: the one parameter of a virtual host's or a user's limits
fn limits() -> Properties {
    named("limits")
}

impl Event {
    pub(crate) fn policy_set(spec: &PolicySpec) -> Event {
        let properties = named(&spec.name).text("vhost", &spec.vhost);
        // As it is stored, but for what stands there already.
        let stored = entries(Properties::default(), spec).into_table();
        let rest = stored.inner().iter().filter(|(name, _)| {
            matches!(
                name.as_str(),
                "pattern" | "apply-to" | "priority" | "definition"
            )
        });
        let properties = rest.fold(properties, |all, (name, value)| {
            all.with(name.as_str(), value.clone())
        });
        Event::new("policy.set", properties)
    }

    pub(crate) fn policy_cleared(kind: PolicyKind, vhost: &str, name: &str) -> Event {
        // rabbitmq: the two kinds differ here alone
        let key = match kind {
            PolicyKind::User => "policy.cleared",
            PolicyKind::Operator => "operator.policy.cleared",
        };
        Event::new(key, named(name).text("vhost", vhost))
    }

    pub(crate) fn parameter_set(parameter: &Parameter) -> Event {
        let properties = named(&parameter.name).json("value", &parameter.value);
        let properties = match &parameter.vhost {
            Some(vhost) => properties
                .text("vhost", vhost)
                .text("component", &parameter.component),
            None => properties.text("component", "global"),
        };
        Event::new("parameter.set", properties)
    }

    pub(crate) fn parameter_cleared(parameter: &Parameter) -> Event {
        let properties = Properties::default().text("name", &parameter.name);
        let properties = match &parameter.vhost {
            Some(vhost) => properties
                .text("vhost", vhost)
                .text("component", &parameter.component),
            None => properties.text("component", "global"),
        };
        Event::new("parameter.cleared", properties)
    }

    pub(crate) fn user_deleted(name: &str) -> Event {
        Event::new("user.deleted", named(name))
    }

    pub(crate) fn vhost_deleted(name: &str) -> Event {
        Event::new("vhost.deleted", named(name))
    }

    pub(crate) fn permission_deleted(vhost: &str, user: &str) -> Event {
        let properties = Properties::default()
            .text("user", user)
            .text("vhost", vhost)
            .by(INTERNAL_USER);
        Event::new("permission.deleted", properties)
    }

    pub(crate) fn topic_permission_deleted(vhost: &str, user: &str, exchange: &str) -> Event {
        let properties = Properties::default()
            .text("user", user)
            .text("vhost", vhost)
            .text("exchange", exchange)
            .by(INTERNAL_USER);
        Event::new("topic.permission.deleted", properties)
    }

    /// rabbitmq: limits of a virtual host are a parameter too
    pub(crate) fn vhost_limits_parameter(vhost: &str, to: VhostLimits) -> Event {
        let properties = limits()
            .text("vhost", vhost)
            .text("component", "vhost-limits");
        if to == VhostLimits::default() {
            return Event::new("parameter.cleared", properties);
        }
        let value = entries(Properties::default(), &to).into_table();
        let value = leveret_codec::AMQPValue::FieldTable(value);
        Event::new("parameter.set", properties.with("value", value))
    }

    pub(crate) fn vhost_limits(vhost: &str, to: VhostLimits) -> Event {
        // The virtual host is ours: RabbitMQ does not say whose limits they are.
        let properties = limits().text("vhost", vhost);
        if to == VhostLimits::default() {
            return Event::new("vhost.limits.cleared", properties);
        }
        Event::new("vhost.limits.set", entries(properties, &to))
    }

    pub(crate) fn user_limits(user: &str, to: UserLimits) -> Event {
        let properties = limits().text("username", user);
        if to == UserLimits::default() {
            return Event::new("user.limits.cleared", properties);
        }
        Event::new("user.limits.set", entries(properties, &to))
    }

    pub(crate) fn user_created(user: &User) -> Event {
        Event::new("user.created", named(&user.name))
    }

    /// A password was set; empty: none will do any more.
    pub(crate) fn user_password(user: &User) -> Event {
        let key = if user.password_hash.is_empty() {
            "user.password.cleared"
        } else {
            "user.password.changed"
        };
        Event::new(key, named(&user.name))
    }

    pub(crate) fn user_tags_set(user: &User) -> Event {
        Event::new("user.tags.set", named(&user.name).texts("tags", &user.tags))
    }

    pub(crate) fn permission_created(vhost: &str, user: &str, it: &Permission) -> Event {
        let properties = Properties::default()
            .text("user", user)
            .text("vhost", vhost)
            .text("configure", &it.configure)
            .text("write", &it.write)
            .text("read", &it.read)
            .by(INTERNAL_USER);
        Event::new("permission.created", properties)
    }

    pub(crate) fn topic_permission_created(vhost: &str, user: &str, it: &TopicPermission) -> Event {
        let properties = Properties::default()
            .text("user", user)
            .text("vhost", vhost)
            .text("exchange", &it.exchange)
            .text("write", &it.write)
            .text("read", &it.read)
            .by(INTERNAL_USER);
        Event::new("topic.permission.created", properties)
    }
}

impl Broker {
    /// A user was made or changed.
    pub(crate) fn tell_of_user(&self, before: Option<User>, user: &User) {
        let services = &self.services;
        let created = before.is_none();
        let before = before.unwrap_or_default();
        if created {
            services.tell(|_| Event::user_created(user));
        } else if (&before.password_hash, &before.hashing_algorithm)
            != (&user.password_hash, &user.hashing_algorithm)
        {
            services.tell(|_| Event::user_password(user));
        }
        if before.tags != user.tags {
            services.tell(|_| Event::user_tags_set(user));
        }
        if before.limits != user.limits {
            services.tell(|_| Event::user_limits(&user.name, user.limits));
        }
    }
}

impl Events {
    pub(crate) fn vhost_created(&self, name: &str, traced: bool) -> Event {
        let node = Properties::default()
            .text(&self.node, "running")
            .into_table();
        let properties = named(name)
            .text("description", "")
            .texts::<&str>("tags", [])
            .flag("tracing", traced)
            .with("cluster_state", leveret_codec::AMQPValue::FieldTable(node));
        Event::new("vhost.created", properties)
    }

    /// The disk is full, or has room again.
    pub(crate) fn disk_alarm(&self, set: bool) -> Event {
        let key = if set { "alarm.set" } else { "alarm.cleared" };
        let properties = Properties::default()
            .text("source", "disk")
            .text("node", &*self.node);
        Event::new(key, properties)
    }
}
