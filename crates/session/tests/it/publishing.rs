//! Publishing: assembly of content, returns, confirms, and what is refused.

use leveret_broker::BrokerConfig;
use leveret_codec::{AMQPProperties, FieldArray, encode_header};

use crate::harness::calls::{Flag, number, string, table};
use crate::harness::client::Client;
use crate::harness::wire::{self, Arguments};
use crate::harness::{Properties, World};

fn with_queue() -> Client {
    let client = World::volatile().client();
    client.declare_ok("q", &[], &[]);
    client
}

#[test]
fn content_in_any_pieces_arrives_whole() {
    let client = with_queue();
    for length in [0, 1, 4095, 4096, 131_064, 131_065, 300_000] {
        let body: Vec<u8> = (0..length)
            .map(|i| u8::try_from(i % 251).unwrap())
            .collect();
        let bytes = client.publishing("q", &body, &Properties::default());
        client.send(&bytes);
        for piece in bytes.chunks(1 + length / 7) {
            client.send(piece);
        }
        for _ in 0..2 {
            client.get("q", true);
            let got = client.seen().remove(0);
            assert!(got.text.starts_with("get-ok"), "{}", got.text);
            assert!(got.body == body, "{length} bytes");
        }
    }
}

#[test]
fn channels_may_interleave_their_content() {
    let client = with_queue();
    let second = client.with_channel(2);
    let (one, two) = (
        client.publishing("q", b"one", &Properties::default()),
        second.publishing("q", b"two", &Properties::default()),
    );
    let frames = |bytes: &[u8]| {
        let mut rest = bytes.to_vec();
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let length = leveret_codec::read_frame(&rest, 0)
                .unwrap()
                .unwrap()
                .wire_length();
            frames.push(rest.drain(..length).collect::<Vec<u8>>());
        }
        frames
    };
    for (a, b) in frames(&one).iter().zip(frames(&two)) {
        client.write(a);
        client.write(&b);
    }
    client.send(&[]);
    client.get("q", true);
    client.get("q", true);
    client.expect(&["get-ok 1 left=1 'one'", "get-ok 2 left=0 'two'"]);
}

#[test]
fn properties_pass_unchanged() {
    let client = with_queue();
    let properties = AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_headers(table(&[("k", string("v")), ("n", number(7))]))
        .with_delivery_mode(2)
        .with_priority(9)
        .with_correlation_id("c".into())
        .with_reply_to("r".into())
        .with_message_id("m".into())
        .with_timestamp(5)
        .with_type("t".into())
        .with_user_id("guest".into())
        .with_app_id("a".into());
    client.publish_with("q", "x", &Properties::of(properties.clone()));
    client.get("q", true);
    assert_eq!(client.seen()[0].properties(), properties);
}

#[test]
fn a_mandatory_message_for_nobody_is_returned_before_its_confirm() {
    let client = with_queue();
    client.confirms();
    let mandatory = Properties::default().mandatory();
    client.write(&client.publishing("q", b"kept", &mandatory));
    client.write(&client.publishing("nobody", b"back", &mandatory));
    client.write(&client.publishing("nobody", b"lost", &Properties::default()));
    client.send(&[]);
    client.expect(&["return 312 NO_ROUTE 'back'", "ack 3 multiple"]);
    let second = client.with_channel(2);
    second.publish_with("nobody", "unconfirmed", &mandatory);
    second.expect(&["2: return 312 NO_ROUTE 'unconfirmed'"]);
}

#[test]
fn confirms_count_per_channel_from_confirm_select_on() {
    let client = with_queue();
    client.publish("q", "before");
    client.confirms();
    let second = client.with_channel(2);
    second.confirms();
    client.publish("q", "a");
    client.expect(&["ack 1"]);
    client.write(&client.publishing("q", b"b", &Properties::default()));
    second.write(&second.publishing("q", b"c", &Properties::default()));
    client.write(&client.publishing("q", b"d", &Properties::default()));
    client.send(&[]);
    let mut lines = client.lines();
    lines.sort();
    assert_eq!(lines, ["2: ack 1", "ack 3 multiple"]);
}

#[test]
fn refused_publishes_are_nacked_in_order() {
    let client = World::volatile().client();
    client.declare_ok(
        "q",
        &[],
        &[
            ("x-max-length", number(2)),
            ("x-overflow", string("reject-publish")),
        ],
    );
    client.confirms();
    client.publish_all("q", "a b c d", &Properties::default());
    client.publish("other", "e");
    let lines = client.lines();
    assert_eq!(lines, ["ack 2 multiple", "nack 3", "nack 4", "ack 5"]);
    assert_eq!(client.counts("q"), (2, 0));
}

#[test]
fn immediate_is_not_implemented() {
    let client = with_queue();
    let arguments = Arguments::new()
        .ticket()
        .short("")
        .short("q")
        .bits(&[false, true]);
    client.call((60, 40), arguments);
    client.expect_connection_error(540, "NOT_IMPLEMENTED - immediate=true");
}

#[test]
fn publishing_to_a_missing_exchange_closes_the_channel_after_what_came_before() {
    let client = with_queue();
    client.write(&client.publishing("q", b"kept", &Properties::default()));
    client.write(&client.publishing("q", b"bad", &Properties::to("nowhere")));
    client.write(&client.publishing("q", b"ignored", &Properties::default()));
    client.send(&[]);
    client.expect_channel_error(404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'");
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'kept'"]);
}

#[test]
fn unusable_properties_are_406() {
    let client = with_queue();
    for (expiration, why) in [
        ("-1", "{value_negative,-1}"),
        ("soon", "no_integer"),
        ("5s", "{leftover_string,<<\"s\">>}"),
    ] {
        client.publish_with("q", "x", &Properties::expiring(expiration));
        client.expect_channel_error(
            406,
            &format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"),
        );
    }
    let forged = AMQPProperties::default().with_user_id("admin".into());
    client.publish_with("q", "x", &Properties::of(forged));
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - user_id property set to 'admin' but authenticated user was 'guest'",
    );
}

#[test]
fn copies_go_to_more_keys_and_blind_ones_are_not_shown() {
    let client = with_queue();
    client.declare_ok("r", &[], &[]);
    client.declare_ok("s", &[], &[]);
    let keys =
        |key: &str| leveret_codec::AMQPValue::FieldArray(FieldArray::from(vec![string(key)]));
    let headers = table(&[("CC", keys("r")), ("BCC", keys("s"))]);
    let properties = AMQPProperties::default().with_headers(headers);
    client.publish_with("q", "x", &Properties::of(properties));
    for queue in ["q", "r", "s"] {
        client.get(queue, true);
        let seen = client.seen();
        let headers = seen[0].headers();
        assert!(
            headers.contains_key("CC") && !headers.contains_key("BCC"),
            "{queue}"
        );
    }
    let wrong = AMQPProperties::default().with_headers(table(&[("CC", string("r"))]));
    client.publish_with("q", "x", &Properties::of(wrong));
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
    );
}

#[test]
fn messages_larger_than_allowed_are_406() {
    let world = World::volatile_with(BrokerConfig {
        message_bytes_max: 100,
        ..BrokerConfig::default()
    });
    let client = world.client();
    client.declare_ok("q", &[], &[]);
    client.publish("q", &"x".repeat(100));
    assert_eq!(client.counts("q"), (1, 0));
    let bytes = client.publishing("q", &[b'x'; 101], &Properties::default());
    let text = "PRECONDITION_FAILED - message size 101 is larger than configured max size 100";
    client.send(&bytes);
    client.expect_channel_error(406, text);
    for byte in &bytes[..bytes.len() - 20] {
        client.send(&[*byte]);
    }
    client.send(&bytes[bytes.len() - 20..]);
    client.expect_channel_error(406, text);
}

#[test]
fn frames_out_of_order_are_505() {
    let header = encode_header(5, &AMQPProperties::default());
    let publish = Arguments::new()
        .ticket()
        .short("")
        .short("q")
        .bits(&[false, false]);
    let publish = wire::method(1, (60, 40), publish);
    let check = |frames: &[Vec<u8>], text: &str| {
        let client = with_queue();
        for frame in frames {
            client.write(frame);
        }
        client.send(&[]);
        client.expect_connection_error(505, &format!("UNEXPECTED_FRAME - {text}"));
    };
    check(
        &[wire::frame(2, 1, &header)],
        "expected method frame, got non method frame instead",
    );
    check(
        &[wire::frame(3, 1, b"body")],
        "expected method frame, got non method frame instead",
    );
    check(
        &[publish.clone(), publish.clone()],
        "expected content header for class 60, got non content header frame instead",
    );
    check(
        &[publish.clone(), wire::frame(3, 1, b"body")],
        "expected content header for class 60, got non content header frame instead",
    );
    check(
        &[
            publish,
            wire::frame(2, 1, &header),
            wire::frame(2, 1, &header),
        ],
        "expected content body, got non content body frame instead",
    );
}

#[test]
fn broken_frames_are_501_and_unknown_methods_just_the_end() {
    let client = with_queue();
    let mut broken = wire::frame(8, 0, b"");
    *broken.last_mut().unwrap() = 0;
    client.send(&broken);
    assert!(client.lines()[0].starts_with("connection.close 501 FRAME_ERROR - "));
    let client = with_queue();
    client.send(&wire::method(1, (99, 1), Arguments::new()));
    client.expect_nothing();
    assert!(client.is_closed());
}

#[test]
fn replies_come_directly() {
    let world = World::volatile();
    let (asker, server) = (world.client(), world.client());
    server.declare_ok("rpc", &[], &[]);
    asker.consume("amq.rabbitmq.reply-to", "r", &[Flag::NoAck], &[]);
    asker.expect(&["consume-ok r"]);
    let properties = AMQPProperties::default().with_reply_to("amq.rabbitmq.reply-to".into());
    asker.publish_with("rpc", "question", &Properties::of(properties.clone()));
    server.get("rpc", true);
    let question = server.seen().remove(0);
    let address = question
        .properties()
        .reply_to()
        .clone()
        .expect("an address");
    assert!(address.as_str().starts_with("amq.rabbitmq.reply-to."));
    server.publish(address.as_str(), "answer");
    asker.expect(&["deliver r 1 'answer'"]);
    server.publish_with("rpc", "no consumer", &Properties::of(properties));
    server.expect_channel_error(
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
    );
    asker.vanish();
    server.publish_with(address.as_str(), "late", &Properties::default().mandatory());
    server.expect(&["return 312 NO_ROUTE 'late'"]);
}

#[test]
fn confirms_of_a_closed_channel_are_not_written_to_the_next_one() {
    let client = with_queue();
    client.confirms();
    client.write(&client.publishing("q", b"a", &Properties::default()));
    client.close_channel();
    client.seen();
    client.with_channel(1);
    client.publish("q", "b");
    client.expect_nothing();
}
