//! Named places at which a process built for tests ends as by `kill -9`.
//!
//! Owns their names and when they are due. Without the cargo feature `failpoints`, which nothing that is shipped
//! turns on, all of this is empty and compiled away: no variable is read and no name is in the binary. With it, the
//! environment variable `LEVERET_FAILPOINT` says which place ends the process and at which visit.
//! `docs/EXACTLY_ONCE.md` lists the places.

/// A place at which a process may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// A slice of a large message is written ahead, more may follow.
    InBody,
    /// A large message is written ahead, and nobody has been told.
    AfterBody,
    /// A large message is whole in its file, and no record refers to it.
    AfterFront,
    /// A record is put together, nothing of it is written.
    BeforeWrite,
    /// Half of a record is written: a torn end.
    InWrite,
    /// A record is written, but not synced.
    BeforeSync,
    /// A record is on stable storage, and nobody has been told.
    AfterWrite,
    /// The durable point has moved; confirms may be on their way.
    AfterConfirm,
    /// A segment was made and nothing written to it.
    NewSegment,
    /// A checkpoint's snapshot is in the journal, the index as it was before.
    InCheckpoint,
    /// The index is written, segments wait to be freed.
    BeforeFree,
    /// One of the segments to be freed has been.
    InFree,
    /// The file of a segment that was freed is cut, and not gone.
    InGiveBack,
    /// Some of a segment's messages are copied forward, more may follow.
    InCompaction,
    /// A record was read back at a start.
    InReplay,
    /// All is read back, and nothing of the directory changed yet.
    BeforeSettle,
    /// The directory is marked as in use, and nothing runs yet.
    AfterSettle,
    /// A transaction is on stable storage, and none of it shows.
    BeforeReveal,
    /// One queue shows its part of a transaction; others may not, and commit-ok is not sent.
    InReveal,
    /// A dead letter is about to leave its queue.
    BeforeDeadLetter,
    /// A dead letter is staged in one of its new queues.
    AfterDeadLetter,
}

pub use place::{end, is_due, reached};

#[cfg(feature = "failpoints")]
pub use place::check;

/// The environment variable: `NAME=after:N`, and more of them behind commas. The process ends at the `N`th visit, the
/// first of which is 1.
#[cfg(feature = "failpoints")]
pub const VARIABLE: &str = "LEVERET_FAILPOINT";

#[cfg(not(feature = "failpoints"))]
mod place {
    use super::Failpoint;

    /// Ends the process if this visit is the one asked for.
    #[inline(always)]
    pub const fn reached(_place: Failpoint) {}

    /// Counts a visit and tells whether it is the one asked for: the caller does its worst, then calls [`end`].
    #[inline(always)]
    #[must_use]
    pub const fn is_due(_place: Failpoint) -> bool {
        false
    }

    /// Ends the process.
    #[inline(always)]
    pub const fn end() {}
}

#[cfg(feature = "failpoints")]
mod place {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::{Failpoint, VARIABLE};

    /// All places, by name.
    const NAMES: [(&str, Failpoint); 21] = [
        ("in-body", Failpoint::InBody),
        ("after-body", Failpoint::AfterBody),
        ("after-front", Failpoint::AfterFront),
        ("before-write", Failpoint::BeforeWrite),
        ("in-write", Failpoint::InWrite),
        ("before-sync", Failpoint::BeforeSync),
        ("after-write", Failpoint::AfterWrite),
        ("after-confirm", Failpoint::AfterConfirm),
        ("new-segment", Failpoint::NewSegment),
        ("in-checkpoint", Failpoint::InCheckpoint),
        ("before-free", Failpoint::BeforeFree),
        ("in-free", Failpoint::InFree),
        ("in-give-back", Failpoint::InGiveBack),
        ("in-compaction", Failpoint::InCompaction),
        ("in-replay", Failpoint::InReplay),
        ("before-settle", Failpoint::BeforeSettle),
        ("after-settle", Failpoint::AfterSettle),
        ("before-reveal", Failpoint::BeforeReveal),
        ("in-reveal", Failpoint::InReveal),
        ("before-dead-letter", Failpoint::BeforeDeadLetter),
        ("after-dead-letter", Failpoint::AfterDeadLetter),
    ];

    /// A place and how many visits are left before the one that ends the process.
    struct Armed {
        place: Failpoint,
        left: AtomicU64,
    }

    fn armed() -> &'static [Armed] {
        static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
        ARMED.get_or_init(|| {
            let text = std::env::var(VARIABLE).unwrap_or_default();
            parse(&text).unwrap_or_default()
        })
    }

    fn parse(text: &str) -> Result<Vec<Armed>, String> {
        let entries = text.split(',').filter(|entry| !entry.is_empty());
        entries
            .map(|entry| {
                let (name, when) = entry.split_once("=after:").unwrap_or((entry, "1"));
                let place = NAMES.iter().find(|(known, _)| *known == name);
                let visits: Option<u64> = when.parse().ok().filter(|visits| *visits > 0);
                match (place, visits) {
                    (Some((_, place)), Some(visits)) => Ok(Armed {
                        place: *place,
                        left: AtomicU64::new(visits),
                    }),
                    _ => Err(format!("{VARIABLE}: no such failpoint: {entry:?}")),
                }
            })
            .collect()
    }

    /// Refuses what the variable says, if it is not readable.
    ///
    /// # Errors
    /// With the entry that is not.
    pub fn check() -> Result<(), String> {
        parse(&std::env::var(VARIABLE).unwrap_or_default()).map(drop)
    }

    /// Ends the process if this visit is the one asked for.
    pub fn reached(place: Failpoint) {
        if is_due(place) {
            end();
        }
    }

    /// Counts a visit and tells whether it is the one asked for: the caller does its worst, then calls [`end`].
    #[must_use]
    pub fn is_due(place: Failpoint) -> bool {
        let armed = armed().iter().find(|armed| armed.place == place);
        armed.is_some_and(|armed| {
            let visit = |left: u64| left.checked_sub(1);
            let before = armed
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, visit);
            before == Ok(1)
        })
    }

    /// Ends the process as `kill -9` does: nothing is flushed, nothing is said.
    pub fn end() {
        let _ = kill_process(getpid(), Signal::KILL);
        // The signal is on its way.
        std::process::abort();
    }
}
