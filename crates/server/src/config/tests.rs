//! The layers and what they make of bad input.

use leveret_broker::ConsumerTimeoutAction;

use super::values::DiskShare;
use super::*;

fn load(
    file: Option<&str>,
    settings: Settings,
    environment: &[(&str, &str)],
) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let config = file.map(|text| {
        let path = directory.path().join("leveret.toml");
        std::fs::write(&path, text).unwrap();
        path
    });
    let lookup = |name: &str| {
        let found = environment.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    Config::load(ServeOptions { config, settings }, &lookup).map_err(|error| error.to_string())
}

fn file_error(text: &str) -> String {
    load(Some(text), Settings::default(), &[]).unwrap_err()
}

#[test]
fn defaults() {
    let config = load(None, Settings::default(), &[]).unwrap();
    assert_eq!(config.listeners, [ListenAddress::everywhere(5672)]);
    let usual = ListenAddress::everywhere(15672);
    assert_eq!(config.management, HttpListen::Usual(usual));
    assert_eq!(
        config.storage,
        Storage::Directory {
            path: "./leveret-data".into(),
            recover: false,
            reserve: None,
        }
    );
    assert!(config.broker.vhosts.is_empty());
    assert_eq!(config.broker.default_user, "guest");
    assert_eq!(config.broker.loopback_users, ["guest"]);
    assert_eq!(config.broker.handshake_timeout_ms, 10_000);
    assert!(config.worker_threads >= 1);
}

#[test]
fn every_key_of_the_file() {
    let text = r#"
        listen = ["127.0.0.1:0", "[::1]:0"]
        data_dir = "/var/lib/leveret"
        in_memory = false
        vhosts = ["medical", "clinical"]
        log = "debug"
        log_format = "json"
        ready_file = "/run/leveret.json"
        definitions = "/etc/definitions.json"
        recover = true
        disk_reserve = "5%"
        default_user = "admin"
        default_password = "secret"
        default_vhost = "/main"
        loopback_users = "none"
        anonymous_user = "nobody"
        frame_max = 65536
        channel_max = 100
        heartbeat = 0
        handshake_timeout = "5s"
        message_size_max = "1MiB"
        queue_memory = "2MiB"
        mailbox_size = 4096
        publisher_ahead = "3MiB"
        store_behind = "4MiB"
        transaction_size_max = "5MiB"
        assembly_memory = "7MiB"
        transactions_memory = "8MiB"
        unacked_memory = "9MiB"
        dedup_producers_max = 6
        consumer_timeout = "30m"
        consumer_timeout_action = "cancel"
        worker_threads = 3
        product = "Leveret"
        product_version = "1.2.3"
        cluster_name = "field"
    "#;
    let config = load(Some(text), Settings::default(), &[]).unwrap();
    assert_eq!(config.listeners.len(), 2);
    assert_eq!(
        config.storage,
        Storage::Directory {
            path: "/var/lib/leveret".into(),
            recover: true,
            reserve: Some(DiskShare::PerCent(5)),
        }
    );
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.worker_threads, 3);
    let broker = config.broker;
    assert_eq!(
        (broker.consumer_timeout_ms, broker.consumer_timeout_action),
        (Some(1_800_000), ConsumerTimeoutAction::Cancel)
    );
    assert_eq!(broker.vhosts, ["/main", "medical", "clinical"]);
    assert_eq!(
        (
            broker.default_user.as_str(),
            broker.default_password.as_str()
        ),
        ("admin", "secret")
    );
    assert!(broker.loopback_users.is_empty());
    assert_eq!(broker.anonymous.as_deref(), Some("nobody"));
    assert_eq!(
        (broker.frame_max, broker.channel_max, broker.heartbeat_s),
        (65536, 100, 0)
    );
    assert_eq!(
        (broker.handshake_timeout_ms, broker.message_bytes_max),
        (5_000, 1 << 20)
    );
    assert_eq!(
        (broker.queue_memory_bytes, broker.mailbox_bytes),
        (2 << 20, 4096)
    );
    assert_eq!(
        (broker.publisher_ahead_bytes, broker.store_behind_bytes),
        (3 << 20, 4 << 20)
    );
    assert_eq!(
        (broker.transaction_bytes_max, broker.producers_max),
        (5 << 20, 6)
    );
    assert_eq!(
        (broker.assembly_bytes_max, broker.transactions_bytes_max),
        (7 << 20, 8 << 20)
    );
    assert_eq!(broker.unacked_bytes_max, 9 << 20);
    assert_eq!(
        (broker.product.as_str(), broker.version.as_str()),
        ("Leveret", "1.2.3")
    );
    assert_eq!(broker.cluster_name, "field");
}

#[test]
fn the_first_layer_wins() {
    let flags = Settings {
        heartbeat: Some(Number(7)),
        ..Settings::default()
    };
    let file = Some("heartbeat = 9\ndefault_user = 'file'\nchannel_max = 5");
    let config = load(file, flags, &[("RABBITMQ_DEFAULT_USER", "image")]).unwrap();
    assert_eq!(config.broker.heartbeat_s, 7);
    assert_eq!(config.broker.default_user, "image");
    assert_eq!(config.broker.channel_max, 5);
}

#[test]
fn variables_of_the_rabbitmq_image() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "pass word\n").unwrap();
    let environment = [
        ("RABBITMQ_DEFAULT_USER", "user"),
        ("RABBITMQ_DEFAULT_PASS", ""),
        (
            "RABBITMQ_DEFAULT_PASS_FILE",
            secret.path().to_str().unwrap(),
        ),
        ("RABBITMQ_DEFAULT_VHOST", "there"),
    ];
    let broker = load(None, Settings::default(), &environment)
        .unwrap()
        .broker;
    assert_eq!(
        (
            broker.default_user.as_str(),
            broker.default_password.as_str()
        ),
        ("user", "pass word")
    );
    assert_eq!(broker.vhosts, ["there"]);
    let error = load(
        None,
        Settings::default(),
        &[("RABBITMQ_DEFAULT_PASS_FILE", "/none/such")],
    )
    .unwrap_err();
    assert!(
        error.starts_with("cannot read password file /none/such: "),
        "{error}"
    );
}

#[test]
fn in_memory_goes_before_a_data_directory() {
    let config = load(
        Some("in_memory = true\ndata_dir = 'x'"),
        Settings::default(),
        &[],
    )
    .unwrap();
    assert_eq!(config.storage, Storage::InMemory);
}

#[test]
fn bad_files_give_one_line_with_the_place() {
    let check = |text: &str, line: usize, expected: &str| {
        let error = file_error(text);
        assert!(!error.contains('\n'), "{error}");
        assert!(
            error.contains(&format!("leveret.toml, line {line}: ")),
            "{error}"
        );
        assert!(error.contains(expected), "{error}");
    };
    check(
        "heartbeat = 1\nframe_max = 12",
        2,
        "bad value `12`: expected a whole number from 4096",
    );
    check("listen = ['nowhere']", 1, "expected ADDRESS:PORT");
    check(
        "\n\nlisen = ['0.0.0.0:1']",
        3,
        "unknown key `lisen`; did you mean `listen`?",
    );
    check("data-dir = '/d'", 1, "did you mean `data_dir`?");
    check("surf = 1", 1, "unknown key `surf`; `leveret --help`");
    check("heartbeat = ", 1, "");
    check("heartbeat = true", 1, "a string or a whole number");
    let missing = Config::load(
        ServeOptions {
            config: Some("/none/such.toml".into()),
            settings: Settings::default(),
        },
        &|_| None,
    );
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .starts_with("cannot read config file /none/such.toml: ")
    );
}

#[test]
fn configuration_of_rabbitmq_is_recognised() {
    let error = file_error(
        "# RabbitMQ\nlisteners.tcp.default = 5673\ndefault_user = shop\ndefault_pass = secret\nheartbeat = 30",
    );
    assert!(
        !error.contains('\n') && !error.contains("secret"),
        "{error}"
    );
    for said in [
        "is RabbitMQ's, and Leveret reads TOML",
        "listen = [\"5673\"]",
        "default_user = \"shop\"",
        "heartbeat = 30",
    ] {
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn our_own_keys_are_not_taken_for_those_of_rabbitmq() {
    for key in Settings::KEYS {
        let error = file_error(&format!("{key} = [[]]"));
        assert!(error.contains("line 1: "), "{error}");
    }
}
