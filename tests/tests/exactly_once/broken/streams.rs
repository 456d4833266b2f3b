//! What is read out of a stream.

use leveret_tests::history::Rule;

use super::story;
use crate::story::{LOG, OUT, Story};

/// Four messages, confirmed, in the places from 0 on.
fn stream(read: impl FnOnce(&mut Story)) -> Story {
    story(|it| {
        for message in 1..5 {
            it.confirmed(message, &[LOG]);
        }
        read(it);
    })
}

#[test]
fn every_reader_finds_the_same() {
    stream(|it| {
        it.read(1, 0, &[1, 2, 3]);
        it.read(2, 2, &[3, 4]);
        it.crash();
        it.read(3, 0, &[1, 2, 3, 4]);
    })
    .breaks_nothing();
}

#[test]
fn what_a_stream_had_it_has() {
    stream(|it| it.read(1, 0, &[1, 2, 3])).breaks(Rule::Lost);
    // Not confirmed, but read; the last one to read does not find it.
    stream(|it| {
        it.publish(5, LOG);
        it.read(1, 0, &[1, 2, 3, 4, 5]);
        it.crash();
        it.read(2, 0, &[1, 2, 3, 4]);
    })
    .breaks(Rule::Lost);
    // Passed over in the middle.
    stream(|it| {
        it.read(1, 0, &[1, 2, 3, 4]);
        it.read(2, 0, &[1]);
        it.read(2, 2, &[3, 4]);
    })
    .breaks(Rule::Lost);
    // And at the beginning.
    stream(|it| {
        it.read(1, 0, &[1, 2, 3, 4]);
        it.read(2, 1, &[2, 3, 4]);
    })
    .breaks(Rule::Lost);
}

#[test]
fn a_place_is_one_message_s() {
    stream(|it| {
        it.publish(5, LOG);
        it.read(1, 0, &[1, 2, 3, 4, 5]);
        it.crash();
        it.publish(6, LOG);
        it.read(2, 0, &[1, 2, 3, 4, 6]);
    })
    .breaks(Rule::Rewritten);
}

#[test]
fn a_message_is_in_one_place() {
    stream(|it| it.read(1, 0, &[1, 2, 3, 4, 4])).breaks(Rule::CameTwice);
}

#[test]
fn a_stream_is_in_order_and_so_is_its_reader() {
    stream(|it| it.read(1, 0, &[1, 3, 2, 4])).breaks(Rule::OutOfOrder);
    stream(|it| {
        it.read(1, 0, &[1, 2, 3, 4]);
        it.read(1, 2, &[3, 4]);
    })
    .breaks(Rule::OutOfOrder);
}

#[test]
fn what_is_read_was_published_there() {
    story(|it| {
        it.confirmed(1, &[OUT]);
        let delivery = it.deliver(1, OUT, 1);
        it.ack(delivery);
        it.read(1, 0, &[1]);
    })
    .breaks(Rule::NeverPublished);
}

#[test]
fn a_transaction_is_whole_in_a_stream_too() {
    let transaction = |end: fn(&mut Story)| {
        story(|it| {
            it.publish_in(1, 1, LOG);
            it.publish_in(1, 2, OUT);
            end(it);
        })
    };
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        it.read(1, 0, &[1]);
        let delivery = it.counted(1, OUT, 2);
        it.ack(delivery);
    })
    .breaks_nothing();
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        it.read(1, 0, &[1]);
    })
    .breaks(Rule::HalfTransaction);
    transaction(|it| {
        it.commit_sent(1);
        it.crash();
        let delivery = it.counted(1, OUT, 2);
        it.ack(delivery);
    })
    .breaks(Rule::HalfTransaction);
    transaction(|it| {
        it.roll_back(1);
        it.read(1, 0, &[1]);
    })
    .breaks(Rule::UncommittedSeen);
}
