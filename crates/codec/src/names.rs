//! The pair of names a message travels with: exchange, then routing key, as two short strings.
//!
//! The pair is kept as it is on the wire, since publish, deliver, get-ok and return all have both
//! side by side: it can be copied from one method into another without being looked at.

use crate::frame::{FRAME_HEADER_SIZE, FrameKind};
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

/// For each frame at the front of `input`, as far as they lie whole in it: the names of the publish that
/// it is, if it is one. Nothing is checked but lengths, so the answers are good for guesses only.
pub fn upcoming_names(input: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Input(input);
    std::iter::from_fn(move || {
        let [kind, _, _, s3, s2, s1, s0] = rest.array::<FRAME_HEADER_SIZE>()?;
        let size = u32::from_be_bytes([s3, s2, s1, s0]);
        let payload = rest.take(usize::try_from(size).ok()?)?;
        let _end = rest.u8()?;
        let is_method = kind == FrameKind::Method.octet();
        Some(is_method.then_some(payload).and_then(names_of_publish))
    })
}

#[inline]
fn names_of_publish(payload: &[u8]) -> Option<&[u8]> {
    let ([0, 60, 0, 40, _, _], from_names) = payload.split_first_chunk::<6>()? else {
        return None;
    };
    let mut input = Input(from_names);
    let exchange = input.short()?;
    let routing_key = input.short()?;
    from_names.get(..2 + exchange.len() + routing_key.len())
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
    fn the_names_of_publishes_ahead_are_found_among_other_frames() {
        let mut input = Vec::new();
        let mut frame = |kind: u8, payload: &[u8]| {
            input.extend_from_slice(&[kind, 0, 1, 0, 0, 0]);
            input.push(u8::try_from(payload.len()).unwrap());
            input.extend_from_slice(payload);
            input.push(0xce);
        };
        frame(1, b"\x00\x3c\x00\x28\x00\x00\x04logs\x01a\x00");
        frame(2, b"a header");
        frame(3, b"");
        frame(1, b"\x00\x3c\x00\x50a method");
        frame(1, b"\x00\x3c\x00\x28\x00\x00\x04log");
        frame(8, b"");
        frame(1, b"\x00\x3c\x00\x28\x00\x00\x00\x00\x00");
        let names = [&b"\x04logs\x01a"[..], b"\x00\x00"];
        assert_eq!(upcoming_names(&input).count(), 7);
        assert!(upcoming_names(&input).flatten().eq(names));
        for length in 0..input.len() {
            let found = upcoming_names(&input[..length]).flatten();
            assert!(found.zip(names).all(|(name, expected)| name == expected));
        }
        assert!(
            upcoming_names(&[1, 0, 0, 0xff, 0xff, 0xff, 0xff, 0])
                .next()
                .is_none()
        );
    }

    #[test]
    fn names_are_cut_at_255_bytes() {
        let mut names = Vec::new();
        write_names(&mut names, &[b'x'; 300], b"k");
        assert_eq!(split_names(&names), Some((&[b'x'; 255][..], &b"k"[..])));
    }
}
