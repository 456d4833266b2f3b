//! Histories of any kind: what the model makes is good, and what is broken in it is found.

use leveret_tests::history::{Event, History, MessageId, Outcome, QueueId, Rule, judge};
use proptest::prelude::*;

use crate::model::{Ending, Model, Step};
use crate::story::{IN, LOG, OUT};

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        3 => Just(Outcome::Acked),
        1 => Just(Outcome::Requeued),
        1 => Just(Outcome::Rejected),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => Just(Step::Publish),
        4 => (0..3usize, outcome()).prop_map(|(queue, outcome)| Step::Consume(queue, outcome)),
        1 => (0..3usize).prop_map(Step::Hold),
        1 => Just(Step::Close),
        2 => prop_oneof![Just(Ending::Commit), Just(Ending::Rollback), Just(Ending::Crash)]
            .prop_flat_map(|ending| outcome().prop_map(move |outcome| Step::Transform(outcome, ending))),
        1 => Just(Step::Read),
        3 => Just(Step::Sync),
        1 => (0..4usize).prop_map(Step::Crash),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..60)
}

fn rules(history: &History) -> Vec<Rule> {
    judge(history).iter().map(|finding| finding.rule).collect()
}

/// Where the events are that deliver this.
fn deliveries(history: &History, wanted: MessageId, from: QueueId) -> Vec<usize> {
    let is_one = |event: &Event| {
        matches!(event, Event::Delivered { message, queue, .. } | Event::Read { message, queue, .. }
            if *message == Some(wanted) && *queue == from)
    };
    let numbered = history.events.iter().enumerate();
    numbered
        .filter(|(_, event)| is_one(event))
        .map(|(at, _)| at)
        .collect()
}

/// Messages that the broker has confirmed, any one of them chosen.
fn confirmed(history: &History, choice: usize) -> Option<MessageId> {
    let confirmed: Vec<MessageId> = history
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Confirmed { message } => Some(*message),
            _ => None,
        })
        .collect();
    confirmed.get(choice.checked_rem(confirmed.len())?).copied()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_keeps_every_promise_is_acquitted(steps in steps()) {
        let history = Model::run(&steps);
        prop_assert_eq!(judge(&history), []);
    }

    #[test]
    fn without_its_deliveries_a_message_is_lost(steps in steps(), choice: usize) {
        let mut history = Model::run(&steps);
        let Some(message) = confirmed(&history, choice) else { return Ok(()) };
        let at = deliveries(&history, message, IN);
        let mut number = 0;
        history.events.retain(|_| {
            number += 1;
            !at.contains(&(number - 1))
        });
        prop_assert!(rules(&history).contains(&Rule::Lost));
    }

    #[test]
    fn another_message_in_a_place_is_found(steps in steps(), choice: usize) {
        let mut history = Model::run(&steps);
        let Some(message) = confirmed(&history, choice) else { return Ok(()) };
        let read = deliveries(&history, message, LOG);
        let Some((last, [_, ..])) = read.split_last() else { return Ok(()) };
        if let Event::Read { message, .. } = &mut history.events[*last] {
            *message = message.map(|MessageId(number)| MessageId(number + 1_000_000));
        }
        prop_assert!(rules(&history).contains(&Rule::Rewritten));
    }

    #[test]
    fn once_more_at_the_end_is_too_often(steps in steps(), choice: usize, killed: bool) {
        let mut history = Model::run(&steps);
        let Some(message) = confirmed(&history, choice) else { return Ok(()) };
        let Some(last) = deliveries(&history, message, OUT).last().copied() else { return Ok(()) };
        let Event::Delivered { delivery, .. } = history.events[last] else { return Ok(()) };
        // What a crash let stand without a word is not known to be for good.
        if !history.events.contains(&Event::SettledForGood { delivery }) {
            return Ok(());
        }
        if killed {
            history.events.extend([Event::Killed, Event::Restarted]);
        }
        let again = history.events[last].clone();
        history.events.push(again);
        prop_assert!(rules(&history).contains(&Rule::CameBack));
    }

    #[test]
    fn of_a_stranger_it_is_known_that_nobody_sent_it(steps in steps(), choice: usize) {
        let mut history = Model::run(&steps);
        let Some(message) = confirmed(&history, choice) else { return Ok(()) };
        let stranger = MessageId(message.0 + 1_000_000);
        for at in deliveries(&history, message, OUT) {
            if let Event::Delivered { message, .. } = &mut history.events[at] {
                *message = Some(stranger);
            }
        }
        let rules = rules(&history);
        prop_assert!(rules.contains(&Rule::NeverPublished));
        prop_assert!(rules.contains(&Rule::Lost));
    }

    #[test]
    fn an_unmarked_redelivery_is_found(steps in steps(), choice: usize) {
        let mut history = Model::run(&steps);
        let Some(message) = confirmed(&history, choice) else { return Ok(()) };
        let Some(second) = deliveries(&history, message, IN).get(1).copied() else { return Ok(()) };
        if let Event::Delivered { redelivered, .. } = &mut history.events[second] {
            *redelivered = false;
        }
        prop_assert!(rules(&history).contains(&Rule::NotMarked));
    }

    #[test]
    fn a_transaction_that_was_not_committed_must_not_show(steps in steps()) {
        let mut history = Model::run(&steps);
        let committed = history.events.iter().find_map(|event| match event {
            Event::Committed(transaction) => Some(*transaction),
            _ => None,
        });
        let Some(committed) = committed else { return Ok(()) };
        history.events.retain(|event| {
            *event != Event::Committed(committed) && *event != Event::CommitSent(committed)
        });
        prop_assert!(rules(&history).contains(&Rule::UncommittedSeen));
    }

    #[test]
    fn part_of_a_transaction_is_found(steps in steps(), choice: usize) {
        let mut history = Model::run(&steps);
        let committed = history.events.iter().find_map(|event| match event {
            Event::Committed(transaction) => Some(*transaction),
            _ => None,
        });
        let Some(committed) = committed else { return Ok(()) };
        let parts: Vec<(MessageId, QueueId)> = history
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Published { message, queues, transaction, .. } if *transaction == Some(committed) => {
                    Some((*message, *queues.first()?))
                }
                _ => None,
            })
            .collect();
        // Nobody heard of the commit, and one part of two never shows.
        let (message, queue) = parts[choice % parts.len()];
        let hidden = deliveries(&history, message, queue);
        let mut number = 0;
        history.events.retain(|event| {
            number += 1;
            !hidden.contains(&(number - 1)) && *event != Event::Committed(committed)
        });
        prop_assert!(rules(&history).contains(&Rule::HalfTransaction));
    }
}
