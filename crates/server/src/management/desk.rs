//! Where answers are built: on a thread for blocking work, one at a time. That bounds what all the API's clients together
//! take from the machine to a part of one core, and keeps it off the threads that move messages.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// One piece of work at a time.
#[derive(Clone)]
pub(super) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Desk {
    /// Does `work`, which may lock queues and read files; None if it panicked or the process ends.
    pub(super) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        // The permit goes into the thread: work that nobody waits for any more still counts.
        let permit = Arc::clone(&self.0).acquire_owned().await.ok()?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.ok()
    }
}
