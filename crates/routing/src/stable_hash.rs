//! A hash that never changes: it decides which queue of a hash exchange a key belongs to, and must
//! give the same answer after a restart and after an upgrade. Everything else uses `rustc-hash`.

/// 64 bits of `bytes`: FNV-1a, finished by [`mix`] because FNV's high bits are poor on short input.
pub(crate) fn hash_bytes(seed: u64, bytes: &[u8]) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    mix(bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    }))
}

/// Spreads 64 bits over 64 bits, one to one (the finaliser of MurmurHash3).
pub(crate) const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let value = (value ^ (value >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ (value >> 33)
}

/// An evenly distributed index below `len`, which must not be 0, from an evenly distributed `hash`.
pub(crate) fn index_below(hash: u64, len: usize) -> usize {
    let scaled = (u128::from(hash) * len as u128) >> 64;
    // Below `len`, so it fits.
    usize::try_from(scaled).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{hash_bytes, index_below};

    #[test]
    fn values_are_fixed_for_ever() {
        assert_eq!(hash_bytes(0, b""), 0xefd0_1f60_ba99_2926);
        assert_ne!(hash_bytes(0, b"a"), hash_bytes(1, b"a"));
    }

    #[test]
    fn index_covers_the_range() {
        assert_eq!(index_below(0, 3), 0);
        assert_eq!(index_below(u64::MAX, 3), 2);
    }
}
