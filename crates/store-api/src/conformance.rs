//! What every store has to do, as one suite: for the stores of this crate and for any other that
//! implements its traits. Owns no store; panics where one falls short.

#![allow(clippy::expect_used, reason = "a suite of assertions, called by tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use crate::{
    Change, CommitPoint, DefinitionStore, Delivered, Enqueue, LogId, MessageLog, Numbered, Payload,
    Sequence, StoreStatus, StoredMessage,
};

/// The suite's messages: plain bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plain(Arc<[u8]>);

impl Payload for Plain {
    fn parts(&self) -> [&[u8]; 2] {
        let (head, body) = self.0.split_at(self.0.len().min(3));
        [head, body]
    }

    fn from_stored(bytes: &[u8]) -> Option<Self> {
        Some(Plain(bytes.into()))
    }
}

/// A kind of store under test.
pub trait Subject {
    /// The store.
    type Store: MessageLog<Plain> + DefinitionStore;

    /// A new, empty one.
    fn create(&self) -> Self::Store;

    /// Returns when everything staged up to `point` is durable.
    fn settle(&self, store: &Self::Store, point: CommitPoint);

    /// The same store after its process ended, whichever way.
    fn restart(&self, store: Self::Store) -> Self::Store;

    /// Its restarts are such that nobody knows any more what was delivered.
    fn forgets_deliveries(&self) -> bool {
        false
    }
}

/// Runs the suite.
///
/// # Panics
/// The store does not do what it should.
pub fn run<S: Subject>(subject: &S) {
    definitions_are_kept_in_key_order(subject);
    log_ids_are_new(subject);
    an_empty_unit_is_nothing(subject);
    if subject.create().is_volatile() {
        nothing_is_kept_or_waited_for(subject);
        return;
    }
    messages_come_back_in_order(subject);
    reads_keep_to_their_limits(subject);
    acknowledged_messages_are_gone(subject);
    a_message_is_replaced_under_its_sequence(subject);
    numbers_stay_with_their_messages(subject);
    logs_are_deleted(subject);
    nothing_comes_of_a_deleted_log(subject);
    those_who_wait_are_woken_when_it_is_durable(subject);
    a_restart_keeps_what_is_durable(subject);
    a_restart_knows_what_was_delivered(subject);
}

struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn enqueue(log: LogId, sequence: u64, bytes: usize) -> Change<Plain> {
    let fill = u8::try_from(sequence % 251).unwrap_or_default();
    Change::Enqueue(Enqueue {
        log,
        sequence: Sequence(sequence),
        flags: fill,
        time_ms: sequence * 10,
        transient: false,
        payload: Plain(vec![fill; bytes].into()),
    })
}

fn spill(log: LogId, sequence: u64) -> Change<Plain> {
    match enqueue(log, sequence, 20) {
        Change::Enqueue(enqueue) => Change::Enqueue(Enqueue {
            transient: true,
            ..enqueue
        }),
        other => other,
    }
}

fn acknowledge(log: LogId, first: u64, count: u64) -> Change<Plain> {
    Change::Acknowledge {
        log,
        first: Sequence(first),
        count,
    }
}

fn put(key: &[u8], value: &[u8]) -> Change<Plain> {
    Change::PutDefinition {
        key: key.to_vec(),
        value: value.to_vec(),
    }
}

fn commit<S: Subject>(subject: &S, store: &S::Store, mut unit: Vec<Change<Plain>>) {
    let point = store.stage(&mut unit);
    assert!(unit.is_empty(), "stage takes everything");
    subject.settle(store, point);
    assert!(store.durable_point() >= point);
}

fn read<S: Subject>(
    store: &S::Store,
    log: LogId,
    from: u64,
    count: usize,
    bytes: usize,
) -> Vec<StoredMessage<Plain>> {
    let mut out = Vec::new();
    store
        .read(log, Sequence(from), count, bytes, &mut out)
        .expect("reading");
    out
}

fn sequences<S: Subject>(store: &S::Store, log: LogId) -> Vec<u64> {
    read::<S>(store, log, 0, usize::MAX, usize::MAX)
        .iter()
        .map(|message| message.sequence.0)
        .collect()
}

fn definitions_are_kept_in_key_order<S: Subject>(subject: &S) {
    let store = subject.create();
    commit(
        subject,
        &store,
        vec![put(b"b", b"2"), put(b"c", b"3"), put(b"a", b"1")],
    );
    let mut unit = vec![
        put(b"b", b"two"),
        Change::RemoveDefinition { key: b"c".to_vec() },
    ];
    let point = store.stage(&mut unit);
    let found = store.definitions().expect("definitions");
    let expected = [
        (b"a".to_vec(), b"1".to_vec()),
        (b"b".to_vec(), b"two".to_vec()),
    ];
    assert_eq!(found, expected, "what is staged counts at once");
    subject.settle(&store, point);
    assert_eq!(store.definitions().expect("definitions"), expected);
}

fn log_ids_are_new<S: Subject>(subject: &S) {
    let store = subject.create();
    let ids: Vec<LogId> = (0..100).map(|_| store.allocate_log()).collect();
    assert!(ids.is_sorted_by(|one, next| one < next));
}

fn an_empty_unit_is_nothing<S: Subject>(subject: &S) {
    let store = subject.create();
    let point = store.stage(&mut Vec::new());
    subject.settle(&store, point);
    assert_eq!(store.status(), StoreStatus::Running);
    assert!(!store.wake_at(CommitPoint::NONE, Waker::noop()));
}

fn nothing_is_kept_or_waited_for<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    assert_eq!(
        store.stage(&mut vec![enqueue(log, 1, 10)]),
        CommitPoint::NONE
    );
    assert!(sequences::<S>(&store, log).is_empty());
    assert_eq!((store.log_state(log), store.logs()), (None, vec![]));
    assert_eq!(store.staged_bytes(), 0);
}

fn messages_come_back_in_order<S: Subject>(subject: &S) {
    let store = subject.create();
    let (log, other) = (store.allocate_log(), store.allocate_log());
    let mut unit = Vec::new();
    for sequence in 10..60 {
        unit.push(enqueue(log, sequence, 100));
        unit.push(enqueue(other, sequence, 7));
    }
    commit(subject, &store, unit);
    commit(
        subject,
        &store,
        vec![enqueue(log, 5, 30_000), enqueue(log, 60, 0), spill(log, 61)],
    );
    let messages = read::<S>(&store, log, 0, usize::MAX, usize::MAX);
    let found: Vec<u64> = messages.iter().map(|message| message.sequence.0).collect();
    assert_eq!(found, [5].into_iter().chain(10..62).collect::<Vec<_>>());
    for message in messages {
        let sequence = message.sequence.0;
        let bytes = match sequence {
            5 => 30_000,
            60 => 0,
            61 => 20,
            _ => 100,
        };
        let fill = u8::try_from(sequence % 251).unwrap_or_default();
        assert_eq!(message.payload, Plain(vec![fill; bytes].into()));
        assert_eq!((message.flags, message.time_ms), (fill, sequence * 10));
        assert_eq!(
            (message.stored_bytes as usize, message.transient),
            (bytes, sequence == 61)
        );
    }
    let state = store.log_state(log).expect("a state");
    assert_eq!(
        (state.live, state.first, state.next),
        (53, Sequence(5), Sequence(62))
    );
    assert_eq!(state.bytes, 30_000 + 50 * 100 + 20);
    assert_eq!(store.logs(), [log, other]);
    assert_eq!(store.staged_bytes(), 0);
}

fn reads_keep_to_their_limits<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    commit(
        subject,
        &store,
        (0..100)
            .map(|sequence| enqueue(log, sequence, 100))
            .collect(),
    );
    let limits = [
        (5, usize::MAX, 5),
        (0, usize::MAX, 1),
        (100, 0, 1),
        (100, 350, 3),
        (3, 100_000, 3),
        (1000, 100_000, 80),
    ];
    for (count, bytes, expected) in limits {
        let messages = read::<S>(&store, log, 20, count, bytes);
        assert_eq!(messages.len(), expected, "{count} messages, {bytes} bytes");
        assert_eq!(
            messages.first().map(|message| message.sequence),
            Some(Sequence(20))
        );
    }
    assert!(read::<S>(&store, log, 100, 10, 10).is_empty());
    assert!(read::<S>(&store, LogId(u64::MAX), 0, 10, 10).is_empty());
}

fn acknowledged_messages_are_gone<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    commit(
        subject,
        &store,
        (0..100)
            .map(|sequence| enqueue(log, sequence, 50))
            .collect(),
    );
    commit(
        subject,
        &store,
        vec![acknowledge(log, 0, 10), acknowledge(log, 50, 1)],
    );
    commit(
        subject,
        &store,
        vec![
            acknowledge(log, 0, 10),
            acknowledge(log, 95, 100),
            acknowledge(log, 49, 3),
        ],
    );
    let expected: Vec<u64> = (10..49).chain(52..95).collect();
    assert_eq!(sequences::<S>(&store, log), expected);
    let state = store.log_state(log).expect("a state");
    assert_eq!(
        (state.live, state.first, state.next),
        (82, Sequence(10), Sequence(100))
    );
    // Within one unit too, whether it was ever written or not.
    commit(
        subject,
        &store,
        vec![
            enqueue(log, 100, 5),
            acknowledge(log, 90, 11),
            enqueue(log, 101, 5),
        ],
    );
    assert_eq!(sequences::<S>(&store, log).last(), Some(&101));
    commit(subject, &store, vec![acknowledge(log, 0, u64::MAX)]);
    assert_eq!(
        store.log_state(log).map(|state| (state.live, state.bytes)),
        Some((0, 0))
    );
}

fn a_message_is_replaced_under_its_sequence<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    commit(
        subject,
        &store,
        (0..10).map(|sequence| enqueue(log, sequence, 50)).collect(),
    );
    commit(
        subject,
        &store,
        vec![
            enqueue(log, 4, 77),
            acknowledge(log, 6, 1),
            enqueue(log, 6, 8),
        ],
    );
    let sizes: Vec<u32> = read::<S>(&store, log, 3, 4, usize::MAX)
        .iter()
        .map(|message| message.stored_bytes)
        .collect();
    assert_eq!(sizes, [50, 77, 50, 8]);
    assert_eq!(store.log_state(log).map(|state| state.live), Some(10));
}

fn numbers_stay_with_their_messages<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    let set = |first: u64, length: u64, count: u32| Change::SetCount {
        log,
        first: Sequence(first),
        length,
        count,
        synced: first.is_multiple_of(2),
    };
    let counts = |store: &S::Store| -> Vec<u32> {
        let messages = read::<S>(store, log, 0, usize::MAX, usize::MAX);
        messages.iter().map(|message| message.count).collect()
    };
    let messages = (0..8).map(|sequence| enqueue(log, sequence, 50)).collect();
    commit(subject, &store, messages);
    assert_eq!(counts(&store), [0; 8]);
    commit(subject, &store, vec![set(2, 4, 7), set(4, 1, 8)]);
    commit(subject, &store, vec![spill(log, 8), set(7, 1, 9)]);
    assert_eq!(counts(&store), [0, 0, 7, 7, 8, 7, 0, 9, 0]);
    let unit = vec![
        acknowledge(log, 3, 1),
        enqueue(log, 4, 60),
        set(5, 1, 0),
        enqueue(log, 9, 10),
    ];
    commit(subject, &store, unit);
    assert_eq!(counts(&store), [0, 0, 7, 8, 0, 0, 9, 0, 0]);
    // What is gone leaves nothing to a message that comes under its sequence.
    let unit = vec![
        set(9, 1, 5),
        acknowledge(log, 9, 1),
        set(7, 1, 6),
        acknowledge(log, 8, 1),
        enqueue(log, 10, 10),
    ];
    commit(subject, &store, unit);
    commit(
        subject,
        &store,
        vec![enqueue(log, 3, 50), enqueue(log, 9, 50)],
    );
    let expected = [0, 0, 7, 0, 8, 0, 0, 6, 0, 0];
    let run = |first: u64, length: u64, count: u32| Numbered {
        first: Sequence(first),
        length,
        count,
    };
    let check = |store: &S::Store| {
        assert_eq!(counts(store), expected);
        assert_eq!(store.numbered(log, 7), [run(2, 1, 7), run(4, 1, 8)],);
        assert_eq!(store.numbered(log, 8), [run(4, 1, 8)]);
        assert_eq!(store.numbered(log, 9), []);
    };
    check(&store);
    let store = subject.restart(store);
    check(&store);
    let all = vec![set(0, 1000, 9)];
    commit(subject, &store, all);
    assert_eq!(store.numbered(log, 9), [run(0, 8, 9), run(9, 2, 9)]);
    commit(subject, &store, vec![Change::DeleteLog { log }]);
    commit(subject, &store, vec![set(0, 10, 3)]);
    assert_eq!(store.logs(), []);
}

fn logs_are_deleted<S: Subject>(subject: &S) {
    let store = subject.create();
    let (log, other) = (store.allocate_log(), store.allocate_log());
    commit(
        subject,
        &store,
        vec![enqueue(log, 1, 10), enqueue(other, 1, 10)],
    );
    commit(
        subject,
        &store,
        vec![
            enqueue(log, 2, 10),
            Change::DeleteLog { log },
            put(b"x", b"y"),
        ],
    );
    assert_eq!(store.logs(), [other]);
    assert!(sequences::<S>(&store, log).is_empty());
    assert_eq!(store.log_state(log), None);
}

/// Whoever deletes a log need not see to it that nobody else is about to stage something for it.
fn nothing_comes_of_a_deleted_log<S: Subject>(subject: &S) {
    let store = subject.create();
    let (log, unused, other) = (
        store.allocate_log(),
        store.allocate_log(),
        store.allocate_log(),
    );
    let number = |log| Change::SetCount {
        log,
        first: Sequence(0),
        length: 20,
        count: 2,
        synced: true,
    };
    commit(subject, &store, vec![enqueue(log, 1, 10)]);
    let unit = vec![
        enqueue(log, 2, 10),
        Change::DeleteLog { log },
        enqueue(log, 3, 10),
        number(log),
        Change::DeleteLog { log: unused },
        enqueue(unused, 1, 10),
    ];
    commit(subject, &store, unit);
    let is_gone = |store: &S::Store, logs: &[LogId]| {
        assert_eq!(store.logs(), logs);
        for log in [log, unused] {
            assert!(sequences::<S>(store, log).is_empty());
            assert_eq!(store.log_state(log), None);
        }
    };
    is_gone(&store, &[]);
    // Others of a later unit are as safe as ever.
    let unit = vec![
        enqueue(log, 4, 10),
        enqueue(other, 1, 10),
        number(log),
        enqueue(unused, 2, 10),
        Change::DeleteLog { log },
        enqueue(log, 5, 10),
    ];
    commit(subject, &store, unit);
    let mut transient = enqueue(log, 6, 10);
    if let Change::Enqueue(enqueue) = &mut transient {
        enqueue.transient = true;
    }
    commit(subject, &store, vec![transient]);
    let settled = Change::Acknowledge {
        log,
        first: Sequence(4),
        count: 1,
    };
    let point = store.stage_settled(&mut vec![settled]);
    subject.settle(&store, point);
    is_gone(&store, &[other]);
    assert_eq!(store.staged_bytes(), 0);
    let store = subject.restart(store);
    is_gone(&store, &[other]);
    assert_eq!(sequences::<S>(&store, other), [1]);
}

fn those_who_wait_are_woken_when_it_is_durable<S: Subject>(subject: &S) {
    let store = subject.create();
    let log = store.allocate_log();
    let woken = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = Waker::from(Arc::clone(&woken));
    let point = store.stage(&mut vec![enqueue(log, 1, 10)]);
    let registered = store.wake_at(point, &waker);
    subject.settle(&store, point);
    // A later unit is durable only after those who waited for the first were told.
    commit(subject, &store, vec![enqueue(log, 2, 10)]);
    assert_eq!(woken.0.load(Ordering::SeqCst), usize::from(registered));
    assert!(!store.wake_at(point, &waker), "it is durable already");
}

fn a_restart_keeps_what_is_durable<S: Subject>(subject: &S) {
    let store = subject.create();
    let (log, other) = (store.allocate_log(), store.allocate_log());
    commit(
        subject,
        &store,
        (0..40)
            .map(|sequence| enqueue(log, sequence, 500))
            .collect(),
    );
    commit(
        subject,
        &store,
        vec![
            acknowledge(log, 3, 30),
            spill(log, 40),
            put(b"k", b"v"),
            enqueue(other, 0, 1),
        ],
    );
    commit(subject, &store, vec![acknowledge(other, 0, 1)]);
    let store = subject.restart(store);
    assert_eq!(
        sequences::<S>(&store, log),
        [0, 1, 2, 33, 34, 35, 36, 37, 38, 39]
    );
    assert!(sequences::<S>(&store, other).is_empty());
    assert_eq!(
        store.definitions().expect("definitions"),
        [(b"k".to_vec(), b"v".to_vec())]
    );
    assert!(store.allocate_log() > other);
    commit(subject, &store, vec![enqueue(log, 41, 9)]);
    assert_eq!(sequences::<S>(&store, log).last(), Some(&41));
}

fn a_restart_knows_what_was_delivered<S: Subject>(subject: &S) {
    let store = subject.create();
    let (log, other, gone) = (
        store.allocate_log(),
        store.allocate_log(),
        store.allocate_log(),
    );
    let unit = [log, other, gone].map(|log| enqueue(log, 9, 10)).to_vec();
    commit(subject, &store, unit);
    for (log, below) in [(log, 4), (log, 7), (log, 5), (gone, 3)] {
        store.record_delivered(log, Sequence(below));
    }
    assert_eq!(store.delivered(log).below, Sequence(7));
    commit(subject, &store, vec![Change::DeleteLog { log: gone }]);
    let store = subject.restart(store);
    let known = |delivered: u64| {
        if subject.forgets_deliveries() {
            return (Sequence(0), Sequence(10));
        }
        (Sequence(delivered), Sequence(0))
    };
    let found = |log| {
        let delivered = store.delivered(log);
        (delivered.below, delivered.uncertain_below)
    };
    assert_eq!(found(log), known(7));
    assert_eq!(found(other), known(0));
    assert_eq!(store.delivered(gone), Delivered::default());
}
