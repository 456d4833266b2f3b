//! What the broker alone knows of a message and no client can say: that it died before, and the keys of
//! its BCC header, which is taken out when it is published.
//!
//! They stand between a message's names and its content header, in memory and in the store:
//! `[length u32 | key length u32 | key | ...]`, only where there are blind keys. The two highest bits of
//! the names' length, which is at most 512, say what there is.

/// In the names' length: the message has been dead-lettered.
pub(crate) const DIED: u16 = 1 << 15;
/// In the names' length: blind keys follow the names.
const HAS_BLIND_KEYS: u16 = 1 << 14;
/// The bits of the names' length that are its length.
pub(crate) const LENGTH_MAX: u16 = HAS_BLIND_KEYS - 1;
/// Length of a length.
const LENGTH_BYTES: usize = 4;

/// The broker's own marks on a message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Marks<'a> {
    /// It was dead-lettered: its `x-death` and companions are the broker's, not a client's.
    pub died: bool,
    blind_keys: &'a [u8],
}

impl<'a> Marks<'a> {
    /// Marks with these blind keys, as [`encode_keys`] wrote them.
    #[must_use]
    pub fn blind(blind_keys: &'a [u8]) -> Marks<'a> {
        Marks {
            died: false,
            blind_keys,
        }
    }

    /// These marks, on a message that has died.
    #[must_use]
    pub fn of_the_dead(self) -> Marks<'a> {
        Marks { died: true, ..self }
    }

    /// These marks without the blind keys.
    #[must_use]
    pub fn without_blind_keys(self) -> Marks<'a> {
        Marks {
            blind_keys: &[],
            ..self
        }
    }

    /// The keys of the BCC header the message was published with.
    pub fn blind_keys(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.blind_keys;
        std::iter::from_fn(move || {
            let (length, behind) = rest.split_first_chunk::<LENGTH_BYTES>()?;
            let (key, behind) = behind.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = behind;
            Some(key)
        })
    }

    /// To be added to the names' length.
    pub(crate) fn bits(self) -> u16 {
        let died = if self.died { DIED } else { 0 };
        let blind = if self.blind_keys.is_empty() {
            0
        } else {
            HAS_BLIND_KEYS
        };
        died | blind
    }

    /// Writes what stands between names and content header.
    #[inline]
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        if !self.blind_keys.is_empty() {
            out.extend_from_slice(&length_of(self.blind_keys).to_be_bytes());
            out.extend_from_slice(self.blind_keys);
        }
    }

    /// What [`Marks::write`] wrote.
    pub(crate) fn of_section(died: bool, section: &'a [u8]) -> Marks<'a> {
        Marks {
            died,
            blind_keys: section.get(LENGTH_BYTES..).unwrap_or_default(),
        }
    }
}

fn length_of(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// How long the section at the front of `bytes` is; None where it goes on behind their end.
pub(crate) fn section_len(bits: u16, bytes: &[u8]) -> Option<u32> {
    if bits & HAS_BLIND_KEYS == 0 {
        return Some(0);
    }
    let (length, behind) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let length = u32::from_be_bytes(*length);
    (behind.len() >= length as usize).then(|| length.saturating_add(length_of(&[0; LENGTH_BYTES])))
}

/// Keys in a row, for [`Marks::blind`].
#[must_use]
pub fn encode_keys<'k>(keys: impl Iterator<Item = &'k [u8]>) -> Vec<u8> {
    let mut encoded = Vec::new();
    for key in keys {
        encoded.extend_from_slice(&length_of(key).to_be_bytes());
        encoded.extend_from_slice(key);
    }
    encoded
}

#[cfg(test)]
mod tests {
    use leveret_codec::{AMQPProperties, decode_header, encode_header, write_names};
    use leveret_store_api::Payload;

    use super::*;
    use crate::message::{Body, Message, MessageScratch};

    fn message(marks: Marks<'_>, body: &[u8]) -> Message {
        let header = encode_header(body.len() as u64, &AMQPProperties::default());
        let header = decode_header(&header).expect("a header");
        let mut names = Vec::new();
        write_names(&mut names, b"x", b"key");
        let body = Body::Borrowed(body);
        Message::compose_marked(&mut MessageScratch::default(), &names, marks, &header, body)
    }

    fn check(marks: Marks<'_>, keys: &[&[u8]], died: bool) {
        for body in [&b""[..], b"body", &[7; 10_000]] {
            let message = message(marks, body);
            let stored = message.parts().concat();
            let read = Message::from_stored(&stored).expect("readable");
            for message in [message, read] {
                let found: Vec<&[u8]> = message.marks().blind_keys().collect();
                assert_eq!((found.as_slice(), message.marks().died), (keys, died));
                assert_eq!(message.exchange_and_key(), (&b"x"[..], &b"key"[..]));
                assert_eq!(message.body(), body);
                assert!(message.decode_header().is_ok());
            }
            for end in 0..stored.len().min(64) {
                assert!(
                    Message::from_stored(&stored[..end]).is_none()
                        || end > stored.len() - body.len() - 1
                );
            }
        }
    }

    #[test]
    fn marks_are_kept_beside_what_was_published() {
        let keys = encode_keys([&b"one"[..], b"", &[b'k'; 300]].into_iter());
        check(Marks::default(), &[], false);
        check(Marks::default().of_the_dead(), &[], true);
        check(Marks::blind(&keys), &[b"one", b"", &[b'k'; 300]], false);
        check(
            Marks::blind(&keys).of_the_dead(),
            &[b"one", b"", &[b'k'; 300]],
            true,
        );
        check(
            Marks::blind(&keys).of_the_dead().without_blind_keys(),
            &[],
            true,
        );
    }
}
