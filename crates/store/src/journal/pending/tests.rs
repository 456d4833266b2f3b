//! Who waits for acknowledgements, for how long, and what is passed over.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use leveret_store_api::{Enqueue, Sequence};

use super::*;
use crate::journal::shared::Unit;
use crate::journal::written::{Discards, WrittenBody};
use crate::segments::body::Layout;
use crate::segments::files::SegmentFiles;
use crate::segments::segment::Segment;
use crate::simulation::SimulatedDisk;

const PATIENCE: Duration = Duration::from_millis(1);

#[derive(Clone)]
struct Bytes([u8; 10]);

impl Payload for Bytes {
    fn parts(&self) -> [&[u8]; 2] {
        [&self.0, &[]]
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Bytes)
    }
}

fn enqueue(log: u64, sequence: u64) -> Change<Bytes> {
    Change::Enqueue(Enqueue {
        log: LogId(log),
        sequence: Sequence(sequence),
        flags: 0,
        time_ms: 0,
        transient: false,
        payload: Bytes([0; 10]),
    })
}

fn acknowledge(log: u64, first: u64, count: u64) -> Change<Bytes> {
    Change::Acknowledge {
        log: LogId(log),
        first: Sequence(first),
        count,
    }
}

/// What is pending, with a clock that is set by hand.
struct Bench {
    pending: Pending<Bytes>,
    index: Mutex<Index>,
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = crate::clock::now();
        Bench {
            pending: Pending::new(now),
            index: Mutex::new(Index::default()),
            now,
        }
    }

    /// Takes one unit; answers the bytes that were saved by it.
    fn take(&mut self, changes: Vec<Change<Bytes>>, settled: bool) -> u64 {
        self.take_with(changes, settled, Claimed::default())
    }

    /// The same, of a unit for which something was written ahead.
    fn take_with(&mut self, changes: Vec<Change<Bytes>>, settled: bool, claimed: Claimed) -> u64 {
        let unit = Unit {
            end: changes.len(),
            bytes: changes.iter().map(change_bytes).sum(),
            settled,
        };
        let mut staging = Staging {
            changes,
            units: vec![unit],
            claimed,
            ..Staging::new(Default::default())
        };
        self.pending.take(&mut staging, self.now);
        let saved = self.pending.elide(&self.index);
        self.pending.judge(self.now);
        saved
    }

    fn messages(&mut self, sequences: std::ops::Range<u64>) {
        self.take(sequences.map(|n| enqueue(1, n)).collect(), false);
    }

    fn due(&mut self) -> Due {
        self.pending.due(self.now, PATIENCE)
    }

    /// A log whose messages are all acknowledged before they are written.
    fn hopeful() -> Self {
        let mut bench = Bench::new();
        for from in (0..3000).step_by(100) {
            bench.messages(from..from + 100);
            bench.take(vec![acknowledge(1, from, 100)], true);
        }
        bench
    }
}

#[test]
fn what_readers_acknowledge_in_time_is_done_without_a_write() {
    let mut bench = Bench::new();
    bench.messages(0..10);
    assert_eq!(bench.due(), Due::Units(1));
    assert_eq!(bench.take(vec![acknowledge(1, 0, 9)], true), 90);
    assert_eq!(bench.pending.done(), CommitPoint(0));
    assert_eq!(bench.take(vec![acknowledge(1, 9, 1)], true), 10);
    assert!(bench.pending.is_empty());
    assert_eq!(bench.pending.done(), CommitPoint(3));
    assert!(bench.pending.raise_next(&bench.index));
    assert_eq!(bench.index.lock().logs[&LogId(1)].next(), 10);
}

#[test]
fn who_moves_a_message_vouches_for_the_copy_first() {
    let mut bench = Bench::new();
    bench.messages(0..1);
    // Its dead letter in another log, and then its removal: neither may count before the other is written.
    bench.take(vec![enqueue(2, 0)], false);
    assert_eq!(bench.take(vec![acknowledge(1, 0, 1)], false), 0);
    assert_eq!(bench.pending.done(), CommitPoint(0));
    assert_eq!(bench.due(), Due::Units(3));
}

#[test]
fn an_acknowledgement_of_what_is_written_is_committed_before_the_point_passes_it() {
    let mut bench = Bench::new();
    bench.messages(0..10);
    bench.pending.forget(1);
    bench.messages(10..20);
    assert_eq!(bench.take(vec![acknowledge(1, 8, 12)], true), 100);
    assert_eq!(bench.pending.done(), CommitPoint(2));
    assert!(matches!(
        bench.pending.changes[..],
        [Change::Acknowledge { count: 12, .. }]
    ));
}

#[test]
fn what_may_replace_something_written_is_not_passed_over() {
    let mut bench = Bench::new();
    bench.index.lock().raise_next(LogId(1), 5);
    bench.messages(4..6);
    assert_eq!(bench.take(vec![acknowledge(1, 4, 1)], true), 0);
    bench.pending.forget(2);
    bench.messages(6..7);
    bench.take(vec![Change::DeleteLog { log: LogId(1) }], false);
    assert_eq!(bench.take(vec![acknowledge(1, 6, 1)], true), 0);
    bench.pending.forget(3);
    bench.messages(7..8);
    assert_eq!(bench.take(vec![acknowledge(1, 7, 1)], true), 10);
}

#[test]
fn messages_wait_where_most_are_acknowledged_soon() {
    let mut bench = Bench::hopeful();
    bench.messages(3000..3010);
    assert_eq!(bench.due(), Due::Later);
    // Others come, and the first have waited long enough: those that came late may wait on.
    bench.now += PATIENCE / 2;
    bench.messages(3010..3020);
    bench.now += PATIENCE / 4;
    bench.messages(3020..3030);
    assert_eq!(bench.due(), Due::Later);
    bench.now += PATIENCE / 4;
    bench.messages(3030..3040);
    assert_eq!(bench.due(), Due::Units(2));
    let record = bench.pending.record(0, 2, u64::MAX);
    assert_eq!((record.end, record.change, record.bytes), (2, 20, 200));
    bench.pending.forget(2);
    assert_eq!(bench.due(), Due::Later);
    // No more messages come: their publishers may be waiting for a confirm.
    bench.now += PATIENCE / 4;
    bench.take(vec![acknowledge(1, 2000, 1)], true);
    assert_eq!(bench.due(), Due::Units(3));
}

#[test]
fn others_are_not_kept_waiting() {
    let mut bench = Bench::hopeful();
    bench.messages(3000..3010);
    bench.take(vec![enqueue(2, 0)], false);
    assert_eq!(bench.due(), Due::Units(2));
    bench.pending.forget(2);
    bench.messages(3010..3020);
    assert_eq!(bench.due(), Due::Later);
    let key = b"key".to_vec();
    let value = key.clone();
    bench.take(vec![Change::PutDefinition { key, value }], false);
    assert_eq!(bench.due(), Due::Units(2));
}

#[test]
fn waiting_in_vain_is_given_up() {
    let mut bench = Bench::hopeful();
    let mut waited = 0;
    for from in (3000..30_000).step_by(100) {
        bench.messages(from..from + 100);
        waited += u32::from(bench.due() == Due::Later);
        bench.pending.forget(1);
    }
    assert_eq!(bench.due(), Due::Units(0));
    assert!((150..230).contains(&waited), "{waited} of 270");
    // Soon after, not even messages that are acknowledged in time are waited for; later they are.
    let again = |bench: &mut Bench, from: u64| {
        for from in (from..from + 3000).step_by(100) {
            bench.messages(from..from + 100);
            bench.take(vec![acknowledge(1, from, 100)], true);
        }
        bench.messages(from + 3000..from + 3010);
        let due = bench.due();
        bench.pending.forget(1);
        due
    };
    assert_eq!(again(&mut bench, 30_000), Due::Units(1));
    bench.now += Duration::from_secs(1);
    assert_eq!(again(&mut bench, 40_000), Due::Later);
}

#[test]
fn a_longer_wait_is_tried_where_a_short_one_saves_little() {
    let mut bench = Bench::hopeful();
    for from in (3000..14_000).step_by(100) {
        bench.messages(from..from + 100);
        bench.pending.forget(1);
    }
    bench.messages(14_000..14_010);
    for more in 1..16 {
        bench.now += PATIENCE / 4;
        bench.messages(14_010 + more..14_011 + more);
        assert_eq!(bench.due(), Due::Later);
    }
    bench.now += PATIENCE / 4;
    bench.messages(14_100..14_101);
    assert_eq!(bench.due(), Due::Units(9));
}

#[test]
fn acknowledgements_alone_wait_for_company() {
    let mut bench = Bench::new();
    bench.take(vec![acknowledge(1, 0, 1)], true);
    assert_eq!(bench.due(), Due::Gathering);
    assert_eq!(bench.pending.gathers_until, bench.now + PATIENCE);
    bench.now += PATIENCE / 2;
    bench.take(vec![acknowledge(1, 1, 1)], true);
    assert_eq!(bench.due(), Due::Gathering);
    assert_eq!(bench.pending.gathers_until, bench.now + PATIENCE / 2);
    bench.messages(5..6);
    assert_eq!(bench.due(), Due::Units(3));
    bench.pending.forget(3);
    bench.take(vec![acknowledge(1, 2, 1)], true);
    bench.now += PATIENCE;
    assert_eq!(bench.due(), Due::Units(1));
}

#[test]
fn whoever_may_be_waiting_for_an_acknowledgement_is_not_kept_waiting() {
    let mut bench = Bench::new();
    bench.take(vec![acknowledge(1, 0, 1)], true);
    bench.take(vec![acknowledge(1, 1, 1)], false);
    assert_eq!(bench.due(), Due::Units(2));
}

/// Wants no file back.
struct Nobody;

impl Discards for Nobody {
    fn discard(&self, _segment: Arc<Segment>) {}
}

/// What was written ahead for the change with this number in its unit.
fn claimed(change: usize) -> Claimed {
    let disk = Arc::new(SimulatedDisk::new());
    let files = SegmentFiles::new(disk, PathBuf::from("/journal"), 1 << 20, 0);
    let layout = Layout::of(10, 0).expect("a small one");
    let segment = files.make_body(layout.end).expect("a file");
    let owner: Weak<dyn Discards> = Weak::<Nobody>::new();
    let mut claimed = Claimed::default();
    claimed.push(change, WrittenBody::new(segment, layout, 0, 0, owner));
    claimed
}

#[test]
fn what_is_written_ahead_stays_with_its_message() {
    // Behind something that is pending already, and behind what is done before it is written.
    for is_read in [false, true] {
        let mut bench = Bench::new();
        bench.messages(0..3);
        bench.take_with(vec![enqueue(2, 0), enqueue(3, 0)], false, claimed(1));
        if is_read {
            assert_eq!(bench.take(vec![acknowledge(1, 0, 3)], true), 30);
        }
        let is_large =
            |change: &Change<Bytes>| matches!(change, Change::Enqueue(it) if it.log == LogId(3));
        let place = bench.pending.changes.iter().position(is_large);
        let place = place.expect("it is pending");
        assert!(bench.pending.claimed.take(place + 1).is_none());
        assert!(bench.pending.claimed.take(place - 1).is_none());
        assert!(bench.pending.claimed.take(place).is_some(), "{is_read}");
        assert_eq!(bench.due(), Due::Units(if is_read { 3 } else { 2 }));
    }
}
