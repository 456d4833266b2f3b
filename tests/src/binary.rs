//! Finds the binary under test.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary: `LEVERET_BIN`, or the workspace's own in the running test's profile and target directory,
/// built first so that it is never a stale one.
///
/// # Panics
/// When there is none.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("LEVERET_BIN") {
        Some(path) => PathBuf::from(path)
            .canonicalize()
            .expect("LEVERET_BIN names the binary"),
        None => built(),
    })
}

fn built() -> PathBuf {
    // TARGET/PROFILE/deps/TEST
    let test = env::current_exe().expect("the path of the running test");
    let profile_directory = test.ancestors().nth(2).expect("a profile directory");
    let target = profile_directory.parent().expect("a target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--package",
            "leveret-server",
            "--bin",
            "leveret",
            "--profile",
            profile,
        ])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot build the binary; name one by LEVERET_BIN"
    );
    profile_directory.join("leveret")
}
