//! The file of delivered positions over kills, power cuts, orderly stops and whatever may lie in its place.

use super::*;
use crate::simulation::SimulatedDisk;

const DIRECTORY: &str = "/store";

fn opening(last_epoch: u32, was_running: bool) -> Opening {
    Opening {
        store: 0xABCD,
        last_epoch,
        was_running,
        epoch: last_epoch + 1,
    }
}

/// Opens the file on `disk`, with logs that have these next sequences.
fn start(disk: &SimulatedDisk, opening: &Opening, logs: &[(u64, u64)]) -> DeliveredFile {
    let found = find(disk, Path::new(DIRECTORY), opening);
    let logs = logs.iter().map(|(log, next)| (LogId(*log), *next));
    let files = Arc::new(disk.clone());
    DeliveredFile::make(files, Path::new(DIRECTORY), opening, logs, &found)
}

fn path() -> PathBuf {
    Path::new(DIRECTORY).join(NAME)
}

/// Below which sequence messages were delivered, and of how many nobody knows.
fn of(file: &DeliveredFile, log: u64) -> (u64, u64) {
    let delivered = file.of(LogId(log));
    (delivered.below.0, delivered.uncertain_below.0)
}

/// A store in its first opening, in which some of three logs of 100 messages each was delivered.
fn used(disk: &SimulatedDisk) -> DeliveredFile {
    let file = start(disk, &opening(0, false), &[]);
    for (log, below) in [(1, 10), (2, 20), (1, 15), (2, 5)] {
        file.note(LogId(log), Sequence(below));
    }
    file
}

const LOGS: [(u64, u64); 3] = [(1, 100), (2, 100), (3, 100)];

#[test]
fn a_kill_leaves_what_was_delivered() {
    let disk = SimulatedDisk::new();
    let file = used(&disk);
    assert_eq!((of(&file, 1), of(&file, 3)), ((15, 0), (0, 0)));
    let disk = disk.after_kill();
    let file = start(&disk, &opening(1, true), &LOGS);
    let found = [1, 2, 3].map(|log| of(&file, log));
    assert_eq!(found, [(15, 0), (20, 0), (0, 0)]);
    // And once more, with nothing noted in between.
    let file = start(&disk.after_kill(), &opening(2, true), &LOGS);
    assert_eq!((of(&file, 2), of(&file, 3)), ((20, 0), (0, 0)));
}

#[test]
fn after_a_power_cut_nobody_knows() {
    let disk = SimulatedDisk::new();
    used(&disk);
    for seed in 0..20 {
        let disk = disk.after_power_cut(seed);
        let file = start(&disk, &opening(1, true), &LOGS);
        assert_eq!((of(&file, 1), of(&file, 3)), ((0, 100), (0, 100)));
        // What comes after it is known again, and what was not known stays so.
        file.note(LogId(1), Sequence(110));
        let file = start(&disk.after_kill(), &opening(2, true), &[(1, 120)]);
        assert_eq!(of(&file, 1), (110, 100));
    }
}

#[test]
fn an_orderly_stop_outlives_a_power_cut() {
    let disk = SimulatedDisk::new();
    used(&disk).sync();
    for seed in 0..20 {
        let file = start(&disk.after_power_cut(seed), &opening(1, false), &LOGS);
        assert_eq!((of(&file, 1), of(&file, 3)), ((15, 0), (0, 0)));
    }
}

#[test]
fn what_was_left_in_order_is_not_believed_after_a_later_crash() {
    let disk = SimulatedDisk::new();
    used(&disk).sync();
    let old = disk.contents(&path());
    let file = start(&disk, &opening(1, false), &LOGS);
    file.note(LogId(3), Sequence(50));
    // The disk has the file of the opening before, whole.
    let file = disk.open(&path(), OpenMode::Write).unwrap();
    file.write_at(&mut [IoSlice::new(&old)], 0, true).unwrap();
    let file = start(&disk.after_power_cut(1), &opening(2, true), &LOGS);
    assert_eq!(of(&file, 3), (0, 100));
}

#[test]
fn a_start_that_died_halfway_forgets_nothing() {
    let disk = SimulatedDisk::new();
    used(&disk);
    let disk = disk.after_kill();
    // It made its file, and was killed before the store was marked with its number.
    start(&disk, &opening(1, true), &LOGS);
    let file = start(&disk.after_kill(), &opening(1, true), &LOGS);
    assert_eq!((of(&file, 1), of(&file, 3)), ((15, 0), (0, 0)));
}

#[test]
fn sequences_that_are_given_again_were_not_delivered() {
    let disk = SimulatedDisk::new();
    used(&disk);
    // Nothing of log 2 had been written, and of log 1 only up to 12.
    let disk = disk.after_kill();
    let file = start(&disk, &opening(1, true), &[(1, 12)]);
    assert_eq!((of(&file, 1), of(&file, 2)), ((12, 0), (0, 0)));
    let file = start(&disk.after_kill(), &opening(2, true), &LOGS);
    assert_eq!((of(&file, 1), of(&file, 2)), ((12, 0), (0, 0)));
}

#[test]
fn what_is_damaged_or_of_another_store_is_not_believed() {
    let unknown = |disk: &SimulatedDisk, opening: &Opening| {
        let file = start(&disk.after_kill(), opening, &LOGS);
        assert_eq!((of(&file, 1), of(&file, 3)), ((0, 100), (0, 100)));
    };
    for offset in [
        0,
        9,
        17,
        25,
        33,
        63,
        HEADER_BYTES,
        HEADER_BYTES + 9,
        HEADER_BYTES + 40,
    ] {
        let disk = SimulatedDisk::new();
        used(&disk);
        disk.flip(&path(), offset);
        unknown(&disk, &opening(1, true));
    }
    let disk = SimulatedDisk::new();
    used(&disk);
    let other = Opening {
        store: 0xABCE,
        ..opening(1, true)
    };
    unknown(&disk, &other);
    let disk = SimulatedDisk::new();
    used(&disk);
    // A version that does not know of the file had the store in between.
    unknown(&disk, &opening(2, false));
    let disk = SimulatedDisk::new();
    used(&disk);
    disk.remove(&path()).unwrap();
    unknown(&disk, &opening(1, true));
}

#[test]
fn slots_are_used_again() {
    let disk = SimulatedDisk::new();
    let file = used(&disk);
    for log in 10..10_000 {
        file.note(LogId(log), Sequence(7));
        file.free(&[LogId(log), LogId(log)]);
    }
    assert!(disk.contents(&path()).len() < 3 * SLOTS_GROWN as usize * SLOT_BYTES);
    file.note(LogId(3), Sequence(9));
    let file = start(&disk.after_kill(), &opening(1, true), &LOGS);
    let found = [1, 2, 3].map(|log| of(&file, log));
    assert_eq!(found, [(15, 0), (20, 0), (9, 0)]);
}

#[test]
fn a_slot_that_was_freed_is_not_written_for_the_old_log() {
    let disk = SimulatedDisk::new();
    let file = used(&disk);
    let old = file.slots.read().get(&LogId(1)).map(Arc::clone).unwrap();
    file.free(&[LogId(1)]);
    file.note(LogId(3), Sequence(9));
    file.write(&old, LogId(1), Sequence(80)).unwrap();
    let file = start(&disk.after_kill(), &opening(1, true), &LOGS);
    assert_eq!((of(&file, 1), of(&file, 3)), ((0, 0), (9, 0)));
}

#[test]
fn the_file_grows() {
    let disk = SimulatedDisk::new();
    let file = start(&disk, &opening(0, false), &[]);
    let logs: Vec<(u64, u64)> = (1..5000).map(|log| (log, log + 1)).collect();
    for (log, next) in &logs {
        file.note(LogId(*log), Sequence(*next));
    }
    let disk = disk.after_kill();
    let file = start(&disk, &opening(1, true), &logs);
    file.note(LogId(5000), Sequence(3));
    let logs: Vec<(u64, u64)> = (1..=5000).map(|log| (log, log + 1)).collect();
    let file = start(&disk.after_kill(), &opening(2, true), &logs);
    assert!((1..5000).all(|log| of(&file, log) == (log + 1, 0)));
    assert_eq!(of(&file, 5000), (3, 0));
}

#[test]
fn a_disk_that_fails_costs_the_knowledge_alone() {
    for errno in [5, 28] {
        let disk = SimulatedDisk::new();
        let file = used(&disk);
        disk.fail_writes(Some(errno));
        file.note(LogId(1), Sequence(60));
        disk.fail_writes(None);
        file.note(LogId(2), Sequence(70));
        file.sync();
        let file = start(&disk.after_kill(), &opening(1, true), &LOGS);
        assert_eq!((of(&file, 1), of(&file, 2)), ((0, 100), (0, 100)));
    }
}

#[test]
fn a_full_disk_has_no_room_for_more_logs() {
    let disk = SimulatedDisk::new();
    let file = used(&disk);
    disk.set_capacity(Some(disk.used_bytes()));
    for log in 1..=SLOTS_GROWN {
        file.note(LogId(u64::from(log)), Sequence(30));
    }
    assert!(!file.lost.load(Ordering::Relaxed));
    file.note(LogId(1_000_000), Sequence(30));
    assert!(file.lost.load(Ordering::Relaxed));
    let file = start(&disk.after_kill(), &opening(1, true), &LOGS);
    assert_eq!(of(&file, 1), (0, 100));
}
