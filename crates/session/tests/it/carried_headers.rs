//! Headers that the broker need not understand, nested deeper than anybody looks and with bytes that are no text, are
//! carried byte for byte on every way, also where the broker changes others beside them.

use leveret_codec::{AMQPValue, Properties as Wire, RawTable, RawValue, decode_header};

use crate::harness::World;
use crate::harness::calls::{Flag, number, string};
use crate::harness::client::{Client, Seen};
use crate::harness::wire;

const FRAME_MAX: u32 = 131_072;

/// A field `deep` with so many tables and arrays in turn inside each other, and one whose name is no text.
fn odd_fields(depth: usize) -> Vec<u8> {
    let mut value = b"I\0\0\0\x07".to_vec();
    for level in 0..depth {
        let inside = match level % 2 {
            0 => [&b"\x01k"[..], &value].concat(),
            _ => value,
        };
        let octet = if level % 2 == 0 { b'F' } else { b'A' };
        let length = u32::try_from(inside.len()).unwrap().to_be_bytes();
        value = [&[octet], &length[..], &inside].concat();
    }
    [&b"\x04deep"[..], &value, b"\x02\xff\xfet\x01"].concat()
}

/// A content header with these fields among its headers, and an id that is no text.
fn header(fields: &[u8], expiration: Option<&'static str>) -> Vec<u8> {
    let properties = Wire {
        headers: Some(RawTable::from_encoded(fields)),
        correlation_id: Some(b"\x00\xff\xfe"),
        expiration: expiration.map(str::as_bytes),
        delivery_mode: Some(2),
        ..Wire::default()
    };
    properties.encode_header(4)
}

fn publish(client: &Client, exchange: &str, header: &[u8]) {
    client.send(&wire::publish(
        1, exchange, "q", false, header, b"body", FRAME_MAX,
    ));
}

/// The next message of a queue, which has all of `fields` among its headers.
#[track_caller]
fn expect_carried(client: &Client, queue: &str, fields: &[u8]) -> Seen {
    client.seen();
    client.get(queue, true);
    let seen = client.seen().remove(0);
    assert!(seen.text.starts_with("get-ok"), "{}", seen.text);
    let read = decode_header(&seen.header).expect("a header");
    assert_eq!(read.properties.correlation_id, Some(&b"\x00\xff\xfe"[..]));
    let headers = read.properties.headers.expect("headers");
    let mut carried = Vec::new();
    headers.copy_fields(&mut carried, |name| name == b"deep" || name == b"\xff\xfe");
    assert!(carried == fields, "the fields changed");
    seen
}

fn depths() -> impl Iterator<Item = Vec<u8>> {
    [1, 63, 64, 65, 1000, 10_000].into_iter().map(odd_fields)
}

#[test]
fn to_a_queue_and_back_over_a_restart() {
    let world = World::paging(1);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for fields in depths() {
        let header = header(&fields, None);
        publish(&client, "", &header);
        publish(&client, "", &header);
        let seen = expect_carried(&client, "q", &fields);
        assert!(seen.header == header, "the header changed");
        let after = world.restarted().client();
        assert!(expect_carried(&after, "q", &fields).header.len() >= header.len());
        expect_carried(&client, "q", &fields);
    }
}

#[test]
fn through_dead_letter_exchanges_twice() {
    let world = World::durable();
    let client = world.client();
    let to = |queue: &str| {
        [
            ("x-dead-letter-exchange", string("")),
            ("x-dead-letter-routing-key", string(queue)),
        ]
    };
    client.declare_ok("q", &[], &to("again"));
    client.declare_ok("again", &[], &to("dead"));
    client.declare_ok("dead", &[], &[]);
    for fields in depths() {
        publish(&client, "", &header(&fields, Some("60000")));
        client.get("q", false);
        client.nack(0, true, false);
        client.get("again", false);
        client.nack(0, true, false);
        let seen = expect_carried(&client, "dead", &fields);
        let read = decode_header(&seen.header).unwrap().properties;
        assert_eq!(read.expiration, None);
        let headers = read.headers.unwrap();
        let names = headers.iter().map(|field| field.unwrap().0);
        let mut names: Vec<_> = names.filter(|name| name.starts_with(b"x-")).collect();
        names.sort_unstable();
        assert_eq!(names.len(), 7, "each header of deaths once");
        names.dedup();
        assert_eq!(names.len(), 7, "each header of deaths once");
        assert_eq!(
            headers.get(b"x-first-death-queue"),
            Some(RawValue::LongString(b"q"))
        );
        assert_eq!(
            headers.get(b"x-last-death-queue"),
            Some(RawValue::LongString(b"again"))
        );
    }
}

#[test]
fn with_blind_copies_and_delays_and_counts() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("copy", &[Flag::Durable], &[]);
    let kind = [("x-delayed-type", string("fanout"))];
    client.declare_exchange("later", "x-delayed-message", &[Flag::Durable], &kind);
    client.expect(&["exchange.declare-ok"]);
    client.bind("q", "later", "");
    client.expect(&["bind-ok"]);
    for fields in depths() {
        let blind = [&fields[..], b"\x03BCCA\0\0\0\x09S\0\0\0\x04copy"].concat();
        publish(&client, "", &header(&blind, None));
        for queue in ["q", "copy"] {
            let seen = expect_carried(&client, queue, &fields);
            assert_eq!(
                decode_header(&seen.header)
                    .unwrap()
                    .properties
                    .headers
                    .unwrap()
                    .get(b"BCC"),
                None
            );
        }
        let delayed = [&fields[..], b"\x07x-delayI\0\0\0\x64"].concat();
        publish(&client, "later", &header(&delayed, None));
        world.pass(100);
        let seen = expect_carried(&client, "q", &fields);
        let headers = decode_header(&seen.header)
            .unwrap()
            .properties
            .headers
            .unwrap();
        assert_eq!(headers.get(b"x-delay"), Some(RawValue::I32(-100)));
        publish(&client, "", &header(&fields, None));
        client.get("q", false);
        client.nack(0, true, true);
        let seen = expect_carried(&client, "q", &fields);
        let headers = decode_header(&seen.header)
            .unwrap()
            .properties
            .headers
            .unwrap();
        assert_eq!(headers.get(b"x-delivery-count"), Some(RawValue::I64(1)));
    }
}

#[test]
fn replies_of_a_direct_requester_keep_the_request_as_it_was() {
    let client = World::volatile().client();
    client.consume("amq.rabbitmq.reply-to", "r", &[Flag::NoAck], &[]);
    client.expect(&["consume-ok r"]);
    client.declare_ok("q", &[], &[]);
    for fields in depths() {
        let header = header(&fields, None);
        let properties = Wire {
            reply_to: Some(b"amq.rabbitmq.reply-to"),
            ..decode_header(&header).unwrap().properties
        };
        publish(&client, "", &properties.encode_header(4));
        let seen = expect_carried(&client, "q", &fields);
        let read = decode_header(&seen.header).unwrap().properties;
        assert!(
            read.reply_to
                .unwrap()
                .starts_with(b"amq.rabbitmq.reply-to.")
        );
    }
}

#[test]
fn headers_exchanges_look_at_what_they_can() {
    let client = World::volatile().client();
    client.declare_ok("q", &[], &[]);
    client.bind_with(
        "q",
        "amq.headers",
        &[("a", number(1)), ("deep", AMQPValue::Void)],
    );
    for fields in depths() {
        let matching = [&fields[..], b"\x01aI\0\0\0\x01"].concat();
        publish(&client, "amq.headers", &header(&matching, None));
        expect_carried(&client, "q", &fields);
    }
    let tables = [(
        "deep",
        AMQPValue::FieldTable(leveret_codec::FieldTable::default()),
    )];
    client.declare_ok("other", &[], &[]);
    client.bind_with("other", "amq.headers", &tables);
    for fields in depths() {
        publish(&client, "amq.headers", &header(&fields, None));
    }
    assert_eq!(client.counts("other"), (0, 0));
}
