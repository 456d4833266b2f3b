//! `leveret store …` on directories that brokers have left.

use std::path::Path;

use leveret_store::{Journal, JournalOptions};
use leveret_store_api::{Change, MessageLog, Payload};
use leveret_tests::{Leveret, PATIENCE, eventually};

use leveret_tests::process::{log_in, refusal, run};

#[test]
fn verify_and_rebuild_a_directory_left_by_a_stop_and_by_a_crash() {
    let mut broker = Leveret::start(&[]);
    drop(log_in(broker.addr()));
    let data_dir = broker.data_dir();
    let data_dir = data_dir.to_str().unwrap();
    let line = refusal(&["store", "verify", data_dir], &[]);
    assert!(line.contains("in use by another process"), "{line}");
    assert!(broker.terminate().success());
    for command in ["verify", "rebuild", "verify"] {
        let output = run(&["store", command, data_dir], &[]);
        assert!(output.status.success(), "{output:?}");
        let summary = String::from_utf8(output.stdout).unwrap();
        assert!(
            summary.starts_with(data_dir) && summary.contains(" definitions, "),
            "{summary}"
        );
    }
    broker.start_again();
    drop(log_in(broker.addr()));
    broker.kill9();
    assert!(run(&["store", "verify", data_dir], &[]).status.success());
}

#[test]
fn a_directory_without_a_store_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let line = refusal(
        &["store", "verify", directory.path().to_str().unwrap()],
        &[],
    );
    assert!(line.contains("there is no store here"), "{line}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

/// The broker's messages, of which there are none here.
#[derive(Clone)]
struct NoMessage;

impl Payload for NoMessage {
    fn parts(&self) -> [&[u8]; 2] {
        [b"", b""]
    }

    fn from_stored(_bytes: &[u8]) -> Option<NoMessage> {
        Some(NoMessage)
    }
}

/// Adds definitions to a data directory.
fn define(data_dir: &Path, definitions: &[(&str, &str)]) {
    let journal = Journal::<NoMessage>::open(data_dir, JournalOptions::default()).unwrap();
    let puts = definitions
        .iter()
        .map(|(key, value)| Change::PutDefinition {
            key: key.as_bytes().to_vec(),
            value: value.as_bytes().to_vec(),
        });
    journal.stage(&mut puts.collect());
    journal.close();
    // A child that another test has only just begun holds its copy of the lock until it runs its own program.
    let path = data_dir.to_str().unwrap();
    let is_free = || {
        let output = run(&["store", "verify", path], &[]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!said.contains("in use by another process")).then_some(())
    };
    assert!(
        eventually(PATIENCE, is_free).is_some(),
        "somebody else has the store"
    );
}

/// As an earlier version kept a queue with an argument that is NaN.
const POISONED: (&str, &str) = (
    r#"q["/","poisoned"]"#,
    r#"{"vhost":"/","name":"poisoned","auto_delete":false,"arguments":{"k":{"Double":null}},"logs":[9]}"#,
);

#[test]
fn definitions_that_cannot_be_used_are_discarded_at_an_operators_word() {
    let mut broker = Leveret::start(&[]);
    assert!(broker.terminate().success());
    let path = broker.data_dir();
    let data_dir = path.to_str().unwrap();
    define(
        &path,
        &[
            POISONED,
            (r#"u["ann"]"#, "{"),
            (r#"o["/","policy","p"]"#, "[]"),
            (r#"r["gone","c","n"]"#, "1"),
        ],
    );
    let discard = |names: &[&str]| {
        let mut arguments = vec!["store", "discard-definitions", data_dir];
        arguments.extend(names);
        let output = run(&arguments, &[]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let verify = || {
        let output = run(&["store", "verify", data_dir], &[]);
        let said = String::from_utf8(output.stdout).unwrap();
        let unusable = said.lines().filter(|line| line.contains("cannot be used"));
        (output.status.code(), unusable.count())
    };
    assert_eq!(verify(), (Some(2), 4));
    let line = refusal(
        &["store", "discard-definitions", data_dir, "user 'bob'"],
        &[],
    );
    assert!(
        line.contains("no definition of user 'bob' is put aside"),
        "{line}"
    );
    // Also what earlier starts have put aside.
    broker.start_again();
    let line = refusal(&["store", "discard-definitions", data_dir], &[]);
    assert!(line.contains("in use by another process"), "{line}");
    assert!(broker.terminate().success());
    assert_eq!(verify(), (Some(2), 4));
    let said = discard(&["queue 'poisoned' in virtual host '/'"]);
    assert!(
        said.contains("discarded 1 definitions\nqueue 'poisoned'"),
        "{said}"
    );
    assert_eq!(verify(), (Some(2), 3));
    let said = discard(&[]);
    assert!(said.contains("discarded 3 definitions"), "{said}");
    assert_eq!(verify(), (Some(0), 0));
    assert!(discard(&[]).contains("discarded 0 definitions"));
    let before = broker.log().matches("cannot be used").count();
    broker.start_again();
    drop(log_in(broker.addr()));
    assert_eq!(broker.log().matches("cannot be used").count(), before);
}

#[test]
fn nothing_is_discarded_where_there_is_no_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let line = refusal(&["store", "discard-definitions", path], &[]);
    assert!(line.contains("there is no store here"), "{line}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[test]
fn a_definition_that_cannot_be_read_is_named_and_all_else_starts() {
    let mut broker = Leveret::start(&[]);
    assert!(broker.terminate().success());
    let data_dir = broker.data_dir();
    define(&data_dir, &[POISONED]);
    let data_dir = data_dir.to_str().unwrap();
    let named =
        "the definition of queue 'poisoned' in virtual host '/' cannot be used: invalid type: null";
    let check = |command: &str| {
        let output = run(&["store", command, data_dir], &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(named), "{said}");
        let mend = String::from_utf8(output.stderr).unwrap();
        assert!(mend.contains("1 definitions that cannot be used"), "{mend}");
    };
    check("verify");
    check("rebuild");
    for _ in 0..2 {
        broker.start_again();
        drop(log_in(broker.addr()));
        assert!(broker.log().contains(named), "{}", broker.log());
        broker.kill9();
        check("verify");
    }
}
