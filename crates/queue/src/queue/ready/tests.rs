use leveret_codec::{ContentHeader, write_names};
use leveret_message::{Body, MessageScratch};

use super::*;

const WINDOW: usize = 1 << 20;

fn message() -> Message {
    let mut names = Vec::new();
    write_names(&mut names, b"", b"queue");
    let header = ContentHeader::default();
    Message::compose(
        &mut MessageScratch::default(),
        &names,
        &header,
        Body::Borrowed(&[]),
    )
}

fn push(level: &mut Level, head_window: usize) -> Sequence {
    let sequence = level.next_sequence(Timestamp(1));
    let entry = Entry {
        sequence,
        message: message(),
        expires_at: Timestamp::NEVER,
        delivery_count: DeliveryCount::NONE,
        retries: 0,
        redelivered: false,
        stored: true,
    };
    level.push(entry, head_window);
    sequence
}

/// What a level has when it has been used, and is empty again.
fn resting_bytes(level: &Level) -> usize {
    level.memory_bytes() - level.arrivals.memory_bytes()
}

#[test]
fn nothing_stays_of_commits_while_consumers_keep_up() {
    let mut level = Level::default();
    let fresh = resting_bytes(&level);
    for commit in 1..=10_000 {
        push(&mut level, WINDOW);
        level.staged_at(CommitPoint(commit));
        assert!(level.pop().is_some());
    }
    assert_eq!(resting_bytes(&level), fresh);
}

#[test]
fn nothing_stays_of_commits_to_other_levels_or_behind_what_is_hidden() {
    // A tail that nobody takes: the head has no room.
    let mut level = Level::default();
    push(&mut level, 1);
    push(&mut level, 1);
    level.staged_at(CommitPoint(1));
    for commit in 2..=10_000 {
        level.staged_at(CommitPoint(commit));
    }
    let hidden = push(&mut level, 1);
    level.hide(HiddenTicket(1), hidden.0, 0);
    for commit in 10_001..=20_000 {
        level.staged_at(CommitPoint(commit));
    }
    assert_eq!(level.staged.len(), 1, "{:?}", level.staged);
}

#[test]
fn what_is_durable_leaves_memory_and_what_is_not_stays() {
    let mut level = Level {
        log: Some(LogId(1)),
        ..Level::default()
    };
    let mut spill = Vec::new();
    for commit in 1..=100 {
        push(&mut level, 1);
        level.staged_at(CommitPoint(commit));
    }
    // The first is the head.
    level.page_out(0, CommitPoint(60), || LogId(1), &mut spill);
    assert_eq!(level.paged.map(|paged| paged.count), Some(59));
    level.page_out(0, CommitPoint(100), || LogId(1), &mut spill);
    assert_eq!(level.paged.map(|paged| paged.count), Some(99));
    assert!(spill.is_empty());
    assert!(level.tail.is_empty());
    level.staged_at(CommitPoint(101));
    assert!(level.staged.is_empty());
}
