//! The channels of a connection, by their numbers.

use leveret_codec::ChannelNumber;
use rustc_hash::{FxHashMap, FxHashSet};

use super::channel::Channel;

#[derive(Default)]
pub(super) struct Channels {
    open: FxHashMap<ChannelNumber, Channel>,
    /// Those that the client has closed, since all it had sent was read for the last time.
    just_closed: FxHashSet<ChannelNumber>,
    /// How many there ever were.
    opened: u64,
}

impl Channels {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Which one the next will be, counted from 1.
    pub(super) fn next_serial(&self) -> u64 {
        self.opened + 1
    }

    /// Adds a channel, which has the next serial.
    pub(super) fn open(&mut self, channel: Channel) {
        debug_assert_eq!(channel.serial, self.next_serial());
        self.opened = channel.serial;
        self.just_closed.remove(&channel.number);
        self.open.insert(channel.number, channel);
    }

    #[inline]
    pub(super) fn get(&self, number: ChannelNumber) -> Option<&Channel> {
        self.open.get(&number)
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: ChannelNumber) -> Option<&mut Channel> {
        self.open.get_mut(&number)
    }

    pub(super) fn contains(&self, number: ChannelNumber) -> bool {
        self.open.contains_key(&number)
    }

    pub(super) fn numbers(&self) -> Vec<ChannelNumber> {
        self.open.keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Channel> {
        self.open.values()
    }

    pub(super) fn remove(&mut self, number: ChannelNumber) {
        self.open.remove(&number);
    }

    /// All of them are gone.
    pub(super) fn clear(&mut self) {
        self.open.clear();
    }

    /// The client closes a channel: what it had sent behind that is passed over.
    pub(super) fn add_closed(&mut self, number: ChannelNumber) {
        self.just_closed.insert(number);
    }

    /// Whether the client may not know yet that a channel it has closed is closed.
    pub(super) fn is_just_closed(&self, number: ChannelNumber) -> bool {
        self.just_closed.contains(&number)
    }

    /// All that the client had sent is read.
    pub(super) fn forget_closed(&mut self) {
        if !self.just_closed.is_empty() {
            self.just_closed = FxHashSet::default();
        }
    }
}
