//! One virtual host: its topology, its queues by name and by identity, and routes to them.
//!
//! Lock order: topology, then a queue; the data path takes the topology lock only to fill a route
//! cache and lets it go before any queue is locked. Declarations are in `declare`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dashmap::DashMap;
use leveret_access::limits::VhostLimits;
use leveret_access::tally::Tally;
use leveret_codec::{ContentHeader, RawTable, RawValue};
use leveret_deduplication::{KeyLogs, Rules};
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_queue::queue::kind::QueueKind;
use leveret_routing::{Exchange, ExchangeKind, QueueId, Route, RouteInput, Topology};
use leveret_settings::policy::set::Policies;
use leveret_store_api::Change;
use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::deadlines::Owner;
use crate::definitions::{Definition, ExchangeDefinition};
use crate::exchange::{ExchangeLogs, StatefulExchange};
use crate::handle::QueueHandle;
use crate::leaving::Leaving;
use crate::services::Services;
use crate::vhost_metadata::VhostMetadata;

/// Of very many queues a shard holds so few that nobody waits while it grows.
const QUEUE_SHARDS: usize = 32;

/// A message for more queues than this goes to them in steps.
const WIDE: usize = 1024;

/// The queues a message goes to.
pub type Targets = SmallVec<[QueueHandle; 1]>;

/// A virtual host.
pub struct VirtualHost {
    name: Arc<str>,
    /// Exchanges, queues by name, bindings.
    pub topology: RwLock<Topology>,
    /// Grows with every change that can alter a route; read without the lock.
    generation: AtomicU64,
    /// Messages are copied to the firehose.
    traced: AtomicBool,
    /// They are, or somebody watches them otherwise.
    watched: AtomicBool,
    pub(crate) queues: DashMap<String, QueueHandle>,
    /// What a route leads to.
    pub queues_by_id: DashMap<QueueId, QueueHandle>,
    /// Locked below the topology, held for a moment.
    pub(crate) policies: RwLock<Policies>,
    /// What it may have.
    pub limits: RwLock<VhostLimits>,
    /// What is said of it.
    pub(crate) metadata: RwLock<VhostMetadata>,
    /// Open connections to it.
    pub connections: Arc<Tally>,
    /// Exchanges that keep something, by name.
    stateful: DashMap<String, Arc<StatefulExchange>>,
    /// Publishes to exchanges for which there was no queue: how many came back, and how many did not.
    unroutable: DashMap<String, (u64, u64)>,
    /// Where exchanges keep what they keep, or would.
    exchange_logs: DashMap<String, ExchangeLogs>,
    /// Queues that are deleted and have bindings left.
    pub(crate) leaving: Leaving,
    /// What the whole broker shares.
    pub services: Arc<Services>,
}

/// Where a publish goes.
#[derive(Debug)]
pub struct Routed {
    /// The queues, each once; none if they are very many: then what they are is in the scratch.
    pub targets: Targets,
    /// They are very many.
    pub wide: bool,
    /// Exchange and routing key alone decided it.
    pub cacheable: bool,
    /// Exchanges on the way keep something: the queues are those of a message that all of them let
    /// pass, and publishing goes by way of `crate::exchange`.
    pub stateful: bool,
}

impl VirtualHost {
    pub(crate) fn new(name: &str, services: Arc<Services>) -> VirtualHost {
        VirtualHost {
            name: Arc::from(name),
            topology: RwLock::new(Topology::new()),
            generation: AtomicU64::new(1),
            traced: AtomicBool::new(false),
            watched: AtomicBool::new(false),
            queues: DashMap::with_shard_amount(QUEUE_SHARDS),
            queues_by_id: DashMap::with_shard_amount(QUEUE_SHARDS),
            policies: RwLock::default(),
            limits: RwLock::default(),
            metadata: RwLock::default(),
            connections: Arc::default(),
            stateful: DashMap::with_shard_amount(4),
            unroutable: DashMap::with_shard_amount(4),
            exchange_logs: DashMap::with_shard_amount(4),
            leaving: Leaving::default(),
            services,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many connections to it are open.
    #[must_use]
    pub fn connection_count(&self) -> u64 {
        self.connections.count()
    }

    /// Cached routes of an earlier generation are void.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    pub(crate) fn routes_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether a copy of each message goes to `amq.rabbitmq.trace`.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.traced.load(Ordering::Relaxed)
    }

    /// The type of queues that are declared without one, where it was chosen.
    #[must_use]
    pub fn default_queue_type(&self) -> Option<QueueKind> {
        self.metadata.read().default_queue_type
    }

    /// What is said of it.
    #[must_use]
    pub fn metadata(&self) -> VhostMetadata {
        self.metadata.read().clone()
    }

    pub(crate) fn set_traced(&self, traced: bool) {
        self.traced.store(traced, Ordering::Relaxed);
        self.watch();
    }

    /// Whether somebody is to be told of each message that is published, delivered or settled: the firehose, or who
    /// watches traces.
    #[must_use]
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed)
    }

    /// Looks whether anybody is.
    pub(crate) fn watch(&self) {
        let watched = self.is_traced() || self.services.spans.get().is_some();
        self.watched.store(watched, Ordering::Relaxed);
    }

    /// Whether anything is bound to `exchange`.
    pub fn is_source(&self, exchange: &str) -> bool {
        self.topology.read().exchange_in_use(exchange)
    }

    /// A queue by name.
    ///
    /// # Errors
    /// 404.
    pub fn queue(&self, name: &str) -> Result<QueueHandle, ChannelError> {
        self.queues
            .get(name)
            .map(|queue| queue.clone())
            .ok_or_else(|| ChannelError::no_queue(name, &self.name))
    }

    /// Routes a message.
    ///
    /// # Errors
    /// 404 for an unknown exchange, 403 for an internal one, 406 for a CC or BCC header that is no array.
    pub fn route(
        &self,
        exchange: &[u8],
        routing_key: &[u8],
        header: &ContentHeader<'_>,
        random: u64,
        scratch: &mut Route,
    ) -> Result<Routed, ChannelError> {
        let exchange = String::from_utf8_lossy(exchange);
        let headers = header.properties.headers;
        let copies = carbon_copies(headers);
        let input = RouteInput {
            routing_key,
            headers,
            more_keys: copies.as_ref().map_or(&[], |keys| keys),
            message_id: header.properties.message_id,
            correlation_id: header.properties.correlation_id,
            timestamp: header.properties.timestamp,
            random,
        };
        let mut stateful = false;
        {
            let topology = self.topology.read();
            match topology.exchange(&exchange) {
                None => return Err(ChannelError::no_exchange(&exchange, &self.name)),
                Some(found) if found.internal => {
                    return Err(ChannelError::refused(format_args!(
                        "cannot publish to internal exchange '{exchange}' in vhost '{}'",
                        self.name
                    )));
                }
                Some(_) => {
                    if let Err(error) = &copies {
                        return Err(error.clone());
                    }
                    topology.route_past(&exchange, &input, scratch, &mut |_| {
                        stateful = true;
                        true
                    });
                }
            }
        }
        let wide = scratch.queues.len() > WIDE && !stateful;
        Ok(Routed {
            targets: if wide {
                Targets::new()
            } else {
                self.handles(&scratch.queues)
            },
            wide,
            cacheable: scratch.cacheable,
            stateful,
        })
    }

    /// The queues to which a message would go now, by name, without being published; None: there is no such exchange.
    /// What an exchange of that kind would hold back or drop as a duplicate is passed on.
    #[must_use]
    pub fn would_go(&self, exchange: &str, input: &RouteInput<'_>) -> Option<Vec<String>> {
        let mut route = Route::new();
        let topology = self.topology.read();
        if !topology.route(exchange, input, &mut route) {
            return None;
        }
        drop(topology);
        let names = route.queues.iter().filter_map(|id| self.queue_name(*id));
        let mut names: Vec<String> = names.collect();
        names.sort_unstable();
        Some(names)
    }

    /// Whether there is an exchange of type topic by this name.
    pub fn has_topic_exchange(&self, name: &str) -> bool {
        let topology = self.topology.read();
        let exchange = topology.exchange(name);
        exchange.is_some_and(|exchange| exchange.kind == ExchangeKind::Topic)
    }

    /// The exchange by that name, if it keeps something.
    pub(crate) fn stateful(&self, exchange: &str) -> Option<Arc<StatefulExchange>> {
        self.stateful.get(exchange).map(|found| Arc::clone(&found))
    }

    /// Looks whether an exchange has something to keep, by its type, its arguments or a policy; `logs`
    /// when it is new.
    pub(crate) fn consider_state(
        &self,
        topology: &mut Topology,
        name: &str,
        logs: Option<ExchangeLogs>,
    ) {
        if let Some(logs) = logs {
            self.exchange_logs.insert(name.to_owned(), logs);
        }
        let Some(exchange) = topology.exchange(name) else {
            // It was deleted after somebody had looked which there are.
            return;
        };
        let policy = self.deduplication_by_policy(name);
        let by_policy = policy.is_on();
        match self.stateful(name) {
            Some(stateful) => stateful.set_rules(Rules::parse(&exchange.arguments).or(policy)),
            None => self.make_stateful(exchange, policy, false),
        }
        topology.set_stateful(name, by_policy);
    }

    /// A producer numbers what it publishes to an exchange: from now on the exchange keeps the numbers.
    pub fn keep_numbers_of(&self, name: &str) {
        // Those of the default exchange's are kept by the queues.
        if name.is_empty() || self.stateful(name).is_some() {
            return;
        }
        let topology = self.topology.write();
        if self.stateful(name).is_none()
            && let Some(exchange) = topology.exchange(name)
        {
            let policy = self.deduplication_by_policy(name);
            self.make_stateful(exchange, policy, true);
        }
    }

    fn make_stateful(&self, exchange: &Exchange, policy: Rules, numbered: bool) {
        let services = &self.services;
        let name = &exchange.name;
        let known = self.exchange_logs.get(name).map(|logs| *logs);
        let mut logs = known.unwrap_or_default();
        let is_kept = |log| services.store.log_state(log).is_some_and(|it| it.live > 0);
        let numbers = logs.keys().map(KeyLogs::of_producers);
        let numbered = numbered || numbers.is_some_and(is_kept);
        let is_stateful = exchange.is_stateful() || policy.is_on() || numbered;
        if !is_stateful {
            return;
        }
        if exchange.durable && logs.keys().is_none() {
            // One of the broker's own, or declared before there were keys to keep.
            logs = logs.with_keys(&services.store);
            let definition = ExchangeDefinition::new(self.name(), exchange).with_logs(logs);
            match Definition::Exchange(definition).put() {
                Ok(put) => services.stage_definitions(&mut vec![put]),
                Err(error) => return tracing::error!(%error, "an exchange keeps nothing"),
            };
            self.exchange_logs.insert(name.clone(), logs);
        }
        let stateful = StatefulExchange::new(
            self.name(),
            exchange,
            policy,
            logs,
            services.next_ticket().0,
            services.producers_max,
            &services.store,
        );
        if stateful.damaged() > 0 {
            self.tell_damaged("exchange", name, stateful.damaged());
        }
        // At once: what became due meanwhile goes on as soon as all of the topology is there.
        let at_once = Timestamp::default();
        services.wake_exchange_at(at_once, &stateful);
        self.stateful.insert(name.clone(), stateful);
    }

    /// These exchanges are gone, and with them what they kept; adds the removal to `changes`.
    pub(crate) fn forget_stateful(&self, gone: &[Exchange], changes: &mut Vec<Change<Message>>) {
        for exchange in gone {
            self.unroutable.remove(&exchange.name);
            self.exchange_logs.remove(&exchange.name);
            if let Some((_, stateful)) = self.stateful.remove(&exchange.name) {
                stateful.delete(changes);
                let owner = Owner::Exchange(stateful.id());
                self.services.deadlines.forget(owner);
            }
        }
    }

    /// For publishes to an exchange there was no queue.
    pub fn note_unroutable(&self, exchange: &str, returned: u64, dropped: u64) {
        // What comes of one that has been deleted meanwhile stays with the next of its name.
        let mut counts = self.unroutable.entry(exchange.to_owned()).or_default();
        counts.0 += returned;
        counts.1 += dropped;
    }

    /// How many publishes to an exchange came back since there was no queue for them, and how many went nowhere.
    #[must_use]
    pub fn unroutable(&self, exchange: &str) -> (u64, u64) {
        let counts = self.unroutable.get(exchange);
        counts.map_or((0, 0), |counts| *counts)
    }

    /// The queues of a route that are still there.
    pub fn handles(&self, queues: &[QueueId]) -> Targets {
        let queues = queues.iter();
        queues.filter_map(|id| self.queue_by_id(*id)).collect()
    }

    /// The queue with this identity, unless it has gone.
    pub fn queue_by_id(&self, id: QueueId) -> Option<QueueHandle> {
        self.queues_by_id.get(&id).map(|queue| queue.clone())
    }

    /// Routes from inside the broker (dead letters): an unknown exchange is simply nowhere. Answers
    /// too whether exchanges on the way keep something, as [`Routed::stateful`].
    pub(crate) fn route_internally(
        &self,
        exchange: &str,
        input: &RouteInput<'_>,
    ) -> (Targets, bool) {
        let mut route = Route::new();
        let mut stateful = false;
        let topology = self.topology.read();
        topology.route_past(exchange, input, &mut route, &mut |_| {
            stateful = true;
            true
        });
        drop(topology);
        (self.handles(&route.queues), stateful)
    }
}

impl std::fmt::Debug for VirtualHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VirtualHost({})", self.name)
    }
}

/// The routing keys in the CC and BCC headers.
pub fn carbon_copies<'a>(
    headers: Option<RawTable<'a>>,
) -> Result<SmallVec<[&'a [u8]; 2]>, ChannelError> {
    let mut keys = SmallVec::new();
    let Some(headers) = headers else {
        return Ok(keys);
    };
    for name in ["CC", "BCC"] {
        match headers.get(name.as_bytes()) {
            None => {}
            Some(RawValue::Array(array)) => {
                keys.extend(array.iter().filter_map(|value| value.ok()?.as_bytes()));
            }
            Some(other) => {
                return Err(ChannelError::precondition(format_args!(
                    "invalid message: {{unacceptable_type_in_header,\"{name}\",{}}}",
                    other.type_name()
                )));
            }
        }
    }
    Ok(keys)
}
