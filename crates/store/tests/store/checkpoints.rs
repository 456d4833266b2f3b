//! Checkpoints that fail and are repeated, and what is deleted before, meanwhile and after: the index says no more
//! and no less than the journal, whenever the power goes off.

use std::thread;

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, DefinitionStore, LogId, MessageLog, Sequence, StoreStatus};

use crate::support::{
    Blob, acknowledge, all, commit, enqueue, has_index, open, put, sequences, small, until, wait,
    waker,
};

fn delete(log: u64) -> Change<Blob> {
    Change::DeleteLog { log: LogId(log) }
}

fn undefine(key: &str) -> Change<Blob> {
    Change::RemoveDefinition { key: key.into() }
}

fn number(log: u64, sequence: u64, count: u32) -> Change<Blob> {
    Change::SetCount {
        log: LogId(log),
        first: Sequence(sequence),
        length: 1,
        count,
        synced: false,
    }
}

fn options() -> JournalOptions {
    JournalOptions {
        spare_segments: 0,
        ..small()
    }
}

/// Four logs, each with a segment of its own, numbers, and definitions, all of it in the index.
fn prepared(disk: &SimulatedDisk) -> Journal<Blob> {
    let store = open(disk, options()).expect("open");
    for log in 1..=4 {
        commit(&store, vec![put(&format!("log {log}"), "here")]);
        commit(&store, (0..30).map(|n| enqueue(log, n, 1000)).collect());
        commit(&store, vec![number(log, 3, 7), number(log, 20, 9)]);
    }
    store.checkpoint();
    store
}

/// Definitions for more than one part of a snapshot.
fn several_parts(store: &Journal<Blob>) {
    for key in ["log 5", "log 6", "log 7", "log 8"] {
        commit(store, vec![put(key, &"x".repeat(200_000))]);
    }
}

/// The definitions that are left, without what they begin with, and what lives in each log.
fn left(store: &Journal<Blob>) -> (Vec<u64>, Vec<usize>) {
    let definitions = store.definitions().expect("definitions");
    let keys = definitions.iter().map(|(key, _)| {
        let key = String::from_utf8_lossy(key);
        key.trim_start_matches("log ").parse().expect("a number")
    });
    let messages = (1..=4).map(|log| all(store, log).len());
    (keys.collect(), messages.collect())
}

/// What a start finds after a power cut: that, whatever of what was not synced has survived.
fn assert_left(disk: &SimulatedDisk, expected: (&[u64], &[usize]), why: &str) {
    for seed in [1, 77, 4096] {
        let disk = disk.after_power_cut(seed);
        let store = open(&disk, options()).unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(
            left(&store),
            (expected.0.to_vec(), expected.1.to_vec()),
            "{why}"
        );
        for log in 1..=4 {
            for message in all(&store, log) {
                let number = match message.sequence.0 {
                    3 => 7,
                    20 => 9,
                    _ => 0,
                };
                assert_eq!(message.count, number, "{why}: log {log}");
            }
            let known = store.logs().contains(&LogId(log));
            assert_eq!(known, expected.1[log as usize - 1] > 0, "{why}: log {log}");
        }
        // The next checkpoint makes the same of it.
        store.checkpoint();
        store.close();
        let store = open(&disk, options()).unwrap_or_else(|error| panic!("{why}: {error}"));
        assert_eq!(
            left(&store),
            (expected.0.to_vec(), expected.1.to_vec()),
            "{why}"
        );
    }
}

#[test]
fn what_was_deleted_before_and_after_a_checkpoint_that_failed_stays_deleted() {
    for rows in [0, 1, 2, 3, 5, 8] {
        let disk = SimulatedDisk::new();
        let store = prepared(&disk);
        commit(&store, vec![delete(1), undefine("log 1")]);
        disk.refuse_rows(Some(rows));
        store.checkpoint();
        commit(&store, vec![delete(2), undefine("log 2")]);
        commit(&store, vec![acknowledge(3, 0, 29)]);
        disk.refuse_rows(Some(rows));
        store.checkpoint();
        disk.refuse_rows(None);
        assert_eq!(store.status(), StoreStatus::Running);
        let why = format!("{rows} rows");
        // A repetition, and one with nothing left to be done.
        store.checkpoint();
        store.checkpoint();
        assert_left(&disk, (&[3, 4], &[0, 0, 1, 30]), &why);
    }
}

#[test]
fn a_checkpoint_that_failed_leaves_a_store_that_opens() {
    // The first one fails there, or at once; the second one writes everything.
    for (first, rows) in (0..12).flat_map(|rows| [(0, rows), (rows, rows)]) {
        let disk = SimulatedDisk::new();
        let store = prepared(&disk);
        commit(
            &store,
            vec![delete(1), undefine("log 1"), acknowledge(2, 0, 25)],
        );
        commit(&store, (30..60).map(|n| enqueue(4, n, 1000)).collect());
        disk.refuse_rows(Some(first));
        store.checkpoint();
        disk.refuse_rows(Some(rows));
        store.checkpoint();
        let why = format!("{first}, then {rows} rows");
        assert_left(&disk, (&[2, 3, 4], &[0, 5, 30, 60]), &why);
    }
}

#[test]
fn a_log_that_is_deleted_while_a_checkpoint_is_written_leaves_no_rows() {
    let disk = SimulatedDisk::new();
    let store = prepared(&disk);
    several_parts(&store);
    // Segments that the checkpoint will find empty, in the rows of logs that are deleted behind its look.
    commit(&store, vec![acknowledge(1, 0, 30), acknowledge(2, 0, 29)]);
    disk.set_capacity(Some(disk.used_bytes()));
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        // The first part of the snapshot has no room: the look is over.
        store.on_status(waker());
        while !matches!(store.status(), StoreStatus::Full { .. }) {
            thread::park();
        }
        let deleted = store.stage(&mut vec![
            delete(1),
            delete(2),
            undefine("log 1"),
            undefine("log 2"),
        ]);
        disk.set_capacity(None);
        wait(&store, deleted);
        checkpoint.join().expect("it ends");
    });
    assert_left(
        &disk,
        (&[3, 4, 5, 6, 7, 8], &[0, 0, 30, 30]),
        "deleted meanwhile",
    );
}

#[test]
fn what_comes_and_goes_behind_the_look_is_in_the_next_one() {
    let disk = SimulatedDisk::new();
    let store = prepared(&disk);
    several_parts(&store);
    commit(&store, vec![acknowledge(1, 0, 1), enqueue(3, 30, 10)]);
    disk.set_capacity(Some(disk.used_bytes()));
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        store.on_status(waker());
        while !matches!(store.status(), StoreStatus::Full { .. }) {
            thread::park();
        }
        let changed = store.stage(&mut vec![
            acknowledge(1, 1, 2),
            acknowledge(2, 10, 5),
            enqueue(3, 31, 10),
            put("log 9", "new"),
            undefine("log 4"),
        ]);
        disk.set_capacity(None);
        wait(&store, changed);
        checkpoint.join().expect("it ends");
    });
    assert_eq!(left(&store).1, [27, 25, 32, 30]);
    store.checkpoint();
    assert_left(
        &disk,
        (&[1, 2, 3, 5, 6, 7, 8, 9], &[27, 25, 32, 30]),
        "the next",
    );
}

#[test]
fn an_orderly_stop_without_room_for_the_index_costs_nothing() {
    for rows in [0, 4] {
        let disk = SimulatedDisk::new();
        let store = prepared(&disk);
        commit(&store, vec![delete(1), undefine("log 1")]);
        disk.refuse_rows(Some(rows));
        store.close();
        let disk = disk.after_kill();
        let store = open(&disk, options()).expect("open");
        assert!(!store.opened_clean());
        assert_eq!(left(&store), (vec![2, 3, 4], vec![0, 30, 30, 30]));
        assert_eq!(sequences(&store, 2), (0..30).collect::<Vec<_>>());
    }
}

#[test]
fn a_checkpoint_that_failed_is_repeated_by_itself() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).expect("open");
    commit(&store, vec![put("log 1", "here")]);
    disk.refuse_rows(Some(0));
    store.checkpoint();
    assert!(!has_index(&disk));
    disk.refuse_rows(None);
    until("the index is written", || has_index(&disk));
}

#[test]
fn a_definition_whose_old_row_outlived_a_crash_can_be_removed() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).expect("open");
    commit(&store, vec![put("log 1", "old")]);
    store.checkpoint();
    commit(&store, vec![put("log 1", "new")]);
    // The new row is written, the old one not removed.
    disk.refuse_rows(Some(1));
    store.checkpoint();
    let disk = disk.after_power_cut(1);
    drop(store);
    let store = open(&disk, options()).expect("open");
    let definitions = store.definitions().expect("definitions");
    assert_eq!(definitions, [(b"log 1".to_vec(), b"new".to_vec())]);
    commit(&store, vec![undefine("log 1")]);
    store.checkpoint();
    let disk = disk.after_power_cut(1);
    drop(store);
    let store = open(&disk, options()).expect("open");
    assert!(store.definitions().expect("definitions").is_empty());
}
