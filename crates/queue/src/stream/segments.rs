//! What a stream keeps and for how long: runs of messages that go together, oldest first.
//!
//! RabbitMQ's retention removes whole segment files. Here a segment is only a mark in memory, a place
//! where the stream may be cut: finer than RabbitMQ's (a sixteenth of the limits), never more than
//! [`SEGMENTS_MAX`], and made anew after a restart. The newest segment is never removed.

#[cfg(debug_assertions)]
mod check;

use leveret_store_api::broken::without;
use std::collections::VecDeque;

use leveret_message::Timestamp;
use leveret_store_api::LogState;

use crate::queue::options::QueueOptions;

/// More marks than this are thinned out.
const SEGMENTS_MAX: usize = 1024;
/// So many segments make up a limit.
const SEGMENTS_PER_LIMIT: u64 = 16;
/// RabbitMQ's default of `x-stream-max-segment-size-bytes`.
const SEGMENT_BYTES: u64 = 500_000_000;

/// What the options say about retention.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retention {
    bytes_max: Option<u64>,
    age_max_ms: Option<u64>,
    segment_bytes: u64,
}

impl Retention {
    /// As the options have it; `default_bytes_max` where they set no limit in bytes.
    pub(crate) fn new(options: &QueueOptions, default_bytes_max: Option<u64>) -> Retention {
        let bytes_max = options.max_length_bytes.or(default_bytes_max);
        let segment_bytes = options.stream_segment_bytes.unwrap_or(SEGMENT_BYTES);
        let share = bytes_max.map_or(u64::MAX, |bytes| bytes / SEGMENTS_PER_LIMIT);
        Retention {
            bytes_max,
            age_max_ms: options.max_age_ms,
            segment_bytes: segment_bytes.min(share).max(1),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    bytes: u64,
    /// When its first message was published; None for one from before a restart.
    opened: Option<Timestamp>,
    /// When its last message was published; None if nobody has looked yet.
    last: Option<Timestamp>,
}

#[derive(Debug)]
pub(crate) struct Segments {
    list: VecDeque<Segment>,
    retention: Retention,
    bytes: u64,
    /// What the stream begins with when there is no segment.
    first: u64,
}

impl Segments {
    pub(crate) fn new(retention: Retention) -> Segments {
        Segments {
            list: VecDeque::new(),
            retention,
            bytes: 0,
            first: 0,
        }
    }

    /// Marks for what the store has, as if all messages were of the same size.
    pub(crate) fn recovered(retention: Retention, state: LogState) -> Segments {
        let mut segments = Segments::new(retention);
        segments.first = state.first.0;
        let count = state.next.0 - state.first.0;
        if count == 0 {
            return segments;
        }
        let mut pieces = state.bytes / retention.segment_bytes + 1;
        if retention.age_max_ms.is_some() {
            pieces = pieces.max(SEGMENTS_PER_LIMIT);
        }
        let pieces = pieces.min(count).min(SEGMENTS_MAX as u64);
        for piece in 0..pieces {
            let (from, until) = (piece * count / pieces, (piece + 1) * count / pieces);
            let bytes = share(state.bytes, until, count) - share(state.bytes, from, count);
            segments.list.push_back(Segment {
                first: state.first.0 + from,
                bytes,
                opened: None,
                last: None,
            });
        }
        segments.bytes = state.bytes;
        segments
    }

    /// Other limits. Segments too coarse for them are cut, as if their messages were of the same
    /// size; `next` is the offset behind the last message.
    pub(crate) fn set_retention(&mut self, retention: Retention, next: u64) {
        self.retention = retention;
        let coarse = std::mem::take(&mut self.list);
        let ends = coarse.iter().skip(1).map(|segment| segment.first);
        let ends: Vec<u64> = ends.chain(std::iter::once(next)).collect();
        for (segment, end) in coarse.into_iter().zip(ends) {
            let count = end - segment.first;
            let pieces = segment.bytes / retention.segment_bytes;
            let pieces = pieces.min(count).clamp(1, SEGMENTS_MAX as u64);
            for piece in 0..pieces {
                let (from, until) = (piece * count / pieces, (piece + 1) * count / pieces);
                self.list.push_back(Segment {
                    first: segment.first + from,
                    bytes: share(segment.bytes, until, count) - share(segment.bytes, from, count),
                    ..segment
                });
            }
        }
        while self.list.len() > SEGMENTS_MAX {
            self.thin_out();
        }
    }

    /// The oldest offset of the stream.
    pub(crate) fn first(&self) -> u64 {
        self.list.front().map_or(self.first, |front| front.first)
    }

    /// Counts a message in.
    pub(crate) fn add(&mut self, offset: u64, bytes: u64, time: Timestamp) {
        self.bytes += bytes;
        let retention = self.retention;
        let age_max = retention.age_max_ms.map(|age| age / SEGMENTS_PER_LIMIT);
        if let Some(last) = self.list.back_mut() {
            let opened = *last.opened.get_or_insert(time);
            let full = last.bytes >= retention.segment_bytes
                || age_max.is_some_and(|age_max| time - opened > age_max);
            if !full {
                last.bytes += bytes;
                last.last = Some(time);
                return;
            }
        }
        self.list.push_back(Segment {
            first: offset,
            bytes,
            opened: Some(time),
            last: Some(time),
        });
        if self.list.len() > SEGMENTS_MAX {
            self.thin_out();
        }
    }

    /// Joins each two neighbours, but for the newest.
    fn thin_out(&mut self) {
        let mut thinned: VecDeque<Segment> = VecDeque::with_capacity(SEGMENTS_MAX);
        let count = self.list.len();
        for (place, segment) in self.list.drain(..).enumerate() {
            match thinned.back_mut() {
                Some(before) if place % 2 == 1 && place + 1 < count => {
                    before.bytes += segment.bytes;
                    before.last = segment.last;
                }
                _ => thinned.push_back(segment),
            }
        }
        self.list = thinned;
    }

    /// Removes the oldest segments that the limits do not allow, as far as they lie below `below`;
    /// answers the range of offsets that is gone.
    pub(crate) fn retain(&mut self, now: Timestamp, below: u64) -> Option<(u64, u64)> {
        let before = self.first();
        while let Some(end) = self.list.get(1).map(|second| second.first)
            && end <= below
            && self.front_is_over(now)
        {
            if let Some(front) = self.list.pop_front() {
                self.bytes = without(self.bytes, front.bytes, "bytes of a stream");
            }
        }
        let after = self.first();
        (after > before).then_some((before, after))
    }

    /// What all segments have together.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether there is more than the limit in bytes allows, and something to remove.
    pub(crate) fn is_over_bytes(&self) -> bool {
        self.list.len() > 1 && self.retention.bytes_max.is_some_and(|max| self.bytes > max)
    }

    fn front_is_over(&self, now: Timestamp) -> bool {
        let over = self.retention.bytes_max.is_some_and(|max| self.bytes > max);
        over || self
            .front_expires_at()
            .is_some_and(|expires_at| expires_at <= now)
    }

    /// When the oldest segment is to go, if that is known and another one would be left.
    pub(crate) fn front_expires_at(&self) -> Option<Timestamp> {
        let age_max = self.retention.age_max_ms?;
        let front = self.list.front().filter(|_| self.list.len() > 1)?;
        Some(front.last? + age_max)
    }

    /// The offset whose time must be looked up before the oldest segment can be judged by age.
    pub(crate) fn undated(&self) -> Option<u64> {
        self.retention.age_max_ms?;
        let front = self.list.front()?;
        let second = self.list.get(1)?;
        front.last.is_none().then(|| second.first - 1)
    }

    /// The message at `offset`, asked for by [`Segments::undated`], was published at `time`.
    pub(crate) fn date(&mut self, offset: u64, time: Timestamp) {
        if self.undated() == Some(offset)
            && let Some(front) = self.list.front_mut()
        {
            front.last = Some(time);
        }
    }
}

/// `some` of `all` parts of `bytes`.
fn share(bytes: u64, some: u64, all: u64) -> u64 {
    let share = u128::from(bytes) * u128::from(some) / u128::from(all.max(1));
    u64::try_from(share).unwrap_or(bytes)
}
