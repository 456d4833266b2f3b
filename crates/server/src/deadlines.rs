//! The one thread that tells the broker the time when a deadline of a queue, or of anything else that is not a
//! connection's, has come. The threads of the connections may all be busy then; this one is not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use leveret_broker::Broker;
use tokio::sync::oneshot;

use crate::background::{Background, Rest};
use crate::clock::Clock;
use crate::steps::Step;

/// Starts the thread. The receiver fires if it panics.
pub(crate) fn start(
    broker: &Arc<Broker>,
    clock: Clock,
) -> io::Result<(Background, oneshot::Receiver<()>)> {
    let served = Arc::clone(broker);
    let (thread, panic) = Background::start("leveret-deadlines", move || keep(&served, clock))?;
    broker.set_timer_waker(thread.waker());
    // What was asked for before the waker was there.
    thread.waker().wake();
    Ok((thread, panic))
}

/// Does what is due; answers how long nothing will be.
fn keep(broker: &Broker, clock: Clock) -> Rest {
    let now = clock.now();
    loop {
        let _step = Step::begin("deadlines");
        if !broker.handle_one_timeout(now) {
            break;
        }
    }
    match broker.poll_timeout() {
        None => Rest::UntilCalled,
        // At least a millisecond: a deadline left in the past cannot make the thread spin.
        Some(deadline) => {
            let now = clock.now();
            Rest::For(Duration::from_millis(
                deadline.0.saturating_sub(now.0).max(1),
            ))
        }
    }
}
