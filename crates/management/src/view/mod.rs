//! What the API sees of the broker and does to it: all of that is here, so that the house behind it can change without
//! the API. No other file names the broker's crates. What a user may do by AMQP is done by AMQP, see `view/inside.rs`.

mod actions;
mod inside;
mod metrics;
mod roll;
mod vhosts;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Waker;

use leveret_access::permission::{Permission, Resource};
use leveret_access::users::TopicPermission;
use leveret_broker::definitions_import::Plan;
use leveret_broker::handle::QueueHandle;
use leveret_broker::inventory::BindingsOf;
use leveret_broker::vhost::VirtualHost;
use leveret_broker::{Broker, DelayedPage};
use leveret_codec::{FieldTable, RawTable, encode_table};
use leveret_message::Message;
use leveret_routing::{Binding, Destination, Exchange, ExchangeKind, RouteInput};

pub(crate) use leveret_access::brake::Verdict;
pub(crate) use leveret_access::limits::{UserLimits, VhostLimits};
pub(crate) use leveret_access::permission::Access;
pub(crate) use leveret_access::users::User;
pub(crate) use leveret_broker::inventory::{AppliedPolicies, LoginError};
pub(crate) use leveret_broker::{DelayedId, Parameter};
pub(crate) use leveret_deduplication::DeduplicationCounts;
pub(crate) use leveret_message::Timestamp;
pub(crate) use leveret_queue::queue::counts::QueueCounts;
pub(crate) use leveret_queue::queue::identity::QueueIdentity;
pub(crate) use leveret_queue::queue::kind::QueueKind;
pub(crate) use leveret_queue::queue::statistics::{Distribution, MessageRates, QueueStatistics};
pub(crate) use leveret_routing::QueueId;
pub(crate) use leveret_settings::policy::{PolicyKind, PolicySpec};
pub(crate) use leveret_store_api::CommitPoint;

pub(crate) use actions::{BindingSpec, ExchangeSpec, Got, QueueSpec, Take, Then};
pub(crate) use inside::Refused;
pub(crate) use metrics::{
    ChurnFigures, CountedExchange, CountedQueue, QueueSum, Reasons, SIZES, Times, Traffic,
};
pub(crate) use roll::{ChannelFacts, ChannelMode, ChannelView, ConnectionFacts, ConsumerView};
pub(crate) use vhosts::{Stays, VhostRemoval};

/// What the API asks of the process it runs in.
pub trait Host: Send + Sync {
    /// What time it is, rounded down: for what has been waited for.
    fn now(&self) -> Timestamp;
    /// What time it is, rounded up: for what begins to wait now.
    fn after_now(&self) -> Timestamp;
    /// What it takes of the machine. May read files.
    fn figures(&self) -> Figures;
}

/// What a process takes of its machine, and what there is.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The process's id.
    pub process: u32,
    /// How long it runs.
    pub uptime_ms: u64,
    /// Processors it may use.
    pub processors: usize,
    /// Processor time it has used.
    pub processor_ms: u64,
    /// Its threads.
    pub threads: u64,
    /// Addresses it has reserved, bytes.
    pub memory_reserved: u64,
    /// Resident memory, bytes.
    pub memory_used: u64,
    /// The machine's memory, bytes.
    pub memory_total: u64,
    /// Files and sockets it has open.
    pub descriptors_used: usize,
    /// Files and sockets it may have open.
    pub descriptors_total: usize,
    /// Connections it has.
    pub sockets_used: usize,
    /// Connections it could have.
    pub sockets_total: usize,
    /// The disk that durable things are on, if there is one.
    pub disk: Option<Disk>,
    /// What it has done with files there.
    pub io: Option<Io>,
}

/// What was done with files.
#[derive(Clone, Debug, Default)]
pub struct Io {
    /// Reads.
    pub reads: IoOperations,
    /// Writes.
    pub writes: IoOperations,
    /// Waits for stable storage.
    pub syncs: IoOperations,
    /// For bounds in seconds, how many of those took less.
    pub syncs_below: Vec<(f64, u64)>,
}

/// How often something was done with files, with how many bytes, and how long it took.
#[derive(Clone, Copy, Debug, Default)]
pub struct IoOperations {
    /// How often.
    pub count: u64,
    /// With how many bytes.
    pub bytes: u64,
    /// For how long in all.
    pub seconds: f64,
}

/// A disk.
#[derive(Clone, Copy, Debug)]
pub struct Disk {
    /// Bytes that are free.
    pub free: u64,
    /// With fewer, publishers wait.
    pub reserve: u64,
}

/// The types that an exchange may have, by name.
pub(crate) fn exchange_types() -> impl Iterator<Item = &'static str> {
    ExchangeKind::all().map(ExchangeKind::name)
}

/// The broker as the API sees it.
#[derive(Clone)]
pub struct View {
    broker: Arc<Broker>,
    host: Arc<dyn Host>,
}

/// Who asks, and by what it has logged in.
pub(crate) struct Caller {
    pub(crate) user: User,
    password: Vec<u8>,
    from: SocketAddr,
}

/// How the broker calls itself.
pub(crate) struct Names<'a> {
    /// The version of RabbitMQ that it takes the place of.
    pub(crate) version: &'a str,
    /// The cluster's, which is the one node's too.
    pub(crate) cluster: &'a str,
}

/// A virtual host.
#[derive(Clone)]
pub(crate) struct VhostView(Arc<VirtualHost>);

/// A queue.
#[derive(Clone)]
pub(crate) struct QueueView {
    vhost: Arc<VirtualHost>,
    queue: QueueHandle,
}

/// Which bindings are meant.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ends<'a> {
    All,
    /// Those from this exchange.
    Source(&'a str),
    /// Those to this queue.
    Queue(&'a str),
    /// Those to this exchange.
    Exchange(&'a str),
}

/// A binding.
pub(crate) struct BindingFacts {
    pub(crate) source: String,
    pub(crate) destination: String,
    pub(crate) to_exchange: bool,
    pub(crate) routing_key: Vec<u8>,
    pub(crate) arguments: FieldTable,
}

impl BindingFacts {
    /// The one that each queue has to the default exchange.
    fn implied(queue: &str) -> Self {
        Self {
            source: String::new(),
            destination: queue.to_owned(),
            to_exchange: false,
            routing_key: queue.as_bytes().to_vec(),
            arguments: FieldTable::default(),
        }
    }

    /// None if its queue is gone.
    fn made(vhost: &VirtualHost, binding: Binding) -> Option<Self> {
        let (destination, to_exchange) = match binding.destination {
            Destination::Queue(id) => (vhost.queue_name(id)?, false),
            Destination::Exchange(name) => (name, true),
        };
        Some(Self {
            source: binding.source,
            destination,
            to_exchange,
            routing_key: binding.routing_key,
            arguments: binding.arguments,
        })
    }
}

/// What a user may do in a virtual host.
pub(crate) struct Permitted {
    pub(crate) vhost: String,
    pub(crate) user: String,
    pub(crate) permission: Permission,
}

/// What a user may do with the topics of an exchange.
pub(crate) struct PermittedTopics {
    pub(crate) vhost: String,
    pub(crate) user: String,
    pub(crate) permission: TopicPermission,
}

/// An exchange.
pub(crate) struct ExchangeFacts {
    pub(crate) exchange: Exchange,
    pub(crate) policies: AppliedPolicies,
    pub(crate) duplicates: Option<DeduplicationCounts>,
    /// What it holds back; None: it is not of that type.
    pub(crate) delayed: Option<usize>,
}

/// A delayed message that was cancelled, or why not.
pub(crate) enum Cancelled {
    /// It is gone once that is durable.
    Staged(CommitPoint),
    /// There is none of that number.
    Unknown,
    /// The exchange holds back nothing, or there is none.
    NotDelayed,
}

impl View {
    /// The broker within its host.
    #[must_use]
    pub fn new(broker: Arc<Broker>, host: Arc<dyn Host>) -> Self {
        Self { broker, host }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now()
    }

    pub(crate) fn figures(&self) -> Figures {
        self.host.figures()
    }

    pub(crate) fn names(&self) -> Names<'_> {
        let config = self.broker.config();
        Names {
            version: &config.version,
            cluster: &config.cluster_name,
        }
    }
}

/// Who may do what.
impl View {
    /// Whether somebody may try to log in now.
    pub(crate) fn consider_login(&self, name: &str, from: IpAddr) -> Verdict {
        self.broker.consider_login(name, from, self.now())
    }

    pub(crate) fn log_in(
        &self,
        name: &str,
        password: Vec<u8>,
        from: SocketAddr,
    ) -> Result<Caller, LoginError> {
        let user = self.broker.log_in(name, &password, from.ip(), self.now())?;
        Ok(Caller {
            user,
            password,
            from,
        })
    }

    pub(crate) fn may_enter(&self, vhost: &str, user: &User) -> bool {
        self.broker.may_enter(vhost, &user.name)
    }

    /// Whether a user may do something with a queue.
    pub(crate) fn may_with_queue(
        &self,
        vhost: &str,
        user: &User,
        access: Access,
        queue: &str,
    ) -> bool {
        let resource = Resource::Queue(queue);
        let checked = self
            .broker
            .check_access(vhost, &user.name, access, resource);
        checked.is_ok()
    }

    /// Checks a permission on an exchange; the error is the broker's text.
    pub(crate) fn check_exchange(
        &self,
        vhost: &str,
        user: &User,
        access: Access,
        exchange: &str,
    ) -> Result<(), String> {
        let resource = Resource::Exchange(exchange);
        let checked = self
            .broker
            .check_access(vhost, &user.name, access, resource);
        checked.map_err(|error| error.text)
    }
}

/// What there is.
impl View {
    pub(crate) fn has_vhost(&self, name: &str) -> bool {
        self.broker.vhost(name).is_some()
    }

    pub(crate) fn vhost(&self, name: &str) -> Option<VhostView> {
        self.broker.vhost(name).map(VhostView)
    }

    /// The virtual hosts whose contents a user may see.
    pub(crate) fn vhosts_of(&self, user: &User) -> Vec<VhostView> {
        let mut vhosts = self.broker.vhosts();
        if !user.is_monitor() {
            vhosts.retain(|vhost| self.broker.may_enter(vhost.name(), &user.name));
        }
        vhosts.into_iter().map(VhostView).collect()
    }

    pub(crate) fn connection_count(&self) -> u64 {
        self.broker.connection_count()
    }

    pub(crate) fn channel_count(&self) -> u64 {
        self.broker.channel_count()
    }

    pub(crate) fn has_exchange(&self, vhost: &str, name: &str) -> bool {
        let vhost = self.broker.vhost(vhost);
        vhost.is_some_and(|vhost| vhost.exchange(name).is_some())
    }

    pub(crate) fn exchange(&self, vhost: &VhostView, name: &str) -> Option<ExchangeFacts> {
        let VhostView(vhost) = vhost;
        let duplicates = self.broker.deduplication_counts(vhost.name(), name);
        Some(ExchangeFacts {
            exchange: vhost.exchange(name)?,
            policies: vhost.policies_of_exchange(name),
            duplicates: duplicates.ok().flatten(),
            delayed: self.broker.delayed_count(vhost.name(), name).ok(),
        })
    }
}

/// What an administrator sets and takes away.
impl View {
    /// Carries out definitions in RabbitMQ's form, all or none of them; the error says what is wrong.
    pub(crate) fn import(&self, json: &[u8]) -> Result<CommitPoint, String> {
        let plan = Plan::parse(json).map_err(|error| error.message)?;
        let imported = self.broker.import(&plan, self.now());
        imported.map_err(|error| error.message)
    }

    pub(crate) fn all_vhosts(&self) -> Vec<VhostView> {
        let mut vhosts: Vec<_> = self.broker.vhosts().into_iter().map(VhostView).collect();
        vhosts.sort_by(|one, other| one.name().cmp(other.name()));
        vhosts
    }

    pub(crate) fn users(&self) -> Vec<User> {
        let mut users = self.broker.users();
        users.sort_by(|one, other| one.name.cmp(&other.name));
        users
    }

    pub(crate) fn user(&self, name: &str) -> Option<User> {
        self.broker.user(name)
    }

    pub(crate) fn delete_user(&self, name: &str) -> Option<CommitPoint> {
        self.broker.delete_user(name)
    }

    pub(crate) fn permissions(&self) -> Vec<Permitted> {
        let mut all = self.broker.permissions();
        all.sort_by(|one, other| (&one.0, &one.1).cmp(&(&other.0, &other.1)));
        let all = all.into_iter();
        all.map(|(vhost, user, permission)| Permitted {
            vhost,
            user,
            permission,
        })
        .collect()
    }

    pub(crate) fn topic_permissions(&self) -> Vec<PermittedTopics> {
        let mut all = self.broker.topic_permissions();
        all.sort_by(|one, other| {
            let exchanges = (&one.2.exchange, &other.2.exchange);
            (&one.0, &one.1, exchanges.0).cmp(&(&other.0, &other.1, exchanges.1))
        });
        let all = all.into_iter();
        all.map(|(vhost, user, permission)| PermittedTopics {
            vhost,
            user,
            permission,
        })
        .collect()
    }

    pub(crate) fn forbid(&self, vhost: &str, user: &str) -> Option<CommitPoint> {
        self.broker.forbid(vhost, user)
    }

    pub(crate) fn forbid_topics(
        &self,
        vhost: &str,
        user: &str,
        exchange: &str,
    ) -> Option<CommitPoint> {
        self.broker.forbid_topics(vhost, user, exchange)
    }

    pub(crate) fn policies(&self, kind: PolicyKind) -> Vec<PolicySpec> {
        self.broker.policies(kind)
    }

    /// Has the queues and exchanges do without it.
    pub(crate) fn delete_policy(&self, kind: PolicyKind, policy: &PolicySpec) -> CommitPoint {
        let (vhost, name) = (&policy.vhost, &policy.name);
        self.broker.delete_policy(kind, vhost, name, self.now())
    }

    /// Those that mean nothing to the broker.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        self.broker.parameters()
    }

    pub(crate) fn delete_parameter(
        &self,
        vhost: Option<&str>,
        component: &str,
        name: &str,
    ) -> Option<CommitPoint> {
        self.broker.delete_parameter(vhost, component, name)
    }

    pub(crate) fn vhost_limits(&self, vhost: &str) -> VhostLimits {
        self.broker.vhost_limits(vhost)
    }

    pub(crate) fn set_vhost_limits(
        &self,
        vhost: &str,
        limits: VhostLimits,
    ) -> Result<CommitPoint, String> {
        let set = self.broker.set_vhost_limits(vhost, limits);
        set.map_err(|error| error.to_string())
    }

    pub(crate) fn set_user_limits(
        &self,
        user: &str,
        limits: UserLimits,
    ) -> Result<CommitPoint, String> {
        let set = self.broker.set_user_limits(user, limits);
        set.map_err(|error| error.to_string())
    }

    /// Why publishers are held up, if they are.
    pub(crate) fn alarm(&self) -> Option<String> {
        self.broker.blocked_reason()
    }
}

/// Bytes that nobody can guess.
pub(crate) fn random() -> Result<[u8; 32], String> {
    leveret_access::password::random()
}

/// The stored form of a password.
pub(crate) fn hash_password(password: &[u8]) -> Result<String, String> {
    leveret_access::password::hash_salted(password)
}

/// Delayed messages.
impl View {
    /// What an exchange holds back, as `seen` shows each message, and how many there are; None if it is no exchange that
    /// does. Blocks on files.
    pub(crate) fn delayed_messages<T>(
        &self,
        vhost: &str,
        exchange: &str,
        after: Option<DelayedId>,
        limit: usize,
        seen: impl Fn(&Message) -> T,
    ) -> Option<(DelayedPage<T>, usize)> {
        let page = self
            .broker
            .delayed_messages(vhost, exchange, after, limit, seen);
        let count = self.broker.delayed_count(vhost, exchange);
        Some((page.ok()?, count.ok()?))
    }

    /// Looks at each message held.
    pub(crate) fn cancel_delayed(&self, vhost: &str, exchange: &str, id: u64) -> Cancelled {
        match self.broker.cancel_delayed(vhost, exchange, id) {
            Ok(Some(point)) => Cancelled::Staged(point),
            Ok(None) => Cancelled::Unknown,
            Err(_) => Cancelled::NotDelayed,
        }
    }

    /// Wakes `waker` once everything up to `point` is on stable storage; false, and no wake, if it is already.
    pub(crate) fn wake_when_durable(&self, point: CommitPoint, waker: &Waker) -> bool {
        self.broker.wake_when_durable(point, waker)
    }
}

impl VhostView {
    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    /// The type of queues that are declared without one, where it was chosen.
    pub(crate) fn default_queue_type(&self) -> Option<QueueKind> {
        self.0.default_queue_type()
    }

    /// Whether a copy of each message goes to `amq.rabbitmq.trace`.
    pub(crate) fn is_traced(&self) -> bool {
        self.0.is_traced()
    }

    /// Its queues, in no order.
    pub(crate) fn queues(&self) -> impl Iterator<Item = QueueView> + use<> {
        let vhost = Arc::clone(&self.0);
        let queues = vhost.queue_handles().into_iter();
        queues.map(move |queue| QueueView {
            vhost: Arc::clone(&vhost),
            queue,
        })
    }

    pub(crate) fn queue(&self, name: &str) -> Option<QueueView> {
        Some(QueueView {
            vhost: Arc::clone(&self.0),
            queue: self.0.queue(name).ok()?,
        })
    }

    /// The bindings that lead from an exchange, or to a queue or exchange, or all there are; in no order.
    pub(crate) fn bindings(&self, of: Ends<'_>) -> Vec<BindingFacts> {
        let Self(vhost) = self;
        let is_default = |source: &str| source.is_empty();
        let (made, implied) = match of {
            Ends::All => (vhost.bindings(BindingsOf::All), vhost.queue_handles()),
            Ends::Source(name) if is_default(name) => (Vec::new(), vhost.queue_handles()),
            Ends::Source(name) => (vhost.bindings(BindingsOf::Source(name)), Vec::new()),
            Ends::Queue(name) => {
                let queue = vhost.queue(name).ok();
                let to = queue.as_ref().map(|queue| Destination::Queue(queue.id()));
                let made = to.map(|to| vhost.bindings(BindingsOf::Destination(&to)));
                (made.unwrap_or_default(), queue.into_iter().collect())
            }
            Ends::Exchange(name) => {
                let to = Destination::Exchange(name.to_owned());
                (vhost.bindings(BindingsOf::Destination(&to)), Vec::new())
            }
        };
        let implied = implied
            .iter()
            .map(|queue| BindingFacts::implied(queue.name()));
        let made = made
            .into_iter()
            .filter_map(|made| BindingFacts::made(vhost, made));
        implied.chain(made).collect()
    }

    /// The queues to which a message would go now; None: there is no such exchange.
    pub(crate) fn would_go(
        &self,
        exchange: &str,
        routing_key: &str,
        headers: &FieldTable,
    ) -> Option<Vec<String>> {
        let headers = encode_table(headers);
        let input = RouteInput {
            headers: Some(RawTable::from_encoded(&headers)),
            ..RouteInput::new(routing_key.as_bytes())
        };
        self.0.would_go(exchange, &input)
    }

    /// The names of its exchanges, in no order.
    pub(crate) fn exchange_names(&self) -> Vec<String> {
        self.0.exchange_names()
    }
}

impl QueueView {
    pub(crate) fn vhost(&self) -> &str {
        self.vhost.name()
    }

    pub(crate) fn name(&self) -> &str {
        self.queue.name()
    }

    pub(crate) fn id(&self) -> QueueId {
        self.queue.id()
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.queue.is_deleted()
    }

    pub(crate) fn identity(&self) -> &QueueIdentity {
        self.queue.identity()
    }

    pub(crate) fn kind(&self) -> QueueKind {
        self.queue.kind()
    }

    pub(crate) fn counts(&self) -> QueueCounts {
        self.queue.counts()
    }

    pub(crate) fn statistics(&self, now: Timestamp) -> QueueStatistics {
        self.queue.statistics(now)
    }

    pub(crate) fn policies(&self) -> AppliedPolicies {
        self.vhost.policies_of_queue(&self.queue)
    }

    pub(crate) fn deduplication_counts(&self) -> Option<DeduplicationCounts> {
        self.queue.deduplication_counts()
    }

    /// The exchange that its dead letters go to, if any, and with which key, if not with their own.
    pub(crate) fn dead_letters_to(&self) -> Option<(String, Option<String>)> {
        let options = self.queue.options();
        Some((
            options.dead_letter_exchange?,
            options.dead_letter_routing_key,
        ))
    }

    /// The queues to which they may go, as far as bindings tell.
    pub(crate) fn dead_letter_queues(&self, exchange: &str, key: Option<&str>) -> Vec<QueueId> {
        if exchange.is_empty() {
            let queue = key.and_then(|key| self.vhost.queue(key).ok());
            return queue.iter().map(QueueHandle::id).collect();
        }
        let bindings = self.vhost.bindings(BindingsOf::Source(exchange));
        let queues = bindings.into_iter().filter_map(|it| match it.destination {
            Destination::Queue(id) => Some(id),
            Destination::Exchange(_) => None,
        });
        queues.collect()
    }

    pub(crate) fn delivery_limit(&self) -> Option<u32> {
        self.queue.options().delivery_limit
    }
}
