//! The index on sled, where sled is not as good as its word.

use std::fs::File;

use leveret_store::{IndexStore, SledIndex};

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
