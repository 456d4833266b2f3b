//! kill -9 of a real process that writes to a real disk: this test binary runs itself as the child. Alone in it,
//! because a child that has only just begun holds the locks of all files that are open in its parent.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "tests: helpers outside of test functions fail by panicking, too"
)]

#[path = "../store/support.rs"]
#[allow(dead_code, reason = "more of it is used by the other tests")]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, DefinitionStore, LogId, MessageLog};

use crate::support::{Blob, acknowledge, blob, commit, enqueue, put, sequences, write_ahead};

const DIRECTORY: &str = "LEVERET_STORE_KILL_DIRECTORY";
/// Messages of a unit, and how many units later they are acknowledged.
const MESSAGES: u64 = 5;
const LATER: u64 = 30;

fn options() -> JournalOptions {
    JournalOptions {
        segment_bytes: 1 << 20,
        checkpoint_bytes: 2 << 20,
        disk_free_bytes_min: 0,
        gap_us: 0,
        write_ahead_bytes_min: 1900,
        write_ahead_step_bytes: 700,
        ..JournalOptions::default()
    }
}

fn log_of(unit: u64) -> u64 {
    1 + unit % 3
}

fn bytes_of(unit: u64) -> usize {
    (unit as usize * 37) % 2000
}

/// One message in so many units stays for ever, which asks for compaction.
fn kept_of(unit: u64) -> u64 {
    u64::from(unit.is_multiple_of(40))
}

/// The state after so many units: what lives in each log.
fn expected(units: u64, log: u64) -> Vec<u64> {
    let mut live = Vec::new();
    for unit in (0..units).filter(|unit| log_of(*unit) == log) {
        let first = unit * MESSAGES;
        let gone = if unit + LATER < units {
            kept_of(unit)
        } else {
            MESSAGES
        };
        live.extend(first..first + gone);
    }
    live
}

fn units_in(store: &Journal<Blob>) -> u64 {
    let definitions = store.definitions().expect("definitions");
    let value = definitions
        .first()
        .map(|(_, value)| String::from_utf8_lossy(value).into_owned());
    value.map_or(0, |value| value.parse().expect("a number"))
}

/// The child: goes on where the store is, one unit after the other, and says what is durable.
#[test]
#[ignore = "run by the test below, in a process of its own"]
fn child() {
    let directory = std::env::var_os(DIRECTORY).expect("the test below says where");
    let store: Journal<Blob> = Journal::open(Path::new(&directory), options()).expect("open");
    let mut out = std::io::stdout().lock();
    for unit in units_in(&store).. {
        let first = unit * MESSAGES;
        let mut changes: Vec<_> = (first..first + MESSAGES)
            .map(|n| enqueue(log_of(unit), n, bytes_of(unit)))
            .collect();
        if let Some(earlier) = unit.checked_sub(LATER) {
            let kept = kept_of(earlier);
            changes.push(acknowledge(
                log_of(earlier),
                earlier * MESSAGES + kept,
                MESSAGES - kept,
            ));
        }
        changes.push(put("units", &(unit + 1).to_string()));
        // The larger ones have files of their own.
        let ahead: Vec<_> = (changes.iter())
            .filter_map(|change| match change {
                Change::Enqueue(enqueue) => write_ahead(&store, &enqueue.payload, 1),
                _ => None,
            })
            .collect();
        commit(&store, changes);
        drop(ahead);
        if writeln!(out, "durable {}", unit + 1)
            .and_then(|()| out.flush())
            .is_err()
        {
            return;
        }
    }
}

#[test]
fn nothing_durable_is_lost_by_kill_9() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("data");
    for round in 0..12u64 {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let wanted = (round * 131) % 700 + 1;
        let durable = lines
            .map_while(Result::ok)
            .filter_map(|line| line.split("durable ").nth(1)?.parse::<u64>().ok())
            .take(wanted as usize)
            .last()
            .expect("the child commits");
        child.kill().expect("killed");
        child.wait().expect("gone");

        let store: Journal<Blob> = Journal::open(&path, options()).expect("a kill is no damage");
        let units = units_in(&store);
        assert!(
            units >= durable,
            "{units} units, but {durable} were durable"
        );
        assert!(!store.opened_clean());
        for log in 1..=3 {
            assert_eq!(
                sequences(&store, log),
                expected(units, log),
                "log {log} after {units} units"
            );
        }
        check_bytes(&store);
        if round % 3 == 2 {
            store.close();
            let verified = leveret_store::verify(&path).expect("verify");
            assert_eq!(verified.problems, Vec::<String>::new());
        }
    }
    let before = leveret_store::verify(&path).expect("verify").messages;
    let rebuilt = leveret_store::rebuild(&path).expect("rebuild");
    assert_eq!(rebuilt.problems, Vec::<String>::new());
    assert!(
        rebuilt.messages >= before,
        "messages may come back, none may go"
    );
    let store: Journal<Blob> = Journal::open(&path, options()).expect("open");
    let units = units_in(&store);
    for log in 1..=3 {
        let found = sequences(&store, log);
        assert!(
            expected(units, log)
                .iter()
                .all(|sequence| found.contains(sequence))
        );
    }
}

fn check_bytes(store: &Journal<Blob>) {
    for log in 1..=3 {
        let mut out = Vec::new();
        store
            .read(
                LogId(log),
                leveret_store_api::Sequence(0),
                usize::MAX,
                usize::MAX,
                &mut out,
            )
            .expect("reading");
        for message in out {
            let bytes = bytes_of(message.sequence.0 / MESSAGES);
            assert_eq!(message.payload, blob(log, message.sequence.0, bytes));
        }
    }
}
