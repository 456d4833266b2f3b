//! The numbers of messages where segments go and the index is made anew.

use std::path::Path;

use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, LogId, MessageLog, Sequence};

use crate::support::{Blob, acknowledge, all, commit, enqueue, small};

fn set(log: u64, first: u64, length: u64, count: u32) -> Change<Blob> {
    Change::SetCount {
        log: LogId(log),
        first: Sequence(first),
        length,
        count,
        synced: false,
    }
}

fn open(directory: &Path, options: JournalOptions) -> Journal<Blob> {
    Journal::open(directory, options).expect("open")
}

/// Sequences and numbers of what lives in a log.
fn counts(store: &Journal<Blob>, log: u64) -> Vec<(u64, u32)> {
    let messages = all(store, log);
    let each = messages
        .iter()
        .map(|message| (message.sequence.0, message.count));
    each.collect()
}

/// Numbered messages of three logs, most of which go, so that the rest is copied forward and the segments in which
/// their numbers stand are freed.
fn used(store: &Journal<Blob>) {
    for round in 0..40u64 {
        let first = round * 50;
        for log in 1..=3 {
            let messages = (first..first + 50).map(|n| enqueue(log, n, 300));
            commit(store, messages.collect());
            commit(
                store,
                vec![set(log, first, 50, 1), set(log, first + 7, 1, 9)],
            );
            let count = u32::try_from(round).expect("a small number") + 10;
            commit(
                store,
                vec![
                    set(log, first + 3, 2, count),
                    acknowledge(log, first, 3),
                    acknowledge(log, first + 5, 45),
                ],
            );
        }
        if round % 5 == 4 {
            store.checkpoint();
        }
    }
    // Each compacts a few.
    for _ in 0..60 {
        store.checkpoint();
    }
    commit(store, vec![Change::DeleteLog { log: LogId(3) }]);
}

fn expected() -> Vec<(u64, u32)> {
    (0..40u32)
        .flat_map(|round| {
            let first = u64::from(round) * 50;
            [(first + 3, round + 10), (first + 4, round + 10)]
        })
        .collect()
}

#[test]
fn numbers_outlive_compaction_checkpoints_and_rebuilding() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), small());
    used(&store);
    let segments = || {
        let names = std::fs::read_dir(directory.path().join("journal")).expect("segments");
        names.filter(|name| name.is_ok()).count()
    };
    assert!(
        segments() < 30,
        "{} segments: the journal has not been compacted",
        segments()
    );
    assert_eq!(counts(&store, 1), expected());
    store.close();
    let store = open(directory.path(), small());
    assert_eq!(counts(&store, 2), expected());
    // In the newest records, and in no checkpoint.
    commit(&store, vec![set(2, 1003, 2, 77)]);
    store.close();
    let verified = leveret_store::verify(directory.path()).expect("verify");
    assert_eq!((verified.messages, verified.problems), (160, vec![]));
    let rebuilt = leveret_store::rebuild(directory.path()).expect("rebuild");
    assert_eq!(rebuilt.problems, Vec::<String>::new());
    let store = open(directory.path(), small());
    let found = counts(&store, 1);
    for one in expected() {
        assert!(found.contains(&one), "{one:?} is not in {found:?}");
    }
    let found = counts(&store, 2);
    assert!(found.contains(&(1003, 77)) && found.contains(&(1004, 77)));
    assert_eq!(counts(&store, 3), []);
}

#[test]
fn many_blocks_of_numbers_come_and_go() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(directory.path(), small());
    let messages = (0..5000).map(|n| enqueue(1, n, 10)).collect();
    commit(&store, messages);
    let numbers = (0..5000u64).map(|n| set(1, n, 1, u32::try_from(n % 7).expect("small")));
    commit(&store, numbers.collect());
    store.checkpoint();
    commit(
        &store,
        vec![acknowledge(1, 600, 3000), set(1, 4000, 500, 0)],
    );
    store.checkpoint();
    store.close();
    let store = open(directory.path(), small());
    let expected = (0..600).chain(3600..5000u64).map(|n| {
        let count = u32::try_from(n % 7).expect("small");
        (n, if (4000..4500).contains(&n) { 0 } else { count })
    });
    assert_eq!(counts(&store, 1), expected.collect::<Vec<_>>());
    commit(&store, vec![acknowledge(1, 0, 10_000)]);
    store.close();
    let store = open(directory.path(), small());
    assert_eq!(counts(&store, 1), []);
}

#[test]
fn older_programs_refuse_a_store_from_the_first_message_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("format");
    // A program that knew of nothing has made it.
    std::fs::write(&path, "leveret-store 1 0badcafe\n").expect("written");
    let format = || {
        let text = std::fs::read_to_string(&path).expect("read");
        text.split(' ').nth(1).map(str::to_owned)
    };
    let store = open(directory.path(), small());
    commit(&store, vec![crate::support::put("key", "value")]);
    assert_eq!(format().as_deref(), Some("1"));
    commit(&store, vec![enqueue(1, 0, 10), enqueue(1, 1, 10)]);
    assert_eq!(format().as_deref(), Some("4"));
    store.close();
    // A program that knows nothing of deliveries had it.
    std::fs::remove_file(directory.path().join("delivered")).expect("removed");
    let store = open(directory.path(), small());
    assert_eq!(counts(&store, 1), [(0, 0), (1, 0)]);
    assert_eq!(store.delivered(LogId(1)).uncertain_below, Sequence(2));
    commit(&store, vec![set(1, 1, 1, 5)]);
    store.close();
    let store = open(directory.path(), small());
    assert_eq!(counts(&store, 1), [(0, 0), (1, 5)]);
}
