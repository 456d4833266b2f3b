//! For each rule, histories that break this rule alone, and their neighbours that break none.

mod keys;
mod streams;
mod transactions;

use leveret_tests::history::Rule;

use crate::story::{DEAD, IN, OUT, Story};

fn story(tell: impl FnOnce(&mut Story)) -> Story {
    let mut story = Story::new();
    tell(&mut story);
    story
}

/// Published, confirmed, delivered, acknowledged.
fn whole(story: &mut Story, message: u64) {
    story.confirmed(message, &[IN]);
    let delivery = story.deliver(1, IN, message);
    story.ack(delivery);
}

#[test]
fn a_message_goes_its_way() {
    story(|it| {
        for message in 1..5 {
            whole(it, message);
        }
    })
    .breaks_nothing();
}

#[test]
fn a_confirmed_message_that_never_comes_is_lost() {
    story(|it| {
        whole(it, 1);
        it.confirmed(2, &[IN]);
    })
    .breaks(Rule::Lost);
}

#[test]
fn a_confirmed_message_that_reaches_one_of_its_queues_is_lost_in_the_other() {
    story(|it| {
        it.confirmed(1, &[IN, OUT]);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::Lost);
}

#[test]
fn a_message_without_a_confirm_may_be_gone_after_a_crash() {
    story(|it| {
        it.publish(1, IN);
        it.crash();
    })
    .breaks_nothing();
}

#[test]
fn a_delivery_that_nobody_settled_comes_again() {
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.crash();
    })
    .breaks(Rule::Lost);
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.requeue(delivery);
    })
    .breaks(Rule::Lost);
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.crash();
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn an_acknowledgement_that_was_undone_is_none() {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
        it.crash();
        it.counted(2, IN, 1);
        it.crash();
    })
    .breaks(Rule::Lost);
}

#[test]
fn a_dead_letter_is_in_the_old_queue_or_the_new() {
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.reject(delivery);
        it.crash();
    })
    .breaks(Rule::Lost);
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.reject(delivery);
        let delivery = it.deliver(2, DEAD, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
    // The crash undoes the rejection, and the first dead letter with it.
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.reject(delivery);
        let delivery = it.deliver(2, DEAD, 1);
        it.ack(delivery);
        it.crash();
        let delivery = it.counted(3, OUT, 1);
        it.reject(delivery);
        let delivery = it.deliver(4, DEAD, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn nothing_comes_after_an_acknowledgement_for_good() {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
        it.for_good(delivery);
        it.crash();
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::CameBack);
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
        it.crash();
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
        it.for_good(delivery);
    })
    .breaks_nothing();
}

#[test]
fn nothing_comes_after_a_committed_acknowledgement() {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.ack_in(1, delivery);
        it.commit(1);
        it.crash();
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::CameBack);
}

#[test]
fn a_settled_dead_letter_does_not_come_out_of_its_old_queue() {
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.reject(delivery);
        let delivery = it.deliver(2, DEAD, 1);
        it.ack(delivery);
        it.for_good(delivery);
        it.crash();
        let delivery = it.counted(3, OUT, 1);
        it.ack(delivery);
    })
    .breaks(Rule::CameBack);
}

#[test]
fn what_comes_was_published_there() {
    story(|it| it.deliver_rubbish(1, IN)).breaks(Rule::NeverPublished);
    story(|it| {
        it.publish(1, IN);
        it.deliver(1, DEAD, 1);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NeverPublished);
    // A dead letter that nobody rejected.
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.ack(delivery);
        let delivery = it.deliver(2, DEAD, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NeverPublished);
}

#[test]
fn nothing_comes_twice_that_nobody_gave_back() {
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::CameTwice);
    // Another consumer's end gives nothing of this one's back.
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.close(3);
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::CameTwice);
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.close(1);
        let delivery = it.counted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn what_comes_again_is_marked() {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.requeue(delivery);
        let delivery = it.deliver(1, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NotMarked);
    // With the flag, but without its count.
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.deliver(1, IN, 1);
        it.requeue(delivery);
        let delivery = it.uncounted(1, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NotMarked);
    // After a crash too.
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.crash();
        let delivery = it.uncounted(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NotMarked);
    story(|it| {
        it.confirmed(1, &[IN]);
        it.deliver(1, IN, 1);
        it.crash();
        let delivery = it.deliver(2, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::NotMarked);
}

#[test]
fn what_comes_first_is_not_marked() {
    story(|it| {
        it.confirmed(1, &[IN]);
        let delivery = it.counted(1, IN, 1);
        it.ack(delivery);
    })
    .breaks(Rule::FalselyMarked);
    // A start marks everything, and so does a consumer that ends before it looks.
    story(|it| {
        it.confirmed(1, &[IN]);
        it.crash();
        let delivery = it.counted(1, IN, 1);
        it.ack(delivery);
        it.confirmed(2, &[IN]);
        it.close(1);
        let delivery = it.counted(2, IN, 2);
        it.ack(delivery);
    })
    .breaks_nothing();
}

#[test]
fn a_publisher_s_order_is_kept() {
    story(|it| {
        it.confirmed(1, &[IN]);
        it.confirmed(2, &[IN]);
        for message in [2, 1] {
            let delivery = it.deliver(1, IN, message);
            it.ack(delivery);
        }
    })
    .breaks(Rule::OutOfOrder);
    // After a start, too.
    story(|it| {
        it.confirmed(1, &[IN]);
        it.confirmed(2, &[IN]);
        it.crash();
        for message in [2, 1] {
            let delivery = it.counted(1, IN, message);
            it.ack(delivery);
        }
    })
    .breaks(Rule::OutOfOrder);
    // What is given back comes when it comes, and two consumers know nothing of each other.
    story(|it| {
        it.confirmed(1, &[IN]);
        it.confirmed(2, &[IN]);
        let first = it.deliver(1, IN, 1);
        let second = it.deliver(1, IN, 2);
        it.requeue(first);
        it.ack(second);
        let first = it.counted(1, IN, 1);
        it.ack(first);
    })
    .breaks_nothing();
    story(|it| {
        it.confirmed(1, &[IN]);
        it.confirmed(2, &[IN]);
        let second = it.deliver(2, IN, 2);
        let first = it.deliver(1, IN, 1);
        it.ack(second);
        it.ack(first);
    })
    .breaks_nothing();
    // On its way to a consumer that ended, and never seen there; but not if that one took from elsewhere.
    let ended = |queue| {
        story(|it| {
            it.confirmed(3, &[queue]);
            let other = it.deliver(1, queue, 3);
            it.ack(other);
            it.confirmed(1, &[IN]);
            it.confirmed(2, &[IN]);
            it.close(1);
            for message in [2, 1] {
                let delivery = it.deliver(2, IN, message);
                it.ack(delivery);
            }
        })
    };
    ended(IN).breaks_nothing();
    ended(OUT).breaks(Rule::OutOfOrder);
}
