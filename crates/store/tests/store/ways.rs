//! What is there for its speed alone changes nothing of what is kept: the same history in a journal that passes over what
//! was acknowledged before it was written, and writes large messages ahead, and in one that does neither.

use leveret_store::JournalOptions;
use leveret_store::simulation::SimulatedDisk;
use leveret_store_api::{Change, DefinitionStore, LogId, MessageLog, Sequence, WriteAhead};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{Blob, acknowledge, all, enqueue_of, open, put, small, wait, write_ahead};

const LOGS: u64 = 3;
const LARGE: usize = 40_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Ways {
    /// Readers' acknowledgements take what is not written out of what is to be.
    elision: bool,
    ahead: bool,
}

#[derive(Clone, Debug)]
enum Step {
    /// So many messages, of so many bytes, in one unit.
    Publish(u64, u64, usize, bool),
    /// Readers acknowledge so many of those that are left, from a place among them on.
    Acknowledge(u64, usize, u64),
    SetCount(u64, u32),
    Delete(u64),
    Define(u8),
    Wait,
    Checkpoint,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let log = 0..LOGS;
    let bytes = prop_oneof![5 => Just(20usize), 2 => Just(900), 1 => Just(LARGE)];
    let messages = (log.clone(), 1u64..6, bytes, prop::bool::weighted(0.2));
    let acknowledged = (log.clone(), 0usize..20, 1u64..8);
    prop_oneof![
        8 => messages.prop_map(|(log, count, bytes, transient)| Step::Publish(log, count, bytes, transient)),
        8 => acknowledged.prop_map(|(log, at, count)| Step::Acknowledge(log, at, count)),
        1 => (log.clone(), 0u32..5).prop_map(|(log, count)| Step::SetCount(log, count)),
        1 => log.prop_map(Step::Delete),
        1 => (0u8..4).prop_map(Step::Define),
        2 => Just(Step::Wait),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Reopen),
    ]
}

/// A log as its owner knows it.
#[derive(Clone, Debug, Default)]
struct Kept {
    id: u64,
    next: u64,
    live: Vec<u64>,
}

/// What a reader finds: of each log its messages with all that is known of them, and how many there are; and definitions.
fn found(store: &leveret_store::Journal<Blob>, logs: &[Kept]) -> Vec<String> {
    let mut found = Vec::new();
    for log in logs {
        let messages = all(store, log.id);
        let messages = messages.iter().map(|it| {
            let sum: u64 = it.payload.0.iter().map(|byte| u64::from(*byte)).sum();
            (
                it.sequence.0,
                it.count,
                it.flags,
                it.time_ms,
                it.transient,
                sum,
            )
        });
        // Where it ends is not told: what was acknowledged before it was written is not known after a start, and may have
        // been the last.
        let live = store.log_state(LogId(log.id)).map_or(0, |it| it.live);
        found.push(format!(
            "{}: {:?} {live}",
            log.id,
            messages.collect::<Vec<_>>()
        ));
    }
    found.push(format!("{:?}", store.definitions().expect("definitions")));
    found
}

fn run(steps: &[Step], ways: Ways) -> Vec<Vec<String>> {
    let options = || JournalOptions {
        write_ahead_bytes_min: if ways.ahead { 10_000 } else { usize::MAX },
        write_ahead_step_bytes: 4096,
        // What is staged is seen together with what comes soon.
        gap_us: 2_000,
        ..small()
    };
    let disk = SimulatedDisk::new();
    let mut store = open(&disk, options()).expect("open");
    let mut ids = 1..;
    let mut new_log = || Kept {
        id: ids.next().unwrap_or_default(),
        ..Kept::default()
    };
    let mut logs: Vec<Kept> = (0..LOGS).map(|_| new_log()).collect();
    let mut seen = Vec::new();
    for step in steps {
        let mut changes = Vec::new();
        let mut settled = false;
        let mut ahead: Vec<WriteAhead> = Vec::new();
        match *step {
            Step::Publish(log, count, bytes, transient) => {
                let log = &mut logs[log as usize];
                for sequence in log.next..log.next + count {
                    let change = enqueue_of(log.id, sequence, bytes, transient);
                    if let Change::Enqueue(enqueue) = &change
                        && !transient
                    {
                        ahead.extend(write_ahead(&store, &enqueue.payload, 1));
                    }
                    changes.push(change);
                    log.live.push(sequence);
                }
                log.next += count;
            }
            Step::Acknowledge(log, at, count) => {
                let log = &mut logs[log as usize];
                let Some(&first) = log.live.get(at % log.live.len().max(1)) else {
                    continue;
                };
                log.live.retain(|it| !(first..first + count).contains(it));
                changes.push(acknowledge(log.id, first, count.min(log.next - first)));
                settled = true;
            }
            Step::SetCount(log, count) => {
                let log = &logs[log as usize];
                changes.extend(log.live.first().map(|first| Change::SetCount {
                    log: LogId(log.id),
                    first: Sequence(*first),
                    length: 1,
                    count,
                    synced: false,
                }));
            }
            Step::Delete(log) => {
                let gone = std::mem::replace(&mut logs[log as usize], new_log());
                changes.push(Change::DeleteLog {
                    log: LogId(gone.id),
                });
            }
            Step::Define(number) => changes.push(put("key", &format!("value {number}"))),
            Step::Wait => {
                let point = store.stage(&mut Vec::new());
                wait(&store, point);
                seen.push(found(&store, &logs));
            }
            Step::Checkpoint => store.checkpoint(),
            Step::Reopen => {
                drop(store);
                store = open(&disk, options()).expect("open");
                for log in &mut logs {
                    // What was transient is gone.
                    let there: Vec<u64> =
                        all(&store, log.id).iter().map(|it| it.sequence.0).collect();
                    log.live.retain(|sequence| there.contains(sequence));
                    assert_eq!(log.live, there);
                }
                seen.push(found(&store, &logs));
            }
        }
        if settled && ways.elision {
            store.stage_settled(&mut changes);
        } else {
            store.stage(&mut changes);
        }
    }
    drop(store);
    let store = open(&disk, options()).expect("open");
    seen.push(found(&store, &logs));
    seen
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48,
        ..ProptestConfig::default()
    })]

    #[test]
    fn readers_find_the_same_whichever_way_it_was_written(steps in vec(step(), 1..60)) {
        let plain = run(&steps, Ways { elision: false, ahead: false });
        for (elision, ahead) in [(true, false), (false, true), (true, true)] {
            let ways = Ways { elision, ahead };
            prop_assert_eq!(run(&steps, ways), plain.clone(), "{:?}", ways);
        }
    }
}
