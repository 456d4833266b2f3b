//! What a client speaks that does not begin as AMQP 0-9-1 does: for the log, so that who set it up finds out.

/// Another protocol, by its first bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Spoken {
    pub(super) name: &'static str,
    pub(super) advice: &'static str,
}

const HTTP: Spoken = Spoken {
    name: "HTTP",
    advice: "the management API has a port of its own, see --management-listen",
};
const TLS: Spoken = Spoken {
    name: "TLS",
    advice: "there is no TLS here; use amqp:// for amqps://, or a proxy that ends TLS",
};
const AMQP_1_0: Spoken = Spoken {
    name: "AMQP 1.0",
    advice: "use a client library for AMQP 0-9-1, as for RabbitMQ",
};
const OTHER_AMQP: Spoken = Spoken {
    name: "another version of AMQP",
    advice: "use a client library for AMQP 0-9-1, as for RabbitMQ",
};
const UNKNOWN: Spoken = Spoken {
    name: "an unknown protocol",
    advice: "use a client library for AMQP 0-9-1, as for RabbitMQ",
};

const HTTP_METHODS: [&[u8]; 8] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"PRI * HTTP",
];

/// What `greeting` begins; None if it says next to nothing, as the probes of health checks do.
pub(super) fn spoken(greeting: &[u8]) -> Option<Spoken> {
    if greeting.trim_ascii().is_empty() {
        return None;
    }
    Some(match greeting {
        [0x16, 3, ..] => TLS,
        [b'A', b'M', b'Q', b'P', 0 | 2 | 3, 1, 0, 0, ..] => AMQP_1_0,
        [b'A', b'M', b'Q', b'P', ..] => OTHER_AMQP,
        _ if HTTP_METHODS.iter().any(|it| greeting.starts_with(it)) => HTTP,
        _ => UNKNOWN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let name = |greeting: &[u8]| spoken(greeting).map(|it| it.name);
        assert_eq!(name(b"GET / HTTP/1.1\r\n"), Some("HTTP"));
        assert_eq!(name(b"PRI * HTTP/2.0\r\n"), Some("HTTP"));
        assert_eq!(name(b"\x16\x03\x01\x02\x00"), Some("TLS"));
        assert_eq!(name(b"AMQP\x03\x01\x00\x00"), Some("AMQP 1.0"));
        assert_eq!(name(b"AMQP\x00\x01\x00\x00"), Some("AMQP 1.0"));
        assert_eq!(
            name(b"AMQP\x01\x01\x08\x00"),
            Some("another version of AMQP")
        );
        assert_eq!(name(b"EHLO x"), Some("an unknown protocol"));
        assert_eq!(name(b"\r\n"), None);
    }
}
