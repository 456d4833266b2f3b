//! The signals that end the process: the first asks, the second does not wait.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Who listens for SIGTERM and SIGINT. Before the broker serves, and once it stops, either ends the process at once
/// (also as process 1 of a container, which has no default actions); in between they are requests.
pub(crate) struct Signals {
    exit_at_once: Arc<AtomicBool>,
    terminate: Signal,
    interrupt: Signal,
}

/// Before the broker serves.
pub(crate) struct EarlySignals {
    exit_at_once: Arc<AtomicBool>,
}

impl EarlySignals {
    /// From now on a signal ends the process with 128 + its number.
    pub(crate) fn install() -> io::Result<Self> {
        let exit_at_once = Arc::new(AtomicBool::new(true));
        for number in [SIGTERM, SIGINT] {
            register_conditional_shutdown(number, 128 + number, Arc::clone(&exit_at_once))?;
        }
        Ok(Self { exit_at_once })
    }

    /// From now on a signal is a request. Needs the runtime.
    pub(crate) fn serve(self) -> io::Result<Signals> {
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        self.exit_at_once.store(false, Ordering::SeqCst);
        Ok(Signals {
            exit_at_once: self.exit_at_once,
            terminate,
            interrupt,
        })
    }
}

impl Signals {
    /// Returns the name of the first signal; from then on the next one ends the process at once.
    pub(crate) async fn requested(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        self.exit_at_once.store(true, Ordering::SeqCst);
        name
    }
}
