//! See [`crate::check`].

use super::{SEGMENTS_MAX, Segments};
use crate::check::Faults;

impl Segments {
    /// `next`: the offset behind the last message.
    pub(crate) fn check(&self, next: u64, faults: &mut Faults) {
        let firsts = self.list.iter().map(|segment| segment.first);
        faults.rise("segments", firsts.clone());
        faults.holds(
            "segments have messages",
            firsts.max().is_none_or(|last| last < next),
        );
        let bytes = self.list.iter().map(|segment| segment.bytes);
        faults.same("bytes of segments", self.bytes, bytes.sum());
        faults.holds("segments are not too many", self.list.len() <= SEGMENTS_MAX);
    }
}
