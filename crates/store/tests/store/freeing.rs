//! Freed segments: given back to the disk a piece at a time, also over a kill, and at once where there
//! is little room.

use std::path::Path;

use leveret_store::files::Files;
use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::DefinitionStore;

use crate::support::{Blob, acknowledge, commit, enqueue, open, put, sequences, small, until};

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
    until("some are left", || spent(disk).is_empty());
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
    // Two segments, of which one may have been prepared already.
    for n in 110..170 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    assert!(spent(&disk).len() < before);
    assert_eq!(sequences(&store, 1), (109..170).collect::<Vec<_>>());
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, slow()).expect("open");
    assert_eq!(sequences(&store, 1), (109..170).collect::<Vec<_>>());
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
    until("the room stays", || journal_bytes(&disk) <= 8 * MIB);
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
fn what_is_kept_to_be_written_again_goes_when_the_index_has_no_room() {
    let disk = SimulatedDisk::new();
    let options = JournalOptions {
        spare_segments: 1,
        free_pause_ms: 0,
        ..slow()
    };
    let store = with_dead_segments(&disk, options);
    until("all but the one that is kept go", || {
        spent(&disk).len() == 1
    });
    commit(&store, vec![enqueue(1, 110, 10)]);
    disk.refuse_rows(Some(0));
    store.checkpoint();
    until_none_is_left(&disk);
}
