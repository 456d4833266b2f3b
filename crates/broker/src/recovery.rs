//! How a broker comes back: the store's definitions are read and applied in the order in which they
//! depend on each other. One that cannot be used is put aside (see `aside`), and all else comes back.
//!
//! `leveret store verify` runs this same code on the definitions of a store that nobody runs on.

use std::collections::HashSet;
use std::sync::Arc;

use leveret_access::grant::TopicPermission;
use leveret_deduplication::KeyLogs;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::identity::QueueIdentity;
use leveret_queue::queue::machine::Machine;
use leveret_queue::queue::settle::QueueSettlement;
use leveret_routing::{Binding, Destination};
use leveret_settings::policy::Policy;
use leveret_store_api::{Change, Definitions, LogId, MemoryStore, MessageLog, StoreError};
use rustc_hash::FxHashSet;

use crate::aside::{Aside, key_aside, key_before};
use crate::broker::Broker;
use crate::commit::PendingCommit;
use crate::config::BrokerConfig;
use crate::definitions::{
    BindingDefinition, Definition, ExchangeDefinition, LimitsDefinition, PolicyDefinition,
    QueueDefinition, Subject, logs_named,
};
use crate::events::INTERNAL_USER;
use crate::handle::QueueHandle;
use crate::vhost::VirtualHost;

/// A definition as it lies in the store, and what it says.
struct Stored {
    key: Vec<u8>,
    /// Its own key, where it is put aside.
    before: Option<Vec<u8>>,
    value: Vec<u8>,
    read: Result<Definition, String>,
}

impl Stored {
    fn new(key: Vec<u8>, value: Vec<u8>) -> Stored {
        let before = key_before(&key).map(<[u8]>::to_vec);
        let read = Definition::read(before.as_deref().unwrap_or(&key), &value);
        Stored {
            key,
            before,
            value,
            read,
        }
    }

    /// It is of a virtual host that was being deleted, or is that.
    fn goes_with(&self, vhosts: &HashSet<String>) -> bool {
        let vhost = self.read.as_ref().ok().and_then(Definition::vhost);
        vhost.is_some_and(|vhost| vhosts.contains(vhost))
    }

    /// The key of its own.
    fn own_key(&self) -> &[u8] {
        self.before.as_deref().unwrap_or(&self.key)
    }

    /// What others depend on comes first; of two with one name, the one that is in use.
    fn place(&self) -> (u8, bool) {
        let rank = self.read.as_ref().map_or(0, Definition::rank);
        (rank, self.before.is_some())
    }
}

/// What cannot be brought back.
enum Unusable {
    /// It may be usable later, or by a newer version.
    Aside(String),
    /// It will never mean anything again.
    Gone(String),
}

impl From<String> for Unusable {
    fn from(reason: String) -> Unusable {
        Unusable::Aside(reason)
    }
}

/// The virtual hosts that were being deleted.
fn vhosts_gone(all: &[Stored]) -> HashSet<String> {
    let read = all.iter().filter_map(|stored| stored.read.as_ref().ok());
    let gone = read.filter_map(|definition| match definition {
        Definition::VirtualHost(it) if it.leaves => Some(it.name.clone()),
        _ => None,
    });
    gone.collect()
}

/// What a start would put aside of these definitions, one line each.
#[must_use]
pub fn examine(definitions: Definitions) -> Vec<String> {
    let store = Arc::new(MemoryStore::<Message>::new());
    let mut changes = definitions
        .into_iter()
        .map(|(key, value)| Change::PutDefinition { key, value })
        .collect();
    store.stage(&mut changes);
    let broker = Broker::blank(BrokerConfig::default(), store, Timestamp::default());
    match broker.recover(Timestamp::default()) {
        Ok(()) => broker.aside().lines(),
        Err(error) => vec![error.to_string()],
    }
}

impl Broker {
    /// Brings everything back that the store remembers.
    ///
    /// # Errors
    /// The store's definitions cannot be had at all.
    pub(crate) fn recover(&self, now: Timestamp) -> Result<(), StoreError> {
        let definitions = self.services.store.definitions()?;
        let mut all: Vec<Stored> = definitions
            .into_iter()
            .map(|(key, value)| Stored::new(key, value))
            .collect();
        // Their order in the store is kept among equals.
        all.sort_by_key(Stored::place);
        let put_aside = all.iter().filter_map(|stored| stored.before.clone());
        let put_aside: HashSet<Vec<u8>> = put_aside.collect();
        let in_use = all.iter().filter(|stored| stored.before.is_none());
        let taken: HashSet<Vec<u8>> = in_use
            .filter(|stored| put_aside.contains(&stored.key))
            .map(|stored| stored.key.clone())
            .collect();
        let mut known = FxHashSet::default();
        let mut changes = Vec::new();
        let mut unused = Vec::new();
        let gone = vhosts_gone(&all);
        for stored in all {
            if stored.goes_with(&gone) {
                let key = stored.key;
                changes.push(Change::RemoveDefinition { key });
                continue;
            }
            self.recover_one(stored, &taken, &mut known, &mut changes, &mut unused, now);
        }
        for vhost in self.vhosts() {
            vhost.apply_to_exchanges();
        }
        self.end_unused(&unused);
        self.services.stage_definitions(&mut changes);
        known.extend(self.aside().logs());
        if self.aside().keep_unknown_logs() {
            tracing::error!("no log is deleted: it may be one of a definition that cannot be read");
        } else {
            self.delete_unknown_logs(&known);
        }
        Ok(())
    }

    /// Brings one definition back, or puts it aside. One that lies under another key than it would be
    /// written under today is written anew, so that it is found when it is to be removed.
    fn recover_one(
        &self,
        stored: Stored,
        taken: &HashSet<Vec<u8>>,
        known: &mut FxHashSet<LogId>,
        changes: &mut Vec<Change<Message>>,
        unused: &mut Vec<BindingDefinition>,
        now: Timestamp,
    ) {
        let aside = stored.before.is_some();
        let subject = || Subject::of(stored.own_key());
        let applied = match &stored.read {
            Err(reason) => Err(Unusable::Aside(reason.clone())),
            Ok(_) if aside && taken.contains(stored.own_key()) => Err(Unusable::Aside(
                "its name was given away meanwhile".to_owned(),
            )),
            Ok(definition) => self.apply(definition.clone(), aside, known, now),
        };
        match (applied, &stored.read) {
            (Ok(()), Ok(definition)) if definition.key() != stored.key => {
                // It was read, so it can be written; if not, it stays where it is.
                match definition.put() {
                    Ok(put) => {
                        let key = stored.key.clone();
                        changes.extend([Change::RemoveDefinition { key }, put]);
                    }
                    Err(error) => tracing::error!(%error, "a definition is left as it is"),
                }
            }
            (Ok(()), _) => {}
            (Err(Unusable::Gone(reason)), read) => {
                tracing::warn!(definition = %subject(), reason, "a definition is given up");
                if let Ok(Definition::Binding(binding)) = read {
                    unused.push(binding.clone());
                }
                let key = stored.key.clone();
                changes.push(Change::RemoveDefinition { key });
            }
            (Err(Unusable::Aside(reason)), read) => {
                let logs = match read {
                    Ok(Definition::Exchange(_) | Definition::Queue(_)) | Err(_) => {
                        logs_kept(stored.own_key(), &stored.value)
                    }
                    Ok(_) => Some(Vec::new()),
                };
                let key = if aside {
                    stored.key.clone()
                } else {
                    let key = key_aside(&stored.key);
                    changes.extend([
                        Change::RemoveDefinition {
                            key: stored.key.clone(),
                        },
                        Change::PutDefinition {
                            key: key.clone(),
                            value: stored.value.clone(),
                        },
                    ]);
                    key
                };
                let subject = subject();
                if let Subject::TopicPermission(vhost, user, exchange) = &subject {
                    // Without it every topic would be permitted.
                    let none = TopicPermission::none(exchange);
                    self.users.permit_topics(vhost, user, none);
                }
                self.aside().add(Aside {
                    subject,
                    reason,
                    key,
                    logs,
                });
            }
        }
    }

    /// Auto-delete exchanges go with the last of these bindings, which the last stop or crash has left behind.
    fn end_unused(&self, bindings: &[BindingDefinition]) {
        for binding in bindings {
            let Some(vhost) = self.vhost(&binding.vhost) else {
                continue;
            };
            let is_auto_delete = vhost
                .exchange(&binding.source)
                .is_some_and(|it| it.auto_delete);
            if is_auto_delete && !vhost.is_source(&binding.source) {
                vhost.delete_exchange(&binding.source, INTERNAL_USER);
            }
        }
    }

    /// Makes what a definition says. `aside`: it was put aside by an earlier start.
    fn apply(
        &self,
        definition: Definition,
        aside: bool,
        known: &mut FxHashSet<LogId>,
        now: Timestamp,
    ) -> Result<(), Unusable> {
        match definition {
            Definition::VirtualHost(it) => {
                self.insert_vhost(&it.name, it.metadata);
            }
            Definition::User(user) => self.users.put(user),
            Definition::Permission(it) => self.users.permit(&it.vhost, &it.user, it.permission),
            Definition::TopicPermission(it) => {
                self.users.permit_topics(&it.vhost, &it.user, it.permission);
            }
            Definition::Parameter(it) => {
                self.parameters.keep(it);
            }
            Definition::Limits(it) => self.recover_limits(&it)?,
            Definition::Policy(it) => self.recover_policy(it)?,
            Definition::Exchange(it) => known.extend(self.recover_exchange(it)?),
            Definition::Queue(it) => {
                let logs: Vec<LogId> = it.log_ids().collect();
                let key_logs = self.recover_queue(it, now)?;
                known.extend(logs.into_iter().chain(key_logs));
            }
            Definition::Binding(it) => self.recover_binding(it, aside)?,
        }
        Ok(())
    }

    fn vhost_of(&self, name: &str) -> Result<Arc<VirtualHost>, Unusable> {
        self.vhost(name)
            .ok_or_else(|| Unusable::Aside(format!("there is no virtual host '{name}'")))
    }

    fn recover_limits(&self, definition: &LimitsDefinition) -> Result<(), Unusable> {
        let vhost = self.vhost_of(&definition.vhost)?;
        *vhost.limits.write() = definition.limits;
        Ok(())
    }

    /// Policies and limits come back before what they apply to.
    fn recover_policy(&self, definition: PolicyDefinition) -> Result<(), Unusable> {
        let vhost = self.vhost_of(&definition.spec.vhost)?;
        let policy =
            Policy::parse(definition.kind, definition.spec).map_err(|error| error.to_string())?;
        vhost.policies.write().put(definition.kind, policy);
        Ok(())
    }

    /// Brings an exchange back; answers the logs it needs.
    fn recover_exchange(&self, definition: ExchangeDefinition) -> Result<Vec<LogId>, Unusable> {
        let (vhost, exchange, logs) = definition.into_exchange();
        let vhost = self.vhost_of(&vhost)?;
        let mut topology = vhost.topology.write();
        let name = exchange.name.clone();
        topology.declare_exchange(exchange);
        vhost.consider_state(&mut topology, &name, Some(logs));
        Ok(logs.iter().collect())
    }

    /// Brings a queue back; answers the logs of its keys.
    fn recover_queue(
        &self,
        mut definition: QueueDefinition,
        now: Timestamp,
    ) -> Result<Vec<LogId>, Unusable> {
        let vhost = self.vhost_of(&definition.vhost)?;
        // What was accepted when it was declared is not judged again.
        let options = vhost.options_in_force(&definition.name, &definition.arguments);
        let services = &self.services;
        let mut queue = Machine::new(
            options,
            true,
            definition.auto_delete,
            Arc::clone(&services.store),
            services.memory,
            now,
        );
        let logs = definition.log_ids().zip(0u8..=255);
        let decided: Vec<QueueSettlement> = logs
            .flat_map(|(log, level)| queue.recover_level(level, log))
            .collect();
        if definition.key_logs.is_none() {
            // Declared before there were keys to keep.
            definition.key_logs = Some(KeyLogs::allocate(&services.store));
            let put = Definition::Queue(definition.clone()).put();
            let put = put.map_err(|error| error.to_string())?;
            services.stage_definitions(&mut vec![put]);
        }
        let key_logs = definition.key_logs;
        let damaged_keys = key_logs.map_or(0, |logs| queue.set_key_logs(logs, true));
        let identity = QueueIdentity {
            id: services.next_queue_id(),
            name: definition.name,
            vhost: Arc::clone(vhost.name()),
            durable: true,
            auto_delete: definition.auto_delete,
            exclusive: None,
            arguments: definition.arguments,
        };
        let queue = QueueHandle::new(
            identity,
            queue,
            key_logs,
            services.producers_max,
            &services.store,
            &services.census,
        );
        let damaged = damaged_keys + queue.damaged_numbers();
        if damaged > 0 {
            vhost.tell_damaged("queue", queue.name(), damaged);
        }
        vhost.insert_queue(&mut vhost.topology.write(), &queue);
        vhost.carry_out(&queue, queue.touch(now), now);
        // Before anything else leaves it for its dead letters.
        if !decided.is_empty() {
            PendingCommit::of_earlier(&vhost, &queue, decided).finish_alone(services);
        }
        // The head is read in the background, so that what has expired meanwhile goes.
        services.pager.ask(queue);
        Ok(key_logs.into_iter().flat_map(KeyLogs::iter).collect())
    }

    /// One that was put aside with one of its ends comes back with it, not with another of that name.
    fn recover_binding(&self, definition: BindingDefinition, aside: bool) -> Result<(), Unusable> {
        let vhost = self.vhost_of(&definition.vhost)?;
        let [source, destination] = definition.ends().subjects();
        for (end, there) in [
            (&source, vhost.exchange(&definition.source).is_some()),
            (
                &destination,
                if definition.to_exchange {
                    vhost.exchange(&definition.destination).is_some()
                } else {
                    vhost.queue(&definition.destination).is_ok()
                },
            ),
        ] {
            if (aside || !there) && self.aside().contains(end) {
                return Err(Unusable::Aside(format!("{end} is put aside")));
            }
            if !there {
                return Err(Unusable::Gone(format!("there is no {end}")));
            }
        }
        let destination = if definition.to_exchange {
            Destination::Exchange(definition.destination)
        } else {
            let queue = vhost.queue(&definition.destination);
            Destination::Queue(queue.map_err(|error| error.text)?.id())
        };
        let binding = Binding {
            source: definition.source,
            destination,
            routing_key: definition.routing_key,
            arguments: definition.arguments,
        };
        let bound = vhost.topology.write().bind(binding);
        bound.map(drop).map_err(|error| error.to_string().into())
    }

    /// Logs of queues that were deleted, or never meant to survive.
    fn delete_unknown_logs(&self, known: &FxHashSet<LogId>) {
        let unknown = self
            .services
            .store
            .logs()
            .into_iter()
            .filter(|log| !known.contains(log));
        let mut changes: Vec<Change<Message>> =
            unknown.map(|log| Change::DeleteLog { log }).collect();
        self.services.stage_definitions(&mut changes);
    }
}

/// The logs that an unusable definition keeps; None if it may keep some and does not tell which.
fn logs_kept(key: &[u8], value: &[u8]) -> Option<Vec<LogId>> {
    match key.first() {
        Some(b'v' | b'u' | b'p' | b't' | b'l' | b'o' | b'r' | b'b') => Some(Vec::new()),
        _ => logs_named(value),
    }
}

#[cfg(test)]
mod tests {
    use leveret_access::permission::Access;

    use super::*;

    #[test]
    fn a_topic_permission_that_cannot_be_read_permits_nothing() {
        let definitions = [
            ("v[\"/\"]", "\"/\""),
            (
                "p[\"/\",\"bob\"]",
                r#"{"vhost":"/","user":"bob","permission":{"configure":"","write":".*","read":""}}"#,
            ),
            ("t[\"/\",\"bob\",\"amq.topic\"]", "{"),
        ];
        let store = Arc::new(MemoryStore::<Message>::new());
        let puts = definitions.map(|(key, value)| Change::PutDefinition {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
        });
        store.stage(&mut puts.into());
        let broker = Broker::open(BrokerConfig::default(), store, Timestamp(1)).unwrap();
        let grant = broker.users.grant("/", "bob").unwrap();
        let check = |exchange| grant.check_topic(Access::Write, exchange, b"a");
        assert!(check("amq.topic").is_err());
        assert!(check("other").is_ok());
    }

    #[test]
    fn what_is_too_long_is_refused_before_anything_is_changed() {
        let store = Arc::new(MemoryStore::<Message>::new());
        let broker = Broker::open(BrokerConfig::default(), store, Timestamp(1)).unwrap();
        let long = "x".repeat(17 << 20);
        let file = serde_json::json!({
            "vhosts": [{"name": "new"}],
            "parameters": [{"vhost": "new", "component": "c", "name": "n", "value": long}],
        });
        let plan = crate::definitions_import::Plan::parse(file.to_string().as_bytes()).unwrap();
        let error = broker.import(&plan, Timestamp(1)).unwrap_err().to_string();
        assert!(
            error.starts_with("parameters[0]: the definition of parameter 'n'"),
            "{error}"
        );
        assert!(broker.vhost("new").is_none());
    }
}
