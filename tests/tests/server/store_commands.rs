//! `leveret store …` on directories that brokers have left.

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
