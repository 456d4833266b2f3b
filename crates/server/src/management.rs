//! The management API's place in this process: its sockets, its thread, and what it asks of the process. All else is
//! `leveret-management`'s.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leveret_management::view::{Figures, Host, View};
use leveret_management::{Listening, Management};
use leveret_message::Timestamp;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;

use crate::config::HttpListen;
use crate::error::StartError;
use crate::listener::{Bound, Listener, Protocol};
use crate::memory;
use crate::shared::Shared;
use crate::store::DiskWatch;

/// Takes the addresses of what is served over HTTP. Where nobody asked for it and its usual port is taken, by another
/// broker perhaps, this one does without: moving messages is what it is for.
pub(crate) fn bind(wanted: &HttpListen, protocol: Protocol) -> Result<Vec<Vec<Bound>>, StartError> {
    match wanted {
        HttpListen::Asked(addresses) => {
            let bound = addresses.iter().map(|it| Bound::bind(*it, protocol));
            bound.collect()
        }
        HttpListen::Usual(address) => match Bound::bind(*address, protocol) {
            Ok(bound) => Ok(vec![bound]),
            Err(StartError::Listen {
                address,
                option,
                reason,
            }) if reason.kind() == io::ErrorKind::AddrInUse => {
                let (what, gone) = match protocol {
                    Protocol::Prometheus => ("metrics", "there are no metrics"),
                    Protocol::Http | Protocol::Amqp => ("the management API", "there is no API"),
                };
                tracing::warn!(
                    %address,
                    "the port of {what} is in use: {gone}; stop what uses it or choose another with {option} (none: none)"
                );
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        },
    }
}

/// The thread on which requests are read and answered: what a large one costs, megabytes of JSON perhaps, is nothing
/// that a worker should do between two turns of clients. It is there once somebody has connected.
#[derive(Default)]
pub(crate) struct ManagementThread(Mutex<Option<Runtime>>);

impl ManagementThread {
    /// Where to spawn what it does; on the workers if there can be no thread.
    fn handle(&self) -> Handle {
        let mut runtime = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if runtime.is_none() {
            let begun = Builder::new_multi_thread()
                .worker_threads(1)
                .thread_name("leveret-api")
                // What requests took is not needed until the next one.
                .on_thread_park(memory::tidy)
                .enable_all()
                .build();
            *runtime = begun
                .inspect_err(|error| tracing::warn!(%error, "no thread for the management API"))
                .ok();
        }
        runtime
            .as_ref()
            .map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }

    /// Ends the thread, which may take so long to drop what it does.
    pub(crate) fn stop(&self, within: Duration) {
        if let Some(runtime) = self.take() {
            runtime.shutdown_timeout(within);
        }
    }

    /// Ends it without a wait.
    pub(crate) fn abandon(&self) {
        if let Some(runtime) = self.take() {
            runtime.shutdown_background();
        }
    }

    fn take(&self) -> Option<Runtime> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The API and what it runs in.
#[derive(Clone)]
pub(crate) struct ManagementHost {
    management: Arc<Management>,
    shared: Arc<Shared>,
    thread: Arc<ManagementThread>,
}

impl ManagementHost {
    /// `listeners` are all listeners of the process.
    pub(crate) fn new(
        shared: &Arc<Shared>,
        listeners: &[Listener],
        disk: Option<DiskWatch>,
        thread: Arc<ManagementThread>,
    ) -> Self {
        let listeners = listeners.iter().map(|listener| Listening {
            protocol: listener.protocol().name(),
            address: listener.address(),
        });
        let host = Arc::new(Process {
            shared: Arc::clone(shared),
            disk,
            started: shared.clock.now(),
        });
        let view = View::new(Arc::clone(&shared.broker), host);
        Self {
            management: Arc::new(Management::new(view, listeners.collect())),
            shared: Arc::clone(shared),
            thread,
        }
    }

    /// Accepts and serves for good. Dropping it ends what it serves.
    pub(crate) async fn accept(self, listener: Listener) {
        let mut connections = JoinSet::new();
        loop {
            let (socket, remote, place) = listener.accepted(&self.shared).await;
            while connections.try_join_next().is_some() {}
            let is_open = listener.protocol() == Protocol::Prometheus;
            let entered = if is_open {
                self.management.enter_for_metrics(remote.ip())
            } else {
                self.management.enter(remote.ip())
            };
            let Some(guest) = entered else {
                tracing::warn!(peer = %remote, "too many management connections; a new one was closed");
                continue;
            };
            let management = Arc::clone(&self.management);
            let serving = async move {
                if is_open {
                    management.serve_metrics(socket, remote, guest).await;
                } else {
                    management.serve(socket, remote, guest).await;
                }
                drop(place);
            };
            connections.spawn_on(serving, &self.thread.handle());
        }
    }
}

/// What the API asks of this process.
struct Process {
    shared: Arc<Shared>,
    disk: Option<DiskWatch>,
    started: Timestamp,
}

impl Host for Process {
    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    fn after_now(&self) -> Timestamp {
        self.shared.clock.after_now()
    }

    fn figures(&self) -> Figures {
        let descriptors = self.shared.descriptors.figures();
        Figures {
            process: std::process::id(),
            uptime_ms: self.shared.clock.now() - self.started,
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            processor_ms: processor_ms(),
            threads: number("/proc/self/status", "Threads:"),
            memory_reserved: kilobytes("/proc/self/status", "VmSize:"),
            memory_used: kilobytes("/proc/self/status", "VmRSS:"),
            memory_total: kilobytes("/proc/meminfo", "MemTotal:"),
            descriptors_used: descriptors.open,
            descriptors_total: descriptors.limit,
            sockets_used: descriptors.connections,
            sockets_total: descriptors.connections_max,
            disk: self.disk.as_ref().and_then(DiskWatch::look),
            io: self.disk.as_ref().map(DiskWatch::io),
        }
    }
}

/// The number in a line of one of the kernel's files; 0 if it does not tell.
fn number(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .unwrap_or_default()
}

/// The same, in bytes.
fn kilobytes(path: &str, name: &str) -> u64 {
    number(path, name) << 10
}

/// Processor time of all threads, those that have ended included.
fn processor_ms() -> u64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let seconds = u64::try_from(used.tv_sec).unwrap_or_default();
    let milliseconds = u64::try_from(used.tv_nsec / 1_000_000).unwrap_or_default();
    seconds * 1_000 + milliseconds
}
