//! A start that must not be: exit code 1, one line that names the thing and the mend, nothing damaged.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use leveret_tests::Leveret;

use leveret_tests::process::{log_in, refusal};

const FREE_PORT: [&str; 2] = ["--listen", "127.0.0.1:0"];

fn refusal_on(data_dir: &Path) -> String {
    let data_dir = data_dir.to_str().unwrap();
    refusal(&[&FREE_PORT[..], &["--data-dir", data_dir]].concat(), &[])
}

#[test]
fn a_second_broker_on_the_same_directory() {
    let mut broker = Leveret::start(&[]);
    let line = refusal_on(&broker.data_dir());
    assert!(line.contains(broker.data_dir().to_str().unwrap()), "{line}");
    assert!(line.contains("in use by another process"), "{line}");
    drop(log_in(broker.addr()));
    broker.restart();
    drop(log_in(broker.addr()));
}

#[test]
fn a_port_in_use_leaves_the_directory_alone() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data");
    let line = refusal(
        &[
            "--listen",
            &address,
            "--data-dir",
            data_dir.to_str().unwrap(),
        ],
        &[],
    );
    assert!(
        line.contains(&address) && line.contains("in use") && line.contains("--listen"),
        "{line}"
    );
    assert!(!data_dir.exists());
}

#[test]
fn a_data_directory_that_is_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let line = refusal_on(file.path());
    assert!(line.contains(file.path().to_str().unwrap()), "{line}");
}

#[test]
fn an_address_this_machine_does_not_have() {
    let line = refusal(&["--in-memory", "--listen", "192.0.2.1:0"], &[]);
    assert!(
        line.contains("192.0.2.1:0") && line.contains("--listen"),
        "{line}"
    );
}

#[test]
fn a_ready_file_that_cannot_be_written() {
    let line = refusal(
        &[
            "--in-memory",
            FREE_PORT[0],
            FREE_PORT[1],
            "--ready-file",
            "/none/such/ready.json",
        ],
        &[],
    );
    assert!(
        line.contains("/none/such/ready.json") && line.contains("--ready-file"),
        "{line}"
    );
}

#[test]
fn a_definitions_file_that_is_not_there() {
    let line = refusal(
        &[
            "--in-memory",
            "--definitions",
            "/none/such/definitions.json",
        ],
        &[],
    );
    assert!(
        line.contains("/none/such/definitions.json") && line.contains("--definitions"),
        "{line}"
    );
}

#[test]
fn bad_options() {
    let check = |options: &[&str], variables: &[(&str, &str)], expected: &[&str]| {
        let line = refusal(options, variables);
        for text in expected {
            assert!(line.contains(text), "{line}");
        }
    };
    check(
        &["--listen", "nowhere"],
        &[],
        &["'nowhere'", "--listen", "ADDRESS:PORT", "0.0.0.0:5672"],
    );
    check(
        &["--heartbeat", "70000"],
        &[],
        &["--heartbeat", "0 to 65535"],
    );
    check(
        &[],
        &[("LEVERET_FRAME_MAX", "12")],
        &["--frame-max", "from 4096"],
    );
    check(&[], &[("LEVERET_LOG", "=,=")], &["--log", "a log filter"]);
    check(
        &["--lisen", ":0"],
        &[],
        &["--lisen", "did you mean `--listen`?", "leveret --help"],
    );
    check(&["surf"], &[], &["surf"]);
    check(&["start"], &[], &["start", "did you mean `serve`?"]);
    check(&["stop"], &[], &["stop", "SIGTERM"]);
    check(&["-p", "5673"], &[], &["did you mean `--listen`?"]);
    check(
        &["--config", "/none/such.toml"],
        &[],
        &["cannot read config file /none/such.toml"],
    );
    let user = "x".repeat(256);
    check(
        &[],
        &[("RABBITMQ_DEFAULT_USER", &user)],
        &["RABBITMQ_DEFAULT_USER", "1 to 255 bytes"],
    );
    check(
        &[],
        &[("LEVERET_DEFAULT_PASSWORD_FILE", "/none/such")],
        &["cannot read password file /none/such"],
    );
}

#[test]
fn bad_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("leveret.toml");
    let path = file.to_str().unwrap();
    for (text, expected) in [
        (
            "\nheartbeat = 'often'\n",
            "line 2: bad value `often`: expected a whole number from 0 to 65535",
        ),
        (
            "hartbeat = 3",
            "line 1: unknown key `hartbeat`; did you mean `heartbeat`?",
        ),
        ("listen = [", "line 1: "),
    ] {
        fs::write(&file, text).unwrap();
        let line = refusal(&["--config", path], &[]);
        assert!(
            line.contains(&format!("config file {path}, {expected}")),
            "{line}"
        );
    }
}

#[test]
fn a_configuration_of_rabbitmq() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rabbitmq.conf");
    fs::write(
        &file,
        "listeners.tcp.default = 5673\nvm_memory_high_watermark.relative = 0.5\n",
    )
    .unwrap();
    let line = refusal(&["--config", file.to_str().unwrap()], &[]);
    for text in [
        "rabbitmq.conf is RabbitMQ's",
        "`listen = [\"5673\"]`",
        "not needed: vm_memory_high_watermark.relative",
    ] {
        assert!(line.contains(text), "{line}");
    }
}
