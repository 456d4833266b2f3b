//! How everything is, at one moment: each queue with its state, and the node. It is looked at when somebody asks, at most
//! once a second for all who ask; in between, and while nobody asks, nothing runs.

mod deaths;
pub(crate) mod filter;
mod mute;
mod node;
pub(crate) mod state;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::view::{
    Distribution, Figures, MessageRates, QueueCounts, QueueId, QueueKind, QueueStatistics,
    QueueView, Timestamp, User, View,
};
use deaths::Deaths;
pub(crate) use mute::{Mutes, Until};
use node::NodeRecord;
pub(crate) use node::Trouble;
use state::{Look, Record, State};

/// A look is taken for as long …
const FRESH_MS: u64 = 900;
/// … and for so many times what it took: with very many queues looking costs no more than a part of a core.
const FRESH_TIMES: u64 = 20;
const HOUR: u64 = 3_600_000;

/// Looks, and what has to be known from one to the next.
#[derive(Default)]
pub(crate) struct Watch {
    inside: Mutex<Inside>,
    pub(crate) mutes: Mutes,
}

#[derive(Default)]
struct Inside {
    /// The last look, while pages are open.
    last: Option<Arc<Seeing>>,
    /// Until when it will do.
    fresh_until: Timestamp,
    records: HashMap<QueueId, Record>,
    deaths: Deaths,
    node: NodeRecord,
    /// What needed attention and does so no more.
    over: Option<Over>,
    /// What needs attention, and since when.
    troubled: HashMap<QueueId, (State, Timestamp)>,
}

/// What needed attention last.
#[derive(Clone, Debug)]
pub(crate) struct Over {
    pub(crate) vhost: String,
    pub(crate) name: String,
    pub(crate) state: State,
    pub(crate) began: Timestamp,
    pub(crate) ended: Timestamp,
}

/// Everything at one moment.
pub(crate) struct Seeing {
    pub(crate) at: Timestamp,
    pub(crate) queues: Vec<Seen>,
    pub(crate) figures: Figures,
    pub(crate) troubles: Vec<Trouble>,
    pub(crate) over: Option<Over>,
}

/// A queue at one moment.
pub(crate) struct Seen {
    pub(crate) queue: QueueView,
    pub(crate) counts: QueueCounts,
    pub(crate) rates: MessageRates,
    /// Of the ready messages' bodies.
    pub(crate) bytes: u64,
    /// Seconds; None: never.
    pub(crate) empty_in: Option<f64>,
    pub(crate) time_in_queue: Distribution,
    pub(crate) time_to_ack: Distribution,
    pub(crate) state: State,
    pub(crate) since: Option<Timestamp>,
    /// Dead letters that it got within the hour.
    pub(crate) deaths: u64,
    /// Dead letters go to it.
    pub(crate) is_grave: bool,
}

impl Watch {
    /// Looks, or answers what was seen just now, which is kept for the next who looks where there are some. Locks each
    /// queue in turn: for the desk.
    pub(crate) fn look(&self, view: &View, is_kept: bool) -> Arc<Seeing> {
        let now = view.now();
        let mut inside = self.lock();
        if let Some(last) = &inside.last
            && now < inside.fresh_until
        {
            return Arc::clone(last);
        }
        let seeing = Arc::new(inside.look(view, now));
        let took = view.now().0.saturating_sub(now.0);
        inside.fresh_until = now + FRESH_MS.max(took * FRESH_TIMES);
        inside.last = is_kept.then(|| Arc::clone(&seeing));
        seeing
    }

    /// Nobody looks any more.
    pub(crate) fn rest(&self) {
        self.lock().last = None;
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn look(&mut self, view: &View, now: Timestamp) -> Seeing {
        let figures = view.figures();
        let is_young = figures.uptime_ms < HOUR;
        let mut looked = Vec::new();
        self.deaths.begin();
        for vhost in view.all_vhosts() {
            for queue in vhost.queues() {
                let statistics = queue.statistics(now);
                let dead = statistics.totals.dead_lettered.total();
                self.deaths.note(&queue, dead, is_young, now);
                looked.push((queue, statistics));
            }
        }
        self.deaths.forget(now);
        let queues = looked.into_iter();
        let queues = queues.map(|(queue, statistics)| self.see(queue, &statistics, now));
        let queues: Vec<Seen> = queues.collect();
        self.keep_records(&queues);
        self.compare(&queues, now);
        Seeing {
            at: now,
            troubles: self.node.look(view, &figures, now),
            queues,
            figures,
            over: self.over.clone(),
        }
    }

    fn see(&mut self, queue: QueueView, statistics: &QueueStatistics, now: Timestamp) -> Seen {
        let (counts, rates) = (statistics.counts, statistics.rates);
        let deaths = self.deaths.within_the_hour(queue.id());
        let is_grave = self.deaths.is_grave(queue.id());
        let look = Look {
            ready: counts.ready,
            unacknowledged: counts.unacknowledged,
            consumers: counts.consumers,
            published: rates.published,
            arrival: rates.arrival,
            service: rates.service,
            delivered: rates.delivered,
            acknowledged_total: statistics.totals.acknowledged,
            delivered_total: statistics.totals.all_delivered(),
            ack_p99_ms: statistics.time_to_ack.p99_ms,
            is_grave,
            has_dead_letters: deaths > 0,
            is_stream: queue.kind() == QueueKind::Stream,
        };
        let is_empty = counts.ready == 0 && counts.unacknowledged == 0;
        let (state, since) = if is_empty && !self.records.contains_key(&queue.id()) {
            Record::default().state(&look, now)
        } else {
            self.records
                .entry(queue.id())
                .or_default()
                .state(&look, now)
        };
        Seen {
            queue,
            counts,
            rates,
            bytes: statistics.ready_bytes,
            empty_in: statistics.forecast.empty_in_seconds,
            time_in_queue: statistics.time_in_queue,
            time_to_ack: statistics.time_to_ack,
            state,
            since,
            deaths,
            is_grave,
        }
    }

    /// Lets go of the records of queues that are gone, and of those about which nothing has to be known.
    fn keep_records(&mut self, queues: &[Seen]) {
        let mut old = std::mem::take(&mut self.records);
        for seen in queues {
            if let Some(record) = old.remove(&seen.queue.id())
                && !record.is_at_rest()
            {
                self.records.insert(seen.queue.id(), record);
            }
        }
    }

    /// Notes what began to need attention, and what does no more.
    fn compare(&mut self, queues: &[Seen], now: Timestamp) {
        for seen in queues {
            let id = seen.queue.id();
            if seen.state.needs_attention() {
                let since = seen.since.unwrap_or(now);
                let known = self.troubled.entry(id).or_insert((seen.state, since));
                known.0 = seen.state;
            } else if let Some((state, began)) = self.troubled.remove(&id) {
                self.over = Some(Over {
                    vhost: seen.queue.vhost().to_owned(),
                    name: seen.queue.name().to_owned(),
                    state,
                    began,
                    ended: now,
                });
            }
        }
        if self.troubled.len() > queues.len() {
            self.troubled.clear();
        }
    }
}

impl Seeing {
    /// The queues that a user may see.
    pub(crate) fn queues_of(&self, view: &View, user: &User) -> impl Iterator<Item = &Seen> {
        let vhosts = view.vhosts_of(user);
        let names: Vec<String> = vhosts.iter().map(|it| it.name().to_owned()).collect();
        let is_seen = move |seen: &&Seen| names.iter().any(|name| name == seen.queue.vhost());
        self.queues.iter().filter(is_seen)
    }
}
