//! The first 16 bytes of every body: who sent it, as which message, and when.

/// Bytes of a stamp, and the least a body may have.
pub(crate) const LENGTH: usize = 16;

const SEQUENCE_BITS: u32 = 48;

/// Producer, sequence and time of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The producer's number.
    pub(crate) producer: u16,
    /// How many messages this producer sent before.
    pub(crate) sequence: u64,
    /// When it was (to be) sent, in nanoseconds.
    pub(crate) sent: u64,
}

impl Stamp {
    /// As bytes.
    pub(crate) fn bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        let (who, when) = bytes.split_at_mut(8);
        who.copy_from_slice(&self.identity().to_be_bytes());
        when.copy_from_slice(&self.sent.to_be_bytes());
        bytes
    }

    /// The stamp of a body; None where it is too short for one.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        let (who, rest) = body.split_first_chunk::<8>()?;
        let (when, _) = rest.split_first_chunk::<8>()?;
        let who = u64::from_be_bytes(*who);
        Some(Self {
            producer: u16::try_from(who >> SEQUENCE_BITS).unwrap_or(u16::MAX),
            sequence: who & ((1 << SEQUENCE_BITS) - 1),
            sent: u64::from_be_bytes(*when),
        })
    }

    /// Unlike that of any other message of the run.
    pub(crate) fn identity(self) -> u64 {
        u64::from(self.producer) << SEQUENCE_BITS | self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_trip() {
        let stamp = Stamp {
            producer: 513,
            sequence: 0x1234_5678_9ABC,
            sent: u64::MAX - 1,
        };
        assert_eq!(Stamp::read(&stamp.bytes()), Some(stamp));
        assert_eq!(Stamp::read(&[0; 15]), None);
    }
}
