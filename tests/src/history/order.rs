//! The rules about several messages: their order, and duplicates.

use std::collections::{BTreeMap, HashMap};

use super::copies::{Copies, Seen, name};
use super::sources::Sources;
use super::{ConsumerId, Event, Finding, History, MessageId, PublisherId, QueueId, Rule};

pub(super) fn out_of_order(
    history: &History,
    sources: &Sources,
    copies: &Copies,
    findings: &mut Vec<Finding>,
) {
    // The latest publish that each consumer has of each publisher.
    let mut latest: HashMap<(ConsumerId, QueueId, PublisherId), (usize, MessageId)> =
        HashMap::new();
    for (at, event) in history.events.iter().enumerate() {
        let Event::Delivered {
            consumer,
            queue,
            message: Some(message),
            ..
        } = event
        else {
            continue;
        };
        let in_order = copies.facts(*queue).is_some_and(|facts| facts.in_order);
        let Some(publication) = sources.publications.get(message).filter(|_| in_order) else {
            continue;
        };
        if !publication.queues.contains(queue)
            || !comes_in_its_place(at, *message, *queue, publication.at, sources, copies)
        {
            continue;
        }
        let place = (*consumer, *queue, publication.publisher);
        let last = latest.insert(place, (publication.at, *message));
        if let Some((_, before)) = last.filter(|(last, _)| *last > publication.at) {
            findings.push(Finding {
                rule: Rule::OutOfOrder,
                at,
                what: format!(
                    "{message:?} came out of {} after {before:?}",
                    name(copies, *queue)
                ),
            });
        }
    }
}

/// Nothing has given this message back in this run: it must come in its turn.
fn comes_in_its_place(
    at: usize,
    message: MessageId,
    queue: QueueId,
    published: usize,
    sources: &Sources,
    copies: &Copies,
) -> bool {
    let run = sources.run(at);
    let seen = copies.seen(message, queue);
    let first = seen.iter().find(|seen| sources.run(seen.at) == run);
    let Some(first) = first.filter(|first| first.at == at) else {
        return false;
    };
    // What a consumer gives back comes late: marked if it has seen it, and as it was if it was only on its way. Who ends
    // is told of before it does, so that even what is published later may have been on its way there.
    let began = sources.run_began(at);
    let late = copies.gave_back(sources, queue, began.unwrap_or(0), at);
    // All that was there at the start is marked.
    !late && (!first.redelivered || began.is_some_and(|began| published < began))
}

pub(super) fn duplicates(sources: &Sources, copies: &Copies, findings: &mut Vec<Finding>) {
    let mut by_key: BTreeMap<(u64, QueueId), Vec<MessageId>> = BTreeMap::new();
    for (message, publication) in &sources.publications {
        for queue in &publication.queues {
            if let Some(key) = publication.key {
                by_key.entry((key, *queue)).or_default().push(*message);
            }
        }
    }
    for ((key, queue), messages) in by_key {
        let mut seen: Vec<(MessageId, &[Seen])> = messages
            .iter()
            .map(|message| (*message, copies.seen(*message, queue)))
            .filter(|(_, seen)| !seen.is_empty())
            .collect();
        seen.sort_by_key(|(_, seen)| seen.first().map(|first| first.at));
        for pair in seen.windows(2) {
            let [(one, ones), (other, others)] = pair else {
                continue;
            };
            let (Some(last), Some(next)) = (ones.last(), others.first()) else {
                continue;
            };
            if !went_with_a_crash(&messages, *last, next.at, sources) {
                findings.push(Finding {
                    rule: Rule::Duplicate,
                    at: next.at,
                    what: format!(
                        "{one:?} and {other:?} of key {key} came out of {}",
                        name(copies, queue)
                    ),
                });
            }
        }
    }
}

/// The broker had promised nothing yet, to nobody who sent any of these, and died: message and key are gone together.
fn went_with_a_crash(same: &[MessageId], last: Seen, next: usize, sources: &Sources) -> bool {
    let kill = sources.next_kill(last.at).filter(|kill| *kill < next);
    let Some(kill) = kill else { return false };
    let promised = |at: Option<usize>| at.is_some_and(|at| at < kill);
    let settled = sources.settlement(last.delivery);
    !promised(settled.and_then(|settlement| settlement.for_good_at))
        && !same
            .iter()
            .any(|message| promised(sources.owed_since(*message)))
}

pub(super) fn refused_seen(sources: &Sources, copies: &Copies, findings: &mut Vec<Finding>) {
    for (message, publication) in &sources.publications {
        for queue in publication.queues.iter().filter(|_| publication.refused) {
            if let Some(at) = copies.first_seen_at(*message, *queue) {
                findings.push(Finding {
                    rule: Rule::RefusedSeen,
                    at,
                    what: format!("{message:?} came out of {}", name(copies, *queue)),
                });
            }
        }
    }
}
