//! The pair of names a message travels with: exchange, then routing key, as two short strings.
//!
//! The pair is kept as it is on the wire, since publish, deliver, get-ok and return all have both
//! side by side: it can be copied from one method into another without being looked at.

use crate::input::Input;

/// Appends `exchange` and `routing_key` as short strings. Bytes past the 255th are left out.
#[inline]
pub fn write_names(out: &mut Vec<u8>, exchange: &[u8], routing_key: &[u8]) {
    out.reserve(2 + exchange.len() + routing_key.len());
    write_short(out, exchange);
    write_short(out, routing_key);
}

/// Takes such a pair apart: exchange and routing key. None where the bytes are not exactly one.
#[inline]
#[must_use]
pub fn split_names(names: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut input = Input(names);
    let exchange = input.short()?;
    let routing_key = input.short()?;
    input.is_empty().then_some((exchange, routing_key))
}

/// Appends one short string; bytes past the 255th are left out, so that the frame stays whole.
#[inline]
pub(crate) fn write_short(out: &mut Vec<u8>, text: &[u8]) {
    let (length, text) = match u8::try_from(text.len()) {
        Ok(length) => (length, text),
        Err(_) => (
            u8::MAX,
            text.get(..usize::from(u8::MAX)).unwrap_or_default(),
        ),
    };
    out.push(length);
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_apart_as_they_were_put_together() {
        let mut names = Vec::new();
        write_names(&mut names, b"logs", b"a.b\xff");
        assert_eq!(names, b"\x04logs\x04a.b\xff");
        assert_eq!(split_names(&names), Some((&b"logs"[..], &b"a.b\xff"[..])));
    }

    #[test]
    fn bytes_that_are_not_two_short_strings_are_refused() {
        for bytes in [
            &b""[..],
            b"\x00",
            b"\x02a\x00",
            b"\x00\x01",
            b"\x00\x00\x00",
        ] {
            assert_eq!(split_names(bytes), None);
        }
    }

    #[test]
    fn names_are_cut_at_255_bytes() {
        let mut names = Vec::new();
        write_names(&mut names, &[b'x'; 300], b"k");
        assert_eq!(split_names(&names), Some((&[b'x'; 255][..], &b"k"[..])));
    }
}
