//! What a journal does on a good day, and over restarts.

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, DefinitionStore, LogId, MessageLog, Sequence};

use crate::support::{
    acknowledge, all, blob, commit, enqueue, enqueue_of, open, put, sequences, small,
};

#[test]
fn messages_come_back_as_they_were_over_a_restart() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(
        &store,
        (0..100).map(|n| enqueue(7, n, 100 + n as usize)).collect(),
    );
    commit(
        &store,
        vec![enqueue(7, 100, 40_000), put("a", "1"), enqueue(8, 5, 0)],
    );
    for store in [store, { open(&disk.after_kill(), small()).expect("open") }] {
        let messages = all(&store, 7);
        assert_eq!(messages.len(), 101);
        for (n, message) in messages.iter().enumerate() {
            let bytes = if n == 100 { 40_000 } else { 100 + n };
            assert_eq!(message.sequence, Sequence(n as u64));
            assert_eq!(message.payload, blob(7, n as u64, bytes));
            assert_eq!(message.time_ms, n as u64 * 3);
            assert_eq!(message.flags, (n % 251) as u8);
            assert_eq!(message.stored_bytes as usize, bytes);
        }
        assert_eq!(sequences(&store, 8), [5]);
        assert_eq!(
            store.definitions().expect("definitions"),
            [(b"a".to_vec(), b"1".to_vec())]
        );
    }
}

#[test]
fn a_clean_stop_is_told_from_a_kill() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    assert!(store.opened_clean());
    commit(&store, vec![enqueue(1, 1, 10)]);
    store.close();
    let store = open(&disk, small()).expect("open");
    assert!(store.opened_clean());
    assert_eq!(sequences(&store, 1), [1]);
    let disk = disk.after_kill();
    let store = open(&disk, small()).expect("open");
    assert!(!store.opened_clean());
    assert_eq!(sequences(&store, 1), [1]);
}

#[test]
fn the_real_disk_keeps_everything_too() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    for round in 0..3u64 {
        let store: Journal<crate::support::Blob> = Journal::open(
            &path,
            JournalOptions {
                disk_free_bytes_min: 0,
                ..JournalOptions::default()
            },
        )
        .expect("open");
        assert!(store.opened_clean());
        assert_eq!(sequences(&store, 3), (0..round * 1000).collect::<Vec<_>>());
        commit(
            &store,
            (round * 1000..(round + 1) * 1000)
                .map(|n| enqueue(3, n, 300))
                .collect(),
        );
        commit(&store, vec![put(&format!("key {round}"), "value")]);
        assert_eq!(
            store.definitions().expect("definitions").len() as u64,
            round + 1
        );
        if round == 1 {
            store.checkpoint();
        }
        store.close();
    }
    let found = leveret_store::verify(&path).expect("verify");
    assert_eq!((found.messages, found.problems), (3000, vec![]));
    assert_eq!(found.definitions.len(), 3);
    let rebuilt = leveret_store::rebuild(&path).expect("rebuild");
    assert_eq!(
        (rebuilt.messages, rebuilt.definitions, rebuilt.problems),
        (3000, found.definitions, vec![])
    );
    let store: Journal<crate::support::Blob> =
        Journal::open(&path, JournalOptions::default()).expect("open");
    assert_eq!(sequences(&store, 3), (0..3000).collect::<Vec<_>>());
}

#[test]
fn log_ids_are_never_given_out_twice() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    let first = store.allocate_log();
    let second = store.allocate_log();
    assert!(first < second);
    commit(&store, vec![put("a queue", "names the second log")]);
    let store = open(&disk.after_kill(), small()).expect("open");
    assert!(store.allocate_log() > second);
}

#[test]
fn transient_messages_are_read_back_and_end_with_the_process() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(
        &store,
        vec![
            enqueue(1, 0, 50),
            enqueue_of(1, 1, 50, true),
            enqueue(1, 2, 50),
        ],
    );
    assert_eq!(sequences(&store, 1), [0, 1, 2]);
    commit(&store, vec![enqueue_of(1, 3, 50, true)]);
    assert_eq!(
        all(&store, 1)
            .iter()
            .filter(|message| message.transient)
            .count(),
        2
    );
    let store = open(&disk.after_kill(), small()).expect("open");
    assert_eq!(sequences(&store, 1), [0, 2]);
}

#[test]
fn what_is_acknowledged_before_its_commit_is_never_written() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    let mut unit: Vec<_> = (0..50).map(|n| enqueue(1, n, 1000)).collect();
    unit.extend((0..5).map(|n| acknowledge(1, n * 10, 10)));
    unit.push(enqueue(1, 50, 10));
    commit(&store, unit);
    assert_eq!(sequences(&store, 1), [50]);
    let state = store.log_state(LogId(1)).expect("state");
    assert_eq!(
        (state.live, state.bytes, state.first.0, state.next.0),
        (1, 10, 50, 51)
    );
    let journal = disk.contents(std::path::Path::new("/store/journal/0000000001.seg"));
    let written = journal.iter().rposition(|byte| *byte != 0).unwrap_or(0);
    assert!(written < 400, "{written} bytes were written");
}

#[test]
fn deleting_a_log_takes_all_of_it() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, (0..50).map(|n| enqueue(1, n, 100)).collect());
    commit(
        &store,
        vec![enqueue(2, 0, 10), Change::DeleteLog { log: LogId(1) }],
    );
    assert_eq!(store.logs(), [LogId(2)]);
    store.checkpoint();
    let store = open(&disk.after_kill(), small()).expect("open");
    assert_eq!(store.logs(), [LogId(2)]);
}

#[test]
fn space_is_given_back_while_it_runs() {
    let disk = SimulatedDisk::new();
    let options = leveret_store::JournalOptions {
        checkpoint_bytes: 32 * 1024,
        ..small()
    };
    let store = open(&disk, options.clone()).expect("open");
    for round in 0..200u64 {
        commit(
            &store,
            (round * 10..round * 10 + 10)
                .map(|n| enqueue(1, n, 1000))
                .collect(),
        );
        if round > 0 {
            commit(&store, vec![acknowledge(1, (round - 1) * 10, 10)]);
        }
    }
    store.checkpoint();
    store.checkpoint();
    assert!(
        disk.used_bytes() < 8 * 32 * 1024,
        "{} bytes are left",
        disk.used_bytes()
    );
    assert_eq!(sequences(&store, 1), (1990..2000).collect::<Vec<_>>());
    let store = open(&disk.after_kill(), options).expect("open");
    assert_eq!(sequences(&store, 1), (1990..2000).collect::<Vec<_>>());
}

#[test]
fn one_message_in_a_segment_does_not_keep_it() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for round in 0..100u64 {
        commit(
            &store,
            (round * 10..round * 10 + 10)
                .map(|n| enqueue(1, n, 1000))
                .collect(),
        );
        // The first of each hundred stays.
        let first = round * 10;
        let kept = u64::from(round % 10 == 0);
        commit(&store, vec![acknowledge(1, first + kept, 10 - kept)]);
    }
    for _ in 0..40 {
        store.checkpoint();
    }
    let kept: Vec<u64> = (0..10).map(|n| n * 100).collect();
    assert_eq!(sequences(&store, 1), kept);
    assert!(
        disk.used_bytes() < 8 * 32 * 1024,
        "{} bytes are left",
        disk.used_bytes()
    );
    let store = open(&disk.after_kill(), small()).expect("open");
    assert_eq!(sequences(&store, 1), kept);
    for (message, sequence) in all(&store, 1).iter().zip(kept) {
        assert_eq!(message.payload, blob(1, sequence, 1000));
    }
}

#[test]
fn what_was_dead_at_a_clean_stop_is_given_back_after_the_start() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    // Three segments: so few are not worth a checkpoint of their own.
    for n in 0..80 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    commit(&store, vec![acknowledge(1, 0, 80)]);
    store.close();
    assert!(disk.used_bytes() > 3 * 32 * 1024);
    let options = JournalOptions {
        checkpoint_interval_ms: 0,
        ..small()
    };
    let store = open(&disk, options).expect("open");
    // Asking for one waits for the one that was due anyway.
    store.checkpoint();
    assert!(
        disk.used_bytes() < 3 * 32 * 1024,
        "{} bytes are left",
        disk.used_bytes()
    );
}

#[test]
fn both_threads_run_an_errand_at_rest_and_go_on() {
    static RUNS: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, vec![enqueue(1, 1, 10)]);
    store.run_at_rest(|| {
        *RUNS.0.lock().expect("runs") += 1;
        RUNS.1.notify_all();
    });
    let runs = RUNS.0.lock().expect("runs");
    let waited = RUNS
        .1
        .wait_timeout_while(runs, Duration::from_secs(10), |runs| *runs < 2)
        .expect("runs");
    assert!(!waited.1.timed_out());
    drop(waited);
    commit(&store, vec![enqueue(1, 2, 10)]);
    store.checkpoint();
    assert_eq!(sequences(&store, 1), [1, 2]);
}
