//! The index on sled, where sled is not as good as its word.

use std::fs::File;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use leveret_store::{IndexStore, SledIndex};
use rustix::fs::{FlockOperation, flock};

fn rows(index: &mut SledIndex) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    index
        .load(&mut |key, value| rows.push((key.to_vec(), value.to_vec())))
        .expect("the index can be read");
    rows
}

fn row() -> (Vec<u8>, Vec<u8>) {
    (b"key".to_vec(), b"value".to_vec())
}

/// An index with one row, written and closed.
fn written(directory: &std::path::Path) -> SledIndex {
    let mut index = SledIndex::new(directory);
    let (key, value) = row();
    index.apply(vec![(key, Some(value))], false).expect("apply");
    index
}

#[test]
fn a_snapshot_that_a_crash_left_unfinished_is_passed_over() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("index");
    let mut index = written(&path);
    let (empty, half) = ("snap.7FFFFFFFFFFFFFFF", "snap.7FFFFFFFFFFFFFFE");
    File::create(path.join(format!("{empty}.generating"))).expect("a file");
    std::fs::write(path.join(format!("{half}.generating")), [7; 40]).expect("a file");
    assert_eq!(rows(&mut index), [row()]);
}

#[test]
fn an_index_that_sled_has_not_let_go_of_is_waited_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("index");
    let mut index = written(&path);
    rows(&mut index);
    let held = File::open(path.join("db")).expect("sled's file");
    flock(&held, FlockOperation::LockExclusive).expect("the lock");
    let (done, finished) = channel();
    let writing = thread::spawn(move || {
        let result = index.apply(vec![(b"more".to_vec(), Some(Vec::new()))], false);
        done.send(result.is_ok()).expect("somebody listens");
        index
    });
    // Whoever does not wait is done with an error by then.
    let early = finished.recv_timeout(Duration::from_millis(100));
    assert!(early.is_err(), "{early:?}");
    drop(held);
    assert_eq!(finished.recv(), Ok(true));
    let mut index = writing.join().expect("the thread");
    assert_eq!(rows(&mut index).len(), 2);
}
