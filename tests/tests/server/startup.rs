//! A start: the line, the ready file, ports, layers of options.

use std::fs;

use leveret_tests::Leveret;

use crate::process::{log_in, run};

#[test]
fn the_line_on_standard_output_has_the_url_with_the_real_port() {
    let broker = Leveret::start(&[]);
    let line = fs::read_to_string(broker.directory().join("stdout")).unwrap();
    assert_eq!(line.lines().count(), 1);
    assert!(line.contains("Server startup complete"), "{line}");
    assert!(
        line.contains(&format!("amqp://{}", broker.addr())),
        "{line}"
    );
    assert_ne!(broker.addr().port(), 0);
}

#[test]
fn the_ready_file_lists_every_listener() {
    let broker = Leveret::start(&["--listen", "0.0.0.0:0", "--listen", "[::1]:0"]);
    let ready = fs::read_to_string(broker.directory().join("ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    assert_eq!(ready["pid"], broker.pid());
    let listeners = ready["listeners"].as_array().unwrap();
    assert_eq!(listeners.len(), 3);
    for (listener, host) in listeners.iter().zip(["127.0.0.1", "127.0.0.1", "[::1]"]) {
        assert_eq!(listener["protocol"], "amqp");
        let port = listener["port"].as_u64().unwrap();
        assert_eq!(listener["url"], format!("amqp://{host}:{port}"));
        drop(log_in(format!("{host}:{port}").parse().unwrap()));
    }
    assert_eq!(listeners[1]["address"], "0.0.0.0");
    let left: Vec<_> = fs::read_dir(broker.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().ends_with(".tmp")),
        "{left:?}"
    );
}

#[test]
fn in_memory_leaves_no_files() {
    let mut broker = Leveret::start(&["--in-memory"]);
    drop(log_in(broker.addr()));
    assert!(!broker.data_dir().exists());
    assert!(broker.terminate().success());
    let mut left: Vec<_> = fs::read_dir(broker.directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["stderr", "stdout"]);
}

#[test]
fn serve_is_the_default_command() {
    drop(log_in(Leveret::start(&["serve", "--in-memory"]).addr()));
    drop(log_in(
        Leveret::start_with(&[], &[("LEVERET_IN_MEMORY", "yes")]).addr(),
    ));
}

#[test]
fn options_come_from_file_environment_and_flags() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    fs::write(
        &file,
        "in_memory = true\nlog_format = 'json'\nlog = 'warn'\n",
    )
    .unwrap();
    let broker = Leveret::start_with(
        &["--config", file.to_str().unwrap()],
        &[("LEVERET_LOG", "info")],
    );
    assert!(!broker.data_dir().exists());
    let log = broker.log();
    let first: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    assert_eq!(first["level"], "INFO", "{log}");
}

#[test]
fn version_and_help_are_printed() {
    let version = run(&["--version"], &[]);
    assert!(version.status.success());
    assert!(
        String::from_utf8(version.stdout)
            .unwrap()
            .starts_with("leveret ")
    );
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    assert!(
        help.contains("--data-dir") && help.contains("LEVERET_DATA_DIR"),
        "{help}"
    );
}
