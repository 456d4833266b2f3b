//! The numbers of channels.

use std::fmt;

/// The number of a channel within its connection.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ChannelNumber(pub u16);

impl ChannelNumber {
    /// What concerns the connection itself goes by this.
    pub const CONNECTION: ChannelNumber = ChannelNumber(0);

    pub(crate) fn to_be_bytes(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for ChannelNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
