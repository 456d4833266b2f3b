//! Starts and stops the real binary for black-box tests.
//!
//! ```no_run
//! let broker = leveret_tests::Leveret::start(&[]);
//! let socket = std::net::TcpStream::connect(broker.addr()).unwrap();
//! ```
//!
//! Which binary: the one named by `LEVERET_BIN`; without it, the `leveret` of the workspace, built (or found fresh) in
//! the profile and target directory of the running test.
//!
//! Everything here panics on failure, with what the broker said: it is for tests alone.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's way to fail"
)]

mod binary;
pub mod history;
pub mod process;
mod wait;
pub mod wire;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

pub use binary::{binary, failpoint_binary, measured_binary};
pub use wait::{Stopwatch, eventually};

/// Longest wait for the broker to start or stop.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A running broker on a free loopback port, with a directory of its own; ended by its process id when dropped.
#[derive(Debug)]
pub struct Leveret {
    program: PathBuf,
    directory: Directory,
    options: Vec<OsString>,
    variables: Vec<(String, String)>,
    child: Option<Child>,
    address: SocketAddr,
    /// Where the log goes instead of the file `stderr`.
    log_to: Option<OwnedFd>,
    /// Held by who measures, alone: another that is measured beside it would be in its caches.
    _alone: Option<MutexGuard<'static, ()>>,
}

/// Who measures has this.
static MEASURES: Mutex<()> = Mutex::new(());

/// The directory that holds the data and the broker's files; the test's own, or one to be removed.
#[derive(Debug)]
enum Directory {
    Temporary(TempDir),
    Kept(PathBuf),
}

impl Directory {
    fn path(&self) -> &Path {
        match self {
            Self::Temporary(directory) => directory.path(),
            Self::Kept(path) => path,
        }
    }
}

impl Leveret {
    /// Starts a broker with further `options` of the command line and waits until clients can connect. Its data is in
    /// a temporary directory unless the options say otherwise.
    #[must_use]
    pub fn start(options: &[&str]) -> Leveret {
        Self::start_with(options, &[])
    }

    /// The same, with environment variables.
    #[must_use]
    pub fn start_with(options: &[&str], variables: &[(&str, &str)]) -> Leveret {
        Self::start_at(binary(), temporary(), options, variables)
    }

    /// Starts the broker that measures its steps; it tells of them when it stops. One at a time is there.
    #[must_use]
    pub fn start_measured(options: &[&str]) -> Leveret {
        let alone = MEASURES.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broker = Self::start_at(measured_binary(), temporary(), options, &[]);
        broker._alone = Some(alone);
        broker
    }

    /// Starts the broker that has failpoints, which are set with [`set_variables`](Self::set_variables).
    #[must_use]
    pub fn start_with_failpoints(options: &[&str], variables: &[(&str, &str)]) -> Leveret {
        let directory = temporary();
        Self::start_at(failpoint_binary(), directory, options, variables)
    }

    /// The same, in `directory`, which is left behind.
    #[must_use]
    pub fn start_in(directory: &Path, options: &[&str]) -> Leveret {
        let directory = Directory::Kept(directory.to_owned());
        Self::start_at(binary(), directory, options, &[])
    }

    fn start_at(
        program: &Path,
        directory: Directory,
        options: &[&str],
        variables: &[(&str, &str)],
    ) -> Leveret {
        let mut broker = Leveret {
            program: program.to_owned(),
            directory,
            options: options.iter().map(OsString::from).collect(),
            variables: owned(variables),
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log_to: None,
            _alone: None,
        };
        broker.launch();
        broker
    }

    /// Starts a broker whose standard error is `log`.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start_logging_to(log: OwnedFd, options: &[&str]) -> Leveret {
        let mut broker = Leveret {
            program: binary().to_owned(),
            directory: temporary(),
            options: options.iter().map(OsString::from).collect(),
            variables: Vec::new(),
            child: None,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            log_to: Some(log),
            _alone: None,
        };
        broker.launch();
        broker
    }

    /// Where clients connect.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL for the default user.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// The process id of the broker.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the broker runs").id()
    }

    /// The directory that holds `data`, `ready.json`, `stdout` and `stderr`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.directory().join("data")
    }

    /// What the broker has written to standard error, its log, since it was first started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory().join("stderr")).unwrap_or_default()
    }

    /// Ends the broker as a crash would.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill");
            child.wait().expect("wait");
        }
    }

    /// Asks the broker to stop and waits for it.
    ///
    /// # Panics
    /// When it does not stop in time.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    /// Sends a signal by name.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "kill -{name} {}",
            self.pid()
        );
    }

    /// How the broker ended, if it has done so by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let ended = self.child.as_mut()?.try_wait().expect("wait");
        self.child = self.child.take().filter(|_| ended.is_none());
        ended
    }

    /// Waits for the broker to end by itself.
    ///
    /// # Panics
    /// When it does not end in time.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the broker runs");
        let ended = eventually(PATIENCE, || child.try_wait().expect("wait"));
        ended.unwrap_or_else(|| {
            drop(child.kill());
            panic!("the broker did not stop\n{}", self.log());
        })
    }

    /// Starts it again with the same options, in the same directory, on the same port.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "the broker still runs");
        self.launch();
    }

    /// Has further starts see these environment variables and no others.
    pub fn set_variables(&mut self, variables: &[(&str, &str)]) {
        self.variables = owned(variables);
    }

    /// Starts it again where it may end by itself before clients can connect; answers how it ended if it did.
    #[must_use]
    pub fn try_start_again(&mut self) -> Option<ExitStatus> {
        assert!(self.child.is_none(), "the broker still runs");
        let mut child = self.spawn();
        match self.await_ready(&mut child) {
            Ok(address) => {
                self.child = Some(child);
                self.address = address;
                None
            }
            Err(status) => Some(status),
        }
    }

    /// Starts it again and ends it as a crash would, this long after, whether or not it was ready by then.
    pub fn start_and_kill(&mut self, after: Duration) {
        assert!(self.child.is_none(), "the broker still runs");
        let child = self.spawn();
        self.child = Some(child);
        let _ = eventually(after, || None::<()>);
        self.kill9();
    }

    /// Stops it in order and starts it again.
    pub fn restart(&mut self) {
        let status = self.terminate();
        assert!(status.success(), "{status}\n{}", self.log());
        self.start_again();
    }

    fn launch(&mut self) {
        if let Some(status) = self.try_start_again() {
            panic!("the broker ended with {status}\n{}", self.log());
        }
    }

    fn spawn(&self) -> Child {
        let directory = self.directory();
        let ready_file = self.ready_file();
        drop(fs::remove_file(&ready_file));
        let log = |name: &str| {
            let file = File::options()
                .create(true)
                .append(true)
                .open(directory.join(name));
            file.expect("a file in the test's directory")
        };
        let mut command = Command::new(&self.program);
        command
            .args(["--listen", &self.address.to_string()])
            .args([OsString::from("--ready-file"), ready_file.into()])
            .args([OsString::from("--data-dir"), self.data_dir().into()])
            .args(&self.options)
            // Many brokers run at a time, and one of them could have its usual port.
            .env("LEVERET_MANAGEMENT_LISTEN", "none")
            .env("LEVERET_PROMETHEUS_LISTEN", "none")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log("stdout"))
            .stderr(match &self.log_to {
                Some(log) => Stdio::from(log.try_clone().expect("a descriptor")),
                None => Stdio::from(log("stderr")),
            });
        command.spawn().expect("the broker's binary runs")
    }

    fn ready_file(&self) -> PathBuf {
        self.directory().join("ready.json")
    }

    /// Waits until clients can connect, and answers where; or how the process ended before that.
    fn await_ready(&self, child: &mut Child) -> Result<SocketAddr, ExitStatus> {
        let ready = eventually(PATIENCE, || {
            if let Some(status) = child.try_wait().expect("wait") {
                return Some(Err(status));
            }
            fs::read_to_string(self.ready_file()).ok().map(Ok)
        });
        let ready = ready.unwrap_or_else(|| {
            drop(child.kill());
            panic!("the broker is not ready\n{}", self.log())
        });
        Ok(first_listener(&ready?))
    }
}

fn temporary() -> Directory {
    let directory = tempfile::Builder::new()
        .prefix("leveret-test-")
        .tempdir()
        .expect("a temporary directory");
    Directory::Temporary(directory)
}

fn owned(variables: &[(&str, &str)]) -> Vec<(String, String)> {
    let variables = variables.iter();
    variables
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

impl Drop for Leveret {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log
                .lines()
                .rev()
                .take(40)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .collect::<Vec<_>>()
                .join("\n");
            // To the test's captured output, beside the panic.
            #[allow(clippy::print_stderr, reason = "read by whoever reads the failure")]
            {
                eprintln!("--- the broker's log ---\n{tail}");
            }
        }
    }
}

/// The first listener's address in a ready file.
fn first_listener(ready: &str) -> SocketAddr {
    let ready: serde_json::Value = serde_json::from_str(ready).expect("the ready file is JSON");
    let listener = &ready["listeners"][0];
    let address = format!(
        "{}:{}",
        listener["address"].as_str().expect("address"),
        listener["port"]
    );
    address.parse().expect("an address and a port")
}
