//! `leveret store …` on directories that brokers have left.

use leveret_store::{Change, Journal, JournalOptions, MessageLog, Payload};
use leveret_tests::Leveret;

use crate::process::{log_in, refusal, run};

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

#[test]
fn a_definition_that_cannot_be_read_is_named_and_all_else_starts() {
    let mut broker = Leveret::start(&[]);
    assert!(broker.terminate().success());
    let data_dir = broker.data_dir();
    let journal = Journal::<NoMessage>::open(&data_dir, JournalOptions::default()).unwrap();
    // As an earlier version kept a queue with an argument that is NaN.
    journal.stage(&mut vec![Change::PutDefinition {
        key: br#"q["/","poisoned"]"#.to_vec(),
        value: br#"{"vhost":"/","name":"poisoned","auto_delete":false,"arguments":{"k":{"Double":null}},"logs":[9]}"#.to_vec(),
    }]);
    journal.close();
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
