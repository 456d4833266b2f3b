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
const MQTT: Spoken = Spoken {
    name: "MQTT",
    advice: "there is no MQTT here; use a client library for AMQP 0-9-1",
};
const STOMP: Spoken = Spoken {
    name: "STOMP",
    advice: "there is no STOMP here; use a client library for AMQP 0-9-1",
};
const PROXY: Spoken = Spoken {
    name: "the PROXY protocol",
    advice: "have the proxy pass connections on as they are, without its header (send-proxy)",
};
const HTTP_CONNECT: Spoken = Spoken {
    name: "HTTP CONNECT",
    advice: "this port is no HTTP proxy; leave it out of the client's proxy settings",
};
const UNKNOWN: Spoken = Spoken {
    name: "an unknown protocol",
    advice: "use a client library for AMQP 0-9-1, as for RabbitMQ",
};

/// How a header of the PROXY protocol begins, in either version.
const PROXY_HEADERS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// The command with which a STOMP client begins, alone on its line.
const STOMP_COMMANDS: [&[u8]; 4] = [b"CONNECT\n", b"CONNECT\r\n", b"STOMP\n", b"STOMP\r\n"];

/// The names by which MQTT 5 and 3.1.1, and MQTT 3.1 call themselves, as strings of it.
const MQTT_NAMES: [&[u8]; 2] = [b"\0\x04MQTT", b"\0\x06MQIsdp"];

const HTTP_METHODS: [&[u8]; 9] = [
    b"GET ",
    b"POST ",
    b"PUT ",
    b"HEAD ",
    b"DELETE ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
    b"PRI * HTTP",
];

/// What `greeting` begins; None if it says next to nothing, as the probes of health checks do.
pub(super) fn spoken(greeting: &[u8]) -> Option<Spoken> {
    if greeting.trim_ascii().is_empty() {
        return None;
    }
    let begins = |with: &[&[u8]]| with.iter().any(|it| greeting.starts_with(it));
    Some(match greeting {
        [0x16, 3, ..] => TLS,
        [b'A', b'M', b'Q', b'P', 0 | 2 | 3, 1, 0, 0, ..] => AMQP_1_0,
        [b'A', b'M', b'Q', b'P', ..] => OTHER_AMQP,
        [0x10, rest @ ..] if is_mqtt(rest) => MQTT,
        _ if begins(&STOMP_COMMANDS) => STOMP,
        _ if begins(&PROXY_HEADERS) => PROXY,
        _ if greeting.starts_with(b"CONNECT ") => HTTP_CONNECT,
        _ if begins(&HTTP_METHODS) => HTTP,
        _ => UNKNOWN,
    })
}

/// Whether a CONNECT packet of MQTT goes on so: its length, of one to four bytes, then the protocol's name.
fn is_mqtt(rest: &[u8]) -> bool {
    let length = rest.iter().take(4).take_while(|it| **it >= 0x80).count() + 1;
    let behind = rest.get(length..).unwrap_or_default();
    MQTT_NAMES.iter().any(|name| behind.starts_with(name))
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
        assert_eq!(
            name(b"\x10\x0f\0\x04MQTT\x04\x02\0\x3c\0\x03abc"),
            Some("MQTT")
        );
        assert_eq!(name(b"\x10\x8f\x01\0\x04MQTT\x05"), Some("MQTT"));
        assert_eq!(name(b"\x10\x10\0\x06MQIsdp\x03\x02"), Some("MQTT"));
        assert_eq!(name(b"\x10\x10\0\x05"), Some("an unknown protocol"));
        assert_eq!(name(b"CONNECT\naccept-version:1.2\n"), Some("STOMP"));
        assert_eq!(name(b"STOMP\r\nhost:x\r\n"), Some("STOMP"));
        assert_eq!(
            name(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"),
            Some("the PROXY protocol")
        );
        assert_eq!(
            name(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"),
            Some("the PROXY protocol")
        );
        assert_eq!(
            name(b"CONNECT broker:5672 HTTP/1.1\r\n"),
            Some("HTTP CONNECT")
        );
        assert_eq!(name(b"EHLO x"), Some("an unknown protocol"));
        assert_eq!(name(b"\r\n"), None);
    }
}
