//! What errors and log lines show of texts that others wrote: as much as tells which one is meant.

use std::borrow::Cow;

/// So many bytes of a text are shown.
const SHOWN_BYTES_MAX: usize = 256;

/// The text, or its beginning and how long it is.
pub fn excerpt(text: &str) -> Cow<'_, str> {
    match text.split_at_checked(text.floor_char_boundary(SHOWN_BYTES_MAX)) {
        Some((shown, rest)) if !rest.is_empty() => {
            Cow::Owned(format!("{shown}… ({} bytes)", text.len()))
        }
        _ => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let exact = "a".repeat(SHOWN_BYTES_MAX);
        assert_eq!(excerpt(&exact), exact);
        let long = format!("{}ä", "a".repeat(SHOWN_BYTES_MAX - 1));
        let expected = format!("{}… (257 bytes)", "a".repeat(SHOWN_BYTES_MAX - 1));
        assert_eq!(excerpt(&long), expected);
    }
}
