//! A transaction that is rolled back.

use leveret_codec::ChannelNumber;

/// `tx.rollback`
pub(super) struct RollingBack {
    pub(super) channel: ChannelNumber,
    pub(super) reply: Vec<u8>,
}
