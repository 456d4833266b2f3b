//! The generator against a real broker: its figures are there, and it notices when messages are missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's way to fail"
)]

use std::process::{Command, Output};

use leveret_tests::Leveret;
use serde_json::Value;

fn load(broker: &Leveret, options: &str) -> Output {
    let pid = broker.pid().to_string();
    Command::new(env!("CARGO_BIN_EXE_leveret-load"))
        .args([&broker.addr().to_string(), "--pid", &pid])
        .args(options.split_whitespace())
        .output()
        .expect("the generator runs")
}

/// The figures of each line that a run printed; it has to have succeeded.
fn figures(broker: &Leveret, options: &str) -> Vec<Value> {
    let output = load(broker, options);
    assert!(output.status.success(), "{options}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn each_kind_of_load_arrives_whole() {
    let broker = Leveret::start(&[]);
    for options in [
        "--size 16 --auto-ack",
        "--persistent --confirms 100 --prefetch 20 --multi-ack 10",
        "--exchange topic --bindings 100 --confirms 50 --queues 3 --consumers 3 --producers 2",
        "--exchange headers --bindings 10 --confirms 50",
        "--exchange fanout --bindings 40 --queues 4 --consumers 4 --confirms 50 --auto-ack",
        "--spread --queues 20 --consumers 20 --consumer-connections 3 --confirms 50",
        "--consumers 3 --prefetch 10 --confirms 100",
        "--size 300000 --confirms 3",
        "--mode latency --rate 500",
    ] {
        let lines = figures(&broker, &format!("{options} --time 0.3"));
        let line = lines.first().expect("a line");
        assert_eq!(
            line.pointer("/verify/ok"),
            Some(&Value::Bool(true)),
            "{options}"
        );
        let received = line.get("consumed").and_then(Value::as_u64);
        assert!(
            received.is_some_and(|received| received > 0),
            "{options}: {line}"
        );
        let cpu = line.pointer("/broker/cpu_us_per_consumed");
        assert!(cpu.is_some_and(Value::is_number), "{options}: {line}");
    }
}

#[test]
fn a_backlog_survives_a_crash_and_is_counted() {
    let mut broker = Leveret::start(&[]);
    let backlog = "--mode backlog --messages 5000 --persistent --confirms 500 --phase";
    figures(&broker, &format!("{backlog} publish"));
    broker.kill9();
    broker.start_again();
    figures(&broker, "--mode ready --messages 5000 --time 10");
    let lines = figures(&broker, &format!("{backlog} drain"));
    assert_eq!(
        lines.first().and_then(|line| line.pointer("/verify/lost")),
        Some(&Value::from(0))
    );
}

#[test]
fn a_missing_message_fails_the_run() {
    let broker = Leveret::start(&[]);
    figures(
        &broker,
        "--mode backlog --messages 100 --confirms 10 --phase publish --queue-args x-max-length=99",
    );
    let drain = load(
        &broker,
        "--mode backlog --messages 100 --phase drain --stall 0.5",
    );
    assert_eq!(drain.status.code(), Some(1), "{drain:?}");
    let line: Value = serde_json::from_slice(&drain.stdout).unwrap();
    assert_eq!(line.pointer("/verify/lost"), Some(&Value::from(1)));
}

#[test]
fn what_a_broker_that_idles_costs_is_told() {
    let broker = Leveret::start(&[]);
    let lines = figures(
        &broker,
        "--mode idle --connections 20 --time 0.5 --heartbeat 1",
    );
    let line = lines.first().expect("a line");
    for figure in ["idle_cpu", "wakeups_per_s", "rss_per_connection_kb"] {
        assert!(line.get(figure).is_some_and(Value::is_number), "{line}");
    }
}

#[test]
fn churn_counts_what_was_opened() {
    let broker = Leveret::start(&[]);
    for churn in ["connection", "channel", "queue", "binding"] {
        let lines = figures(&broker, &format!("--mode churn --churn {churn} --time 0.2"));
        let operations = lines
            .first()
            .and_then(|line| line.get("operations")?.as_u64());
        assert!(
            operations.is_some_and(|operations| operations > 0),
            "{churn}"
        );
    }
}
