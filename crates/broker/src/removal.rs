//! What an administrator takes away from a running broker: users, permissions, parameters. Every verb answers the commit
//! point at which it is durable, or None where there is nothing to take away.

use leveret_access::grant::TopicPermission;
use leveret_access::permission::Permission;
use leveret_access::users::User;
use leveret_message::Message;
use leveret_store_api::{Change, CommitPoint};

use crate::broker::Broker;
use crate::definitions::{Definition, PermissionDefinition, TopicPermissionDefinition};
use crate::events::Event;
use crate::parameters::Parameter;

impl Broker {
    /// All users, in no order.
    #[must_use]
    pub fn users(&self) -> Vec<User> {
        self.users.all()
    }

    /// A user by name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<User> {
        self.users.get(name)
    }

    /// All permissions, with the virtual host and the user, in no order.
    #[must_use]
    pub fn permissions(&self) -> Vec<(String, String, Permission)> {
        self.users.permissions()
    }

    /// All topic permissions, with the virtual host and the user, in no order.
    #[must_use]
    pub fn topic_permissions(&self) -> Vec<(String, String, TopicPermission)> {
        self.users.topic_permissions_of_all()
    }

    /// Deletes a user with all that is permitted to it; its connections are closed.
    pub fn delete_user(&self, name: &str) -> Option<CommitPoint> {
        let user = self.users.remove(name)?;
        let mut changes = vec![Definition::User(user).remove()];
        for (vhost, of, _) in self.users.permissions() {
            if of == name {
                changes.extend(self.take_permission(&vhost, name));
            }
        }
        for (vhost, of, permission) in self.users.topic_permissions_of_all() {
            if of == name {
                changes.extend(self.take_topics(&vhost, name, &permission.exchange));
            }
        }
        self.services.tell(|_| Event::user_deleted(name));
        // rabbitmq: what its clients are told
        let text = format!("user '{name}' is deleted");
        self.close_where(|identity| *identity.user == *name, &text);
        Some(self.services.stage_definitions(&mut changes))
    }

    /// Takes a user's permissions in a virtual host away; running connections see it with their next publish or
    /// declaration.
    pub fn forbid(&self, vhost: &str, user: &str) -> Option<CommitPoint> {
        let change = self.take_permission(vhost, user)?;
        Some(self.services.stage_definitions(&mut vec![change]))
    }

    fn take_permission(&self, vhost: &str, user: &str) -> Option<Change<Message>> {
        let permission = self.users.forbid(vhost, user)?;
        self.permissions_changed(vhost);
        self.services
            .tell(|_| Event::permission_deleted(vhost, user));
        let definition = PermissionDefinition {
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            permission,
        };
        Some(Definition::Permission(definition).remove())
    }

    /// Takes a user's topic permission on one exchange away: it may use every topic again.
    pub fn forbid_topics(&self, vhost: &str, user: &str, exchange: &str) -> Option<CommitPoint> {
        let change = self.take_topics(vhost, user, exchange)?;
        Some(self.services.stage_definitions(&mut vec![change]))
    }

    fn take_topics(&self, vhost: &str, user: &str, exchange: &str) -> Option<Change<Message>> {
        let permission = self.users.forbid_topics(vhost, user, exchange)?;
        self.permissions_changed(vhost);
        self.services
            .tell(|_| Event::topic_permission_deleted(vhost, user, exchange));
        let definition = TopicPermissionDefinition {
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            permission,
        };
        Some(Definition::TopicPermission(definition).remove())
    }

    fn permissions_changed(&self, vhost: &str) {
        if let Some(vhost) = self.vhost(vhost) {
            vhost.routes_changed();
        }
    }

    /// Forgets a parameter that means nothing to this broker; `vhost` None: a global one.
    pub fn delete_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
    ) -> Option<CommitPoint> {
        let place = (
            vhost.map(str::to_owned),
            component.to_owned(),
            name.to_owned(),
        );
        let value = self.parameters.forget(&place)?;
        let (vhost, component, name) = place;
        let parameter = Parameter {
            vhost,
            component,
            name,
            value,
        };
        self.services.tell(|_| Event::parameter_cleared(&parameter));
        let change = Definition::Parameter(parameter).remove();
        Some(self.services.stage_definitions(&mut vec![change]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leveret_access::permission::{Access, Resource};
    use leveret_message::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::config::BrokerConfig;
    use crate::definitions_import::Plan;

    fn broker() -> Arc<Broker> {
        let store = Arc::new(leveret_store_api::MemoryStore::new());
        let broker = Broker::open(BrokerConfig::default(), store, Timestamp(1)).unwrap();
        let text = json!({
            "users": [{"name": "u", "password": "p", "tags": []}],
            "permissions": [{"user": "u", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
            "topic_permissions": [
                {"user": "u", "vhost": "/", "exchange": "amq.topic", "write": "^a", "read": "^a"}],
            "global_parameters": [{"name": "g", "value": {"a": 1}}],
        });
        let plan = Plan::parse(text.to_string().as_bytes()).unwrap();
        broker.import(&plan, Timestamp(2)).unwrap();
        broker
    }

    #[test]
    fn what_is_taken_away_is_gone_once() {
        let broker = broker();
        let may = || {
            let exchange = Resource::Exchange("x");
            broker
                .check_access("/", "u", Access::Write, exchange)
                .is_ok()
        };
        assert!(may());
        assert!(broker.forbid_topics("/", "u", "amq.topic").is_some());
        assert!(broker.forbid_topics("/", "u", "amq.topic").is_none());
        assert!(broker.topic_permissions().is_empty() && may());
        assert!(broker.forbid("/", "u").is_some());
        assert!(broker.forbid("/", "u").is_none());
        assert!(!may() && !broker.may_enter("/", "u"));
        assert!(broker.delete_parameter(None, "", "g").is_some());
        assert!(broker.delete_parameter(None, "", "g").is_none());
        assert!(broker.parameters().is_empty());
    }

    #[test]
    fn a_user_goes_with_all_it_may() {
        let broker = broker();
        assert!(broker.delete_user("u").is_some());
        assert!(broker.delete_user("u").is_none());
        assert!(broker.users().iter().all(|user| user.name != "u"));
        assert!(broker.permissions().iter().all(|(_, user, _)| user != "u"));
        assert!(broker.topic_permissions().is_empty());
        // One made anew by that name has nothing of it.
        broker
            .put_user(User {
                name: "u".to_owned(),
                ..User::default()
            })
            .unwrap();
        assert!(!broker.may_enter("/", "u"));
    }
}
