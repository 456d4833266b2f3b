//! A start: the line, the ready file, ports, layers of options.

use std::fs;
use std::net::TcpListener;

use leveret_tests::{Leveret, PATIENCE, eventually};

use leveret_tests::process::{log_in, refusal, run};

#[test]
fn the_line_on_standard_output_has_the_url_with_the_real_port() {
    let broker = Leveret::start(&[]);
    let line = eventually(PATIENCE, || {
        let said = fs::read_to_string(broker.directory().join("stdout")).unwrap();
        said.ends_with('\n').then_some(said)
    })
    .unwrap();
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
fn a_port_alone_is_open_for_ipv4_and_ipv6_and_shown_as_it_is() {
    let broker = Leveret::start(&["--in-memory", "--listen", "0"]);
    let ready = fs::read_to_string(broker.directory().join("ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let port = ready["listeners"][1]["port"].as_u64().unwrap();
    drop(log_in(format!("127.0.0.1:{port}").parse().unwrap()));
    let shown = format!("amqp://0.0.0.0:{port}");
    let log = eventually(PATIENCE, || {
        Some(broker.log()).filter(|log| log.contains(&shown))
    })
    .unwrap();
    // Where the machine has no IPv6, the log says so and IPv4 works.
    if !log.contains("this machine has no IPv6") {
        drop(log_in(format!("[::1]:{port}").parse().unwrap()));
        assert!(log.contains(&format!("amqp://[::]:{port}")), "{log}");
    }
}

#[test]
fn the_ready_file_of_an_earlier_run_goes_whatever_a_start_fails_of() {
    let mut broker = Leveret::start(&[]);
    let ready = broker.directory().join("ready.json");
    broker.kill9();
    let left = fs::read(&ready).unwrap();
    fs::write(broker.data_dir().join("format"), "garbled").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let file = broker.directory().join("leveret.toml");
    fs::write(
        &file,
        format!("ready_file = '{}'\nlisten = ['{taken}']", ready.display()),
    )
    .unwrap();
    let (ready_file, data_dir) = (ready.to_str().unwrap(), broker.data_dir());
    let free = ["--listen", "127.0.0.1:0", "--ready-file", ready_file];
    for options in [
        &["--data-dir", data_dir.to_str().unwrap()][..],
        &["--in-memory", "--listen", &taken],
        &["--in-memory", "--definitions", "/none/such.json"],
        &["--default-password-file", "/none/such"],
        &["--config", "/none/such.toml"],
        &["--port", "5673"],
        &["--heartbeat", "often"],
    ] {
        fs::write(&ready, &left).unwrap();
        let line = refusal(&[&free[..], options].concat(), &[]);
        assert!(!ready.exists(), "{line}");
    }
    fs::write(&ready, &left).unwrap();
    let line = refusal(&["--config", file.to_str().unwrap()], &[]);
    assert!(!ready.exists(), "{line}");
    fs::write(&ready, &left).unwrap();
    let line = refusal(&["--lisen", ":0"], &[("LEVERET_READY_FILE", ready_file)]);
    assert!(!ready.exists(), "{line}");
}

#[test]
fn the_ready_file_of_a_broker_that_runs_stays() {
    let mut broker = Leveret::start(&[]);
    let ready = broker.directory().join("ready.json");
    let said = fs::read(&ready).unwrap();
    let data_dir = broker.data_dir();
    let address = broker.addr().to_string();
    let with = ["--ready-file", ready.to_str().unwrap()];
    let free = ["--listen", "127.0.0.1:0"];
    for (options, reason) in [
        (
            &[
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                data_dir.to_str().unwrap(),
            ][..],
            "in use by another process",
        ),
        (&["--listen", &address], "the port is in use"),
        (&["--in-memory", free[0], free[1]], "ready file"),
        (&["--lisen", ":0"], "--lisen"),
    ] {
        let line = refusal(&[&with[..], options].concat(), &[]);
        assert!(line.contains(reason), "{line}");
        assert_eq!(fs::read(&ready).unwrap(), said, "{line}");
    }
    drop(log_in(broker.addr()));
    assert!(broker.terminate().success());
    assert!(!ready.exists());
}

#[test]
fn a_broker_that_stops_leaves_the_ready_file_of_another() {
    let mut broker = Leveret::start(&["--in-memory"]);
    let ready = broker.directory().join("ready.json");
    fs::remove_file(&ready).unwrap();
    fs::write(&ready, "another's").unwrap();
    assert!(broker.terminate().success());
    assert_eq!(fs::read(&ready).unwrap(), b"another's");
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
    let log = eventually(PATIENCE, || {
        let log = broker.log();
        log.ends_with('\n').then_some(log)
    })
    .unwrap();
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
    assert!(help.starts_with("Leveret is a message broker"), "{help}");
    assert!(
        help.contains("--data-dir") && help.contains("LEVERET_DATA_DIR"),
        "{help}"
    );
}

#[test]
fn a_command_that_is_not_complete_lists_what_may_follow() {
    let output = run(&["store"], &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for text in ["Look after a data directory", "verify", "rebuild", "Usage:"] {
        assert!(said.contains(text), "{said}");
    }
    assert!(!said.contains("error"), "{said}");
}

#[test]
fn misspelt_variables_are_told() {
    let variables = [("LEVERET_HARTBEAT", "3"), ("LEVERET_SERVICE_HOST", "x")];
    let broker = Leveret::start_with(&["--in-memory"], &variables);
    let log = eventually(PATIENCE, || {
        Some(broker.log()).filter(|log| log.contains("did you mean LEVERET_HEARTBEAT?"))
    })
    .unwrap();
    assert!(!log.contains("LEVERET_SERVICE_HOST"), "{log}");
}
