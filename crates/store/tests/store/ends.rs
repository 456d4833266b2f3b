//! What a journal may end with: a record that never was on stable storage is a torn end and is cut off, one that was
//! is damage wherever it is, the last one too.

use std::io::IoSlice;
use std::path::Path;

use leveret_store::files::{Files, OpenMode};
use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions, OpenError};
use leveret_store_api::{Change, LogId, Sequence};

use crate::support::{
    Blob, acknowledge, all, commit, damaged, enqueue, enqueue_of, has_index, open, put, sequences,
    small, until,
};

const FIRST_SEGMENT: &str = "/store/journal/0000000001.seg";
const SECOND_SEGMENT: &str = "/store/journal/0000000002.seg";
const LOCK: &str = "/store/lock";
/// Bytes of a record with one message of 1,000.
const RECORD: usize = 1152;

fn recover() -> JournalOptions {
    JournalOptions {
        recover: true,
        ..small()
    }
}

/// A start that goes on without what it cannot read. It writes the index at once, so that the next one need not.
fn recovered(disk: &SimulatedDisk) -> Journal<Blob> {
    assert!(!has_index(disk));
    let store = open(disk, recover()).expect("recover");
    until("the index is written", || has_index(disk));
    store
}

fn write(disk: &SimulatedDisk, path: &str, bytes: &[u8]) {
    let file = disk
        .open(Path::new(path), OpenMode::Create)
        .expect("a file");
    let mut slices = [IoSlice::new(bytes)];
    file.write_at(&mut slices, 0, true).expect("written");
}

fn contents(disk: &SimulatedDisk, path: &str) -> Vec<u8> {
    disk.contents(Path::new(path))
}

/// Ten records of one message each, killed.
fn ten() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..10 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    disk.after_kill()
}

/// As many records, of the last of which so many bytes were written when the kill came.
fn torn(bytes: usize) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..9 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    let (lock, mut journal) = (contents(&disk, LOCK), contents(&disk, FIRST_SEGMENT));
    commit(&store, vec![enqueue(1, 9, 1000)]);
    let last = 9 * RECORD..9 * RECORD + bytes;
    journal[last.clone()].copy_from_slice(&contents(&disk, FIRST_SEGMENT)[last]);
    let disk = disk.after_kill();
    write(&disk, LOCK, &lock);
    write(&disk, FIRST_SEGMENT, &journal);
    disk
}

/// The store opens by itself, holds these messages, and the next start finds nothing strange.
fn assert_ordinary(disk: &SimulatedDisk, expected: &[u64], why: &str) {
    let store = open(disk, small()).unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_eq!(sequences(&store, 1), expected, "{why}");
    assert!(damaged(&store, 1).is_empty(), "{why}");
    assert_goes_on(disk, store, expected, why);
}

fn assert_goes_on(disk: &SimulatedDisk, store: Journal<Blob>, expected: &[u64], why: &str) {
    commit(&store, vec![enqueue(1, 20, 10), put("a", "b")]);
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, small()).unwrap_or_else(|error| panic!("{why}: {error}"));
    assert_eq!(sequences(&store, 1), [expected, &[20]].concat(), "{why}");
}

#[test]
fn a_torn_end_is_cut_off() {
    // Nothing, half of the header, the header, some of the message, all but the last bytes.
    for bytes in [0, 32, 64, 128, 500, 1000, RECORD - 64] {
        let nine: Vec<u64> = (0..9).collect();
        assert_ordinary(&torn(bytes), &nine, &format!("{bytes} bytes"));
    }
    let all: Vec<u64> = (0..10).collect();
    assert_ordinary(&torn(RECORD), &all, "written, and nobody was told");
}

#[test]
fn a_damaged_message_of_the_last_record_is_one_message() {
    let disk = ten();
    disk.flip(Path::new(FIRST_SEGMENT), 9 * RECORD + 500);
    let store = open(&disk, small()).expect("open");
    let nine: Vec<u64> = (0..9).collect();
    assert_eq!(sequences(&store, 1), nine);
    let lost = damaged(&store, 1);
    assert_eq!(lost.len(), 1);
    assert!(lost[0].is_lasting && lost[0].head.is_some());
    commit(&store, vec![acknowledge(1, 9, 1)]);
    assert_goes_on(&disk, store, &nine, "set aside");
}

#[test]
fn a_last_record_that_cannot_be_read_is_refused_with_its_place() {
    // Its header, the header of its run, and what tells how long it is.
    for within in [9, 70, 24] {
        let disk = ten();
        disk.flip(Path::new(FIRST_SEGMENT), 9 * RECORD + within);
        for _ in 0..2 {
            let refused = open(&disk, small()).err().expect("refused");
            let OpenError::Damaged { path, offset, .. } = &refused else {
                panic!("{refused}");
            };
            let place = (path.as_path(), *offset);
            assert_eq!(place, (Path::new(FIRST_SEGMENT), 9 * RECORD as u64));
            assert!(refused.to_string().contains("--recover"), "{refused}");
        }
        let store = recovered(&disk);
        let nine: Vec<u64> = (0..9).collect();
        assert_eq!(sequences(&store, 1), nine);
        assert_goes_on(&disk, store, &nine, &format!("byte {within}"));
    }
}

#[test]
fn what_can_be_read_of_the_last_record_is_recovered() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, vec![enqueue(1, 0, 1000)]);
    // Two runs in one record, of 64 + 40 + 24 + 1,000 bytes up to the second.
    commit(&store, vec![enqueue(1, 1, 1000), enqueue(2, 0, 1000)]);
    let disk = disk.after_kill();
    drop(store);
    disk.flip(Path::new(FIRST_SEGMENT), RECORD + 64 + 1064 + 10);
    assert!(open(&disk, small()).is_err(), "refused");
    let store = open(&disk, recover()).expect("recover");
    assert_eq!(sequences(&store, 1), [0, 1]);
    assert_eq!(sequences(&store, 2), []);
    store.close();
    assert_ordinary(&disk, &[0, 1], "recovered");
}

#[test]
fn a_journal_that_has_lost_its_last_records_is_refused() {
    let disk = ten();
    disk.set(Path::new(FIRST_SEGMENT), 7 * RECORD..10 * RECORD, |_| 0);
    let refused = open(&disk, small()).err().expect("refused");
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    let store = recovered(&disk);
    let seven: Vec<u64> = (0..7).collect();
    assert_eq!(sequences(&store, 1), seven);
    assert_goes_on(&disk, store, &seven, "recovered");
}

#[test]
fn without_a_note_of_it_the_end_is_what_can_be_read() {
    let nine: Vec<u64> = (0..9).collect();
    // As programs that know of no note leave it, and as another opening or nobody wrote it.
    for spoil in [64..80, 72..73, 79..80] {
        let disk = ten();
        disk.flip(Path::new(FIRST_SEGMENT), 9 * RECORD + 500);
        disk.set(Path::new(LOCK), spoil.clone(), |byte| !byte);
        assert_ordinary(&disk, &nine, &format!("{spoil:?}"));
    }
    let disk = ten();
    disk.flip(Path::new(FIRST_SEGMENT), 9 * RECORD + 500);
    disk.remove(Path::new(LOCK)).expect("removed");
    assert_ordinary(&disk, &nine, "no lock");
}

#[test]
fn what_one_start_has_read_the_next_one_misses() {
    let disk = ten();
    let store = open(&disk, small()).expect("open");
    let disk = disk.after_kill();
    drop(store);
    disk.flip(Path::new(FIRST_SEGMENT), 9 * RECORD + 9);
    assert!(open(&disk, small()).is_err(), "refused");
}

#[test]
fn a_power_cut_leaves_no_note_of_what_was_lost() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new();
        let store = open(&disk, small()).expect("open");
        commit(&store, vec![enqueue(1, 0, 1000)]);
        // Of these, each in a record of its own, any may be lost.
        for n in 1..5 {
            commit(&store, vec![enqueue_of(1, n, 1000, true)]);
        }
        let disk = disk.after_power_cut(seed);
        drop(store);
        assert_ordinary(&disk, &[0], &format!("seed {seed}"));
    }
}

#[test]
fn what_a_file_held_under_another_number_proves_nothing() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..9 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    let (lock, mut journal) = (contents(&disk, LOCK), contents(&disk, FIRST_SEGMENT));
    for n in 9..20 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    let later = contents(&disk, FIRST_SEGMENT);
    let half = 9 * RECORD..9 * RECORD + 500;
    journal[half.clone()].copy_from_slice(&later[half]);
    let disk = disk.after_kill();
    drop(store);
    write(&disk, LOCK, &lock);
    write(&disk, FIRST_SEGMENT, &journal);
    // Records that say that the tenth was on stable storage, in a file that had the first one's number when they
    // were written.
    write(&disk, SECOND_SEGMENT, &later[12 * RECORD..]);
    let nine: Vec<u64> = (0..9).collect();
    assert_ordinary(&disk, &nine, "a file that is used again");
}

#[test]
fn what_an_earlier_opening_wrote_in_vain_does_not_count() {
    let number = |sequence, count| Change::SetCount {
        log: LogId(1),
        first: Sequence(sequence),
        length: 1,
        count,
        synced: false,
    };
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, (0..3).map(|n| enqueue(1, n, 100)).collect());
    // Neither record needs a sync, and a power cut takes the first one.
    commit(&store, vec![number(0, 5)]);
    commit(&store, vec![number(1, 7)]);
    let journal = contents(&disk, FIRST_SEGMENT);
    let starts = journal.chunks(64).zip((0..).step_by(64));
    let starts: Vec<usize> = starts
        .filter(|(chunk, _)| chunk.starts_with(b"LVRJ"))
        .map(|(_, at)| at)
        .collect();
    assert_eq!(starts.len(), 3);
    let disk = disk.after_kill();
    drop(store);
    disk.set(Path::new(FIRST_SEGMENT), starts[1]..starts[2], |_| 0);
    // The next one writes as much in its place, and is killed.
    let store = open(&disk, small()).expect("open");
    commit(&store, vec![number(0, 6)]);
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, small()).expect("open");
    let counts: Vec<u32> = all(&store, 1).iter().map(|message| message.count).collect();
    assert_eq!(counts, [6, 0, 0]);
}
