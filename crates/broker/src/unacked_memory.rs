//! Memory of messages that clients were sent and have not settled, of all connections together. Beyond its bound a
//! channel keeps the latest of what it holds in memory, and of the rest what is needed to find it in the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a channel may keep in memory however much others do.
const KEPT_MAX: usize = 256 << 10;
/// This part of the bound is for one channel's latest, if that is less.
const KEPT_PART: usize = 64;

/// How much it is.
#[derive(Debug)]
pub struct UnackedMemory {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl UnackedMemory {
    /// All channels together may hold so much.
    pub fn new(bytes_max: usize) -> UnackedMemory {
        UnackedMemory {
            bytes_max,
            bytes: AtomicUsize::new(0),
        }
    }

    /// How much a channel may keep whatever the others do.
    pub fn kept(&self) -> usize {
        KEPT_MAX.min(self.bytes_max / KEPT_PART)
    }

    /// Whether it is more than there may be.
    pub fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.bytes_max
    }

    /// Whether no more must leave it once `going` bytes have.
    pub fn is_relieved(&self, going: usize) -> bool {
        const SPARE_PART: usize = 8;
        let relieved = self.bytes_max - self.bytes_max / SPARE_PART;
        self.bytes.load(Ordering::Relaxed) <= relieved.saturating_add(going)
    }
}

/// What one channel has told of its part, which is not exact: that would cost each message something.
#[derive(Debug, Default)]
pub struct Told {
    memory: Option<Arc<UnackedMemory>>,
    bytes: usize,
}

impl Told {
    /// The channel holds so many bytes. Answers whether all channels together hold too much.
    pub fn more(&mut self, bytes: usize, memory: &Arc<UnackedMemory>) -> bool {
        const STEP_PART: usize = 4;
        if bytes > self.bytes + memory.kept() / STEP_PART {
            self.memory.get_or_insert_with(|| Arc::clone(memory));
            self.tell(bytes);
        }
        memory.is_over()
    }

    /// Whether anything was told.
    pub fn is_any(&self) -> bool {
        self.bytes > 0
    }

    /// The channel holds less than it did.
    pub fn less(&mut self, bytes: usize) {
        if self.bytes > bytes.saturating_mul(2) {
            self.tell(bytes);
        }
    }

    /// The channel holds so many bytes.
    pub fn tell(&mut self, bytes: usize) {
        let Some(memory) = &self.memory else {
            // It has never held as much as is told.
            return;
        };
        if bytes > self.bytes {
            memory
                .bytes
                .fetch_add(bytes - self.bytes, Ordering::Relaxed);
        } else {
            memory
                .bytes
                .fetch_sub(self.bytes - bytes, Ordering::Relaxed);
        }
        self.bytes = bytes;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.tell(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_channels_hold_is_known_but_for_little_and_gone_with_them() {
        let memory = Arc::new(UnackedMemory::new(64 * 400));
        let (mut one, mut other) = (Told::default(), Told::default());
        let known = || memory.bytes.load(Ordering::Relaxed);
        assert!(!one.more(100, &memory));
        assert_eq!(known(), 0);
        assert!(!one.more(101, &memory));
        assert!(!other.more(64 * 400 - 101, &memory));
        assert_eq!(known(), 64 * 400);
        assert!(one.more(300, &memory));
        one.less(150);
        assert_eq!(known(), 64 * 400 - 101 + 300);
        one.less(149);
        assert_eq!(known(), 64 * 400 - 101 + 149);
        assert!(memory.is_over() && !memory.is_relieved(0));
        drop(other);
        assert!(memory.is_relieved(0));
        one.less(0);
        assert_eq!(known(), 0);
    }

    #[test]
    fn without_a_bound_of_its_own_everything_is_too_much() {
        let memory = Arc::new(UnackedMemory::new(0));
        let mut one = Told::default();
        assert!(one.more(1, &memory));
        assert!(!memory.is_relieved(0));
        one.less(0);
        assert!(memory.is_relieved(0) && !memory.is_over());
    }
}
