//! Publishes on their way to the queues: gathered while frames are read, given to each queue under one lock.
//!
//! Holds nothing but publishes, so order is kept. What is checked and where a publish goes is decided in
//! `publish`.

use std::ops::Range;
use std::task::Waker;

use leveret_broker::handle::QueueHandle;
use leveret_broker::vhost::Targets;
use leveret_codec::ChannelNumber;
use leveret_message::{Message, MessageScratch, Timestamp};
use leveret_queue::queue::effects::Effects;
use leveret_routing::{QueueId, Route};
use leveret_store_api::CommitPoint;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::confirms::PublishTag;
use super::route_cache::{RouteCache, RouteNumber};

/// A batch is published when it has grown to this many bytes, however much more is to be read.
const BYTES_MAX: usize = 256 << 10;
/// Targets up to this number are found by looking at each.
const SCANNED_TARGETS_MAX: usize = 8;

/// One publish.
pub(super) struct BatchedMessage {
    message: Option<Message>,
    /// Queues that still have to take it.
    remaining: u32,
    pub(super) channel: ChannelNumber,
    pub(super) tag: PublishTag,
}

impl BatchedMessage {
    /// The message, for one of the queues that have to take it.
    #[inline]
    fn take_for_one(&mut self) -> Option<Message> {
        self.remaining -= 1;
        if self.remaining == 0 {
            self.message.take()
        } else {
            self.message.clone()
        }
    }
}

struct BatchTarget {
    queue: QueueHandle,
    /// Which messages of the batch still go there, in order: none of these runs is empty.
    runs: SmallVec<[Range<u32>; 1]>,
}

impl BatchTarget {
    /// These messages, the latest, go there, too.
    fn add(&mut self, numbers: Range<u32>) {
        match self.runs.last_mut() {
            Some(run) if run.end == numbers.start => run.end = numbers.end,
            _ => self.runs.push(numbers),
        }
    }

    fn numbers(&self) -> impl Iterator<Item = u32> {
        self.runs.iter().cloned().flatten()
    }

    fn messages<'a>(&'a self, of: &'a mut [BatchedMessage]) -> MessagesOfTarget<'a> {
        let mut runs = self.runs.iter();
        let run = runs.next().cloned();
        debug_assert!(run.is_some(), "what is in a batch for a queue is something");
        let run = run.unwrap_or_default();
        MessagesOfTarget { run, runs, of }
    }
}

/// The messages of a batch that go to one queue.
struct MessagesOfTarget<'a> {
    run: Range<u32>,
    /// Behind it.
    runs: std::slice::Iter<'a, Range<u32>>,
    of: &'a mut [BatchedMessage],
}

impl Iterator for MessagesOfTarget<'_> {
    type Item = Message;

    #[inline]
    fn next(&mut self) -> Option<Message> {
        loop {
            for index in self.run.by_ref() {
                if let Some(publishing) = self.of.get_mut(index as usize) {
                    return publishing.take_for_one();
                }
            }
            self.run = self.runs.next()?.clone();
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let behind: usize = self
            .runs
            .as_slice()
            .iter()
            .map(ExactSizeIterator::len)
            .sum();
        (0, Some(self.run.len() + behind))
    }
}

/// Publishes gathered while frames are read. Holds nothing but publishes, so order is kept.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) messages: Vec<BatchedMessage>,
    targets: Vec<BatchTarget>,
    by_queue: FxHashMap<QueueId, u32>,
    /// Names of the latest publish, and where in `targets` its queues are.
    pub(super) latest_names: Vec<u8>,
    pub(super) latest_targets: SmallVec<[u32; 4]>,
    /// The route that those are, if it is a known one.
    latest_route: Option<RouteNumber>,
    /// Channels with confirms to give, and the tag of their latest publish.
    pub(super) confirming: SmallVec<[(ChannelNumber, PublishTag); 2]>,
    bytes: usize,
    pub(super) scratch: MessageScratch,
    pub(super) route: Route,
    rejected: Vec<usize>,
    /// The publishes that a queue has refused so far.
    refused: Vec<u32>,
    /// When what queues have taken so far is durable.
    point: CommitPoint,
    /// A queue that looks for duplicates is among the targets.
    meets_gates: bool,
    random: u64,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.targets.clear();
        self.by_queue.clear();
        self.latest_names.clear();
        self.latest_targets.clear();
        self.latest_route = None;
        self.confirming.clear();
        self.refused.clear();
        self.point = CommitPoint::NONE;
        self.meets_gates = false;
        self.bytes = 0;
    }

    /// Whether a queue among its targets has a gate that may be shut.
    pub(super) fn meets_gates(&self) -> bool {
        self.meets_gates
    }

    /// The latest publish's queues say nothing about the next one's.
    pub(super) fn routes_changed(&mut self) {
        self.latest_names.clear();
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 64;
        if self.messages.is_empty() && self.messages.capacity() > KEPT {
            self.messages = Vec::new();
            self.targets = Vec::new();
            self.by_queue = FxHashMap::default();
            self.scratch = MessageScratch::default();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.confirming.is_empty()
    }

    /// How many queues it is for.
    pub(super) fn queues(&self) -> usize {
        self.targets.len()
    }

    /// It is to be published now.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > BYTES_MAX
    }

    /// The publish with `tag` is to be confirmed with this batch.
    pub(super) fn add_confirm(&mut self, channel: ChannelNumber, tag: PublishTag) {
        match self
            .confirming
            .iter_mut()
            .find(|(number, _)| *number == channel)
        {
            Some((_, last)) => *last = tag,
            None => self.confirming.push((channel, tag)),
        }
    }

    /// Makes `targets` the ones that [`Batch::add`] uses.
    pub(super) fn set_targets(&mut self, names: &[u8], targets: &[QueueHandle]) {
        self.latest_names.clear();
        self.latest_names.extend_from_slice(names);
        self.latest_route = None;
        self.latest_targets.clear();
        for queue in targets {
            let place = self.place_of(queue);
            self.latest_targets.push(place);
        }
    }

    /// As [`Batch::set_targets`], to the queues of a known route. Publishes with different names often have
    /// the same one, and then nothing is to be looked for.
    pub(super) fn follow(&mut self, names: &[u8], route: RouteNumber, routes: &RouteCache) {
        if self.latest_route == Some(route) {
            self.latest_names.clear();
            self.latest_names.extend_from_slice(names);
            return;
        }
        self.set_targets(names, routes.targets(route));
        self.latest_route = Some(route);
    }

    fn place_of(&mut self, queue: &QueueHandle) -> u32 {
        let id = queue.id();
        let found = if self.targets.len() <= SCANNED_TARGETS_MAX {
            self.targets
                .iter()
                .position(|target| target.queue.id() == id)
                .and_then(|place| u32::try_from(place).ok())
        } else {
            if self.by_queue.is_empty() {
                self.by_queue.extend(
                    self.targets
                        .iter()
                        .zip(0u32..)
                        .map(|(target, place)| (target.queue.id(), place)),
                );
            }
            self.by_queue.get(&id).copied()
        };
        found.unwrap_or_else(|| {
            let place = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
            self.meets_gates |= queue.deduplicates();
            self.targets.push(BatchTarget {
                queue: queue.clone(),
                runs: SmallVec::new(),
            });
            if !self.by_queue.is_empty() {
                self.by_queue.insert(id, place);
            }
            place
        })
    }

    /// Makes place for about `count` more publishes.
    pub(super) fn reserve(&mut self, count: usize) {
        self.messages
            .reserve(count.min(BYTES_MAX / Message::MEMORY_MIN));
    }

    /// Adds a publish that goes to the latest targets.
    pub(super) fn add(&mut self, message: Message, channel: ChannelNumber, tag: PublishTag) {
        let from = self.len();
        self.push(message, channel, tag);
        self.direct(from);
    }

    /// Adds a publish that [`Batch::direct`] has to follow.
    #[inline]
    pub(super) fn push(&mut self, message: Message, channel: ChannelNumber, tag: PublishTag) {
        self.bytes += message.memory_bytes();
        self.messages.push(BatchedMessage {
            message: Some(message),
            remaining: u32::try_from(self.latest_targets.len()).unwrap_or(u32::MAX),
            channel,
            tag,
        });
    }

    /// The publishes with numbers from `from` on go to the latest targets.
    pub(super) fn direct(&mut self, from: u32) {
        let until = self.len();
        for &place in &self.latest_targets {
            if let Some(target) = self.targets.get_mut(place as usize) {
                target.add(from..until);
            }
        }
    }

    /// The number of the next publish.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    /// Any number; the seed differs from connection to connection.
    pub(super) fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Gives each queue its messages. False: the gates of some queues are shut. They get theirs with the next call;
    /// `waker` is woken for it.
    pub(super) fn carry_out(
        &mut self,
        now: Timestamp,
        waker: &Waker,
        mut after: impl FnMut(&QueueHandle, Effects),
    ) -> bool {
        let mut is_complete = true;
        let Batch {
            messages,
            targets,
            rejected,
            refused,
            point,
            ..
        } = self;
        for target in targets.iter_mut().filter(|target| !target.runs.is_empty()) {
            let Some(gate) = target.queue.open_gate(waker) else {
                is_complete = false;
                continue;
            };
            let each = target.messages(messages);
            let effects = target.queue.publish(&gate, each, now, rejected);
            drop(gate);
            refused.extend(
                rejected
                    .drain(..)
                    .filter_map(|place| target.numbers().nth(place)),
            );
            target.runs.clear();
            *point = effects.point.max(*point);
            after(&target.queue, effects);
        }
        is_complete
    }

    /// All queues have theirs: when that is durable, and which publishes were refused.
    pub(super) fn outcome(&mut self) -> (CommitPoint, Vec<u32>) {
        self.refused.sort_unstable();
        self.refused.dedup();
        (self.point, std::mem::take(&mut self.refused))
    }

    /// The queues of the latest publish.
    pub(super) fn latest_queues(&self) -> Targets {
        self.latest_targets
            .iter()
            .filter_map(|&place| {
                self.targets
                    .get(place as usize)
                    .map(|target| target.queue.clone())
            })
            .collect()
    }
}
