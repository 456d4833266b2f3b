//! Freed segments: given back to the disk a piece at a time, also over a kill, and at once where there
//! is little room.

use std::path::Path;
use std::time::Duration;

use leveret_store::files::Files;
use leveret_store::simulation::SimulatedDisk;
use leveret_store::{DefinitionStore, Journal, JournalOptions, MessageLog, StoreStatus};

use crate::support::{
    Blob, acknowledge, commit, enqueue, open, put, sequences, small, wait, waker,
};

/// Pieces of 8 KiB, the next of which nobody lives to see.
fn slow() -> JournalOptions {
    JournalOptions {
        spare_segments: 0,
        free_bytes_step: 8 * 1024,
        free_pause_ms: 3_600_000,
        ..small()
    }
}

/// Files of the journal that have lost their numbers.
fn spent(disk: &SimulatedDisk) -> Vec<String> {
    let names = disk.list(Path::new("/store/journal")).expect("list");
    let mut spent: Vec<String> = (names.into_iter())
        .filter(|name| name.ends_with(".spare"))
        .collect();
    spent.sort();
    spent
}

fn length(disk: &SimulatedDisk, name: &str) -> usize {
    disk.contents(&Path::new("/store/journal").join(name)).len()
}

fn until_none_is_left(disk: &SimulatedDisk) {
    let mut patience = 20_000;
    while !spent(disk).is_empty() {
        patience -= 1;
        assert!(patience > 0, "{:?} are left", spent(disk));
        std::thread::park_timeout(Duration::from_millis(1));
    }
}

/// Four segments, all of them dead; one message lives in a fifth.
fn with_dead_segments(disk: &SimulatedDisk, options: JournalOptions) -> Journal<Blob> {
    let store = open(disk, options).expect("open");
    for n in 0..110 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    commit(&store, vec![acknowledge(1, 0, 109)]);
    store.checkpoint();
    store
}

#[test]
fn a_freed_segment_leaves_in_pieces() {
    let disk = SimulatedDisk::new();
    let store = with_dead_segments(&disk, slow());
    let left = spent(&disk);
    assert!(left.len() > 2, "{left:?}");
    assert_eq!(length(&disk, &left[0]), 24 * 1024);
    assert_eq!(length(&disk, &left[1]), 32 * 1024);
    assert_eq!(sequences(&store, 1), [109]);
}

#[test]
fn what_a_kill_leaves_of_freed_segments_is_given_back_after_the_start() {
    let disk = SimulatedDisk::new();
    let store = with_dead_segments(&disk, slow());
    let disk = disk.after_kill();
    drop(store);
    assert!(!spent(&disk).is_empty());
    let brisk = JournalOptions {
        free_pause_ms: 0,
        ..slow()
    };
    let store = open(&disk, brisk).expect("open");
    until_none_is_left(&disk);
    assert_eq!(sequences(&store, 1), [109]);
}

#[test]
fn a_power_cut_never_leaves_a_cut_segment_under_its_number() {
    for seed in (1..40u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)) {
        let disk = SimulatedDisk::new();
        let store = with_dead_segments(&disk, slow());
        let disk = disk.after_power_cut(seed);
        drop(store);
        let names = disk.list(Path::new("/store/journal")).expect("list");
        for dead in ["0000000001.seg", "0000000002.seg", "0000000003.seg"] {
            let there = names.iter().any(|name| name == dead);
            assert!(!there || length(&disk, dead) == 32 * 1024, "{dead}");
        }
        let store = open(&disk, slow()).expect("open");
        assert_eq!(sequences(&store, 1), [109]);
    }
}

#[test]
fn a_freed_segment_that_has_not_left_is_written_again() {
    let disk = SimulatedDisk::new();
    let store = with_dead_segments(&disk, slow());
    let before = spent(&disk).len();
    for n in 110..140 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    assert!(spent(&disk).len() < before);
    assert_eq!(sequences(&store, 1), (109..140).collect::<Vec<_>>());
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, slow()).expect("open");
    assert_eq!(sequences(&store, 1), (109..140).collect::<Vec<_>>());
}

#[test]
fn a_full_disk_is_written_on_with_what_was_to_leave() {
    let disk = SimulatedDisk::new();
    let store = with_dead_segments(&disk, slow());
    // Not one byte more than is there.
    disk.set_capacity(Some(disk.used_bytes()));
    for n in 110..160 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    assert_eq!(sequences(&store, 1), (109..160).collect::<Vec<_>>());
}

/// Bytes of all files of the journal.
fn journal_bytes(disk: &SimulatedDisk) -> usize {
    let names = disk.list(Path::new("/store/journal")).expect("list");
    names.iter().map(|name| length(disk, name)).sum()
}

#[test]
fn the_room_of_a_segment_in_which_nothing_lives_any_more_is_given_back() {
    const MIB: usize = 1 << 20;
    let disk = SimulatedDisk::new();
    let options = JournalOptions {
        segment_bytes: 32 << 20,
        checkpoint_interval_ms: 1,
        idle_ms: 1,
        free_pause_ms: 0,
        ..JournalOptions::default()
    };
    let store = open(&disk, options.clone()).expect("open");
    commit(&store, vec![put("a", "b"), enqueue(2, 0, 1000)]);
    // Three segments, the last of which is more than half full: the next one is prepared.
    for n in 0..22 {
        commit(&store, vec![enqueue(1, n, 4 * MIB)]);
    }
    commit(&store, vec![acknowledge(1, 0, 22)]);
    let mut patience = 40_000;
    while journal_bytes(&disk) > 8 * MIB {
        patience -= 1;
        assert!(patience > 0, "{} bytes are left", journal_bytes(&disk));
        std::thread::park_timeout(Duration::from_millis(1));
    }
    commit(&store, vec![enqueue(1, 22, 1000)]);
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, options).expect("open");
    assert_eq!(
        (sequences(&store, 1), sequences(&store, 2)),
        (vec![22], vec![0])
    );
    assert_eq!(store.definitions().expect("definitions").len(), 1);
}

#[test]
fn what_is_kept_to_be_written_again_goes_when_nothing_is_written() {
    let disk = SimulatedDisk::new();
    let options = JournalOptions {
        spare_segments: 1,
        free_pause_ms: 0,
        ..slow()
    };
    let busy = with_dead_segments(&disk, options.clone());
    assert!(!spent(&disk).is_empty());
    drop(busy);
    let disk = SimulatedDisk::new();
    let idle = JournalOptions {
        idle_ms: 1,
        ..options
    };
    let store = with_dead_segments(&disk, idle);
    until_none_is_left(&disk);
    assert_eq!(sequences(&store, 1), [109]);
    commit(&store, vec![enqueue(1, 110, 1000)]);
    assert_eq!(sequences(&store, 1), [109, 110]);
}

#[test]
fn what_is_acknowledged_while_it_is_copied_stays_acknowledged() {
    const KIB: usize = 1024;
    let options = JournalOptions {
        segment_bytes: 4 << 20,
        record_bytes_max: 256 << 10,
        spare_segments: 0,
        ..small()
    };
    let disk = SimulatedDisk::new();
    let store = open(&disk, options.clone()).expect("open");
    // A segment of which four pieces of 200 KiB are to be copied, and a second one …
    for first in (0..800).step_by(100) {
        commit(
            &store,
            (first..first + 100).map(|n| enqueue(1, n, KIB)).collect(),
        );
    }
    for n in 0..36 {
        commit(&store, vec![enqueue(2, n, 100 * KIB)]);
    }
    // … that has no room for a piece, and is the last for which the disk has any.
    disk.set_capacity(Some(disk.used_bytes()));
    let room = |disk: &SimulatedDisk| {
        let bytes = disk.contents(Path::new("/store/journal/0000000002.seg"));
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        bytes.len() - written
    };
    for n in 36.. {
        if room(&disk) < 250 * KIB {
            break;
        }
        commit(&store, vec![enqueue(2, n, 100 * KIB)]);
    }
    commit(&store, vec![acknowledge(2, 0, 1000)]);
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| store.checkpoint());
        store.on_status(waker());
        while !matches!(store.status(), StoreStatus::Full { .. }) {
            std::thread::park();
        }
        // The first piece waits for room. This is written with the second one at the latest.
        let read = store.stage(&mut vec![acknowledge(1, 600, 150)]);
        disk.set_capacity(None);
        wait(&store, read);
        checkpoint.join().expect("it ends");
    });
    let left: Vec<u64> = (0..600).chain(750..800).collect();
    assert_eq!(sequences(&store, 1), left);
    store.checkpoint();
    let names = disk.list(Path::new("/store/journal")).expect("list");
    let first = "0000000001.seg".to_owned();
    assert!(!names.contains(&first), "it was copied: {names:?}");
    let disk = disk.after_kill();
    drop(store);
    assert_eq!(sequences(&open(&disk, options).expect("open"), 1), left);
}
