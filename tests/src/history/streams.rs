//! The rules about streams: what one reader found in a place, all find there, and nobody passes anything over.

use std::collections::{BTreeMap, HashMap};

use super::sources::Sources;
use super::{
    ConsumerId, Event, Finding, History, MessageId, PublisherId, QueueFacts, QueueId, Rule,
};

/// A message in its place.
#[derive(Clone, Copy, Debug)]
struct Placed {
    message: MessageId,
    /// By when somebody had read it.
    read_at: usize,
}

/// All that was read out of streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    facts: Vec<QueueFacts>,
    places: BTreeMap<QueueId, BTreeMap<u64, Placed>>,
    place_of: HashMap<(MessageId, QueueId), u64>,
    /// The places that each reader came to.
    readers: BTreeMap<(QueueId, ConsumerId), Vec<(usize, u64)>>,
    /// What did not fit together while it was read.
    breaches: Vec<Finding>,
}

impl Streams {
    pub(super) fn of(history: &History) -> Self {
        let mut streams = Self {
            facts: history.queues.clone(),
            ..Self::default()
        };
        for (at, event) in history.events.iter().enumerate() {
            if let Event::Read {
                reader,
                queue,
                message,
                offset,
            } = event
            {
                let places = streams.readers.entry((*queue, *reader)).or_default();
                places.push((at, *offset));
                if let Some(message) = message {
                    streams.take(at, *queue, *message, *offset);
                }
            }
        }
        streams
    }

    fn take(&mut self, at: usize, queue: QueueId, message: MessageId, offset: u64) {
        let placed = Placed {
            message,
            read_at: at,
        };
        let places = self.places.entry(queue).or_default();
        let there = *places.entry(offset).or_insert(placed);
        let place = *self.place_of.entry((message, queue)).or_insert(offset);
        if there.message != message {
            let what = format!(
                "place {offset} held {:?} and holds {message:?}",
                there.message
            );
            self.breach(Rule::Rewritten, at, queue, &what);
        } else if place != offset {
            let what = format!("{message:?} is in the places {place} and {offset}");
            self.breach(Rule::CameTwice, at, queue, &what);
        }
    }

    fn breach(&mut self, rule: Rule, at: usize, queue: QueueId, what: &str) {
        let what = format!("{}: {what}", self.name(queue));
        self.breaches.push(Finding { rule, at, what });
    }

    fn name(&self, queue: QueueId) -> &'static str {
        self.facts.get(queue.0).map_or("?", |facts| facts.name)
    }

    /// When the message was first read out of the stream.
    pub(super) fn read_at(&self, message: MessageId, queue: QueueId) -> Option<usize> {
        let offset = self.place_of.get(&(message, queue))?;
        let placed = self.places.get(&queue)?.get(offset)?;
        Some(placed.read_at)
    }
}

/// All rules about streams alone.
pub(super) fn judge(
    history: &History,
    sources: &Sources,
    streams: &Streams,
    findings: &mut Vec<Finding>,
) {
    findings.extend(streams.breaches.iter().cloned());
    never_published(history, sources, streams, findings);
    passed_over(history, streams, findings);
    out_of_order(sources, streams, findings);
}

fn never_published(
    history: &History,
    sources: &Sources,
    streams: &Streams,
    findings: &mut Vec<Finding>,
) {
    for (at, event) in history.events.iter().enumerate() {
        let Event::Read { queue, message, .. } = event else {
            continue;
        };
        let publication = message.and_then(|message| sources.publications.get(&message));
        if !publication.is_some_and(|it| it.at < at && it.queues.contains(queue)) {
            findings.push(Finding {
                rule: Rule::NeverPublished,
                at,
                what: format!("{message:?} was read out of {}", streams.name(*queue)),
            });
        }
    }
}

/// Each reader goes up, and finds everything in its way that others found; the last one's way is the whole stream.
fn passed_over(history: &History, streams: &Streams, findings: &mut Vec<Finding>) {
    let mut last: BTreeMap<QueueId, ConsumerId> = BTreeMap::new();
    for ((queue, reader), read) in &streams.readers {
        let nothing = BTreeMap::new();
        let places = streams.places.get(queue).unwrap_or(&nothing);
        for pair in read.windows(2) {
            let [(_, before), (at, after)] = pair else {
                continue;
            };
            let breach = if after <= before {
                Some((Rule::OutOfOrder, format!("{after} came after {before}")))
            } else {
                let between = places.range(before + 1..*after).next();
                between.map(|(place, _)| (Rule::Lost, format!("{place} is gone, at {after}")))
            };
            if let Some((rule, what)) = breach {
                let what = format!("{}: {what}", streams.name(*queue));
                let at = *at;
                findings.push(Finding { rule, at, what });
            }
        }
        let ended = |reader: &ConsumerId| {
            let read = streams.readers.get(&(*queue, *reader));
            read.and_then(|read| read.last()).map(|(at, _)| *at)
        };
        let latest = last.entry(*queue).or_insert(*reader);
        if ended(latest) < ended(reader) {
            *latest = *reader;
        }
    }
    for (queue, reader) in last {
        let (Some(read), Some(places)) = (
            streams.readers.get(&(queue, reader)),
            streams.places.get(&queue),
        ) else {
            continue;
        };
        let way = (read.first().map(|it| it.1), read.last().map(|it| it.1));
        let whole = (
            places.keys().next().copied(),
            places.keys().next_back().copied(),
        );
        if way.0 > whole.0 || way.1 < whole.1 {
            findings.push(Finding {
                rule: Rule::Lost,
                at: history.events.len(),
                what: format!(
                    "{} was read from {:?} to {:?} in the end; there were places from {:?} to {:?}",
                    streams.name(queue),
                    way.0,
                    way.1,
                    whole.0,
                    whole.1
                ),
            });
        }
    }
}

/// What one channel published is in this order in the stream.
fn out_of_order(sources: &Sources, streams: &Streams, findings: &mut Vec<Finding>) {
    for (queue, places) in &streams.places {
        let mut latest: HashMap<PublisherId, (usize, MessageId)> = HashMap::new();
        for placed in places.values() {
            let Some(publication) = sources.publications.get(&placed.message) else {
                continue;
            };
            let now = (publication.at, placed.message);
            let before = latest.insert(publication.publisher, now);
            if let Some((_, before)) = before.filter(|(before, _)| *before > publication.at) {
                findings.push(Finding {
                    rule: Rule::OutOfOrder,
                    at: placed.read_at,
                    what: format!(
                        "{:?} is behind {before:?} in {}",
                        placed.message,
                        streams.name(*queue)
                    ),
                });
            }
        }
    }
}
