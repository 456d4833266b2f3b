//! What metrics are made of.

use std::sync::Arc;

pub(crate) use leveret_broker::churn::ChurnFigures;
use leveret_broker::handle::QueueHandle;
pub(crate) use leveret_broker::roll::{SIZES, Traffic};
use leveret_broker::vhost::VirtualHost;
use leveret_queue::queue::kind::QueueKind;
pub(crate) use leveret_queue::queue::statistics::{QueueSum, Reasons, Times};

use super::{DeduplicationCounts, View};

/// A queue to be counted.
pub(crate) struct CountedQueue(QueueHandle);

impl CountedQueue {
    pub(crate) fn vhost(&self) -> &str {
        &self.0.identity().vhost
    }

    pub(crate) fn name(&self) -> &str {
        self.0.name()
    }

    pub(crate) fn kind(&self) -> QueueKind {
        self.0.kind()
    }

    /// Adds what it has and has done.
    pub(crate) fn add_to_sum(&self, sum: &mut QueueSum) {
        self.0.add_to_sum(sum);
    }
}

impl View {
    /// What all queues of a type have, and have done since the start.
    pub(crate) fn queues_together(&self, kind: QueueKind) -> QueueSum {
        self.broker.services.census.sum(kind)
    }

    /// Some of the queues of a type; None: there are no more parts of that number or a higher one.
    pub(crate) fn ward(&self, kind: QueueKind, number: usize) -> Option<Vec<CountedQueue>> {
        let queues = self.broker.services.census.queues(kind, number)?;
        Some(queues.into_iter().map(CountedQueue).collect())
    }

    /// What connections did since the start.
    pub(crate) fn traffic(&self) -> Traffic {
        self.broker.roll.traffic()
    }

    /// What came and went since the start.
    pub(crate) fn churn(&self) -> ChurnFigures {
        self.broker.services.churn.figures()
    }

    /// All exchanges but internal ones, the default ones among them.
    pub(crate) fn exchanges(&self) -> Vec<CountedExchange> {
        let mut all = Vec::new();
        for vhost in self.broker.vhosts() {
            let exchanges = vhost.exchanges().into_iter();
            let exchanges = exchanges.filter(|it| !it.internal);
            all.extend(exchanges.map(|it| CountedExchange {
                vhost: Arc::clone(&vhost),
                kind: it.kind.name(),
                name: it.name,
            }));
        }
        all
    }
}

/// An exchange to be counted.
pub(crate) struct CountedExchange {
    vhost: Arc<VirtualHost>,
    pub(crate) name: String,
    pub(crate) kind: &'static str,
}

impl CountedExchange {
    pub(crate) fn vhost(&self) -> &str {
        self.vhost.name()
    }

    /// Publishes to it for which there was no queue: how many came back, and how many went nowhere.
    pub(crate) fn unroutable(&self) -> (u64, u64) {
        self.vhost.unroutable(&self.name)
    }

    /// What it has counted of duplicates, if it looks for them.
    pub(crate) fn duplicates(&self) -> Option<DeduplicationCounts> {
        self.vhost.deduplication_counts(&self.name)
    }

    /// How many bindings lead from it.
    pub(crate) fn binding_count(&self) -> usize {
        self.vhost.binding_count(&self.name)
    }
}
