//! The one thread on which the broker reads messages back from files, so that no connection waits for a disk.

use std::io;
use std::sync::Arc;

use leveret_broker::Broker;
use tokio::sync::oneshot;

use crate::background::{Background, Rest};
use crate::clock::Clock;
use crate::memory;
use crate::steps::Step;

/// Starts the thread. The receiver fires if it panics.
pub(crate) fn start(
    broker: &Arc<Broker>,
    clock: Clock,
) -> io::Result<(Background, oneshot::Receiver<()>)> {
    let served = Arc::clone(broker);
    let (thread, panic) = Background::start("leveret-pager", move || {
        let mut buffer = Vec::new();
        loop {
            let _step = Step::begin("pager");
            if !served.run_pager_once(&mut buffer, clock.now()) {
                break;
            }
        }
        drop(buffer);
        // What was read has gone to other threads; what is left is not needed until the next time.
        memory::tidy();
        Rest::UntilCalled
    })?;
    broker.set_pager_waker(thread.waker());
    Ok((thread, panic))
}
