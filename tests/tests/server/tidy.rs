//! The invariants of docs/ARCHITECTURE.md that can be read off the sources: what each crate must not contain, and what
//! may depend on what.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that have outgrown this want to be split.
const LINES_MAX: usize = 700;

fn crates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates")
}

/// Every Rust file below `directory`, with its text.
fn sources(directory: &Path) -> Vec<(PathBuf, String)> {
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
    for crate_name in ["codec", "routing", "broker"] {
        assert_eq!(lines_with(crate_name, &absent), [""; 0], "{crate_name}");
    }
}

#[test]
fn only_the_store_names_sled_and_it_knows_no_amqp() {
    for crate_name in ["codec", "routing", "broker", "server"] {
        assert_eq!(lines_with(crate_name, &["sled"]), [""; 0], "{crate_name}");
    }
    assert_eq!(
        lines_with(
            "store",
            &[
                "leveret_codec",
                "leveret_routing",
                "leveret_broker",
                "amq_protocol"
            ]
        ),
        [""; 0]
    );
}

#[test]
fn dependencies_point_one_way() {
    let allowed: [(&str, &[&str]); 4] = [
        ("codec", &[]),
        ("routing", &["codec"]),
        ("store", &[]),
        ("broker", &["codec", "routing", "store"]),
    ];
    for (crate_name, allowed) in allowed {
        let manifest = fs::read_to_string(crates().join(crate_name).join("Cargo.toml")).unwrap();
        let needed = manifest
            .split("[dev-dependencies]")
            .next()
            .unwrap_or_default();
        let own: Vec<&str> = needed
            .lines()
            .filter_map(|line| line.strip_prefix("leveret-")?.split(['.', ' ']).next())
            .collect();
        assert!(
            own.iter().all(|name| allowed.contains(name)),
            "{crate_name} depends on {own:?}"
        );
    }
}

#[test]
fn only_the_handle_locks_a_queue() {
    let locked = lines_with("broker", &["queue.lock()"]);
    let elsewhere: Vec<_> = locked
        .iter()
        .filter(|line| !line.contains("queue/handle.rs"))
        .collect();
    assert_eq!(elsewhere, [""; 0]);
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
