//! Names in paths. The router decodes them; what it would take as it is, though it is no encoding, is refused before.

/// Whether each `%` in a path or query begins an encoded byte.
pub(crate) fn is_well_encoded(text: &str) -> bool {
    let mut rest = text.bytes();
    let digit =
        |rest: &mut std::str::Bytes<'_>| rest.next().is_some_and(|it| it.is_ascii_hexdigit());
    while let Some(byte) = rest.next() {
        if byte == b'%' && !(digit(&mut rest) && digit(&mut rest)) {
            return false;
        }
    }
    true
}

/// rabbitmq: the default exchange goes by this name in paths
pub(crate) fn exchange(name: &str) -> &str {
    if name == "amq.default" { "" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_encoding_is_known() {
        for right in ["", "/api/queues/%2f/a%20b%C3%BC", "%ff"] {
            assert!(is_well_encoded(right), "{right}");
        }
        for wrong in ["%2", "%zz", "a%", "%%20"] {
            assert!(!is_well_encoded(wrong), "{wrong}");
        }
        assert_eq!((exchange("amq.default"), exchange("x")), ("", "x"));
    }
}
