//! How a journal is kept.

/// So many segments have room on a disk, …
const SEGMENTS_ON_DISK_MIN: u64 = 32;
/// … as long as they need not be smaller than this.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// What is kept for a full disk, or so large a part of a small one.
const BALLAST_BYTES: u64 = 4 << 20;
const BALLAST_SHARE: u64 = 32;
/// Of a small disk this part stays free, but no less than a checkpoint and what it gives back need.
const RESERVE_SHARE: u64 = 20;
const RESERVE_BYTES_MIN: u64 = 4 << 20;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// One record takes no more staged bytes than this, unless one unit alone is larger.
    pub record_bytes_max: u64,
    /// The index is written when the journal has grown by this, in bytes …
    pub checkpoint_bytes: u64,
    /// … or this long after the first change since the last time, in milliseconds.
    pub checkpoint_interval_ms: u64,
    /// Segments kept to be written again …
    pub spare_segments: usize,
    /// … until nothing has been written for so long, in milliseconds.
    pub idle_ms: u64,
    /// Bytes of freed segments given back to the disk at a time …
    pub free_bytes_step: u64,
    /// … and the pause between two such times, in milliseconds, while the disk has room.
    pub free_pause_ms: u64,
    /// Pause between two records of messages copied out of mostly dead segments, in milliseconds, while
    /// the disk has room.
    pub copy_pause_ms: u64,
    /// A message whose second part has at least so many bytes is written ahead …
    pub write_ahead_bytes_min: usize,
    /// … in slices of so many bytes, each of them synced.
    pub write_ahead_step_bytes: usize,
    /// With less than this free on the disk, the status is [`StoreStatus::Full`](leveret_store_api::StoreStatus::Full); in bytes.
    pub disk_free_bytes_min: u64,
    /// The size of a file that is given up when the disk is full, so that what was taken out can be given back; in bytes.
    pub ballast_bytes: u64,
    /// Pause after a large commit, in which the next group gathers; in microseconds.
    pub gap_us: u64,
    /// Messages of a log whose readers acknowledge most of them soon are written only when they have not been
    /// acknowledged for so long, or four times as long; in microseconds. With 0, all are written at once.
    pub patience_us: u64,
    /// Go on although something is damaged, without what cannot be read.
    pub recover: bool,
}

impl JournalOptions {
    /// The default, for a disk of so many bytes of which so many are to stay free. On a small one, segments are so
    /// small that many have room, and that what stays free is enough for one: acknowledgements must go on.
    #[must_use]
    pub fn for_disk(bytes: u64, reserve: Option<u64>) -> Self {
        let default = JournalOptions::default();
        let share = (bytes / RESERVE_SHARE).max(RESERVE_BYTES_MIN);
        let usual = default.disk_free_bytes_min.min(share);
        let reserve = reserve.unwrap_or(usual);
        let share = (bytes / SEGMENTS_ON_DISK_MIN).min(reserve / 2);
        let fitting = 1 << share.max(SEGMENT_BYTES_MIN).ilog2();
        JournalOptions {
            segment_bytes: default.segment_bytes.min(fitting),
            checkpoint_bytes: default.checkpoint_bytes.min(fitting),
            disk_free_bytes_min: reserve,
            ballast_bytes: BALLAST_BYTES.min(bytes / BALLAST_SHARE),
            ..default
        }
    }
}

#[cfg(not(feature = "failpoints"))]
impl JournalOptions {
    /// The options as they are.
    pub(crate) fn small_if_asked(self) -> Self {
        self
    }
}

#[cfg(feature = "failpoints")]
impl JournalOptions {
    /// With little segments and checkpoints at short intervals if asked for, so that the failpoints in their ways are
    /// visited soon.
    pub(crate) fn small_if_asked(self) -> Self {
        if std::env::var_os("LEVERET_FAILPOINT_SMALL_JOURNAL").is_none() {
            return self;
        }
        JournalOptions {
            segment_bytes: 1 << 20,
            checkpoint_bytes: 1 << 20,
            checkpoint_interval_ms: 100,
            free_bytes_step: 256 << 10,
            write_ahead_bytes_min: 64 << 10,
            write_ahead_step_bytes: 16 << 10,
            ..self
        }
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions {
            segment_bytes: 64 << 20,
            record_bytes_max: 2 << 20,
            checkpoint_bytes: 64 << 20,
            checkpoint_interval_ms: 30_000,
            spare_segments: 1,
            idle_ms: 10_000,
            free_bytes_step: 2 << 20,
            free_pause_ms: 8,
            copy_pause_ms: 4,
            write_ahead_bytes_min: 16 << 20,
            write_ahead_step_bytes: 1 << 20,
            disk_free_bytes_min: 256 << 20,
            ballast_bytes: 0,
            gap_us: 100,
            patience_us: 1000,
            recover: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_free_is_enough_on_a_disk_of_any_size() {
        const MIB: u64 = 1 << 20;
        let reserve = |bytes, asked| JournalOptions::for_disk(bytes, asked).disk_free_bytes_min;
        for (disk, expected) in [(16, 4), (80, 4), (1_000, 50), (1 << 20, 256)] {
            assert_eq!(reserve(disk * MIB, None), expected * MIB);
        }
        assert_eq!(reserve(16 * MIB, Some(MIB)), MIB, "as it was asked for");
    }
}
