//! Large messages in files of their own: written before they are staged, found again after any end, given
//! back when nobody wants them.

use std::path::Path;

use leveret_store::files::Files;
use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, Enqueue, LogId, MessageLog, Sequence, StoreStatus};

use crate::support::{
    Blob, acknowledge, all, blob, commit, damaged, enqueue, open, sequences, small, until, wait,
    write_ahead,
};

const LARGE: usize = 40_000;

fn ahead() -> JournalOptions {
    JournalOptions {
        write_ahead_bytes_min: 10_000,
        write_ahead_step_bytes: 4096,
        spare_segments: 0,
        ..small()
    }
}

fn large(log: u64, sequence: u64) -> Change<Blob> {
    enqueue(log, sequence, LARGE)
}

fn payload(change: &Change<Blob>) -> &Blob {
    match change {
        Change::Enqueue(enqueue) => &enqueue.payload,
        _ => panic!("an enqueue"),
    }
}

/// Commits a large message that is written ahead.
fn commit_large(store: &Journal<Blob>, log: u64, sequence: u64) {
    let change = large(log, sequence);
    let ahead = write_ahead(store, payload(&change), 1).expect("large enough");
    commit(store, vec![change]);
    drop(ahead);
}

/// Files of large messages.
fn bodies(disk: &SimulatedDisk) -> Vec<String> {
    let names = disk.list(Path::new("/store/journal")).expect("list");
    let mut bodies: Vec<String> = (names.into_iter())
        .filter(|name| name.ends_with(".seg") && contents(disk, name).starts_with(b"LVRB"))
        .collect();
    bodies.sort();
    bodies
}

fn contents(disk: &SimulatedDisk, name: &str) -> Vec<u8> {
    disk.contents(&Path::new("/store/journal").join(name))
}

fn assert_large(store: &Journal<Blob>, log: u64, expected: &[u64]) {
    let messages = all(store, log);
    let found: Vec<u64> = messages.iter().map(|message| message.sequence.0).collect();
    assert_eq!(found, expected);
    for message in messages {
        assert!(message.payload == blob(log, message.sequence.0, LARGE));
        assert_eq!(message.time_ms, message.sequence.0 * 3);
    }
}

#[test]
fn it_comes_back_as_it_was_over_every_kind_of_restart() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    commit_large(&store, 1, 0);
    commit(&store, vec![enqueue(2, 0, 100)]);
    commit_large(&store, 1, 1);
    assert_eq!(bodies(&disk).len(), 2);
    let names = disk.list(Path::new("/store/journal")).expect("list");
    for name in names.iter().filter(|name| !bodies(&disk).contains(name)) {
        let bytes = contents(&disk, name);
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        assert!(written < LARGE, "{written} bytes were written to {name}");
    }
    assert_large(&store, 1, &[0, 1]);
    let disk = disk.after_power_cut(7);
    drop(store);
    let store = open(&disk, ahead()).expect("open");
    assert_large(&store, 1, &[0, 1]);
    store.checkpoint();
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, ahead()).expect("open");
    assert_large(&store, 1, &[0, 1]);
    store.close();
    let store = open(&disk, ahead()).expect("open");
    assert_large(&store, 1, &[0, 1]);
    assert_eq!(sequences(&store, 2), [0]);
}

#[test]
fn the_file_goes_with_its_message() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    commit_large(&store, 1, 0);
    commit_large(&store, 1, 1);
    commit(&store, vec![acknowledge(1, 0, 1)]);
    store.checkpoint();
    assert_eq!(bodies(&disk).len(), 1);
    assert_large(&store, 1, &[1]);
    commit(&store, vec![Change::DeleteLog { log: LogId(1) }]);
    store.checkpoint();
    assert_eq!(bodies(&disk).len(), 0);
}

#[test]
fn the_file_of_a_message_that_is_never_staged_is_given_back() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    let change = large(1, 0);
    let written = write_ahead(&store, payload(&change), 3).expect("large enough");
    assert_eq!(bodies(&disk).len(), 3);
    drop(written);
    until("the files stay", || bodies(&disk).is_empty());
    // The ordinary way is as good.
    commit(&store, vec![change]);
    assert_large(&store, 1, &[0]);
}

#[test]
fn the_file_of_a_message_that_is_acknowledged_at_once_is_given_back() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    let change = large(1, 0);
    let written = write_ahead(&store, payload(&change), 1).expect("large enough");
    commit(&store, vec![change, acknowledge(1, 0, 1)]);
    until("the file stays", || bodies(&disk).is_empty());
    drop(written);
    assert_large(&store, 1, &[]);
}

#[test]
fn several_logs_have_a_file_each_as_far_as_they_go() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    let payload = blob(1, 0, LARGE);
    let to = |log| {
        Change::Enqueue(Enqueue {
            log: LogId(log),
            sequence: Sequence(0),
            flags: 0,
            time_ms: 0,
            transient: false,
            payload: payload.clone(),
        })
    };
    let written = write_ahead(&store, &payload, 2).expect("large enough");
    commit(&store, vec![to(1), to(2), to(3)]);
    drop(written);
    assert_eq!(bodies(&disk).len(), 2);
    let store = open(&disk.after_kill(), ahead()).expect("open");
    for log in 1..4 {
        assert!(all(&store, log)[0].payload == payload);
    }
}

#[test]
fn what_a_kill_leaves_of_messages_that_were_not_staged_is_given_back() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    commit_large(&store, 1, 0);
    let change = large(1, 1);
    let written = write_ahead(&store, payload(&change), 1).expect("large enough");
    let disk = disk.after_kill();
    drop((written, store));
    assert_eq!(bodies(&disk).len(), 2);
    let soon = JournalOptions {
        checkpoint_interval_ms: 0,
        ..ahead()
    };
    let store = open(&disk, soon).expect("open");
    until("the file stays", || bodies(&disk).len() == 1);
    assert_large(&store, 1, &[0]);
}

#[test]
fn a_full_disk_leads_back_to_the_ordinary_way() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    commit_large(&store, 1, 0);
    disk.set_capacity(Some(disk.used_bytes() + 1000));
    let change = large(1, 1);
    let written = write_ahead(&store, payload(&change), 1).expect("large enough");
    assert_eq!(bodies(&disk).len(), 1);
    let point = store.stage(&mut vec![change]);
    drop(written);
    until("the disk is not full", || {
        matches!(store.status(), StoreStatus::Full { .. })
    });
    // Nothing is written ahead then.
    assert!(write_ahead(&store, &blob(1, 2, LARGE), 1).is_none());
    assert!(store.durable_point() < point);
    disk.set_capacity(None);
    wait(&store, point);
    assert_large(&store, 1, &[0, 1]);
}

/// A store with a large message among others, killed, and the name of its file.
fn with_large() -> (SimulatedDisk, String) {
    let disk = SimulatedDisk::new();
    let store = open(&disk, ahead()).expect("open");
    commit(&store, vec![enqueue(1, 0, 100)]);
    commit_large(&store, 2, 0);
    commit(&store, vec![enqueue(1, 1, 100)]);
    let disk = disk.after_kill();
    drop(store);
    let file = bodies(&disk).remove(0);
    (disk, file)
}

#[test]
fn damage_in_it_costs_only_itself() {
    // In the run's header, the checksum of the body, the last byte.
    for (back, lost) in [(LARGE + 40, false), (LARGE + 2, true), (1, true)] {
        let (disk, file) = with_large();
        let end = contents(&disk, &file).len();
        disk.flip(&Path::new("/store/journal").join(&file), end - back);
        let store = open(&disk, ahead()).expect("open");
        assert_eq!(sequences(&store, 1), [0, 1]);
        assert_eq!(sequences(&store, 2), if lost { vec![] } else { vec![0] });
        let found = damaged(&store, 2);
        assert_eq!(found.len(), usize::from(lost), "{back}");
        assert!(found.iter().all(|it| it.is_lasting && it.head.is_some()));
    }
}

#[test]
fn tools_know_such_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    let options = || JournalOptions {
        write_ahead_bytes_min: 10_000,
        disk_free_bytes_min: 0,
        ..JournalOptions::default()
    };
    let store: Journal<Blob> = Journal::open(&path, options()).expect("open");
    for n in 0..4 {
        commit_large(&store, 1, n);
    }
    commit(&store, vec![acknowledge(1, 1, 1)]);
    store.checkpoint();
    commit_large(&store, 1, 4);
    store.close();
    let found = leveret_store::verify(&path).expect("verify");
    assert_eq!((found.messages, found.problems), (4, vec![]));
    let rebuilt = leveret_store::rebuild(&path).expect("rebuild");
    assert_eq!((rebuilt.messages, rebuilt.problems), (4, vec![]));
    let store: Journal<Blob> = Journal::open(&path, options()).expect("open");
    assert_large(&store, 1, &[0, 2, 3, 4]);
    store.close();
    damage_one(&path.join("journal"));
    let found = leveret_store::verify(&path).expect("verify");
    assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    assert_eq!(found.damaged, 1);
    // It is kept, so that its queue learns of it.
    let rebuilt = leveret_store::rebuild(&path).expect("rebuild");
    assert_eq!((rebuilt.messages, rebuilt.problems), (4, vec![]));
    let store: Journal<Blob> = Journal::open(&path, options()).expect("open");
    assert_eq!(sequences(&store, 1).len(), 3);
    assert_eq!(damaged(&store, 1).len(), 1);
}

#[test]
fn a_rebuilt_index_has_it_even_if_its_record_has_gone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    let store: Journal<Blob> = Journal::open(&path, ahead()).expect("open");
    commit_large(&store, 1, 0);
    commit_large(&store, 1, 1);
    for n in 0..100 {
        commit(&store, vec![enqueue(2, n, 1000)]);
    }
    commit(&store, vec![acknowledge(2, 0, 100), acknowledge(1, 0, 1)]);
    store.checkpoint();
    assert!(!path.join("journal/0000000002.seg").exists());
    store.close();
    let rebuilt = leveret_store::rebuild(&path).expect("rebuild");
    assert_eq!((rebuilt.messages, rebuilt.problems), (1, vec![]));
    let store: Journal<Blob> = Journal::open(&path, ahead()).expect("open");
    assert_large(&store, 1, &[1]);
}

/// Changes the last byte of one file of a large message.
fn damage_one(journal: &Path) {
    let files = std::fs::read_dir(journal).expect("the journal");
    for path in files.map(|entry| entry.expect("a file").path()) {
        let mut bytes = std::fs::read(&path).expect("its bytes");
        if bytes.starts_with(b"LVRB") && path.extension().is_some_and(|suffix| suffix == "seg") {
            *bytes.last_mut().expect("a byte") ^= 1;
            std::fs::write(&path, bytes).expect("written");
            return;
        }
    }
    panic!("there is no such file");
}
