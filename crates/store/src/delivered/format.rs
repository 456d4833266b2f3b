//! The bytes of the file of delivered positions, described in docs/STORE.md. Reading trusts nothing.

use leveret_store_api::{Delivered, LogId, Sequence};

use crate::bytes::Cursor;

pub(super) const HEADER_BYTES: usize = 64;
pub(super) const SLOT_BYTES: usize = 32;

const MAGIC: u64 = u64::from_le_bytes(*b"LVRDELIV");
const VERSION: u32 = 1;
const CHECKSUM_BYTES: usize = 4;

/// What the file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The store's random number.
    pub(super) store: u32,
    /// Which opening of the store made it.
    pub(super) epoch: u32,
    /// The run of the system in which it was made, if that has a name.
    pub(super) boot: Option<[u8; 16]>,
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = Vec::with_capacity(HEADER_BYTES);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.store.to_le_bytes());
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.extend_from_slice(&u32::from(self.boot.is_some()).to_le_bytes());
        out.extend_from_slice(&self.boot.unwrap_or_default());
        out.resize(HEADER_BYTES - CHECKSUM_BYTES, 0);
        out.extend_from_slice(&crc32c::crc32c(&out).to_le_bytes());
        let mut bytes = [0; HEADER_BYTES];
        bytes.copy_from_slice(&out);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<FileHeader> {
        let mut cursor = Cursor::new(opened(bytes)?);
        if (cursor.u64()?, cursor.u32()?) != (MAGIC, VERSION) {
            return None;
        }
        let (store, epoch) = (cursor.u32()?, cursor.u32()?);
        let is_named = cursor.u32()? != 0;
        let boot = cursor.take(16)?.try_into().ok()?;
        Some(FileHeader {
            store,
            epoch,
            boot: is_named.then_some(boot),
        })
    }
}

/// One slot, as read.
pub(super) enum SlotBytes {
    /// Never used.
    Free,
    Of(LogId, Delivered),
}

impl SlotBytes {
    pub(super) fn encode(log: LogId, delivered: &Delivered) -> [u8; SLOT_BYTES] {
        let words = [log.0, delivered.below.0, delivered.uncertain_below.0];
        let mut bytes = [0; SLOT_BYTES];
        let (body, checksum) = bytes.split_at_mut(SLOT_BYTES - CHECKSUM_BYTES);
        for (place, word) in body.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        checksum.copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
        bytes
    }

    /// None: it is damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<SlotBytes> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Some(SlotBytes::Free);
        }
        let mut cursor = Cursor::new(opened(bytes)?);
        let log = LogId(cursor.u64()?);
        let delivered = Delivered {
            below: Sequence(cursor.u64()?),
            uncertain_below: Sequence(cursor.u64()?),
        };
        Some(SlotBytes::Of(log, delivered))
    }
}

/// What is before the checksum, if that is right.
fn opened(bytes: &[u8]) -> Option<&[u8]> {
    let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    (crc32c::crc32c(body) == u32::from_le_bytes(*checksum)).then_some(body)
}
