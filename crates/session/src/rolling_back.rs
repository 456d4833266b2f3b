//! A transaction that is rolled back.

/// `tx.rollback`
pub(super) struct RollingBack {
    pub(super) channel: u16,
    pub(super) reply: Vec<u8>,
}
