//! The broker: its virtual hosts, users, sessions and store, and how it comes back after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use dashmap::DashMap;
use leveret_codec::ReplyCode;
use leveret_routing::{Binding, Destination};
use leveret_store::{Change, CommitPoint, LogId, Shortage, StoreError, StoreStatus};
use parking_lot::Mutex;

use crate::administration::{Parameter, Parameters};
use crate::config::BrokerConfig;
use crate::deduplication::KeyLogs;
use crate::definitions::{
    BindingDefinition, Definition, ExchangeDefinition, LimitsDefinition, PermissionDefinition,
    PolicyDefinition, QueueDefinition, TopicPermissionDefinition,
};
use crate::events::{Event, event_exchange};
use crate::mailbox::{Mailbox, Notice};
use crate::message::Message;
use crate::password;
use crate::policy::Policy;
use crate::queue::Store;
use crate::queue::handle::{QueueHandle, QueueIdentity, SessionId};
use crate::queue::machine::Machine;
use crate::queue::options::{self, DeclaredProperties};
use crate::services::{Party, Services};
use crate::time::Timestamp;
use crate::users::{Permission, User, Users};
use crate::vhost::VirtualHost;

/// The virtual host that always exists.
pub const DEFAULT_VHOST: &str = "/";

/// Why a broker cannot be opened on its store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The definitions cannot be read.
    #[error("cannot read the definitions: {0}")]
    Store(#[from] StoreError),
    /// A definition is not understood.
    #[error("{0}; was this directory written by a newer version?")]
    Definition(String),
    /// No randomness for a password's salt.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A running broker without its sockets.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    pub(crate) services: Arc<Services>,
    pub(crate) users: Users,
    pub(crate) parameters: Parameters,
    vhosts: DashMap<String, Arc<VirtualHost>>,
    sessions: DashMap<u64, Arc<Mailbox>>,
    next_session: AtomicU64,
    blocked: Mutex<Option<String>>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Broker({} virtual hosts, {} sessions)",
            self.vhosts.len(),
            self.sessions.len()
        )
    }
}

/// Definitions by kind, in the order in which they can be applied.
#[derive(Default)]
struct Recovered {
    vhosts: Vec<String>,
    users: Vec<User>,
    permissions: Vec<PermissionDefinition>,
    exchanges: Vec<ExchangeDefinition>,
    queues: Vec<QueueDefinition>,
    bindings: Vec<BindingDefinition>,
    policies: Vec<PolicyDefinition>,
    topic_permissions: Vec<TopicPermissionDefinition>,
    limits: Vec<LimitsDefinition>,
    parameters: Vec<Parameter>,
}

impl Broker {
    /// Opens a broker on a store: what the store remembers comes back, and what the configuration
    /// asks for is made.
    ///
    /// # Errors
    /// When the store's definitions cannot be read or understood.
    pub fn open(
        config: BrokerConfig,
        store: Store,
        now: Timestamp,
    ) -> Result<Arc<Broker>, OpenError> {
        let services = Arc::new(Services::new(store, &config, now));
        let broker = Broker {
            config,
            services,
            users: Users::default(),
            parameters: Parameters::default(),
            vhosts: DashMap::with_shard_amount(4),
            sessions: DashMap::with_shard_amount(16),
            next_session: AtomicU64::new(1),
            blocked: Mutex::new(None),
        };
        let recovered = broker.read_definitions()?;
        broker.recover(recovered, now);
        broker.make_configured()?;
        broker.begin_to_tell();
        Ok(Arc::new(broker))
    }

    /// What came back or was made until now is nobody's news.
    fn begin_to_tell(&self) {
        if let Some(vhost) = self.vhost(DEFAULT_VHOST) {
            vhost.note_listeners(&vhost.topology.read());
        }
    }

    fn read_definitions(&self) -> Result<Recovered, OpenError> {
        let mut recovered = Recovered::default();
        for (key, value) in self.services.store.definitions()? {
            match Definition::read(&key, &value).map_err(OpenError::Definition)? {
                Definition::VirtualHost(it) => recovered.vhosts.push(it),
                Definition::User(it) => recovered.users.push(it),
                Definition::Permission(it) => recovered.permissions.push(it),
                Definition::Exchange(it) => recovered.exchanges.push(it),
                Definition::Queue(it) => recovered.queues.push(it),
                Definition::Binding(it) => recovered.bindings.push(it),
                Definition::Policy(it) => recovered.policies.push(it),
                Definition::TopicPermission(it) => recovered.topic_permissions.push(it),
                Definition::Limits(it) => recovered.limits.push(it),
                Definition::Parameter(it) => recovered.parameters.push(it),
            }
        }
        Ok(recovered)
    }

    fn recover(&self, recovered: Recovered, now: Timestamp) {
        for name in recovered.vhosts {
            self.insert_vhost(&name);
        }
        for user in recovered.users {
            self.users.put(user);
        }
        for it in recovered.permissions {
            self.users.permit(&it.vhost, &it.user, it.permission);
        }
        for it in recovered.topic_permissions {
            self.users.permit_topics(&it.vhost, &it.user, it.permission);
        }
        for it in recovered.parameters {
            self.parameters.keep(it);
        }
        self.recover_rules(recovered.policies, recovered.limits);
        let mut known = rustc_hash::FxHashSet::default();
        for definition in recovered.exchanges {
            known.extend(self.recover_exchange(definition));
        }
        for definition in recovered.queues {
            known.extend(definition.log_ids());
            known.extend(definition.key_logs.into_iter().flat_map(KeyLogs::iter));
            self.recover_queue(definition, now);
        }
        for definition in recovered.bindings {
            self.recover_binding(definition);
        }
        for vhost in self.vhosts() {
            vhost.apply_to_exchanges(&mut vhost.topology.write());
        }
        self.delete_unknown_logs(&known);
    }

    /// Policies and limits come back before what they apply to.
    fn recover_rules(&self, policies: Vec<PolicyDefinition>, limits: Vec<LimitsDefinition>) {
        for it in limits {
            if let Some(vhost) = self.vhost(&it.vhost) {
                *vhost.limits.write() = it.limits;
            }
        }
        for it in policies {
            let Some(vhost) = self.vhost(&it.spec.vhost) else {
                continue;
            };
            let name = it.spec.name.clone();
            match Policy::parse(it.kind, it.spec) {
                Ok(policy) => vhost.policies.write().put(it.kind, policy),
                Err(error) => {
                    tracing::error!(policy = name, %error, "a stored policy is not accepted any more");
                }
            }
        }
    }

    /// Brings an exchange back; answers the logs it needs.
    fn recover_exchange(&self, definition: ExchangeDefinition) -> Vec<LogId> {
        let Some((vhost, exchange, logs)) = definition.into_exchange() else {
            return Vec::new();
        };
        let Some(vhost) = self.vhost(&vhost) else {
            return Vec::new();
        };
        let mut topology = vhost.topology.write();
        let name = exchange.name.clone();
        topology.declare_exchange(exchange);
        vhost.attend(&mut topology, &name, Some(logs));
        drop(topology);
        logs.iter().collect()
    }

    fn recover_queue(&self, mut definition: QueueDefinition, now: Timestamp) {
        let Some(vhost) = self.vhost(&definition.vhost) else {
            return;
        };
        let properties = DeclaredProperties {
            durable: true,
            exclusive: false,
            auto_delete: definition.auto_delete,
        };
        let options = match options::parse(
            &definition.arguments,
            properties,
            &definition.name,
            &definition.vhost,
        ) {
            Ok(options) => options,
            Err(error) => {
                tracing::error!(
                    queue = definition.name,
                    error = error.text,
                    "arguments of a stored queue are not accepted any more; it goes on without them"
                );
                options::QueueOptions::default()
            }
        };
        let options = vhost.options_in_force(&definition.name, options, &definition.arguments);
        let services = &self.services;
        let mut queue = Machine::new(
            options,
            true,
            definition.auto_delete,
            Arc::clone(&services.store),
            services.memory,
            now,
        );
        for (log, level) in definition.log_ids().zip(0u8..=255) {
            queue.recover_level(level, log);
        }
        if definition.key_logs.is_none() {
            // Declared before there were keys to keep.
            definition.key_logs = Some(KeyLogs::allocate(&services.store));
            services.stage_definitions(&mut vec![Definition::Queue(definition.clone()).put()]);
        }
        let key_logs = definition.key_logs;
        if let Some(logs) = key_logs {
            queue.set_key_logs(logs, true);
        }
        let identity = QueueIdentity {
            id: services.next_queue_id(),
            name: definition.name,
            vhost: Arc::clone(vhost.name()),
            durable: true,
            auto_delete: definition.auto_delete,
            exclusive: None,
            arguments: definition.arguments,
        };
        let queue = QueueHandle::new(identity, queue, key_logs, services);
        vhost.insert_queue(&mut vhost.topology.write(), &queue);
        vhost.care(&queue, queue.touch(now), now);
        // The head is read in the background, so that what has expired meanwhile goes.
        services.pager.ask(queue);
    }

    fn recover_binding(&self, definition: BindingDefinition) {
        let Some(vhost) = self.vhost(&definition.vhost) else {
            return;
        };
        let destination = if definition.to_exchange {
            Destination::Exchange(definition.destination)
        } else {
            match vhost.queue(&definition.destination) {
                Ok(queue) => Destination::Queue(queue.id()),
                Err(_) => return,
            }
        };
        let binding = Binding {
            source: definition.source,
            destination,
            routing_key: definition.routing_key,
            arguments: definition.arguments,
        };
        if let Err(error) = vhost.topology.write().bind(binding) {
            tracing::error!(%error, "a stored binding is not accepted any more");
        }
    }

    /// Logs of queues that were deleted, or never meant to survive.
    fn delete_unknown_logs(&self, known: &rustc_hash::FxHashSet<LogId>) {
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

    fn make_configured(&self) -> Result<(), OpenError> {
        let config = &self.config;
        let name = &config.default_user;
        if self.users.is_empty() || (config.ensure_default_user && self.users.get(name).is_none()) {
            let password_hash = password::hash_salted(config.default_password.as_bytes())
                .map_err(OpenError::Random)?;
            let tags = vec!["administrator".to_owned()];
            self.put_user(User {
                name: name.clone(),
                password_hash,
                tags,
                ..User::default()
            });
            for vhost in self.vhosts() {
                self.permit(vhost.name(), name, Permission::full());
            }
        }
        for vhost in std::iter::once(DEFAULT_VHOST).chain(config.vhosts.iter().map(String::as_str))
        {
            if self.vhost(vhost).is_none() {
                self.create_vhost(vhost);
                if self.users.get(name).is_some() {
                    self.permit(vhost, name, Permission::full());
                }
            }
        }
        Ok(())
    }

    fn insert_vhost(&self, name: &str) -> Arc<VirtualHost> {
        let vhost = Arc::new(VirtualHost::new(name, Arc::clone(&self.services)));
        vhost.set_traced(self.config.traced_vhosts.iter().any(|it| it == name));
        if name == DEFAULT_VHOST {
            vhost.topology.write().declare_exchange(event_exchange());
        }
        self.vhosts.insert(name.to_owned(), Arc::clone(&vhost));
        vhost
    }

    /// Makes a virtual host.
    pub fn create_vhost(&self, name: &str) -> CommitPoint {
        let vhost = self.insert_vhost(name);
        let point = self
            .services
            .stage_definitions(&mut vec![Definition::VirtualHost(name.to_owned()).put()]);
        self.services
            .tell(|events| events.vhost_created(name, vhost.is_traced()));
        point
    }

    /// Adds or replaces a user.
    pub fn put_user(&self, user: User) -> CommitPoint {
        let before = self.users.get(&user.name);
        self.users.put(user.clone());
        let definition = Definition::User(user.clone()).put();
        let point = self.services.stage_definitions(&mut vec![definition]);
        self.tell_of_user(before, &user);
        point
    }

    /// Sets a user's permissions in a virtual host; running connections see them with their next publish
    /// or declaration.
    pub fn permit(&self, vhost: &str, user: &str, permission: Permission) -> CommitPoint {
        self.users.permit(vhost, user, permission.clone());
        if let Some(vhost) = self.vhost(vhost) {
            vhost.routes_changed();
        }
        self.services
            .tell(|_| Event::permission_created(vhost, user, &permission));
        let definition = PermissionDefinition {
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            permission,
        };
        self.services
            .stage_definitions(&mut vec![Definition::Permission(definition).put()])
    }

    /// A virtual host by name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.vhosts.get(name).map(|vhost| Arc::clone(&vhost))
    }

    /// All virtual hosts.
    #[must_use]
    pub fn vhosts(&self) -> Vec<Arc<VirtualHost>> {
        self.vhosts.iter().map(|vhost| Arc::clone(&vhost)).collect()
    }

    /// The settings it was opened with.
    #[must_use]
    pub fn config(&self) -> &BrokerConfig {
        &self.config
    }

    pub(crate) fn register(&self, mailbox: &Arc<Mailbox>) -> SessionId {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(id, Arc::clone(mailbox));
        SessionId(id)
    }

    pub(crate) fn unregister(&self, session: SessionId) {
        self.sessions.remove(&session.0);
    }

    /// Why publishers are blocked, if they are.
    pub(crate) fn blocked_reason(&self) -> Option<String> {
        self.blocked.lock().clone()
    }

    /// The earliest time at which [`Broker::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timestamp> {
        self.services.deadlines.earliest()
    }

    /// Woken when [`Broker::poll_timeout`] has become earlier.
    pub fn set_timer_waker(&self, waker: Waker) {
        self.services.deadlines.set_waker(waker);
    }

    /// Expires messages and queues whose time has come. One caller at a time.
    pub fn handle_timeout(&self, now: Timestamp) {
        while let Some(party) = self.services.deadlines.pop_due(now) {
            match party {
                Party::Queue(queue) => {
                    let effects = queue.handle_timeout(now);
                    if let Some(vhost) = self.vhost(&queue.identity().vhost) {
                        vhost.care(&queue, effects, now);
                    }
                }
                Party::Exchange(exchange) => {
                    if let Some(vhost) = self.vhost(exchange.vhost()) {
                        exchange.handle_timeout(&vhost, now);
                    }
                }
                Party::Commit(commit) => commit.finish(now),
                Party::Letters(queue) => self.go_on_moving(&queue, now),
                Party::Events => self.publish_events(now),
            }
        }
    }

    /// Woken when [`Broker::run_pager`] has something to do.
    pub fn set_pager_waker(&self, waker: Waker) {
        self.services.pager.set_waker(waker);
    }

    /// Reads paged messages for all queues that asked, then frees what queues have let go of, if
    /// nobody asks meanwhile. Blocks on files; one caller at a time.
    pub fn run_pager(&self, now: Timestamp) {
        let mut buffer = Vec::new();
        loop {
            let parties = self.services.pager.take();
            if parties.is_empty() {
                if self.services.pager.free_some() {
                    continue;
                }
                return;
            }
            for party in parties {
                let queue = match party {
                    Party::Queue(queue) => queue,
                    Party::Exchange(exchange) => {
                        if let Some(vhost) = self.vhost(exchange.vhost()) {
                            exchange.page_in(&vhost, now);
                        }
                        continue;
                    }
                    Party::Commit(commit) => {
                        commit.finish(now);
                        continue;
                    }
                    Party::Letters(queue) => {
                        self.go_on_moving(&queue, now);
                        continue;
                    }
                    // They have nothing to be read.
                    Party::Events => continue,
                };
                let (read, effects) = queue.page_in(&self.services.store, &mut buffer, now);
                if let Some(vhost) = self.vhost(&queue.identity().vhost) {
                    vhost.care(&queue, effects, now);
                }
                if read {
                    self.services.pager.ask(queue);
                }
            }
        }
    }

    /// Blocks publishers while the store has no room, and unblocks them when it has again.
    pub fn handle_store_status(&self) {
        let reason = match self.services.store.status() {
            StoreStatus::Full { lacks, .. } => Some(match lacks {
                Shortage::Disk | Shortage::Quota => "low on disk".to_owned(),
                Shortage::Descriptors | Shortage::SystemDescriptors => {
                    "low on file descriptors".to_owned()
                }
                Shortage::Memory => "low on memory".to_owned(),
            }),
            _ => None,
        };
        {
            let mut blocked = self.blocked.lock();
            if *blocked == reason {
                return;
            }
            blocked.clone_from(&reason);
        }
        self.services
            .tell(|events| events.disk_alarm(reason.is_some()));
        for session in &self.sessions {
            session.notify(Notice::Blocked(reason.clone()));
        }
    }

    /// Asks every session to close its connection.
    pub fn close_all(&self, code: ReplyCode, text: &str) {
        for session in &self.sessions {
            session.notify(Notice::CloseConnection(code, text.to_owned()));
        }
    }
}
