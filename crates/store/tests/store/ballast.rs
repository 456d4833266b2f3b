//! The room that is kept for a full disk: used where a checkpoint or a record has none, kept again when there is some.

use std::path::Path;

use leveret_store::JournalOptions;
use leveret_store::files::Files;
use leveret_store::simulation::SimulatedDisk;

use crate::support::{acknowledge, commit, enqueue, open, sequences, small, until};

const BYTES: usize = 64 << 10;

fn options() -> JournalOptions {
    JournalOptions {
        ballast_bytes: BYTES as u64,
        spare_segments: 0,
        ..small()
    }
}

/// How many bytes are kept.
fn kept(disk: &SimulatedDisk) -> usize {
    let names = disk.list(Path::new("/store")).expect("list");
    let is_there = names.iter().any(|name| name == "ballast");
    if is_there {
        disk.contents(Path::new("/store/ballast")).len()
    } else {
        0
    }
}

#[test]
fn a_checkpoint_without_room_has_it_and_the_next_makes_it_again() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).expect("open");
    until("nothing is kept", || kept(&disk) == BYTES);
    commit(&store, vec![enqueue(1, 0, 1000)]);
    store.checkpoint();
    assert_eq!(kept(&disk), BYTES);
    commit(&store, vec![acknowledge(1, 0, 1)]);
    disk.refuse_rows(Some(0));
    store.checkpoint();
    assert_eq!(kept(&disk), 0);
    disk.refuse_rows(None);
    store.checkpoint();
    until("nothing is kept again", || kept(&disk) == BYTES);
}

#[test]
fn what_is_to_be_written_has_it_too() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).expect("open");
    until("nothing is kept", || kept(&disk) == BYTES);
    commit(&store, vec![enqueue(1, 0, 1000)]);
    disk.set_capacity(Some(disk.used_bytes()));
    for n in 1..50 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    assert_eq!(kept(&disk), 0);
    assert_eq!(sequences(&store, 1), (0..50).collect::<Vec<_>>());
}

#[test]
fn it_is_there_after_a_kill_and_no_second_time() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, options()).expect("open");
    until("nothing is kept", || kept(&disk) == BYTES);
    commit(&store, vec![enqueue(1, 0, 1000)]);
    let disk = disk.after_kill();
    drop(store);
    let store = open(&disk, options()).expect("open");
    disk.refuse_rows(Some(0));
    store.checkpoint();
    assert_eq!(kept(&disk), 0);
    assert_eq!(sequences(&store, 1), [0]);
}
