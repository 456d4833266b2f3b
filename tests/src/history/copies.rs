//! The rules about one message in one queue: that it comes, that it was sent, how often, and with what flag.

use std::collections::BTreeMap;

use super::sources::Sources;
use super::streams::Streams;
use super::{
    ConsumerId, DeliveryId, Event, Finding, History, MessageId, Outcome, QueueFacts, QueueId, Rule,
};

/// One delivery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: usize,
    pub(super) delivery: DeliveryId,
    pub(super) consumer: ConsumerId,
    pub(super) redelivered: bool,
    count: u64,
}

/// A message in a queue.
type Copy = (MessageId, QueueId);

/// All deliveries, by message and queue.
#[derive(Debug, Default)]
pub(super) struct Copies {
    seen: BTreeMap<Copy, Vec<Seen>>,
    copy_of: BTreeMap<DeliveryId, Copy>,
    /// Where each consumer has taken from.
    consumers: BTreeMap<ConsumerId, QueueId>,
    facts: Vec<QueueFacts>,
    pub(super) streams: Streams,
}

impl Copies {
    pub(super) fn of(history: &History, sources: &Sources) -> Self {
        let mut copies = Self {
            facts: history.queues.clone(),
            streams: Streams::of(history),
            ..Self::default()
        };
        for (at, event) in history.events.iter().enumerate() {
            if let Event::Delivered {
                delivery,
                consumer,
                queue,
                message: Some(message),
                redelivered,
                count,
            } = event
                && sources.publications.contains_key(message)
            {
                let copy = (*message, *queue);
                copies.copy_of.insert(*delivery, copy);
                copies.consumers.insert(*consumer, *queue);
                copies.seen.entry(copy).or_default().push(Seen {
                    at,
                    delivery: *delivery,
                    consumer: *consumer,
                    redelivered: *redelivered,
                    count: count.unwrap_or(0),
                });
            }
        }
        copies
    }

    /// The deliveries of a message out of a queue, in order.
    pub(super) fn seen(&self, message: MessageId, queue: QueueId) -> &[Seen] {
        self.seen.get(&(message, queue)).map_or(&[], Vec::as_slice)
    }

    /// When the message first came out of a queue or stream.
    pub(super) fn first_seen_at(&self, message: MessageId, queue: QueueId) -> Option<usize> {
        let first = self.seen(message, queue).first().map(|first| first.at);
        first.or_else(|| self.streams.read_at(message, queue))
    }

    /// A consumer has ended between the two that may have had something of the queue.
    pub(super) fn gave_back(
        &self,
        sources: &Sources,
        queue: QueueId,
        from: usize,
        to: usize,
    ) -> bool {
        let from_here = |consumer| self.consumers.get(&consumer).is_none_or(|it| *it == queue);
        sources.closed_within(from, to).any(from_here)
    }

    /// What was delivered.
    pub(super) fn copy_of(&self, delivery: DeliveryId) -> Option<Copy> {
        self.copy_of.get(&delivery).copied()
    }

    pub(super) fn facts(&self, queue: QueueId) -> Option<&QueueFacts> {
        self.facts.get(queue.0)
    }

    /// Where the queue's rejected messages go.
    fn dead_letters_to(&self, queue: QueueId) -> Option<QueueId> {
        self.facts(queue)?.dead_letters_to
    }

    /// The consumer that got it last has settled it, as far as anybody knows; or, if that was a rejection, the one
    /// that got it as a dead letter has. Of a stream: it is there.
    pub(super) fn is_done(&self, sources: &Sources, message: MessageId, queue: QueueId) -> bool {
        if self.facts(queue).is_some_and(|facts| facts.is_stream) {
            return self.streams.read_at(message, queue).is_some();
        }
        let last = self.seen(message, queue).last();
        let settlement = last.and_then(|last| sources.settlement(last.delivery));
        match settlement.map(|settlement| settlement.outcome) {
            Some(Outcome::Acked) => true,
            Some(Outcome::Rejected) => self
                .dead_letters_to(queue)
                .is_none_or(|next| self.is_done(sources, message, next)),
            Some(Outcome::Requeued) | None => false,
        }
    }

    /// When the message was sent on its way into the queue: by its publisher, or by who rejected it elsewhere.
    fn sent_at(&self, sources: &Sources, message: MessageId, queue: QueueId) -> Option<usize> {
        let publication = sources.publications.get(&message)?;
        if publication.queues.contains(&queue) {
            return Some(publication.at);
        }
        self.rejected_into(queue)
            .flat_map(|source| self.seen(message, source))
            .filter_map(|seen| sources.settlement(seen.delivery))
            .filter(|settlement| settlement.outcome == Outcome::Rejected)
            .map(|settlement| settlement.at)
            .min()
    }

    fn rejected_into(&self, queue: QueueId) -> impl Iterator<Item = QueueId> + '_ {
        let numbered = self.facts.iter().enumerate();
        numbered
            .filter(move |(_, facts)| facts.dead_letters_to == Some(queue))
            .map(|(number, _)| QueueId(number))
    }

    fn is_dead_letter(&self, sources: &Sources, message: MessageId, queue: QueueId) -> bool {
        let publication = sources.publications.get(&message);
        publication.is_some_and(|publication| !publication.queues.contains(&queue))
    }

    /// When it first was known for good that the message has left the queue.
    fn gone_at(&self, sources: &Sources, message: MessageId, queue: QueueId) -> Option<usize> {
        let here = self
            .seen(message, queue)
            .iter()
            .filter_map(|seen| sources.settlement(seen.delivery))
            .filter(|settlement| settlement.outcome != Outcome::Requeued)
            .filter_map(|settlement| settlement.for_good_at)
            .min();
        // Who knows that a dead letter is settled knows that the rejection before it is.
        let next = self
            .dead_letters_to(queue)
            .filter(|next| self.is_dead_letter(sources, message, *next))
            .and_then(|next| self.gone_at(sources, message, next));
        here.into_iter().chain(next).min()
    }
}

pub(super) fn never_published(
    history: &History,
    sources: &Sources,
    copies: &Copies,
    findings: &mut Vec<Finding>,
) {
    for (at, event) in history.events.iter().enumerate() {
        let Event::Delivered { queue, message, .. } = event else {
            continue;
        };
        let sent = message.and_then(|message| copies.sent_at(sources, message, *queue));
        if sent.is_none_or(|sent| sent > at) {
            findings.push(Finding {
                rule: Rule::NeverPublished,
                at,
                what: format!("{message:?} came out of {}", name(copies, *queue)),
            });
        }
    }
}

/// The rules about a message that comes again.
pub(super) fn came_again(sources: &Sources, copies: &Copies, findings: &mut Vec<Finding>) {
    for ((message, queue), seen) in &copies.seen {
        let gone = copies.gone_at(sources, *message, *queue);
        if let Some(late) = seen
            .iter()
            .find(|seen| gone.is_some_and(|gone| gone < seen.at))
        {
            findings.push(Finding {
                rule: Rule::CameBack,
                at: late.at,
                what: format!(
                    "{message:?} came out of {} again, settled for good at {gone:?}",
                    name(copies, *queue)
                ),
            });
            continue;
        }
        let dead_letter = copies.is_dead_letter(sources, *message, *queue);
        for pair in seen.windows(2) {
            let [before, after] = pair else { continue };
            if let Some((rule, why)) = pair_breaks(sources, *before, *after, dead_letter) {
                findings.push(Finding {
                    rule,
                    at: after.at,
                    what: format!(
                        "{message:?} came out of {} at {} and {}: {why}",
                        name(copies, *queue),
                        before.at,
                        after.at
                    ),
                });
            }
        }
    }
}

/// Two deliveries of the same, one after the other.
fn pair_breaks(
    sources: &Sources,
    before: Seen,
    after: Seen,
    dead_letter: bool,
) -> Option<(Rule, &'static str)> {
    let same_run = sources.run(before.at) == sources.run(after.at);
    let was_requeued = sources
        .settlement(before.delivery)
        .is_some_and(|settlement| {
            settlement.outcome == Outcome::Requeued && settlement.at < after.at
        });
    if same_run
        && !was_requeued
        && !sources.closed_between(before.at, after.at, Some(before.consumer))
    {
        return Some((Rule::CameTwice, "nobody gave it back"));
    }
    // A crash may undo a rejection with the delivery as a dead letter after it; the next one is its first then.
    if !after.redelivered && (same_run || !dead_letter) {
        return Some((Rule::NotMarked, "not marked as redelivered"));
    }
    (after.redelivered && after.count == 0).then_some((Rule::NotMarked, "without x-delivery-count"))
}

pub(super) fn falsely_marked(sources: &Sources, copies: &Copies, findings: &mut Vec<Finding>) {
    for ((message, queue), seen) in &copies.seen {
        let Some(first) = seen.first().filter(|first| first.redelivered) else {
            continue;
        };
        let Some(sent) = copies.sent_at(sources, *message, *queue) else {
            continue;
        };
        // Who ends is told of before it does: what is published in between may still go to it, and come back.
        let began = sources.run_began(first.at).unwrap_or(0);
        if !sources.killed_between(sent, first.at) && !sources.closed_between(began, first.at, None)
        {
            findings.push(Finding {
                rule: Rule::FalselyMarked,
                at: first.at,
                what: format!("{message:?} came out of {}", name(copies, *queue)),
            });
        }
    }
}

pub(super) fn lost(
    history: &History,
    sources: &Sources,
    copies: &Copies,
    findings: &mut Vec<Finding>,
) {
    let mut by_key: BTreeMap<u64, Vec<MessageId>> = BTreeMap::new();
    for (message, publication) in &sources.publications {
        if let Some(key) = publication.key {
            by_key.entry(key).or_default().push(*message);
        }
    }
    for (message, publication) in &sources.publications {
        if !sources.is_owed(*message) {
            continue;
        }
        // A duplicate is confirmed for the one that counts.
        let own = [*message];
        let same = publication.key.and_then(|key| by_key.get(&key));
        let same = same.map_or(&own[..], Vec::as_slice);
        for queue in &publication.queues {
            if !same.iter().any(|one| copies.is_done(sources, *one, *queue)) {
                findings.push(Finding {
                    rule: Rule::Lost,
                    at: history.events.len(),
                    what: format!(
                        "{message:?}, published at {} to {}, seen {:?}",
                        publication.at,
                        name(copies, *queue),
                        copies.seen(*message, *queue)
                    ),
                });
            }
        }
    }
}

/// The queue's name.
pub(super) fn name(copies: &Copies, queue: QueueId) -> &'static str {
    copies.facts(queue).map_or("?", |facts| facts.name)
}
