//! A store that an older program has written: `version1` was left by one that was killed, with twelve messages, one of
//! them large, in a queue's log.

use std::path::{Path, PathBuf};

use leveret_store::{Journal, rebuild, verify};
use leveret_store_api::{LogId, MessageLog, Sequence};

use crate::support::{Blob, all, commit, damaged, enqueue, small};

const MESSAGES: usize = 12;

/// A copy of it.
fn version1() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/version1");
    let to = directory.path().join("data");
    std::fs::create_dir_all(to.join("journal")).expect("made");
    for name in ["format", "lock", "journal/0000000001.seg"] {
        std::fs::copy(from.join(name), to.join(name)).expect("copied");
    }
    (directory, to)
}

fn open(path: &Path) -> Journal<Blob> {
    Journal::open(path, small()).expect("open")
}

/// The log with the messages.
fn log(store: &Journal<Blob>) -> LogId {
    let has_messages = |log: &LogId| store.log_state(*log).is_some_and(|state| state.live > 0);
    let logs = store.logs();
    *logs.iter().find(|log| has_messages(log)).expect("a log")
}

#[test]
fn it_opens_and_goes_on_as_one_of_today() {
    let (_directory, path) = version1();
    let store = open(&path);
    let log = log(&store);
    let found = all(&store, log.0);
    assert_eq!(found.len(), MESSAGES);
    for (message, n) in found.iter().zip(1..) {
        let body = format!("message {n}").repeat(3);
        let is_last = n == MESSAGES;
        assert!(
            is_last || message.payload.0.ends_with(body.as_bytes()),
            "{n}"
        );
        assert!(!is_last || message.payload.0.ends_with(&[b'L'; 20_000]));
    }
    let next = store.log_state(log).expect("the log").next.0;
    commit(&store, vec![enqueue(log.0, next, 100)]);
    store.close();
    let format = std::fs::read_to_string(path.join("format")).expect("read");
    assert!(format.starts_with("leveret-store 4 "), "{format}");
    assert_eq!(all(&open(&path), log.0).len(), MESSAGES + 1);
    assert_eq!(verify(&path).expect("verify").problems, [""; 0]);
    assert_eq!(
        rebuild(&path).expect("rebuild").messages,
        MESSAGES as u64 + 1
    );
}

#[test]
fn what_is_damaged_in_it_costs_its_run_and_nothing_else() {
    let (_directory, path) = version1();
    let segment = path.join("journal/0000000001.seg");
    let mut bytes = std::fs::read(&segment).expect("read");
    let body = b"message 5message 5";
    let at = bytes.windows(body.len()).position(|bytes| bytes == body);
    bytes[at.expect("the message")] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let store = open(&path);
    let log = log(&store);
    let lost = damaged(&store, log.0);
    assert!(lost.iter().any(|lost| lost.sequence == Sequence(5)));
    assert!(
        lost.iter()
            .all(|lost| lost.is_lasting && lost.head.is_none())
    );
    assert_eq!(all(&store, log.0).len() + lost.len(), MESSAGES);
    assert!(lost.len() < MESSAGES);
}
