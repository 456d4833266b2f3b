//! The broker: its virtual hosts, users, sessions and store, and how it comes back after a restart.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use dashmap::DashMap;
use leveret_access::brake::Brake;
use leveret_access::password;
use leveret_access::permission::Permission;
use leveret_access::users::{User, Users};
use leveret_codec::ReplyCode;
use leveret_message::error::DefinitionError;
use leveret_message::{Message, Store, Timestamp};
use leveret_queue::mailbox::{Mailbox, Notice};
use leveret_queue::queue::identity::SessionId;
use leveret_store_api::{CommitPoint, Shortage, StoreError, StoreStatus, StoredMessage};
use parking_lot::Mutex;

use crate::aside::Asides;
use crate::config::BrokerConfig;
use crate::definitions::{Definition, PermissionDefinition, VhostDefinition};
use crate::events::{Event, event_exchange};
use crate::parameters::Parameters;
use crate::roll::{ConnectionIdentity, Roll};
use crate::services::{Party, Services};
use crate::spans::Spans;
use crate::vhost::VirtualHost;
use crate::vhost_metadata::VhostMetadata;
use crate::vhost_removal::LeavingVhosts;

/// The virtual host that always exists.
pub const DEFAULT_VHOST: &str = "/";

/// Why a broker cannot be opened on its store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The definitions cannot be read.
    #[error("cannot read the definitions: {0}")]
    Store(#[from] StoreError),
    /// What the configuration asks for cannot be stored.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// No randomness for a password's salt.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// A running broker without its sockets.
pub struct Broker {
    pub(crate) config: BrokerConfig,
    /// What its parts share.
    pub services: Arc<Services>,
    /// Who may come, and what they may do.
    pub users: Users,
    pub(crate) parameters: Parameters,
    vhosts: DashMap<String, Arc<VirtualHost>>,
    /// Those that are being deleted.
    pub(crate) leaving_vhosts: LeavingVhosts,
    sessions: DashMap<u64, Arc<Mailbox>>,
    next_session: AtomicU64,
    /// Connections that are open, as administrators see them.
    pub roll: Roll,
    blocked: Mutex<Option<String>>,
    /// Holds up those who guess passwords.
    pub brake: Arc<Brake>,
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
        let broker = Broker::blank(config, store, now);
        broker.recover(now)?;
        broker.aside().report();
        broker.make_configured()?;
        broker.begin_to_tell();
        Ok(Arc::new(broker))
    }

    /// A broker in which there is nothing yet.
    pub(crate) fn blank(config: BrokerConfig, store: Store, now: Timestamp) -> Broker {
        let services = Arc::new(Services::new(store, &config, now));
        Broker {
            config,
            services,
            users: Users::default(),
            parameters: Parameters::default(),
            vhosts: DashMap::with_shard_amount(4),
            leaving_vhosts: LeavingVhosts::default(),
            sessions: DashMap::with_shard_amount(16),
            next_session: AtomicU64::new(1),
            roll: Roll::default(),
            blocked: Mutex::new(None),
            brake: Arc::default(),
        }
    }

    /// What a start could not use.
    pub(crate) fn aside(&self) -> &Asides {
        &self.services.aside
    }

    /// What came back or was made until now is nobody's news, but what is damaged of it.
    fn begin_to_tell(&self) {
        if let Some(vhost) = self.vhost(DEFAULT_VHOST) {
            vhost.set_listeners(&vhost.topology.read());
        }
        for event in self.services.events.open() {
            self.services.tell(|_| event);
        }
    }

    fn make_configured(&self) -> Result<(), OpenError> {
        let config = &self.config;
        let name = &config.default_user;
        // Where a user's definition is put aside, nobody else gets in instead.
        let is_new = self.users.is_empty() && self.aside().is_empty();
        if is_new || (config.ensure_default_user && self.users.get(name).is_none()) {
            let password_hash = if config.default_password.is_empty() {
                tracing::warn!(
                    user = name,
                    "there is no password: nobody can log in as this user"
                );
                String::new()
            } else {
                password::hash_salted(config.default_password.as_bytes())
                    .map_err(OpenError::Random)?
            };
            let tags = vec!["administrator".to_owned()];
            self.put_user(User {
                name: name.clone(),
                password_hash,
                tags,
                ..User::default()
            })?;
            for vhost in self.vhosts() {
                self.permit(vhost.name(), name, Permission::full())?;
            }
        }
        for vhost in std::iter::once(DEFAULT_VHOST).chain(config.vhosts.iter().map(String::as_str))
        {
            if self.vhost(vhost).is_none() {
                self.create_vhost(vhost)?;
                if self.users.get(name).is_some() {
                    self.permit(vhost, name, Permission::full())?;
                }
            }
        }
        Ok(())
    }

    /// Makes a virtual host in memory.
    pub(crate) fn insert_vhost(&self, name: &str, metadata: VhostMetadata) -> Arc<VirtualHost> {
        let vhost = Arc::new(VirtualHost::new(name, Arc::clone(&self.services)));
        *vhost.metadata.write() = metadata;
        vhost.set_traced(self.config.traced_vhosts.iter().any(|it| it == name));
        if name == DEFAULT_VHOST {
            vhost.topology.write().declare_exchange(event_exchange());
        }
        self.vhosts.insert(name.to_owned(), Arc::clone(&vhost));
        vhost
    }

    /// Makes a virtual host.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn create_vhost(&self, name: &str) -> Result<CommitPoint, DefinitionError> {
        let definition = VhostDefinition {
            name: name.to_owned(),
            metadata: VhostMetadata::default(),
            leaves: false,
        };
        let put = Definition::VirtualHost(definition).put()?;
        let vhost = self.insert_vhost(name, VhostMetadata::default());
        let point = self.services.stage_definitions(&mut vec![put]);
        self.services
            .tell(|events| events.vhost_created(name, vhost.is_traced()));
        Ok(point)
    }

    /// Adds or replaces a user.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn put_user(&self, user: User) -> Result<CommitPoint, DefinitionError> {
        let put = Definition::User(user.clone()).put()?;
        let before = self.users.get(&user.name);
        self.users.put(user.clone());
        let point = self.services.stage_definitions(&mut vec![put]);
        self.tell_of_user(before, &user);
        Ok(point)
    }

    /// Sets a user's permissions in a virtual host; running connections see them with their next publish
    /// or declaration.
    ///
    /// # Errors
    /// They cannot be stored.
    pub fn permit(
        &self,
        vhost: &str,
        user: &str,
        permission: Permission,
    ) -> Result<CommitPoint, DefinitionError> {
        let definition = PermissionDefinition {
            vhost: vhost.to_owned(),
            user: user.to_owned(),
            permission: permission.clone(),
        };
        let put = Definition::Permission(definition).put()?;
        self.users.permit(vhost, user, permission.clone());
        if let Some(vhost) = self.vhost(vhost) {
            vhost.routes_changed();
        }
        self.services
            .tell(|_| Event::permission_created(vhost, user, &permission));
        Ok(self.services.stage_definitions(&mut vec![put]))
    }

    /// From now on messages of traces are told of to `spans`, in all virtual hosts.
    pub fn watch(&self, spans: Arc<Spans>) {
        if self.services.spans.set(spans).is_ok() {
            self.vhosts().iter().for_each(|vhost| vhost.watch());
        }
    }

    /// A virtual host by name.
    #[must_use]
    pub fn vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.vhosts.get(name).map(|vhost| Arc::clone(&vhost))
    }

    /// Nobody finds the virtual host any more.
    pub(crate) fn take_vhost(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.vhosts.remove(name).map(|(_, vhost)| vhost)
    }

    /// The virtual host of a queue or exchange that something is due for, be it one that is being deleted.
    pub(crate) fn vhost_to_care_for(&self, name: &str) -> Option<Arc<VirtualHost>> {
        self.vhost(name).or_else(|| self.leaving_vhosts.get(name))
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

    /// A session has begun: its number, and from now on it is told of things.
    pub fn register(&self, mailbox: &Arc<Mailbox>) -> SessionId {
        let id = self.next_session.fetch_add(1, Ordering::Relaxed);
        self.sessions.insert(id, Arc::clone(mailbox));
        SessionId(id)
    }

    /// A session is over.
    pub fn unregister(&self, session: SessionId) {
        self.sessions.remove(&session.0);
        self.roll.leave(session);
    }

    /// Why publishers are blocked, if they are.
    pub fn blocked_reason(&self) -> Option<String> {
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
        while self.handle_one_timeout(now) {}
    }

    /// The part of [`Broker::handle_timeout`] that concerns one queue or other thing; false if nothing is due.
    pub fn handle_one_timeout(&self, now: Timestamp) -> bool {
        let Some(party) = self.services.deadlines.pop_due(now) else {
            return false;
        };
        self.look_after(party, now);
        true
    }

    /// Woken when [`Broker::run_pager`] has something to do.
    pub fn set_pager_waker(&self, waker: Waker) {
        self.services.pager.set_waker(waker);
    }

    /// Reads paged messages for all queues that asked, then frees what queues have let go of, if
    /// nobody asks meanwhile. Blocks on files; one caller at a time.
    pub fn run_pager(&self, now: Timestamp) {
        let mut buffer = Vec::new();
        while self.run_pager_once(&mut buffer, now) {}
    }

    /// The part of [`Broker::run_pager`] that concerns one queue or other thing; false if nobody asks for anything.
    /// What is read goes through `buffer`.
    pub fn run_pager_once(&self, buffer: &mut Vec<StoredMessage<Message>>, now: Timestamp) -> bool {
        let Some(party) = self.services.pager.next() else {
            return self.services.pager.free_some();
        };
        match party {
            Party::Queue(queue) => {
                let (read, effects) = queue.page_in(&self.services.store, buffer, now);
                if let Some(vhost) = self.vhost_to_care_for(&queue.identity().vhost) {
                    vhost.carry_out(&queue, effects, now);
                }
                if read {
                    self.services.pager.ask(queue);
                }
            }
            Party::Exchange(exchange) => {
                if let Some(vhost) = self.vhost_to_care_for(exchange.vhost()) {
                    exchange.page_in(&vhost, now);
                }
            }
            other => self.look_after(other, now),
        }
        true
    }

    /// Does for one of them what needs no reading.
    fn look_after(&self, party: Party, now: Timestamp) {
        match party {
            Party::Queue(queue) => {
                let effects = queue.handle_timeout(now);
                if let Some(vhost) = self.vhost_to_care_for(&queue.identity().vhost) {
                    vhost.carry_out(&queue, effects, now);
                }
            }
            Party::Exchange(exchange) => {
                if let Some(vhost) = self.vhost_to_care_for(exchange.vhost()) {
                    exchange.handle_timeout(&vhost, now);
                }
            }
            Party::Task(task) => task.go_on(&self.services, now),
            Party::Letters(queue) => self.go_on_moving(&queue, now),
            Party::Events => self.publish_events(now),
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

    /// Asks one session to close its connection; false if it is over.
    pub fn close_session(&self, session: SessionId, code: ReplyCode, text: &str) -> bool {
        let found = self.sessions.get(&session.0);
        let mailbox = found.map(|mailbox| Arc::clone(&mailbox));
        if let Some(mailbox) = &mailbox {
            mailbox.notify(Notice::CloseConnection(code, text.to_owned()));
        }
        mailbox.is_some()
    }

    /// Asks the sessions of connections that administrators see to close them, where `which`.
    pub(crate) fn close_where(&self, which: impl Fn(&ConnectionIdentity) -> bool, text: &str) {
        let all = self.roll.connections();
        for facts in all.iter().filter(|facts| which(&facts.identity)) {
            let session = facts.identity.session;
            self.close_session(session, ReplyCode::ConnectionForced, text);
        }
    }

    /// Asks every session to close its connection.
    pub fn close_all(&self, code: ReplyCode, text: &str) {
        for session in &self.sessions {
            session.notify(Notice::CloseConnection(code, text.to_owned()));
        }
    }
}
