//! The rules about transactions: nothing is seen of what was not committed, and all or nothing of what may have been.

use super::copies::{Copies, name};
use super::sources::{Sources, Transaction};
use super::{Finding, History, Outcome, Rule, TransactionId};

/// What shows whether a transaction took place.
#[derive(Default)]
struct Evidence {
    /// That it did.
    done: Option<String>,
    /// That it did not, and the event by which that shows.
    undone: Option<(usize, String)>,
}

pub(super) fn judge(
    history: &History,
    sources: &Sources,
    copies: &Copies,
    findings: &mut Vec<Finding>,
) {
    for (id, transaction) in &sources.transactions {
        if let Some(finding) = uncommitted_seen(*id, transaction, sources, copies) {
            findings.push(finding);
        } else if transaction.may_be_committed() && transaction.committed_at.is_none() {
            findings.extend(half(history, *id, transaction, sources, copies));
        }
    }
}

fn uncommitted_seen(
    id: TransactionId,
    transaction: &Transaction,
    sources: &Sources,
    copies: &Copies,
) -> Option<Finding> {
    let commit = transaction
        .commit_sent_at
        .filter(|_| transaction.may_be_committed());
    let early = transaction.publishes.iter().find_map(|message| {
        let publication = sources.publications.get(message)?;
        publication.queues.iter().find_map(|queue| {
            let first = copies.first_seen_at(*message, *queue)?;
            commit
                .is_none_or(|commit| first < commit)
                .then_some((first, *message, *queue))
        })
    });
    early.map(|(at, message, queue)| Finding {
        rule: Rule::UncommittedSeen,
        at,
        what: format!("{message:?} of {id:?} came out of {}", name(copies, queue)),
    })
}

/// Of a transaction whose end nobody knows.
fn half(
    history: &History,
    id: TransactionId,
    transaction: &Transaction,
    sources: &Sources,
    copies: &Copies,
) -> Option<Finding> {
    let mut evidence = Evidence::default();
    publishes(history, transaction, sources, copies, &mut evidence);
    settlements(transaction, sources, copies, &mut evidence);
    let (done, (at, undone)) = evidence.done.zip(evidence.undone)?;
    Some(Finding {
        rule: Rule::HalfTransaction,
        at,
        what: format!("{id:?}: {done}, but {undone}"),
    })
}

fn publishes(
    history: &History,
    transaction: &Transaction,
    sources: &Sources,
    copies: &Copies,
    evidence: &mut Evidence,
) {
    for message in &transaction.publishes {
        let Some(publication) = sources.publications.get(message) else {
            continue;
        };
        // With a key it may be a duplicate, which nobody ever sees.
        for queue in publication
            .queues
            .iter()
            .filter(|_| publication.key.is_none())
        {
            let place = name(copies, *queue);
            let seen = copies.first_seen_at(*message, *queue).is_some();
            if seen {
                evidence.done = Some(format!("{message:?} came out of {place}"));
            }
            // What was seen of it was on stable storage; it stays until it is settled.
            if !copies.is_done(sources, *message, *queue) {
                let how = if seen { "is gone from" } else { "is not in" };
                let what = format!("{message:?} {how} {place}");
                evidence.undone.get_or_insert((history.events.len(), what));
            }
        }
    }
}

fn settlements(
    transaction: &Transaction,
    sources: &Sources,
    copies: &Copies,
    evidence: &mut Evidence,
) {
    let commit = transaction.commit_sent_at.unwrap_or(0);
    for delivery in &transaction.settles {
        let Some((message, queue)) = copies.copy_of(*delivery) else {
            continue;
        };
        let settlement = sources.settlement(*delivery);
        if settlement.is_some_and(|it| it.outcome == Outcome::Requeued) {
            // It comes again, one way or the other.
            continue;
        }
        let place = name(copies, queue);
        let again = copies
            .seen(message, queue)
            .iter()
            .find(|seen| seen.at > commit);
        match again {
            Some(again) => {
                let what = format!("{message:?} came out of {place} again");
                evidence.undone = Some((again.at, what));
            }
            // One that was never confirmed may be gone for that reason.
            None if sources.is_owed(message) => {
                evidence.done = Some(format!("{message:?} is settled in {place}"));
            }
            None => {}
        }
    }
}
