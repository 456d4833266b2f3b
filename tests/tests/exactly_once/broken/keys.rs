//! Keys of deduplication, and what the broker refuses.

use leveret_tests::history::Rule;

use super::story;
use crate::story::{IN, Story};

#[test]
fn of_one_key_one_is_delivered() {
    story(|it| {
        for message in [1, 2] {
            it.publish_with_key(message, IN, 7);
            it.confirm(message);
            let delivery = it.deliver(1, IN, message);
            it.ack(delivery);
        }
    })
    .breaks(Rule::Duplicate);
    // Promised, so the key outlives a crash.
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.confirm(1);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
        it.crash();
        it.publish_with_key(2, IN, 7);
        let delivery = it.deliver(2, IN, 2);
        it.ack(delivery);
    })
    .breaks(Rule::Duplicate);
    // Nothing was promised.
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.deliver(1, IN, 1);
        it.crash();
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
        let delivery = it.deliver(2, IN, 2);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn a_duplicate_is_confirmed_for_the_one_that_counts() {
    story(|it| {
        for message in [1, 2] {
            it.publish_with_key(message, IN, 7);
            it.confirm(message);
        }
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.crash();
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
    })
    .breaks(Rule::Lost);
}

fn take_keyed(story: &mut Story, consumer: u64, message: u64) {
    let delivery = story.deliver(consumer, IN, message);
    story.ack(delivery);
}

#[test]
fn a_key_promised_by_the_confirm_of_a_duplicate_stays() {
    // Sent before a crash, confirmed as a duplicate after it: from there on no other crash excuses a third.
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.crash();
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
        let delivery = it.counted(1, IN, 1);
        it.ack(delivery);
        it.crash();
        it.publish_with_key(3, IN, 7);
        take_keyed(it, 3, 3);
    })
    .breaks(Rule::Duplicate);
    // Settled for good, so the broker had it on stable storage with its key.
    story(|it| {
        it.publish_with_key(1, IN, 7);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
        it.for_good(delivery);
        it.crash();
        it.publish_with_key(2, IN, 7);
        take_keyed(it, 2, 2);
    })
    .breaks(Rule::Duplicate);
}

#[test]
fn a_key_is_used_up_by_a_commit_and_not_by_a_rollback() {
    let first = |end: fn(&mut Story)| {
        story(|it| {
            it.publish_in_with_key(1, 1, IN, 7);
            end(it);
        })
    };
    first(|it| {
        it.commit(1);
        take_keyed(it, 1, 1);
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
        take_keyed(it, 1, 2);
    })
    .breaks(Rule::Duplicate);
    first(|it| {
        it.roll_back(1);
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
        take_keyed(it, 1, 2);
    })
    .breaks_nothing();
    first(|it| {
        it.roll_back(1);
        it.publish_with_key(2, IN, 7);
        it.confirm(2);
    })
    .breaks(Rule::Lost);
}

#[test]
fn what_is_refused_does_not_come() {
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.refuse(1);
    })
    .breaks_nothing();
    story(|it| {
        it.publish_with_key(1, IN, 7);
        it.refuse(1);
        take_keyed(it, 1, 1);
    })
    .breaks(Rule::RefusedSeen);
}
