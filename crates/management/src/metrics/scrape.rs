//! One answer on its way: its sections one after the other, a piece at a time. A section about all queues goes from one
//! to the next, and holds those of one ward meanwhile.

use std::sync::Arc;
use std::vec;

use axum::body::Bytes;

use super::broker;
use super::connections;
use super::node;
use super::queues::{self, COARSE, CONSUMERS, Family, QUEUE};
use super::select::Selection;
use super::text::{Text, Type};
use crate::api::Api;
use crate::http::body::{PIECE_BYTES, Source};
use crate::http::desk::Desk;
use crate::view::{CountedQueue, QueueKind, QueueSum};

/// What is asked for.
pub(super) enum Endpoint {
    Aggregated,
    PerObject,
    Detailed(Selection),
    MemoryBreakdown,
}

/// What is before the names of families.
#[derive(Clone, Copy)]
pub(super) struct Prefixes {
    pub(super) rabbitmq: &'static str,
    pub(super) leveret: &'static str,
}

const PLAIN: Prefixes = Prefixes {
    rabbitmq: "rabbitmq_",
    leveret: "leveret_",
};
const DETAILED: Prefixes = Prefixes {
    rabbitmq: "rabbitmq_detailed_",
    leveret: "leveret_detailed_",
};

/// One answer.
pub(super) struct Scrape {
    api: Arc<Api>,
    selection: Selection,
    sections: vec::IntoIter<Section>,
    /// The section about all queues that is being written.
    walk: Option<Walk>,
}

/// A part of an answer.
enum Section {
    /// Written at once: it does not grow with what there is, or is no larger than what is held anyway.
    Whole(fn(&Api, &mut Text)),
    /// The same, with families of a group named so.
    Group(fn(&Api, &Selection, Prefixes, &mut Text)),
    /// A value for each queue.
    Queues(&'static str, &'static Family),
    /// What each queue is.
    QueueInfo(&'static str),
}

/// The way past all queues.
struct Walk {
    shows: Shows,
    kinds: vec::IntoIter<QueueKind>,
    kind: Option<QueueKind>,
    ward: usize,
    queues: vec::IntoIter<CountedQueue>,
}

enum Shows {
    Values(&'static str, &'static Family),
    Info(&'static str),
}

impl Scrape {
    pub(super) fn new(api: Arc<Api>, endpoint: Endpoint) -> Self {
        let (sections, selection) = match endpoint {
            Endpoint::Aggregated => (aggregated(), Selection::default()),
            Endpoint::PerObject => (per_object(), Selection::default()),
            Endpoint::Detailed(selection) => (detailed(&selection), selection),
            Endpoint::MemoryBreakdown => {
                let sections = vec![
                    Section::Whole(broker::memory_breakdown),
                    Section::Whole(|api, text| broker::identity(api, "memory-breakdown", text)),
                ];
                (sections, Selection::default())
            }
        };
        Self {
            api,
            selection,
            sections: sections.into_iter(),
            walk: None,
        }
    }

    pub(super) fn desk(&self) -> Desk {
        self.api.desk.clone()
    }

    /// Begins the next section; false: there is none.
    fn begin(&mut self, text: &mut Text) -> bool {
        let Some(section) = self.sections.next() else {
            return false;
        };
        let shows = match section {
            Section::Whole(write) => {
                write(&self.api, text);
                return true;
            }
            Section::Group(write) => {
                write(&self.api, &self.selection, DETAILED, text);
                return true;
            }
            Section::Queues(prefix, family) => {
                text.family(prefix, family.name, family.of, family.help);
                Shows::Values(prefix, family)
            }
            Section::QueueInfo(prefix) => {
                text.family(prefix, "queue_info", Type::Gauge, QUEUE_INFO);
                Shows::Info(prefix)
            }
        };
        self.walk = Some(Walk::new(shows));
        true
    }
}

impl Source for Scrape {
    fn piece(&mut self) -> Bytes {
        let mut text = Text::default();
        if let Some(walk) = &self.walk {
            walk.resume(&mut text);
        }
        while text.len() < PIECE_BYTES {
            let Some(walk) = &mut self.walk else {
                if self.begin(&mut text) {
                    continue;
                }
                break;
            };
            match walk.next(&self.api) {
                Some(queue) => walk.show(&self.api, &self.selection, &queue, &mut text),
                None => self.walk = None,
            }
        }
        Bytes::from(text.into_bytes())
    }

    fn is_done(&self) -> bool {
        self.walk.is_none() && self.sections.len() == 0
    }
}

/// rabbitmq: its words
const QUEUE_INFO: &str =
    "A metric with a constant '1' value and labels that provide some queue details";

impl Walk {
    fn new(shows: Shows) -> Self {
        Self {
            shows,
            kinds: QueueKind::ALL.to_vec().into_iter(),
            kind: None,
            ward: 0,
            queues: Vec::new().into_iter(),
        }
    }

    fn resume(&self, text: &mut Text) {
        match self.shows {
            Shows::Values(prefix, family) => text.resume(prefix, family.name),
            Shows::Info(prefix) => text.resume(prefix, "queue_info"),
        }
    }

    fn next(&mut self, api: &Api) -> Option<CountedQueue> {
        loop {
            if let Some(queue) = self.queues.next() {
                return Some(queue);
            }
            let ward = self.kind.and_then(|kind| api.view.ward(kind, self.ward));
            match ward {
                Some(queues) => {
                    self.ward += 1;
                    self.queues = queues.into_iter();
                }
                None => {
                    self.kind = Some(self.kinds.next()?);
                    self.ward = 0;
                }
            }
        }
    }

    fn show(&self, api: &Api, selection: &Selection, queue: &CountedQueue, text: &mut Text) {
        let (vhost, name) = (queue.vhost(), queue.name());
        if !selection.takes_queue(vhost, name) {
            return;
        }
        let mut sum = QueueSum::default();
        queue.add_to_sum(&mut sum);
        if sum.queues == 0 {
            // It is deleted, and somebody holds it still.
            return;
        }
        let labels = [("vhost", vhost), ("queue", name)];
        match self.shows {
            Shows::Values(_, family) => family.show(text, &labels, &sum, api.view.now()),
            Shows::Info(_) => {
                let kind = queue.kind().module();
                let more = [("queue_type", kind), ("membership", "leader")];
                text.sample(&[labels, more].concat(), 1);
            }
        }
    }
}

fn aggregated() -> Vec<Section> {
    vec![
        Section::Whole(node::process),
        Section::Whole(node::node),
        Section::Whole(node::files),
        Section::Whole(connections::connections_together),
        Section::Whole(broker::queues_together),
        Section::Whole(|api, text| broker::identity(api, "aggregated", text)),
    ]
}

fn per_object() -> Vec<Section> {
    let mut sections = vec![
        Section::Whole(node::process),
        Section::Whole(node::node),
        Section::Whole(node::files),
        Section::Whole(connections::connections_together),
    ];
    let rabbitmq = queues::RABBITMQ.iter();
    // It is in `queue_metrics`, too.
    let rabbitmq = rabbitmq.filter(|family| family.group != CONSUMERS);
    sections.extend(rabbitmq.map(|family| Section::Queues(PLAIN.rabbitmq, family)));
    let leveret = queues::LEVERET.iter().filter(|family| !family.is_long());
    sections.extend(leveret.map(|family| Section::Queues(PLAIN.leveret, family)));
    sections.extend([
        Section::Whole(|api, text| {
            broker::of_each_exchange(api, &Selection::default(), PLAIN, text);
        }),
        Section::QueueInfo(PLAIN.rabbitmq),
        Section::Whole(|api, text| broker::identity(api, "per-object", text)),
    ]);
    sections
}

fn detailed(selection: &Selection) -> Vec<Section> {
    let mut sections = vec![Section::Group(broker::groups)];
    let counts_twice = selection.wants(QUEUE);
    let rabbitmq = queues::RABBITMQ.iter();
    let rabbitmq = rabbitmq
        .filter(|family| selection.wants(family.group))
        .filter(|family| !(counts_twice && family.group == CONSUMERS));
    sections.extend(rabbitmq.map(|family| Section::Queues(DETAILED.rabbitmq, family)));
    let leveret = queues::LEVERET.iter();
    let leveret = leveret.filter(|family| selection.wants(family.group));
    sections.extend(leveret.map(|family| Section::Queues(DETAILED.leveret, family)));
    if [COARSE, CONSUMERS, QUEUE]
        .iter()
        .any(|group| selection.wants(group))
    {
        sections.push(Section::QueueInfo(DETAILED.rabbitmq));
    }
    sections.push(Section::Whole(|api, text| {
        broker::identity(api, "detailed", text);
    }));
    sections
}
