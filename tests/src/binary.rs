//! Finds the binaries under test.

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
    BINARY.get_or_init(|| {
        named_by("LEVERET_BIN")
            .unwrap_or_else(|| built(&["--package", "leveret-server"], "leveret", "LEVERET_BIN"))
    })
}

/// The path of the broker with failpoints: `LEVERET_FAILPOINT_BIN`, or the workspace's own as for [`binary`].
///
/// # Panics
/// When there is none.
pub fn failpoint_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let package = ["--package", "leveret-tests", "--features", "failpoints"];
        named_by("LEVERET_FAILPOINT_BIN")
            .unwrap_or_else(|| built(&package, "leveret-failpoints", "LEVERET_FAILPOINT_BIN"))
    })
}

/// The path of a broker that measures its steps, which debug builds do: `LEVERET_MEASURED_BIN`, or the workspace's own.
///
/// # Panics
/// When there is none.
pub fn measured_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let package = ["--package", "leveret-server"];
        named_by("LEVERET_MEASURED_BIN")
            .unwrap_or_else(|| built(&package, "leveret", "LEVERET_MEASURED_BIN"))
    })
}

fn named_by(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable)?).canonicalize();
    Some(path.unwrap_or_else(|error| panic!("{variable} names no binary: {error}")))
}

fn built(package: &[&str], name: &str, variable: &str) -> PathBuf {
    // TARGET/PROFILE/deps/TEST
    let test = env::current_exe().expect("the path of the running test");
    let profile_directory = test.ancestors().nth(2).expect("a profile directory");
    let target = profile_directory.parent().expect("a target directory");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--bin", name, "--profile", profile])
        .args(package)
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(
        status.is_ok_and(|status| status.success()),
        "cannot build the binary; name one by {variable}"
    );
    profile_directory.join(name)
}
