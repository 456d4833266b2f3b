//! All or nothing, and nothing before the commit.

use leveret_tests::history::{DeliveryId, QueueId, Rule};

use super::story;
use crate::story::{DEAD, IN, OUT, Story};

/// A transaction that takes one message and puts out two; `end` tells how it ends.
fn transaction(end: impl FnOnce(&mut Story)) -> Story {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.ack_in(1, delivery);
        it.publish_in(1, 2, OUT);
        it.publish_in(1, 3, DEAD);
        end(it);
    })
}

fn take(story: &mut Story, message: u64, queue: QueueId) {
    let delivery = story.counted(9, queue, message);
    story.ack(delivery);
}

#[test]
fn a_transaction_that_nobody_heard_of_is_all_or_nothing() {
    // All of it.
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 2, OUT);
        take(it, 3, DEAD);
    })
    .breaks_nothing();
    // Nothing of it.
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, IN);
    })
    .breaks_nothing();
}

#[test]
fn half_a_transaction_is_found() {
    // One publish of two.
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 2, OUT);
    })
    .breaks(Rule::HalfTransaction);
    // The publishes without the acknowledgement.
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, IN);
        take(it, 2, OUT);
        take(it, 3, DEAD);
    })
    .breaks(Rule::HalfTransaction);
    // The acknowledgement without the publishes.
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
    })
    .breaks(Rule::HalfTransaction);
    // Shown before it was on stable storage.
    transaction(|it| {
        it.commit_sent(1);
        it.deliver(2, OUT, 2);
        it.crash();
        take(it, 1, IN);
    })
    .breaks(Rule::HalfTransaction);
}

#[test]
fn a_committed_publish_that_never_comes_is_lost() {
    transaction(|it| {
        it.commit(1);
        it.crash();
        take(it, 2, OUT);
    })
    .breaks(Rule::Lost);
}

#[test]
fn nothing_is_seen_of_what_is_not_committed() {
    transaction(|it| {
        it.deliver(2, OUT, 2);
        it.crash();
        take(it, 1, IN);
    })
    .breaks(Rule::UncommittedSeen);
    transaction(|it| {
        let early = it.deliver(2, OUT, 2);
        it.ack(early);
        it.commit(1);
        it.crash();
        take(it, 3, DEAD);
    })
    .breaks(Rule::UncommittedSeen);
    transaction(|it| {
        it.roll_back(1);
        it.close(1);
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
        let delivery = it.deliver(2, OUT, 2);
        it.ack(delivery);
    })
    .breaks(Rule::UncommittedSeen);
}

#[test]
fn what_was_rolled_back_is_given_back() {
    transaction(|it| it.roll_back(1)).breaks(Rule::Lost);
    transaction(|it| {
        it.roll_back(1);
        it.close(1);
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn what_was_rolled_back_can_be_done_again() {
    let again = |end: fn(&mut Story)| {
        story(|it| {
            it.confirmed(1, &[IN]);
            let delivery = it.deliver(1, IN, 1);
            it.ack_in(1, delivery);
            it.roll_back(1);
            it.ack_in(2, delivery);
            it.publish_in(2, 2, OUT);
            it.commit(2);
            end(it);
        })
    };
    again(|it| {
        let delivery = it.deliver(2, OUT, 2);
        it.ack(delivery);
    })
    .breaks_nothing();
    again(|it| {
        it.crash();
        take(it, 1, IN);
        take(it, 2, OUT);
    })
    .breaks(Rule::CameBack);
}

/// A message of `out`, settled in a transaction that also puts out one; `end` tells how it ends.
fn settled(settle: fn(&mut Story, u64, DeliveryId), end: impl FnOnce(&mut Story)) -> Story {
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        settle(it, 1, delivery);
        it.publish_in(1, 2, IN);
        end(it);
    })
}

#[test]
fn a_rejection_is_part_of_its_transaction() {
    let rejected = |end: fn(&mut Story)| settled(Story::reject_in, end);
    rejected(|it| {
        it.commit(1);
        it.crash();
        take(it, 1, DEAD);
        take(it, 2, IN);
    })
    .breaks_nothing();
    rejected(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, OUT);
    })
    .breaks_nothing();
    // The dead letter without the publish.
    rejected(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, DEAD);
    })
    .breaks(Rule::HalfTransaction);
    // The publish without the dead letter.
    rejected(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, OUT);
        take(it, 2, IN);
    })
    .breaks(Rule::HalfTransaction);
    // In neither queue.
    rejected(|it| {
        it.commit(1);
        it.crash();
        take(it, 2, IN);
    })
    .breaks(Rule::Lost);
    // Before the commit.
    rejected(|it| {
        let early = it.deliver(2, DEAD, 1);
        it.ack(early);
        it.commit(1);
        take_first(it, 2, IN);
    })
    .breaks(Rule::NeverPublished);
    // For good, and yet again.
    rejected(|it| {
        it.commit(1);
        it.crash();
        take(it, 1, OUT);
        take(it, 1, DEAD);
        take(it, 2, IN);
    })
    .breaks(Rule::CameBack);
}

#[test]
fn a_requeue_is_part_of_its_transaction() {
    let requeued = |end: fn(&mut Story)| settled(Story::requeue_in, end);
    requeued(|it| {
        it.commit(1);
        let delivery = it.counted(1, OUT, 1);
        it.ack(delivery);
        take_first(it, 2, IN);
    })
    .breaks_nothing();
    // It comes again whether or not the commit took place.
    requeued(|it| {
        it.commit_sent(1);
        it.crash();
        take(it, 1, OUT);
        take(it, 2, IN);
    })
    .breaks_nothing();
    // Given back before the commit.
    requeued(|it| {
        let early = it.counted(2, OUT, 1);
        it.ack(early);
        it.commit(1);
        take_first(it, 2, IN);
    })
    .breaks(Rule::CameTwice);
    requeued(|it| {
        it.commit(1);
        take_first(it, 2, IN);
    })
    .breaks(Rule::Lost);
}

fn take_first(story: &mut Story, message: u64, queue: QueueId) {
    let delivery = story.deliver(9, queue, message);
    story.ack(delivery);
}
