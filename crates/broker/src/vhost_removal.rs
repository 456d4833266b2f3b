//! Virtual hosts are deleted, with everything in them, in steps.
//!
//! ```text
//!  begin: nobody finds it, its definition says that it leaves ─> its connections close ─> queues, exchanges, what is
//!         permitted and set in it go, a few at a time ─> the definition goes
//! ```
//! From the moment that is durable in which its definition says so, a start finds nothing of it (`recovery`): it is there
//! whole, or gone. Until the end nobody has its name.

use std::collections::HashMap;
use std::sync::Arc;

use leveret_message::error::DefinitionError;
use leveret_settings::policy::PolicyKind;
use leveret_store_api::CommitPoint;
use parking_lot::Mutex;

use crate::broker::{Broker, DEFAULT_VHOST};
use crate::definitions::{Definition, LimitsDefinition, PolicyDefinition, VhostDefinition};
use crate::events::{Event, INTERNAL_USER};
use crate::vhost::VirtualHost;
use crate::vhost_metadata::VhostMetadata;

/// So many queues or exchanges go in a step.
const STEP: usize = 16;

/// Why a virtual host is not deleted.
#[derive(Debug, thiserror::Error)]
pub enum NotDeleted {
    /// There is none of that name.
    #[error("there is no such virtual host")]
    Unknown,
    /// It must not be deleted.
    #[error("vhost is protected from deletion")]
    Protected,
    /// It always exists.
    #[error("the default virtual host cannot be deleted")]
    Default,
    /// It cannot be stored.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
}

/// Virtual hosts that are being deleted, by name.
#[derive(Debug, Default)]
pub(crate) struct LeavingVhosts(Mutex<HashMap<String, Arc<VirtualHost>>>);

impl LeavingVhosts {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.0.lock().get(name).cloned()
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.lock().contains_key(name)
    }

    fn add(&self, vhost: &Arc<VirtualHost>) {
        let name = vhost.name().to_string();
        self.0.lock().insert(name, Arc::clone(vhost));
    }

    fn remove(&self, name: &str) {
        self.0.lock().remove(name);
    }
}

/// A virtual host on its way out. Whoever has it goes on until nothing is left.
#[derive(Debug)]
pub struct VhostRemoval {
    vhost: Arc<VirtualHost>,
    definition: Definition,
    /// When it is durable that it leaves.
    pub decided: CommitPoint,
}

impl VhostRemoval {
    /// Whether connections to it are still open.
    #[must_use]
    pub fn has_connections(&self) -> bool {
        self.vhost.connection_count() > 0
    }
}

impl Broker {
    /// Takes a virtual host away: nobody finds it any more.
    ///
    /// # Errors
    /// Why it stays.
    pub fn begin_to_delete_vhost(&self, name: &str) -> Result<VhostRemoval, NotDeleted> {
        if name == DEFAULT_VHOST {
            return Err(NotDeleted::Default);
        }
        let vhost = self.vhost(name).ok_or(NotDeleted::Unknown)?;
        let definition = Definition::VirtualHost(VhostDefinition {
            name: name.to_owned(),
            metadata: VhostMetadata::default(),
            leaves: true,
        });
        let put = definition.put()?;
        // Whoever protects it meanwhile does so before, or finds none.
        let metadata = vhost.metadata.write();
        let is_there = self.vhost(name).is_some_and(|it| Arc::ptr_eq(&it, &vhost));
        if !is_there {
            // Somebody else deletes it.
            return Err(NotDeleted::Unknown);
        }
        if metadata.protected_from_deletion {
            return Err(NotDeleted::Protected);
        }
        self.leaving_vhosts.add(&vhost);
        self.take_vhost(name);
        let decided = self.services.stage_definitions(&mut vec![put]);
        drop(metadata);
        self.close_connections_to(&vhost);
        Ok(VhostRemoval {
            vhost,
            definition,
            decided,
        })
    }

    /// rabbitmq: what clients are told
    fn close_connections_to(&self, vhost: &VirtualHost) {
        let name = vhost.name();
        let text = format!("vhost '{name}' is deleted");
        self.close_where(|identity| identity.vhost == *name, &text);
    }

    /// Whether the name of a virtual host is still that of one that is being deleted.
    #[must_use]
    pub fn is_vhost_leaving(&self, name: &str) -> bool {
        self.leaving_vhosts.contains(name)
    }

    /// Deletes a part of what is left; None: more is to be done, and nothing as long as it has connections; else the
    /// moment at which all is gone for good.
    pub fn go_on_deleting_vhost(&self, removal: &VhostRemoval) -> Option<CommitPoint> {
        let vhost = &removal.vhost;
        if vhost.connection_count() > 0 {
            // Some may have been opened just then.
            self.close_connections_to(vhost);
            return None;
        }
        if vhost.delete_some_queues() || vhost.clear_some() || vhost.delete_some_exchanges() {
            return None;
        }
        Some(self.end_deleting_vhost(removal))
    }

    /// What is permitted and set in it, and at last its definition.
    fn end_deleting_vhost(&self, removal: &VhostRemoval) -> CommitPoint {
        let name = removal.vhost.name();
        for (of, user, _) in self.users.permissions() {
            if *of == **name {
                self.forbid(&of, &user);
            }
        }
        for (of, user, permission) in self.users.topic_permissions_of_all() {
            if *of == **name {
                self.forbid_topics(&of, &user, &permission.exchange);
            }
        }
        for parameter in self.parameters() {
            if parameter.vhost.as_deref() == Some(name) {
                self.delete_parameter(Some(name), &parameter.component, &parameter.name);
            }
        }
        let mut changes = Vec::new();
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for spec in removal.vhost.policies(kind) {
                self.services
                    .tell(|_| Event::policy_cleared(kind, name, &spec.name));
                let definition = PolicyDefinition { kind, spec };
                changes.push(Definition::Policy(definition).remove());
            }
        }
        let limits = LimitsDefinition {
            vhost: name.to_string(),
            limits: *removal.vhost.limits.read(),
        };
        changes.push(Definition::Limits(limits).remove());
        changes.push(removal.definition.remove());
        let point = self.services.stage_definitions(&mut changes);
        self.services.tell(|_| Event::vhost_deleted(name));
        self.leaving_vhosts.remove(name);
        point
    }
}

impl VirtualHost {
    /// Deletes a few queues; answers whether there were any.
    fn delete_some_queues(self: &Arc<Self>) -> bool {
        let some = self.queues.iter().take(STEP);
        let some: Vec<_> = some.map(|queue| queue.clone()).collect();
        for queue in &some {
            self.delete_queue(queue, INTERNAL_USER);
        }
        !some.is_empty()
    }

    /// Deletes a few exchanges; answers whether there were any.
    fn delete_some_exchanges(self: &Arc<Self>) -> bool {
        let some = {
            let topology = self.topology.read();
            let places = topology.exchange_places();
            let named = topology
                .exchanges_at(0..places)
                .filter(|exchange| !exchange.name.is_empty());
            let names = named.take(STEP).map(|exchange| exchange.name.clone());
            names.collect::<Vec<_>>()
        };
        for name in &some {
            self.delete_exchange(name, INTERNAL_USER);
        }
        !some.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use leveret_message::{Message, Timestamp};
    use leveret_store_api::{DefinitionStore as _, MemoryStore, MessageLog as _};
    use serde_json::json;

    use super::*;
    use crate::config::BrokerConfig;
    use crate::definitions_import::Plan;
    use crate::vhost_metadata::VhostChanges;

    fn import(broker: &Broker) -> Result<CommitPoint, String> {
        let rights = json!({"configure": ".*", "write": ".*", "read": ".*"});
        let mut permission = json!({"user": "guest", "vhost": "v"});
        for (name, value) in rights.as_object().unwrap() {
            permission[name] = value.clone();
        }
        let queues = (0..100)
            .map(|number| json!({"name": format!("q{number}"), "vhost": "v", "durable": true}));
        let bindings = (0..100).map(|number| {
            json!({"source": "x", "vhost": "v", "destination": format!("q{number}"), "destination_type": "queue",
                "routing_key": "k"})
        });
        let text = json!({
            "vhosts": [{"name": "v"}],
            "permissions": [permission],
            "topic_permissions": [
                {"user": "guest", "vhost": "v", "exchange": "amq.topic", "write": "^a", "read": "^a"}],
            "policies": [{"vhost": "v", "name": "p", "pattern": ".*", "definition": {"max-length": 5}}],
            "parameters": [
                {"vhost": "v", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 500}},
                {"vhost": "v", "component": "shovel", "name": "s", "value": {}}],
            "exchanges": [{"name": "x", "vhost": "v", "type": "topic", "durable": true}],
            "queues": queues.collect::<Vec<_>>(),
            "bindings": bindings.collect::<Vec<_>>(),
        });
        let plan = Plan::parse(text.to_string().as_bytes()).map_err(|it| it.message)?;
        broker.import(&plan, Timestamp(2)).map_err(|it| it.message)
    }

    fn open(store: &Arc<MemoryStore<Message>>) -> Arc<Broker> {
        let store = Arc::<MemoryStore<Message>>::clone(store);
        Broker::open(BrokerConfig::default(), store, Timestamp(1)).unwrap()
    }

    /// What the store knows of it.
    fn stored(store: &Arc<MemoryStore<Message>>) -> Vec<String> {
        let all = store.definitions().unwrap().into_iter();
        let keys = all.map(|(key, _)| String::from_utf8(key).unwrap());
        keys.filter(|key| key.contains("\"v\"")).collect()
    }

    #[test]
    fn nothing_is_left_of_what_is_deleted() {
        let store = Arc::new(MemoryStore::new());
        let broker = open(&store);
        let before = store.logs().len();
        import(&broker).unwrap();
        let removal = broker.begin_to_delete_vhost("v").unwrap();
        assert!(broker.vhost("v").is_none());
        assert!(matches!(
            broker.begin_to_delete_vhost("v"),
            Err(NotDeleted::Unknown)
        ));
        let refused = import(&broker).unwrap_err();
        assert!(refused.contains("is being deleted"), "{refused}");
        while broker.go_on_deleting_vhost(&removal).is_none() {}
        assert_eq!(stored(&store), Vec::<String>::new());
        assert_eq!(store.logs().len(), before);
        assert!(broker.permissions().iter().all(|(vhost, ..)| vhost != "v"));
        import(&broker).unwrap();
        assert_eq!(broker.vhost("v").unwrap().queue_handles().len(), 100);
    }

    #[test]
    fn a_start_goes_on_with_it() {
        // After any number of steps.
        for steps in [0, 1, 3, 8] {
            let store = Arc::new(MemoryStore::new());
            let broker = open(&store);
            let before = store.logs().len();
            import(&broker).unwrap();
            let removal = broker.begin_to_delete_vhost("v").unwrap();
            for _ in 0..steps {
                broker.go_on_deleting_vhost(&removal);
            }
            drop(broker);
            let broker = open(&store);
            assert_eq!(stored(&store), Vec::<String>::new(), "{steps}");
            assert_eq!(store.logs().len(), before);
            assert!(broker.vhost("v").is_none() && broker.aside().is_empty());
            assert!(broker.permissions().iter().all(|(vhost, ..)| vhost != "v"));
            assert!(broker.parameters().is_empty());
            import(&broker).unwrap();
        }
    }

    #[test]
    fn some_stay() {
        let store = Arc::new(MemoryStore::new());
        let broker = open(&store);
        import(&broker).unwrap();
        let protect = |on| {
            let changes = VhostChanges {
                protected_from_deletion: Some(on),
                ..VhostChanges::default()
            };
            broker.change_vhost("v", changes).unwrap().unwrap();
        };
        protect(true);
        let refused = |name| broker.begin_to_delete_vhost(name).unwrap_err();
        assert!(matches!(refused("v"), NotDeleted::Protected));
        assert!(matches!(refused("/"), NotDeleted::Default));
        assert!(matches!(refused("zz"), NotDeleted::Unknown));
        drop(broker);
        let broker = open(&store);
        assert!(
            broker
                .vhost("v")
                .unwrap()
                .metadata()
                .protected_from_deletion
        );
    }
}
