//! One unreadable message is one message: all others are read, whatever bit of it has changed.

use std::path::Path;

use leveret_store::JournalOptions;
use leveret_store::simulation::SimulatedDisk;
use leveret_store_api::{Change, LogId, MessageLog, Sequence};

use crate::support::{
    Blob, acknowledge, all, blob, commit, damaged, enqueue, enqueue_of, open, sequences, small,
};

const FIRST_SEGMENT: &str = "/store/journal/0000000001.seg";
/// The record's header and the run's.
const HEADERS: usize = 64 + 40;
/// What precedes a message.
const ENTRY: usize = 24;
const PAYLOAD: usize = 100;
const MESSAGES: u64 = 6;

/// One run of six messages, left in order.
fn run_of_six() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(
        &store,
        (0..MESSAGES).map(|n| enqueue(1, n, PAYLOAD)).collect(),
    );
    store.close();
    disk
}

/// Everything but `lost` is read, and is what was written.
fn assert_others(store: &leveret_store::Journal<Blob>, lost: &[u64], why: &str) {
    let found = all(store, 1);
    let expected: Vec<u64> = (0..MESSAGES).filter(|n| !lost.contains(n)).collect();
    let numbers: Vec<u64> = found.iter().map(|message| message.sequence.0).collect();
    assert_eq!(numbers, expected, "{why}");
    for message in found {
        let n = message.sequence.0;
        assert_eq!(message.payload, blob(1, n, PAYLOAD), "{why}");
        assert_eq!(
            (message.time_ms, u64::from(message.flags)),
            (n * 3, n),
            "{why}"
        );
    }
}

#[test]
fn a_flipped_bit_costs_the_message_it_is_in() {
    for at in 0..HEADERS + MESSAGES as usize * (ENTRY + PAYLOAD) {
        let disk = run_of_six();
        disk.flip(Path::new(FIRST_SEGMENT), at);
        let store = open(&disk, small()).expect("open");
        let why = format!("byte {at}");
        let Some(within) = at.checked_sub(HEADERS) else {
            // Where the headers are damaged, each message is found by itself.
            assert_others(&store, &[], &why);
            continue;
        };
        let lost = (within / (ENTRY + PAYLOAD)) as u64;
        // The checksum of the run's header is of the heads of all entries: they are looked at one by one.
        assert_others(&store, &[lost], &why);
        let found = damaged(&store, 1);
        let found = found.first().filter(|_| found.len() == 1).expect(&why);
        assert_eq!(found.sequence.0, lost, "{why}");
        assert!(found.is_lasting, "{why}");
        let in_body = within % (ENTRY + PAYLOAD) >= ENTRY + 4;
        let head = found.head.as_ref().map(|head| {
            assert_eq!(head.time_ms, lost * 3);
            head.payload.clone()
        });
        let whole = blob(1, lost, PAYLOAD);
        // Between the head's checksum and the head lies that of the body.
        let in_body_crc = (20..24).contains(&(within % (ENTRY + PAYLOAD)));
        assert_eq!(
            head,
            (in_body || in_body_crc).then(|| Blob(whole.0[..4].into())),
            "{why}"
        );
    }
}

#[test]
fn a_page_of_zeros_costs_the_messages_it_covers() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, (0..60).map(|n| enqueue(1, n, 200)).collect());
    store.close();
    disk.set(Path::new(FIRST_SEGMENT), 4096..8192, |_| 0);
    let store = open(&disk, small()).expect("open");
    let lost: Vec<u64> = damaged(&store, 1).iter().map(|it| it.sequence.0).collect();
    let first = (4096 - HEADERS) as u64 / 224;
    assert_eq!(
        lost,
        (first..=(8192 - HEADERS as u64) / 224).collect::<Vec<_>>()
    );
    let mut together = [lost, sequences(&store, 1)].concat();
    together.sort_unstable();
    assert_eq!(together, (0..60).collect::<Vec<_>>());
}

#[test]
fn what_is_damaged_goes_when_it_is_acknowledged() {
    let disk = run_of_six();
    disk.flip(Path::new(FIRST_SEGMENT), HEADERS + ENTRY + 50);
    let store = open(&disk, small()).expect("open");
    assert_eq!(damaged(&store, 1).len(), 1);
    commit(&store, vec![acknowledge(1, 0, 1)]);
    assert!(damaged(&store, 1).is_empty());
    let store = open(&disk.after_kill(), small()).expect("open");
    assert!(damaged(&store, 1).is_empty());
    assert_others(&store, &[0], "after a kill");
}

#[test]
fn a_damaged_message_in_the_part_that_is_replayed_is_no_reason_not_to_start() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..10 {
        commit(&store, vec![enqueue(1, n, 1000)]);
    }
    let disk = disk.after_kill();
    drop(store);
    disk.flip(Path::new(FIRST_SEGMENT), 2 * 1152 + 500);
    let store = open(&disk, small()).expect("open");
    assert_eq!(sequences(&store, 1), [0, 1, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(damaged(&store, 1)[0].sequence.0, 2);
    commit(&store, vec![enqueue(1, 10, 10)]);
    store.close();
    let store = open(&disk, small()).expect("open");
    assert_eq!(sequences(&store, 1), [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]);
}

#[test]
fn what_is_damaged_does_not_keep_its_segment() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    // Two segments, of which the first has little left; records of 1,088 bytes.
    for n in 0..40 {
        commit(&store, vec![enqueue(1, n, 900)]);
    }
    disk.flip(Path::new(FIRST_SEGMENT), HEADERS + ENTRY + 50);
    commit(&store, vec![acknowledge(1, 2, 38), enqueue(2, 0, 100)]);
    disk.flip(Path::new(FIRST_SEGMENT), 1088 + 500);
    for _ in 0..3 {
        store.checkpoint();
    }
    assert!(disk.contents(Path::new(FIRST_SEGMENT)).is_empty(), "freed");
    let lost: Vec<_> = damaged(&store, 1);
    assert_eq!(
        lost.iter().map(|it| it.sequence.0).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(lost.iter().all(|it| it.head.is_some() && it.is_lasting));
}

#[test]
fn what_the_system_refuses_to_read_is_there_at_the_next_start() {
    let disk = run_of_six();
    let store = open(&disk, small()).expect("open");
    disk.refuse_reads(Path::new(FIRST_SEGMENT), Some(0..4096));
    let lost = damaged(&store, 1);
    assert_eq!(lost.len(), 6);
    assert!(lost.iter().all(|it| !it.is_lasting));
    disk.refuse_reads(Path::new(FIRST_SEGMENT), None);
    assert_others(&store, &[], "readable again");
}

#[test]
fn a_transient_message_may_be_damaged_as_well() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(
        &store,
        (0..3).map(|n| enqueue_of(1, n, 100, true)).collect(),
    );
    disk.flip(Path::new(FIRST_SEGMENT), HEADERS + ENTRY + 50);
    assert_eq!(sequences(&store, 1), [1, 2]);
    let mut out = Vec::new();
    let lost = store
        .read(LogId(1), Sequence(0), 1, 0, &mut out)
        .expect("read");
    assert!(out.is_empty(), "one was asked for");
    assert_eq!(lost.len(), 1);
}

#[test]
fn it_is_noted_once() {
    let disk = run_of_six();
    disk.flip(Path::new(FIRST_SEGMENT), HEADERS + ENTRY + 50);
    let store = open(&disk, small()).expect("open");
    damaged(&store, 1);
    damaged(&store, 1);
    let noted = disk.contents(Path::new("/store/damaged"));
    let noted = String::from_utf8(noted).expect("text");
    assert_eq!(
        noted,
        "/store/journal/0000000001.seg, offset 64: log 1, message 0\n"
    );
}

#[test]
fn what_a_damaged_record_says_besides_its_messages_is_not_believed() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    commit(&store, (0..3).map(|n| enqueue(1, n, PAYLOAD)).collect());
    commit(&store, vec![acknowledge(1, 0, 1)]);
    commit(&store, vec![enqueue(1, 3, PAYLOAD)]);
    let disk = disk.after_kill();
    drop(store);
    // The first record has 512 bytes; the count of the acknowledgement becomes 17.
    disk.flip(Path::new(FIRST_SEGMENT), 512 + 64 + 24);
    assert!(open(&disk, small()).is_err(), "refused");
    let options = JournalOptions {
        recover: true,
        ..small()
    };
    let store = open(&disk, options).expect("recover");
    assert_eq!(sequences(&store, 1), [0, 1, 2, 3]);
}

#[test]
fn a_number_alone_is_on_stable_storage_after_an_orderly_stop() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new();
        let store = open(&disk, small()).expect("open");
        commit(&store, (0..3).map(|n| enqueue(1, n, PAYLOAD)).collect());
        commit(
            &store,
            vec![Change::SetCount {
                log: LogId(1),
                first: Sequence(1),
                length: 1,
                count: 5,
                synced: false,
            }],
        );
        store.close();
        let written = disk.contents(Path::new(FIRST_SEGMENT));
        let disk = disk.after_power_cut(seed);
        // A rebuilt index would have it from there.
        assert!(
            disk.contents(Path::new(FIRST_SEGMENT)) == written,
            "seed {seed}"
        );
        let store = open(&disk, small()).expect("open");
        let counts: Vec<u32> = all(&store, 1).iter().map(|message| message.count).collect();
        assert_eq!(counts, [0, 5, 0], "seed {seed}");
    }
}

#[test]
fn a_number_that_is_to_be_synced_outlives_a_power_cut_at_once() {
    for seed in 0..20 {
        let disk = SimulatedDisk::new();
        let store = open(&disk, small()).expect("open");
        commit(&store, (0..3).map(|n| enqueue(1, n, PAYLOAD)).collect());
        let number = Change::SetCount {
            log: LogId(1),
            first: Sequence(1),
            length: 1,
            count: 5,
            synced: true,
        };
        commit(&store, vec![number]);
        let disk = disk.after_power_cut(seed);
        drop(store);
        let store = open(&disk, small()).expect("open");
        let counts: Vec<u32> = all(&store, 1).iter().map(|message| message.count).collect();
        assert_eq!(counts, [0, 5, 0], "seed {seed}");
    }
}
