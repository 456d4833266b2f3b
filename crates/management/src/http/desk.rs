//! Where answers are built: on a thread for blocking work, one at a time. That bounds what all the API's clients together
//! take from the machine to a part of one core, and keeps it off the threads that move messages.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::answer::Refusal;

/// One piece of work at a time.
#[derive(Clone)]
pub(crate) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Desk {
    /// Does `work`, which may lock queues and read files.
    ///
    /// # Errors
    /// It panicked, which is logged, or the process ends.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        // The permit goes into the thread: work that nobody waits for any more still counts.
        let permit = Arc::clone(&self.0).acquire_owned().await;
        let permit = permit.map_err(|_| Refusal::broken())?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| Refusal::broken())
    }
}
