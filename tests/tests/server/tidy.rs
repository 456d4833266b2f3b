//! The invariants of docs/ARCHITECTURE.md that can be read off the sources: what each crate must not contain, and what
//! may depend on what.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that have outgrown this want to be split.
const LINES_MAX: usize = 700;

pub(super) fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// Every Rust file below `directory`, with its text.
pub(super) fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

/// The lines of code (comments left out) in `crate_name`'s sources that contain any of `words`.
fn lines_with(crate_name: &str, words: &[&str]) -> Vec<String> {
    let files = sources(&crates().join(crate_name).join("src"));
    assert!(!files.is_empty(), "{crate_name} has no sources");
    let lines = files.iter().flat_map(|(path, text)| {
        let code = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"));
        let hits = code.filter(|line| words.iter().any(|word| line.contains(word)));
        hits.map(move |line| format!("{}: {}", path.display(), line.trim()))
    });
    lines.collect()
}

#[test]
fn the_core_is_synchronous_and_reads_no_clock() {
    let absent = [
        "tokio",
        "async fn",
        "Instant::now",
        "SystemTime::now",
        "std::thread",
        "std::fs",
        "TcpStream",
    ];
    for crate_name in [
        "codec",
        "routing",
        "store-api",
        "message",
        "deduplication",
        "queue",
        "access",
        "settings",
        "broker",
        "session",
    ] {
        assert_eq!(lines_with(crate_name, &absent), [""; 0], "{crate_name}");
    }
}

#[test]
fn the_management_api_opens_nothing_and_sees_the_broker_in_one_place() {
    let absent = [
        "TcpListener",
        "TcpStream",
        "UnixStream",
        "std::fs",
        "std::thread",
        "SystemTime",
    ];
    assert_eq!(lines_with("management", &absent), [""; 0]);
    // Metrics are named as beginning so, too.
    let house = [
        "leveret_access::",
        "leveret_broker::",
        "leveret_deduplication::",
        "leveret_message::",
        "leveret_queue::",
        "leveret_routing::",
        "leveret_session::",
        "leveret_settings::",
        "leveret_store_api::",
    ];
    let elsewhere: Vec<_> = lines_with("management", &house)
        .into_iter()
        .filter(|line| !line.contains("management/src/view"))
        .collect();
    assert_eq!(elsewhere, [""; 0]);
}

#[test]
fn only_the_store_names_sled_and_it_knows_no_amqp() {
    for crate_name in [
        "codec",
        "routing",
        "store-api",
        "message",
        "deduplication",
        "queue",
        "access",
        "settings",
        "broker",
        "session",
        "management",
        "server",
    ] {
        assert_eq!(lines_with(crate_name, &["sled"]), [""; 0], "{crate_name}");
    }
    let amqp = [
        "leveret_codec",
        "leveret_routing",
        "leveret_message",
        "leveret_deduplication",
        "leveret_queue",
        "leveret_access",
        "leveret_settings",
        "leveret_broker",
        "leveret_session",
        "amq_protocol",
    ];
    for crate_name in ["store-api", "store"] {
        assert_eq!(lines_with(crate_name, &amqp), [""; 0], "{crate_name}");
    }
}

/// The crates of this workspace that a manifest names as needed at run time, in whatever form.
fn own_dependencies(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().unwrap();
    let mut tables: Vec<&toml::Value> = Vec::new();
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    let places = targets.into_iter().flat_map(|targets| targets.values());
    for place in places.filter_map(toml::Value::as_table).chain([&manifest]) {
        tables.extend(place.get("dependencies"));
        tables.extend(place.get("build-dependencies"));
    }
    let dependencies = tables
        .into_iter()
        .filter_map(toml::Value::as_table)
        .flatten();
    let names = dependencies.filter_map(|(name, how)| {
        let package = how.get("package").and_then(toml::Value::as_str);
        Some(package.unwrap_or(name).strip_prefix("leveret-")?.to_owned())
    });
    names.collect()
}

#[test]
fn every_form_of_a_dependency_is_seen() {
    for manifest in [
        "[dependencies]\nleveret-store.workspace = true",
        "[dependencies]\nleveret-store = { path = \"../store\" }",
        "[dependencies.leveret-store]\nworkspace = true",
        "[dependencies]\nx = { package = \"leveret-store\", path = \"../store\" }",
        "[build-dependencies]\nleveret-store = \"1\"",
        "[target.'cfg(unix)'.dependencies]\nleveret-store = \"1\"",
    ] {
        assert_eq!(own_dependencies(manifest), ["store"], "{manifest}");
    }
    assert_eq!(
        own_dependencies("[dev-dependencies]\nleveret-store = \"1\""),
        [""; 0]
    );
}

#[test]
fn dependencies_point_one_way() {
    let allowed: [(&str, &[&str]); 12] = [
        ("codec", &[]),
        ("routing", &["codec"]),
        ("store-api", &[]),
        ("store", &["store-api"]),
        ("message", &["codec", "store-api"]),
        ("deduplication", &["codec", "store-api", "message"]),
        (
            "queue",
            &["codec", "routing", "store-api", "message", "deduplication"],
        ),
        ("access", &["message"]),
        (
            "settings",
            &["codec", "access", "deduplication", "message", "queue"],
        ),
        (
            "broker",
            &[
                "codec",
                "routing",
                "store-api",
                "message",
                "deduplication",
                "queue",
                "access",
                "settings",
            ],
        ),
        (
            "session",
            &[
                "codec",
                "routing",
                "store-api",
                "message",
                "deduplication",
                "queue",
                "access",
                "settings",
                "broker",
            ],
        ),
        (
            "management",
            &[
                "codec",
                "routing",
                "store-api",
                "message",
                "deduplication",
                "queue",
                "access",
                "settings",
                "broker",
                "session",
            ],
        ),
    ];
    for (crate_name, allowed) in allowed {
        let manifest = fs::read_to_string(crates().join(crate_name).join("Cargo.toml")).unwrap();
        let own = own_dependencies(&manifest);
        assert!(
            own.iter().all(|name| allowed.contains(&name.as_str())),
            "{crate_name} depends on {own:?}"
        );
        let server = fs::read_to_string(crates().join("server/Cargo.toml")).unwrap();
        let by_others = ["routing", "deduplication", "queue", "access", "settings"];
        assert!(
            own_dependencies(&server).contains(&crate_name.to_owned())
                || by_others.contains(&crate_name)
        );
    }
}

#[test]
fn only_the_handle_locks_a_queue() {
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        lines_with("broker", &["machine.lock()", "machine.try_lock"])
            .into_iter()
            .partition(|line| line.contains("src/handle"));
    assert!(!here.is_empty(), "the lock has another name by now");
    assert_eq!(elsewhere, [""; 0]);
    // And nobody else could: the machine is the handle's own.
    let public = lines_with(
        "broker",
        &["pub machine:", "pub(crate) machine:", "pub(super) machine:"],
    );
    assert_eq!(public, [""; 0]);
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<_> = sources(&crates())
        .into_iter()
        .filter(|(_, text)| text.lines().count() > LINES_MAX)
        .map(|(path, _)| path)
        .collect();
    assert!(long.is_empty(), "{long:?}");
}
