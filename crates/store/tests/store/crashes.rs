//! The journal against a plain model under random work, kills, power cuts and clean restarts: what is
//! there afterwards is what the first so-many units made, and every unit that was durable is among them.

use std::collections::{BTreeMap, BTreeSet};

use leveret_store::simulation::SimulatedDisk;
use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, DefinitionStore, LogId, MessageLog, Sequence};
use proptest::prelude::*;

use crate::support::{Blob, acknowledge, all, blob, enqueue_of, open, small, wait, write_ahead};

/// One message as the model keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    bytes: usize,
    transient: bool,
    count: u32,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    logs: BTreeMap<u64, BTreeMap<u64, Kept>>,
    definitions: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn apply(&mut self, change: &Change<Blob>) {
        match change {
            Change::Enqueue(enqueue) => {
                let log = self.logs.entry(enqueue.log.0).or_default();
                let kept = Kept {
                    bytes: enqueue.payload.0.len(),
                    transient: enqueue.transient,
                    count: log.get(&enqueue.sequence.0).map_or(0, |kept| kept.count),
                };
                log.insert(enqueue.sequence.0, kept);
            }
            Change::SetCount {
                log,
                first,
                length,
                count,
                synced: _,
            } => {
                let log = self.logs.get_mut(&log.0).into_iter();
                let range = log.flat_map(|log| log.range_mut(first.0..first.0 + length));
                for (_, kept) in range.filter(|(_, kept)| !kept.transient) {
                    kept.count = *count;
                }
            }
            Change::Acknowledge { log, first, count } => {
                if let Some(log) = self.logs.get_mut(&log.0) {
                    log.retain(|sequence, _| *sequence < first.0 || *sequence >= first.0 + count);
                }
            }
            Change::DeleteLog { log } => {
                self.logs.remove(&log.0);
            }
            Change::PutDefinition { key, value } => {
                self.definitions.insert(key.clone(), value.clone());
            }
            Change::RemoveDefinition { key } => {
                self.definitions.remove(key);
            }
        }
    }

    /// Without what ends with the process, and without empty logs.
    fn persistent(&self) -> Model {
        let mut model = self.clone();
        for log in model.logs.values_mut() {
            log.retain(|_, kept| !kept.transient);
        }
        model.logs.retain(|_, log| !log.is_empty());
        model
    }

    /// Without the numbers of messages, which need no sync.
    fn uncounted(&self) -> Model {
        let mut model = self.clone();
        let kept = model.logs.values_mut().flat_map(BTreeMap::values_mut);
        kept.for_each(|kept| kept.count = 0);
        model
    }

    /// Each message bears a number that it bore in one of these.
    fn has_numbers_of(&self, states: &[Model]) -> bool {
        self.logs.iter().all(|(log, messages)| {
            messages.iter().all(|(sequence, kept)| {
                let bore = |state: &Model| Some(state.logs.get(log)?.get(sequence)?.count);
                states.iter().any(|state| bore(state) == Some(kept.count))
            })
        })
    }

    /// The same but for messages that readers have acknowledged, of which here some may be gone already.
    fn lacks_only(&self, state: &Model, settled: &BTreeSet<(u64, u64)>) -> bool {
        let mut state = state.clone();
        for (log, messages) in &mut state.logs {
            let here = self.logs.get(log);
            messages.retain(|sequence, _| {
                here.is_some_and(|here| here.contains_key(sequence))
                    || !settled.contains(&(*log, *sequence))
            });
        }
        state.logs.retain(|_, log| !log.is_empty());
        *self == state
    }

    /// What is here and not there, and the other way round.
    fn differences(&self, other: &Model) -> String {
        let flat = |model: &Model| -> BTreeSet<(u64, u64, usize, u32)> {
            let logs = model.logs.iter();
            logs.flat_map(|(log, all)| {
                all.iter()
                    .map(|(n, kept)| (*log, *n, kept.bytes, kept.count))
            })
            .collect()
        };
        let (here, there) = (flat(self), flat(other));
        format!(
            "too much: {:?}, too little: {:?}, definitions {:?} for {:?}",
            here.difference(&there).collect::<Vec<_>>(),
            there.difference(&here).collect::<Vec<_>>(),
            self.definitions.keys().collect::<Vec<_>>(),
            other.definitions.keys().collect::<Vec<_>>()
        )
    }

    /// What a store holds; the bytes of every message are checked on the way.
    fn of(store: &Journal<Blob>) -> Model {
        let mut model = Model::default();
        for log in store.logs() {
            let messages = all(store, log.0);
            let state = store
                .log_state(log)
                .expect("a log that is listed has a state");
            assert_eq!(state.live, messages.len() as u64);
            let mut kept = BTreeMap::new();
            for message in messages {
                assert_eq!(
                    message.payload,
                    blob(log.0, message.sequence.0, message.payload.0.len())
                );
                let value = Kept {
                    bytes: message.payload.0.len(),
                    transient: message.transient,
                    count: message.count,
                };
                assert!(
                    kept.insert(message.sequence.0, value).is_none(),
                    "a message came twice"
                );
            }
            if !kept.is_empty() {
                assert_eq!(state.first, Sequence(*kept.keys().next().expect("one")));
                model.logs.insert(log.0, kept);
            }
        }
        model.definitions = store
            .definitions()
            .expect("definitions")
            .into_iter()
            .collect();
        model
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One unit: messages to a log, acknowledgements, sometimes a definition, together.
    Unit {
        slot: usize,
        count: u64,
        bytes: usize,
        transient: bool,
        acknowledge: Option<(u64, u64)>,
        define: Option<u8>,
    },
    /// A message that is or was there is written again.
    Again {
        slot: usize,
        back: u64,
        transient: bool,
    },
    /// Messages that are or were there are given a number.
    Count {
        slot: usize,
        back: u64,
        length: u64,
        count: u32,
    },
    /// Readers acknowledge messages that are or were there.
    Read {
        slot: usize,
        back: u64,
        count: u64,
    },
    /// So many units of messages, each acknowledged by readers some units later.
    Flow {
        slot: usize,
        units: u64,
        lag: u64,
    },
    Delete {
        slot: usize,
    },
    Undefine(u8),
    Settle,
    Checkpoint,
    /// The index has room for so many more rows, or for all.
    RefuseRows(Option<usize>),
    CleanRestart,
    Kill,
    PowerCut {
        seed: u64,
    },
    /// The power goes off in the middle of what follows.
    PowerCutSoon {
        operations: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let unit = (
        0..3usize,
        0..30u64,
        prop_oneof![8 => 0..400usize, 2 => 400..3000usize, 1 => 15_000..60_000usize],
        prop::bool::weighted(0.2),
        prop::option::weighted(0.6, (0..40u64, 1..25u64)),
        prop::option::weighted(0.2, 0..8u8),
    )
        .prop_map(|(slot, count, bytes, transient, acknowledge, define)| {
            let count = if bytes > 3000 { count.min(2) } else { count };
            Step::Unit {
                slot,
                count,
                bytes,
                transient,
                acknowledge,
                define,
            }
        });
    prop_oneof![
        30 => unit,
        3 => (0..3usize, 0..20u64, any::<bool>())
            .prop_map(|(slot, back, transient)| Step::Again { slot, back, transient }),
        6 => (0..3usize, 0..60u64, 1..30u64, 0..4u32)
            .prop_map(|(slot, back, length, count)| Step::Count { slot, back, length, count }),
        10 => (0..3usize, 0..40u64, 1..25u64)
            .prop_map(|(slot, back, count)| Step::Read { slot, back, count }),
        2 => (0..3usize, 1..120u64, 0..4u64)
            .prop_map(|(slot, units, lag)| Step::Flow { slot, units, lag }),
        1 => (0..3usize).prop_map(|slot| Step::Delete { slot }),
        2 => (0..8u8).prop_map(Step::Undefine),
        4 => Just(Step::Settle),
        4 => Just(Step::Checkpoint),
        2 => prop::option::of(0..20usize).prop_map(Step::RefuseRows),
        1 => Just(Step::CleanRestart),
        2 => Just(Step::Kill),
        2 => any::<u64>().prop_map(|seed| Step::PowerCut { seed }),
        3 => (0..60u64).prop_map(|operations| Step::PowerCutSoon { operations }),
    ]
}

/// A store under test with the model of every moment since it was opened.
struct Bench {
    disk: SimulatedDisk,
    store: Option<Journal<Blob>>,
    options: JournalOptions,
    /// `history[n]`: after n units.
    history: Vec<Model>,
    points: Vec<leveret_store_api::CommitPoint>,
    /// Log id and next sequence of each slot.
    slots: Vec<(u64, u64)>,
    /// Log and sequence of what readers have acknowledged since the store was opened.
    settled: BTreeSet<(u64, u64)>,
    seed: u64,
}

impl Bench {
    fn new(options: JournalOptions) -> Self {
        let disk = SimulatedDisk::new();
        let store = open(&disk, options.clone()).expect("open");
        let slots = (0..3).map(|_| (store.allocate_log().0, 0)).collect();
        Bench {
            disk,
            store: Some(store),
            options,
            history: vec![Model::default()],
            points: Vec::new(),
            slots,
            settled: BTreeSet::new(),
            seed: 1,
        }
    }

    fn store(&self) -> &Journal<Blob> {
        self.store.as_ref().expect("open")
    }

    fn stage(&mut self, unit: Vec<Change<Blob>>) {
        if unit.is_empty() {
            return;
        }
        self.note(&unit);
        let mut unit = unit;
        // What is small, or needs not be kept, is not written ahead.
        let ahead: Vec<_> = (unit.iter())
            .filter_map(|change| match change {
                Change::Enqueue(enqueue) => write_ahead(self.store(), &enqueue.payload, 1),
                _ => None,
            })
            .collect();
        let point = self.store().stage(&mut unit);
        drop(ahead);
        self.points.push(point);
    }

    /// What the model makes of a unit.
    fn note(&mut self, unit: &[Change<Blob>]) {
        let mut model = self.history.last().cloned().expect("never empty");
        unit.iter().for_each(|change| model.apply(change));
        self.history.push(model);
    }

    /// Readers acknowledge a range.
    fn read(&mut self, log: u64, first: u64, count: u64) {
        let mut unit = vec![acknowledge(log, first, count)];
        self.note(&unit);
        self.settled
            .extend((first..first + count).map(|sequence| (log, sequence)));
        let point = self.store().stage_settled(&mut unit);
        self.points.push(point);
    }

    /// Reopens from `disk`: the store must hold the state after some unit, none earlier than those
    /// that were durable.
    fn reopen(&mut self, disk: SimulatedDisk, durable: usize, why: &str) {
        self.store = None;
        self.disk = disk;
        let store = open(&self.disk, self.options.clone())
            .unwrap_or_else(|error| panic!("after {why}, a crash is no damage: {error}"));
        let found = Model::of(&store);
        let states: Vec<Model> = self.history.iter().map(Model::persistent).collect();
        // A power cut may take numbers back, of each message apart.
        let is_power_cut = why != "clean" && !why.starts_with("Kill");
        let reached = states.iter().skip(durable).any(|state| {
            found.lacks_only(state, &self.settled)
                || (is_power_cut
                    && found
                        .uncounted()
                        .lacks_only(&state.uncounted(), &self.settled)
                    && found.has_numbers_of(&states))
        });
        if !reached {
            panic!(
                "after {why}: {durable} units of {} were durable; {}",
                self.points.len(),
                found.differences(&states[durable])
            );
        }
        for slot in &mut self.slots {
            if !found.logs.contains_key(&slot.0) {
                *slot = (store.allocate_log().0, 0);
            } else {
                slot.1 += 1000;
            }
        }
        self.history = vec![found];
        self.points.clear();
        self.settled.clear();
        self.store = Some(store);
    }

    fn durable(&self) -> usize {
        let durable = self.store().durable_point();
        self.points
            .iter()
            .take_while(|point| **point <= durable)
            .count()
    }

    fn is_off(&self) -> bool {
        matches!(
            self.store().status(),
            leveret_store_api::StoreStatus::Failed(_)
        )
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Unit {
                slot,
                count,
                bytes,
                transient,
                acknowledge: range,
                define,
            } => {
                let (log, next) = self.slots[*slot];
                let mut unit: Vec<_> = (next..next + count)
                    .map(|n| enqueue_of(log, n, *bytes, *transient))
                    .collect();
                self.slots[*slot].1 += count;
                if let Some((back, count)) = range {
                    unit.push(acknowledge(log, (next + 5).saturating_sub(*back), *count));
                }
                if let Some(key) = define {
                    unit.push(Change::PutDefinition {
                        key: vec![*key],
                        value: vec![*key; 10 + *bytes % 7000],
                    });
                }
                self.stage(unit);
            }
            Step::Again {
                slot,
                back,
                transient,
            } => {
                let (log, next) = self.slots[*slot];
                let sequence = next.saturating_sub(*back);
                // A message that must be kept is never replaced by one that need not be.
                let kept = self
                    .history
                    .last()
                    .and_then(|model| model.logs.get(&log)?.get(&sequence));
                let transient = *transient && kept.is_none_or(|kept| kept.transient);
                self.stage(vec![enqueue_of(log, sequence, 100, transient)]);
                self.slots[*slot].1 += 1;
            }
            Step::Count {
                slot,
                back,
                length,
                count,
            } => {
                let (log, next) = self.slots[*slot];
                let first = next.saturating_sub(*back);
                let model = self.history.last().cloned().unwrap_or_default();
                let there = model.logs.get(&log).into_iter();
                let there = there.flat_map(|log| log.range(first..first + length));
                let unit = there
                    .filter(|(_, kept)| !kept.transient)
                    .map(|(sequence, _)| Change::SetCount {
                        log: LogId(log),
                        first: Sequence(*sequence),
                        length: 1,
                        count: *count,
                        synced: false,
                    });
                self.stage(unit.collect());
            }
            Step::Read { slot, back, count } => {
                let (log, next) = self.slots[*slot];
                self.read(log, (next + 5).saturating_sub(*back), *count);
            }
            Step::Flow { slot, units, lag } => {
                let (log, first) = self.slots[*slot];
                for number in 0..units + lag {
                    let from = first + 20 * number;
                    if number < *units {
                        let unit = (from..from + 20).map(|n| enqueue_of(log, n, 50, false));
                        self.stage(unit.collect());
                    }
                    if let Some(read) = from.checked_sub(20 * lag).filter(|read| *read >= first) {
                        self.read(log, read, 20);
                    }
                }
                self.slots[*slot].1 += 20 * units;
            }
            Step::Delete { slot } => {
                let (log, _) = self.slots[*slot];
                self.stage(vec![Change::DeleteLog { log: LogId(log) }]);
                self.slots[*slot] = (self.store().allocate_log().0, 0);
            }
            Step::Undefine(key) => self.stage(vec![Change::RemoveDefinition { key: vec![*key] }]),
            Step::Settle => self.settle(),
            Step::Checkpoint => self.store().checkpoint(),
            Step::RefuseRows(after) => self.disk.refuse_rows(*after),
            Step::CleanRestart => {
                // Without room for the index it is left as after a kill.
                self.disk.refuse_rows(None);
                let (durable, units) = (self.durable(), self.points.len());
                self.store = None;
                if self.disk.is_off() {
                    let disk = self.disk.after_power_cut(self.seed);
                    self.reopen(disk, durable, &format!("{step:?}"));
                } else {
                    let disk = self.disk.after_kill();
                    self.reopen(disk, units, "clean");
                    assert!(self.store().opened_clean());
                }
            }
            Step::Kill => {
                let durable = self.durable();
                let disk = self.disk.after_kill();
                self.reopen(disk, durable, &format!("{step:?}"));
            }
            Step::PowerCut { seed } => {
                let durable = self.durable();
                let disk = self.disk.after_power_cut(*seed);
                self.reopen(disk, durable, &format!("{step:?}"));
            }
            Step::PowerCutSoon { operations } => {
                self.disk.power_off_after(*operations);
                self.seed = self.seed.wrapping_mul(31).wrapping_add(*operations);
            }
        }
        if self.store.is_some() && self.is_off() {
            let durable = self.durable();
            let disk = self.disk.after_power_cut(self.seed);
            self.reopen(disk, durable, &format!("{step:?}"));
        }
    }

    /// Everything staged is durable, and reads agree with the model; or the power is off.
    fn settle(&mut self) {
        let Some(point) = self.points.last().copied() else {
            return;
        };
        let waker = crate::support::waker();
        self.store().on_status(waker);
        while self.store().durable_point() < point && !self.is_off() {
            if self.store().wake_at(point, &crate::support::waker()) && !self.is_off() {
                std::thread::park();
            }
        }
        if !self.is_off() {
            let mut expected = self.history.last().cloned().expect("never empty");
            expected.logs.retain(|_, log| !log.is_empty());
            assert_eq!(Model::of(self.store()), expected);
        }
    }
}

fn torture(options: JournalOptions, steps: &[Step]) {
    let mut bench = Bench::new(options);
    for step in steps {
        bench.run(step);
    }
    bench.settle();
    if bench.is_off() {
        let durable = bench.durable();
        let disk = bench.disk.after_power_cut(99);
        bench.reopen(disk, durable, "end");
    }
    bench.run(&Step::CleanRestart);
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(60);
    ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_durable_is_lost(steps in prop::collection::vec(step(), 1..80)) {
        torture(small(), &steps);
    }

    #[test]
    fn nothing_durable_is_lost_with_checkpoints_and_compaction(steps in prop::collection::vec(step(), 1..80)) {
        torture(JournalOptions { checkpoint_bytes: 20_000, spare_segments: 1, ..small() }, &steps);
    }

    #[test]
    fn nothing_durable_is_lost_of_what_is_written_ahead(steps in prop::collection::vec(step(), 1..80)) {
        let options = JournalOptions {
            checkpoint_bytes: 40_000,
            write_ahead_bytes_min: 2000,
            write_ahead_step_bytes: 5000,
            free_bytes_step: 10_000,
            free_pause_ms: 1,
            ..small()
        };
        torture(options, &steps);
    }

    #[test]
    fn nothing_durable_is_lost_while_segments_are_given_back(steps in prop::collection::vec(step(), 1..80)) {
        let options = JournalOptions {
            checkpoint_bytes: 20_000,
            spare_segments: 0,
            free_bytes_step: 10_000,
            free_pause_ms: 1,
            ..small()
        };
        torture(options, &steps);
    }

    #[test]
    fn nothing_durable_is_lost_without_patience(steps in prop::collection::vec(step(), 1..80)) {
        torture(JournalOptions { patience_us: 0, checkpoint_bytes: 40_000, ..small() }, &steps);
    }
}

#[test]
fn waiting_is_never_forgotten() {
    let disk = SimulatedDisk::new();
    let store = open(&disk, small()).expect("open");
    for n in 0..300 {
        let point = store.stage(&mut vec![enqueue_of(1, n, 10, false)]);
        wait(&store, point);
    }
}
