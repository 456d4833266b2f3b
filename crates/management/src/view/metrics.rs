//! What metrics are made of.

use std::sync::Arc;

use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::VirtualHost;
use leveret_queue::queue::kind::QueueKind;
pub(crate) use leveret_queue::queue::statistics::{QueueSum, Reasons, Times};

use super::View;

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

    /// All exchanges but the default one and internal ones.
    pub(crate) fn exchanges(&self) -> Vec<CountedExchange> {
        let mut all = Vec::new();
        for vhost in self.broker.vhosts() {
            let exchanges = vhost.exchanges().into_iter();
            let exchanges = exchanges.filter(|it| !it.internal && !it.name.is_empty());
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

    /// How many bindings lead from it.
    pub(crate) fn binding_count(&self) -> usize {
        self.vhost.binding_count(&self.name)
    }
}
