//! Full disks, failing disks, damage: what is refused, what waits, what is never claimed.

use std::path::Path;
use std::thread;

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions, OpenError};
use leveret_store_api::{CommitPoint, MessageLog, Shortage, StoreStatus};

use crate::support::{acknowledge, commit, enqueue, open, sequences, small, wait, waker};

const FIRST_SEGMENT: &str = "/store/journal/0000000001.seg";

fn wait_for_status(
    store: &impl MessageLog<crate::support::Blob>,
    reached: impl Fn(&StoreStatus) -> bool,
) {
    store.on_status(waker());
    while !reached(&store.status()) {
        thread::park();
    }
}

#[test]
fn a_full_disk_keeps_work_waiting_until_there_is_room() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(70 * 1024));
    let store = open(&disk, small()).expect("open");
    let mut point = CommitPoint::NONE;
    for n in 0..100 {
        point = store.stage(&mut vec![enqueue(1, n, 1000)]);
    }
    wait_for_status(&store, |status| matches!(status, StoreStatus::Full { .. }));
    assert!(store.durable_point() < point);
    assert!(store.staged_bytes() > 0);
    disk.set_capacity(None);
    wait(&store, point);
    wait_for_status(&store, |status| *status == StoreStatus::Running);
    assert_eq!(sequences(&store, 1), (0..100).collect::<Vec<_>>());
    assert_eq!(store.staged_bytes(), 0);
}

#[test]
fn a_store_on_a_full_disk_can_be_closed() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(40 * 1024));
    let store = open(&disk, small()).expect("open");
    commit(&store, vec![enqueue(1, 0, 1000)]);
    store.stage(&mut (1..100).map(|n| enqueue(1, n, 1000)).collect());
    wait_for_status(&store, |status| matches!(status, StoreStatus::Full { .. }));
    store.close();
    disk.set_capacity(None);
    let store = open(&disk.after_kill(), small()).expect("open");
    assert_eq!(sequences(&store, 1), [0]);
}

#[test]
fn little_room_is_told_before_there_is_none() {
    let disk = SimulatedDisk::new();
    disk.set_capacity(Some(200 * 1024));
    let options = JournalOptions {
        disk_free_bytes_min: 150 * 1024,
        ..small()
    };
    let store = open(&disk, options).expect("open");
    commit(&store, (0..90).map(|n| enqueue(1, n, 1000)).collect());
    wait_for_status(&store, |status| matches!(status, StoreStatus::Full { .. }));
    commit(&store, vec![acknowledge(1, 0, 90)]);
    disk.set_capacity(Some(2000 * 1024));
    wait_for_status(&store, |status| *status == StoreStatus::Running);
}

#[test]
fn after_a_failed_write_nothing_is_durable_any_more() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    let kept = commit(&store, vec![enqueue(1, 0, 100)]);
    disk.fail_writes(Some(5));
    store.stage(&mut vec![enqueue(1, 1, 100)]);
    wait_for_status(&store, |status| matches!(status, StoreStatus::Failed(_)));
    disk.fail_writes(None);
    let mut more = vec![enqueue(1, 2, 100)];
    assert!(store.stage(&mut more) > kept);
    assert!(more.is_empty());
    assert_eq!(store.durable_point(), kept);
    drop(store);
    let store = open(&disk.after_power_cut(3), small()).expect("open");
    assert_eq!(sequences(&store, 1), [0]);
}

#[test]
fn a_disk_that_ignores_syncs_is_noticed_by_these_tests() {
    let lost = (0..20).any(|seed| {
        let disk = SimulatedDisk::new();
        let store = open(&disk, small()).expect("open");
        disk.ignore_syncs();
        commit(&store, (0..20).map(|n| enqueue(1, n, 1000)).collect());
        // A record of which it was noted that it is there may be missing.
        let store = open(&disk.after_power_cut(seed), small());
        store.map_or(true, |store| sequences(&store, 1).len() < 20)
    });
    assert!(lost);
}

#[test]
fn a_second_one_is_refused_and_harms_nothing() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, vec![enqueue(1, 0, 100)]);
    let refused = open(&disk, small()).err().expect("refused");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    commit(&store, vec![enqueue(1, 1, 100)]);
    assert_eq!(sequences(&store, 1), [0, 1]);
    drop(store);
    assert_eq!(sequences(&open(&disk, small()).expect("open"), 1), [0, 1]);
}

#[test]
fn a_newer_format_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(
        directory.path().join("format"),
        "leveret-store 5 0badcafe and more\n",
    )
    .expect("write");
    let refused = leveret_store::Journal::<crate::support::Blob>::open(directory.path(), small());
    let refused = refused.err().expect("refused");
    assert!(
        matches!(
            refused,
            OpenError::NewerFormat {
                found: 5,
                supported: 4,
                ..
            }
        ),
        "{refused}"
    );
}

/// A store of ten records, killed, with one bit of the journal flipped.
fn flipped(offset: usize) -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..10 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    let disk = disk.after_kill();
    drop(store);
    disk.flip(Path::new(FIRST_SEGMENT), offset);
    disk
}

#[test]
fn damage_in_the_middle_is_refused_with_its_place_and_costs_only_itself() {
    // Records of 1,152 bytes: in the header and the run's header of the third.
    for within in [9, 70] {
        let disk = flipped(2 * 1152 + within);
        let refused = open(&disk, small()).err().expect("refused");
        let OpenError::Damaged { path, offset, .. } = &refused else {
            panic!("{refused}");
        };
        assert_eq!(
            (path.as_path(), *offset),
            (Path::new(FIRST_SEGMENT), 2 * 1152),
            "{refused}"
        );
        let options = JournalOptions {
            recover: true,
            ..small()
        };
        let store = open(&disk, options).expect("recover");
        assert_eq!(sequences(&store, 1), [0, 1, 3, 4, 5, 6, 7, 8, 9]);
        // The way on is an ordinary one.
        commit(&store, vec![enqueue(1, 10, 10)]);
        store.close();
        let store = open(&disk, small()).expect("open");
        assert_eq!(sequences(&store, 1), [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]);
    }
}

#[test]
fn what_runs_out_and_comes_back_is_waited_for() {
    let (disk_full, quota, many_files, many_files_of_all, no_memory) = (28, 122, 24, 23, 12);
    for (errno, lacks) in [
        (disk_full, Shortage::Disk),
        (quota, Shortage::Quota),
        (many_files, Shortage::Descriptors),
        (many_files_of_all, Shortage::SystemDescriptors),
        (no_memory, Shortage::Memory),
    ] {
        let disk = SimulatedDisk::new();
        let store = open(&disk, small()).expect("open");
        commit(&store, vec![enqueue(1, 0, 100)]);
        disk.fail_writes(Some(errno));
        let point = store.stage(&mut vec![enqueue(1, 1, 100)]);
        wait_for_status(&store, |status| matches!(status, StoreStatus::Full { .. }));
        let StoreStatus::Full { lacks: found, .. } = store.status() else {
            panic!("{:?}", store.status());
        };
        assert_eq!(found, lacks);
        assert!(store.durable_point() < point);
        disk.fail_writes(None);
        crate::support::wait(&store, point);
        wait_for_status(&store, |status| *status == StoreStatus::Running);
        assert_eq!(
            sequences(&open(&disk.after_kill(), small()).expect("open"), 1),
            [0, 1]
        );
    }
}

#[test]
fn nothing_is_durable_in_a_directory_that_was_removed() {
    // Removed; and put aside, with another in its place.
    for replaced in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("data");
        let store = Journal::<crate::support::Blob>::open(&path, small()).expect("open");
        commit(&store, vec![enqueue(1, 0, 100)]);
        if replaced {
            std::fs::rename(&path, directory.path().join("aside")).expect("renamed");
            std::fs::create_dir(&path).expect("made");
        } else {
            std::fs::remove_dir_all(&path).expect("removed");
        }
        let point = store.stage(&mut vec![enqueue(1, 1, 100)]);
        wait_for_status(&store, |status| matches!(status, StoreStatus::Failed(_)));
        assert!(store.durable_point() < point);
        let StoreStatus::Failed(reason) = store.status() else {
            panic!("{:?}", store.status());
        };
        assert!(reason.contains("was removed or replaced"), "{reason}");
        assert!(reason.contains(&path.display().to_string()), "{reason}");
    }
}
