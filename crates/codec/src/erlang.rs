//! Byte strings as RabbitMQ writes them into its error texts, that is: as Erlang terms.
//!
//! Owns that notation alone. Clients and operators search for these texts, so they are kept.

use std::fmt;

/// How Erlang's `~w` writes a binary: always as numbers.
pub(crate) struct Numbers<'a>(pub(crate) &'a [u8]);

/// How Erlang's `~p` writes a binary: as text where all of it is printable ASCII, else as numbers.
pub(crate) struct Pretty<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Numbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<<")?;
        for (index, octet) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(f, "{separator}{octet}")?;
        }
        f.write_str(">>")
    }
}

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() || !self.0.iter().copied().all(is_printable) {
            return Numbers(self.0).fmt(f);
        }
        f.write_str("<<\"")?;
        for &octet in self.0 {
            match octet {
                b'"' => f.write_str("\\\"")?,
                b'\\' => f.write_str("\\\\")?,
                b'\n' => f.write_str("\\n")?,
                b'\r' => f.write_str("\\r")?,
                b'\t' => f.write_str("\\t")?,
                _ => write!(f, "{}", char::from(octet))?,
            }
        }
        f.write_str("\">>")
    }
}

fn is_printable(octet: u8) -> bool {
    matches!(octet, b' '..=b'~' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printable_bytes_are_text_and_others_numbers() {
        assert_eq!(Pretty(b"x").to_string(), "<<\"x\">>");
        assert_eq!(Pretty(b"a\"b\n").to_string(), "<<\"a\\\"b\\n\">>");
        assert_eq!(Pretty(b"").to_string(), "<<>>");
        assert_eq!(Pretty(&[0, 20]).to_string(), "<<0,20>>");
        assert_eq!(Numbers(b"x").to_string(), "<<120>>");
    }
}
