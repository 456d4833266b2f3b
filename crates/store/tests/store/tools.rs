//! Each kind of damage to a store's files, after an orderly stop and after a kill: what `verify` says, what a start
//! says, that the step it names helps, and how much is left then.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use leveret_store::{Journal, JournalOptions, OpenError, rebuild, verify};
use leveret_store_api::DefinitionStore;

use crate::support::{
    Blob, acknowledge, blob, commit, damaged, enqueue, put, sequences, small, write_ahead,
};

/// Messages of log 1, of which those before this …
const SAVED: u64 = 150;
/// … are written before the checkpoint.
const MESSAGES: u64 = 200;
const LARGE: usize = 20_000;

fn options() -> JournalOptions {
    JournalOptions {
        write_ahead_bytes_min: 10_000,
        ..small()
    }
}

fn open(path: &Path) -> Result<Journal<Blob>, OpenError> {
    Journal::open(path, options())
}

/// A store with several segments, a large message on both sides of its checkpoint and three definitions.
fn filled(path: &Path) -> Journal<Blob> {
    let store = open(path).expect("a new store");
    commit(&store, vec![put("a", "1"), put("b", "2")]);
    // The journal does not begin with its first record any more.
    for n in 0..100 {
        commit(&store, vec![enqueue(3, n, 600)]);
    }
    commit(&store, vec![acknowledge(3, 0, 100)]);
    store.checkpoint();
    store.checkpoint();
    for n in 0..SAVED {
        commit(&store, vec![enqueue(1, n, 600)]);
    }
    large(&store, 0);
    store.checkpoint();
    large(&store, 1);
    for n in SAVED..MESSAGES {
        commit(&store, vec![enqueue(1, n, 600)]);
    }
    commit(&store, vec![put("c", "3"), acknowledge(1, 10, 5)]);
    store
}

fn large(store: &Journal<Blob>, sequence: u64) {
    let payload = blob(2, sequence, LARGE);
    let ahead = write_ahead(store, &payload, 1).expect("large");
    let mut change = enqueue(2, sequence, 0);
    if let leveret_store_api::Change::Enqueue(enqueue) = &mut change {
        enqueue.payload = payload;
    }
    commit(store, vec![change]);
    drop(ahead);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// All files below a directory and their bytes.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(path).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).expect("read"));
        }
    }
    found
}

/// The segment files of one kind, by their numbers.
fn segments(path: &Path, large: bool) -> Vec<PathBuf> {
    let all = contents(&path.join("journal"));
    let is_one = |(path, bytes): (PathBuf, Vec<u8>)| {
        let is_segment = path.extension().is_some_and(|it| it == "seg");
        (is_segment && bytes.starts_with(b"LVRB") == large).then_some(path)
    };
    all.into_iter().filter_map(is_one).collect()
}

#[derive(Clone, Copy, Debug)]
enum File {
    /// The first segment, all of it before the checkpoint.
    First,
    /// The last full one, all of it behind the checkpoint.
    Late,
    /// The one that is written to, from its last record on.
    End,
    /// That of the first large message, before the checkpoint, or of the second, behind it.
    Large(usize),
    Named(&'static str),
}

#[derive(Clone, Copy, Debug)]
enum Harm {
    Delete,
    Empty,
    Halve,
    Zero,
    /// One bit of the byte at this place; from the end if it is negative.
    Flip(i64),
    Write(&'static str),
    /// With the file of this kind.
    Swap(File),
}

fn path_of(file: File, directory: &Path) -> PathBuf {
    match file {
        File::First => segments(directory, false)[0].clone(),
        File::Late => {
            let all = segments(directory, false);
            all[all.len() - 2].clone()
        }
        File::Large(number) => segments(directory, true)[number].clone(),
        File::End => segments(directory, false).pop().expect("one"),
        File::Named(name) => directory.join(name),
    }
}

/// Where the last record of a segment begins.
fn last_record(bytes: &[u8]) -> i64 {
    let places = bytes
        .chunks(64)
        .rposition(|chunk| chunk.starts_with(b"LVRJ"));
    places.expect("a record") as i64 * 64
}

fn harm(directory: &Path, file: File, harm: Harm) {
    let path = path_of(file, directory);
    let bytes = || std::fs::read(&path).expect("read");
    let write = |bytes: Vec<u8>| std::fs::write(&path, bytes).expect("written");
    match harm {
        Harm::Delete if path.is_dir() => std::fs::remove_dir_all(&path).expect("removed"),
        Harm::Delete => std::fs::remove_file(&path).expect("removed"),
        Harm::Empty => write(Vec::new()),
        Harm::Halve => write(bytes()[..bytes().len() / 2].to_vec()),
        Harm::Zero => write(vec![0; bytes().len()]),
        Harm::Flip(at) => {
            let mut bytes = bytes();
            let at = match file {
                File::End => last_record(&bytes) + at,
                _ if at < 0 => bytes.len() as i64 + at,
                _ => at,
            };
            bytes[at as usize] ^= 1;
            write(bytes);
        }
        Harm::Write(text) => write(text.into()),
        Harm::Swap(other) => {
            let other = path_of(other, directory);
            let aside = directory.join("aside");
            std::fs::rename(&path, &aside).expect("renamed");
            std::fs::rename(&other, &path).expect("renamed");
            std::fs::rename(&aside, &other).expect("renamed");
        }
    }
}

/// What is left: messages of the logs, those known to be damaged, definitions.
fn left(store: &Journal<Blob>) -> (usize, usize, usize, usize) {
    (
        sequences(store, 1).len(),
        sequences(store, 2).len(),
        damaged(store, 1).len() + damaged(store, 2).len(),
        store.definitions().expect("definitions").len(),
    )
}

/// What happened, in a line: what `verify` said, how it was started, what was left.
fn outcome(path: &Path) -> String {
    let before = contents(path);
    let verified = match verify(path) {
        Ok(found) if found.problems.is_empty() => "clean".to_owned(),
        Ok(found) if found.is_refused => "refused".to_owned(),
        Ok(found) if found.damaged == found.problems.len() as u64 => "damaged".to_owned(),
        Ok(_) => "told".to_owned(),
        Err(_) => "error".to_owned(),
    };
    assert_eq!(contents(path), before, "verify changes nothing");
    let (store, step) = match open(path) {
        Ok(store) => (store, "starts"),
        Err(error) => {
            let text = error.to_string();
            if text.contains("`leveret store rebuild`") {
                rebuild(path).expect(&text);
                (open(path).expect(&text), "rebuild")
            } else {
                assert!(text.contains("--recover"), "{text}");
                let options = JournalOptions {
                    recover: true,
                    ..options()
                };
                (Journal::open(path, options).expect(&text), "recover")
            }
        }
    };
    let is_sound = step == "starts" || verified != "clean";
    assert!(is_sound, "verify calls clean what does not start");
    let (one, two, damaged, definitions) = left(&store);
    // It goes on as ever.
    commit(&store, vec![enqueue(1, 1_000, 10)]);
    store.close();
    let again = open(path).expect("the next start is an ordinary one");
    assert_eq!(left(&again).0, one + 1);
    format!("{verified}, {step}: {one} + {two}, {damaged} damaged, {definitions} definitions")
}

/// What is harmed and how, what comes of it after an orderly stop, and after a kill: what `verify` says, the step that
/// helps, messages of both logs, damaged ones and definitions that are left, of 195 + 2 and 3.
const TABLE: &[(File, Harm, &str, &str)] = &[
    (
        File::First,
        Harm::Delete,
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Empty,
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Halve,
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Zero,
        "damaged, starts: 174 + 2, 21 damaged, 3 definitions",
        "damaged, starts: 174 + 2, 21 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Flip(20),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Flip(74),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Flip(109),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Flip(130),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::First,
        Harm::Flip(428),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Delete,
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Empty,
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Halve,
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
        "refused, recover: 174 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Zero,
        "damaged, starts: 153 + 2, 42 damaged, 3 definitions",
        "refused, recover: 153 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Flip(20),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "refused, recover: 194 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Flip(74),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "refused, recover: 194 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Flip(109),
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Flip(130),
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
    ),
    (
        File::Late,
        Harm::Flip(428),
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
        "damaged, starts: 194 + 2, 1 damaged, 3 definitions",
    ),
    (
        File::End,
        Harm::Flip(9),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "refused, recover: 200 + 2, 0 damaged, 2 definitions",
    ),
    (
        File::End,
        Harm::Flip(70),
        "told, starts: 195 + 2, 0 damaged, 3 definitions",
        "refused, recover: 200 + 2, 0 damaged, 2 definitions",
    ),
    (
        File::First,
        Harm::Swap(File::Late),
        "damaged, starts: 132 + 2, 63 damaged, 3 definitions",
        "refused, recover: 132 + 2, 21 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Delete,
        "refused, recover: 195 + 1, 0 damaged, 3 definitions",
        "refused, recover: 195 + 1, 0 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Halve,
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Zero,
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Flip(9),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Flip(-1),
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(1),
        Harm::Delete,
        "refused, recover: 195 + 1, 0 damaged, 3 definitions",
        "refused, recover: 195 + 1, 0 damaged, 3 definitions",
    ),
    (
        File::Large(1),
        Harm::Halve,
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(1),
        Harm::Zero,
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(1),
        Harm::Flip(9),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Large(1),
        Harm::Flip(-1),
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
        "damaged, starts: 195 + 1, 1 damaged, 3 definitions",
    ),
    (
        File::Large(0),
        Harm::Swap(File::Large(1)),
        "damaged, starts: 195 + 0, 2 damaged, 3 definitions",
        "damaged, starts: 195 + 0, 2 damaged, 3 definitions",
    ),
    (
        File::Named("index"),
        Harm::Delete,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/db"),
        Harm::Delete,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/db"),
        Harm::Empty,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/db"),
        Harm::Halve,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/db"),
        Harm::Zero,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/db"),
        Harm::Flip(50),
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/conf"),
        Harm::Delete,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/conf"),
        Harm::Halve,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("index/conf"),
        Harm::Zero,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("format"),
        Harm::Delete,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("format"),
        Harm::Empty,
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("format"),
        Harm::Write("leveret-st0re 4 0badcafe\n"),
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("format"),
        Harm::Write("leveret-store 4 0badcafe\n"),
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
        "error, rebuild: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("lock"),
        Harm::Delete,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("lock"),
        Harm::Empty,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("lock"),
        Harm::Write("nonsense"),
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("delivered"),
        Harm::Delete,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("delivered"),
        Harm::Zero,
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
        "clean, starts: 195 + 2, 0 damaged, 3 definitions",
    ),
    (
        File::Named("journal"),
        Harm::Delete,
        "error, recover: 0 + 0, 0 damaged, 3 definitions",
        "error, recover: 0 + 0, 0 damaged, 2 definitions",
    ),
];

#[test]
fn the_step_that_is_named_helps() {
    let directory = tempfile::tempdir().expect("a directory");
    let running = directory.path().join("running");
    let (killed, stopped) = (
        directory.path().join("killed"),
        directory.path().join("stopped"),
    );
    let store = filled(&running);
    copy(&running, &killed);
    store.close();
    copy(&running, &stopped);
    let mut wrong = Vec::new();
    for (number, (file, kind, after_stop, after_kill)) in TABLE.iter().enumerate() {
        for (from, expected) in [(&stopped, after_stop), (&killed, after_kill)] {
            let path = directory.path().join(format!("{number}"));
            copy(from, &path);
            harm(&path, *file, *kind);
            let found = outcome(&path);
            if found != *expected {
                wrong.push(format!("{file:?} {kind:?} of {}: {found}", from.display()));
            }
            std::fs::remove_dir_all(&path).expect("removed");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A store as a kill leaves it, and where it is.
fn killed() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let running = directory.path().join("running");
    let store = filled(&running);
    let killed = directory.path().join("killed");
    copy(&running, &killed);
    drop(store);
    (directory, killed)
}

#[test]
fn nothing_is_rebuilt_from_nothing() {
    let (_directory, path) = killed();
    harm(&path, File::Named("journal"), Harm::Delete);
    let before = contents(&path);
    let refused = rebuild(&path).expect_err("refused");
    assert!(matches!(refused, OpenError::NoJournal { .. }), "{refused}");
    assert_eq!(contents(&path), before, "the index stays");
}

#[test]
fn verify_names_the_file_that_it_cannot_read() {
    let (_directory, path) = killed();
    std::fs::create_dir(path.join("damaged")).expect("made");
    let error = verify(&path).expect_err("refused").to_string();
    assert!(error.contains("/damaged: "), "{error}");
}

#[test]
fn a_rebuilt_store_does_not_miss_what_was_given_up() {
    let (_directory, path) = killed();
    harm(&path, File::End, Harm::Flip(9));
    assert!(open(&path).is_err(), "the last record is missing");
    let rebuilt = rebuild(&path).expect("rebuild");
    assert_eq!(rebuilt.problems.len(), 1, "{:?}", rebuilt.problems);
    assert!(verify(&path).expect("verify").problems.is_empty());
    let store = open(&path).expect("an ordinary start");
    assert_eq!(left(&store), (200, 2, 0, 2));
}

#[test]
fn a_large_message_outlives_its_record() {
    let (_directory, path) = killed();
    let number = path_of(File::Large(1), &path);
    let number: u32 = number
        .file_stem()
        .and_then(|name| name.to_str()?.parse().ok())
        .expect("a number");
    // The operation that refers to it.
    let mut operation = vec![7, 0, 0, 0, 0, 0, 0, 0];
    operation.extend_from_slice(&number.to_le_bytes());
    let found = segments(&path, false).into_iter().find_map(|segment| {
        let bytes = std::fs::read(&segment).expect("read");
        let at = bytes
            .windows(operation.len())
            .position(|bytes| bytes == operation)?;
        Some((segment, at))
    });
    let (segment, at) = found.expect("the operation");
    let mut bytes = std::fs::read(&segment).expect("read");
    bytes[at + 8] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    assert!(open(&path).is_err(), "a record is damaged");
    let options = JournalOptions {
        recover: true,
        ..options()
    };
    let store: Journal<Blob> = Journal::open(&path, options).expect("recover");
    assert_eq!(left(&store), (195, 2, 0, 3));
}
