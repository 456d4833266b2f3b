//! The process's allocator, and giving memory back to the system after a burst. Owns no data.
//!
//! Each thread of mimalloc keeps what it freed until it allocates again or is told to collect; after a burst nobody
//! does either. So once the broker has come to rest, every worker is told to collect, once. And what the program was
//! mapped for to start, it does not need mapped to run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use leveret_message::{Store, large_body};
use rustix::mm::{Advice, madvise};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::connection::scratch;
use crate::mappings;

/// Halves the cost of a message compared with the system's allocator. Huge pages are off (`no_thp`): they cost 2 to 40
/// MB of memory and saved no measurable time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// After how many milliseconds the allocator gives unused memory back to the system; libmimalloc-sys has no name for it.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// How long the broker must have been at rest.
const REST: Duration = Duration::from_secs(5);
/// Of how much CPU time `REST` may hold no more than one part, to count as rest.
const REST_PART: u32 = 20;
/// CPU time that must have been used since the last collection to make another worth its while.
const WORTH: Duration = Duration::from_millis(50);
/// How long after the start the pages that the start needed are let go.
const STARTED: Duration = Duration::from_secs(1);
/// How long a worker waits for the others to collect too.
const GATHER: Duration = Duration::from_millis(5);

/// Notices that workers wake up, so that nothing needs to look at a broker that sleeps.
#[derive(Default)]
pub(crate) struct Activity {
    asleep: AtomicBool,
    woken: Notify,
}

impl Activity {
    /// A worker was woken. Costs one load while it is known already.
    pub(crate) fn note(&self) {
        if self.asleep.load(Ordering::Relaxed) && self.asleep.swap(false, Ordering::AcqRel) {
            self.woken.notify_one();
        }
    }
}

/// Collects on all `workers` each time the broker comes to rest after some work. Never returns.
pub(crate) async fn give_back(activity: Arc<Activity>, workers: usize, store: Store) {
    tokio::time::sleep(STARTED).await;
    forget_the_start();
    let mut collected = cpu_time();
    loop {
        let mut before = cpu_time();
        loop {
            tokio::time::sleep(REST).await;
            let now = cpu_time();
            if now.saturating_sub(before) * REST_PART < REST {
                break;
            }
            before = now;
        }
        if cpu_time().saturating_sub(collected) >= WORTH {
            collect_everywhere(workers).await;
            store.run_at_rest(collect);
            collected = cpu_time();
        }
        activity.asleep.store(true, Ordering::Release);
        activity.woken.notified().await;
    }
}

/// Starts the thread that gives the memory of the largest bodies back. Without it, whoever lets go of one last does.
pub(crate) fn return_large_bodies() {
    let thread = thread::Builder::new().name("leveret-return".to_owned());
    if let Err(error) = thread.spawn(large_body::give_back) {
        tracing::debug!(%error, "no thread for the memory of large bodies");
    }
}

/// Has each worker collect: one task for each, and none ends before all have begun, or a moment has passed.
async fn collect_everywhere(workers: usize) {
    let begun = Arc::new((Mutex::new(0), Condvar::new()));
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let begun = Arc::clone(&begun);
        tasks.spawn(async move {
            scratch::release();
            collect();
            let (count, all) = &*begun;
            let mut count = count.lock().unwrap_or_else(PoisonError::into_inner);
            *count += 1;
            all.notify_all();
            drop(all.wait_timeout_while(count, GATHER, |count| *count < workers));
        });
    }
    while tasks.join_next().await.is_some() {}
    tracing::debug!(workers, "gave memory back");
}

/// Lets freed memory go back to the system after 50 ms instead of 1,000: a million messages of 1 KB on their way to the
/// disk and back then take about 42 MB at the peak instead of 55, for one more page fault in 30 messages. Less than 20 ms
/// costs more CPU time than it is worth.
#[allow(unsafe_code, reason = "the allocator has no other interface for it")]
pub(crate) fn set_up() {
    // SAFETY: sets a number that the allocator reads; may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 50) };
}

/// Frees what the calling thread keeps for later, and returns unused memory to the system.
#[allow(unsafe_code, reason = "the allocator has no other interface for it")]
pub(crate) fn collect() {
    // SAFETY: may be called at any time from any thread; takes no pointers.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

/// Frees what the calling thread keeps for later. Unused memory returns to the system in its own time: to hurry that
/// after each read made draining a backlog a third slower.
#[allow(unsafe_code, reason = "the allocator has no other interface for it")]
pub(crate) fn tidy() {
    // SAFETY: may be called at any time from any thread; takes no pointers.
    unsafe { libmimalloc_sys::mi_collect(false) };
}

/// Takes the pages of the program and its libraries off the process's memory. Those that are used again, a third, come
/// back from the page cache, 16 at a time, in some 0.1 ms altogether; the rest served to read the command line, to link
/// and to recover.
#[allow(unsafe_code, reason = "there is no safe way to say it")]
fn forget_the_start() {
    for range in mappings::files_as_they_are() {
        let start = std::ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: the pages are read-only, backed by a file, and none was changed since it was read from there, so that
        // whoever reads them next finds what was there before. Files that are being run from cannot be written.
        let forgotten = unsafe { madvise(start, range.len(), Advice::LinuxDontNeed) };
        if let Err(error) = forgotten {
            tracing::debug!(%error, "memory of the start is kept");
        }
    }
}

/// CPU time used by the process so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use leveret_store_api::MemoryStore;

    use super::*;

    #[test]
    #[allow(unsafe_code, reason = "the allocator has no other interface for it")]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: reads a number.
        let option = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(option(), 1000, "the allocator's default");
        set_up();
        assert_eq!(option(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn it_sleeps_at_rest_until_a_worker_is_woken() {
        let activity = Arc::new(Activity::default());
        let store: Store = Arc::new(MemoryStore::new());
        let giving_back = tokio::spawn(give_back(Arc::clone(&activity), 1, store));
        for _ in 0..2 {
            tokio::time::sleep(REST * 3).await;
            assert!(activity.asleep.load(Ordering::Relaxed));
            activity.note();
            assert!(!activity.asleep.load(Ordering::Relaxed));
        }
        giving_back.abort();
        collect_everywhere(1).await;
    }
}
