//! From the protocol header to an open connection, and its end.

use leveret_broker::BrokerConfig;
use leveret_codec::PROTOCOL_HEADER;

use crate::harness::calls::Flag;
use crate::harness::wire::{self, Arguments};
use crate::harness::{Client, Dial, World};

/// A connection that has got as far as `start`.
fn started(dial: &Dial) -> Client {
    let client = Client::socket(&World::volatile(), dial);
    client.send(&PROTOCOL_HEADER);
    client.expect(&["start"]);
    client
}

#[test]
fn an_unknown_protocol_is_answered_with_ours() {
    for header in [&b"GET / HTTP/1.1"[..], b"AMQP\x03\x01\x00\x00", b"X"] {
        let client = Client::socket(&World::volatile(), &Dial::default());
        client.send(header);
        client.expect(&["protocol header [0, 0, 9, 1]"]);
        assert!(client.is_closed());
    }
}

#[test]
fn everything_may_come_byte_by_byte() {
    let client = Client::socket(&World::volatile(), &Dial::default());
    let dial = Dial::default();
    for bytes in [
        PROTOCOL_HEADER.to_vec(),
        dial.start_ok(),
        dial.tune_ok(),
        dial.open(),
    ] {
        for byte in bytes {
            client.send(&[byte]);
        }
    }
    client.expect(&["start", "tune 2047 131072 60", "open-ok"]);
}

#[test]
fn a_handshake_takes_ten_seconds_at_most() {
    let world = World::volatile();
    for sent in 0..4 {
        let client = Client::socket(&world, &Dial::default());
        let dial = Dial::default();
        let steps = [PROTOCOL_HEADER.to_vec(), dial.start_ok(), dial.tune_ok()];
        for step in &steps[..sent] {
            client.send(step);
        }
        world.pass(9_999);
        assert!(!client.is_closed(), "after {sent} steps");
        world.pass(1);
        assert!(client.is_closed(), "after {sent} steps");
    }
    let client = world.client();
    world.pass(20_000);
    assert!(!client.is_closed());
}

#[test]
fn a_wrong_password_is_told_to_clients_that_can_take_it() {
    let dial = Dial {
        response: b"\0guest\0wrong".to_vec(),
        ..Dial::default()
    };
    let client = started(&dial);
    client.send(&dial.start_ok());
    client.expect_connection_error(
        403,
        "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.",
    );

    let silent = Dial {
        capabilities: Vec::new(),
        ..dial
    };
    let client = started(&silent);
    client.send(&silent.start_ok());
    client.expect_nothing();
    assert!(client.is_closed());
}

#[test]
fn who_guesses_waits_longer_each_time_and_is_let_in_with_the_right_password() {
    let world = World::volatile();
    let dialled = |remote: &'static str, password: &str| {
        let dial = Dial {
            remote,
            response: [b"\0guest\0", password.as_bytes()].concat(),
            ..Dial::default()
        };
        let client = Client::socket(&world, &dial);
        client.send(&PROTOCOL_HEADER);
        client.expect(&["start"]);
        client.send(&dial.start_ok());
        client
    };
    let is_refused =
        |client: &Client| client.lines()[0].starts_with("connection.close 403 ACCESS_REFUSED");
    for _ in 0..5 {
        assert!(is_refused(&dialled("127.0.0.1:1", "wrong")));
    }
    let sixth = dialled("127.0.0.1:2", "wrong");
    world.pass(249);
    sixth.expect_nothing();
    world.pass(1);
    assert!(is_refused(&sixth));

    let right = dialled("127.0.0.1:3", "guest");
    right.expect_nothing();
    dialled("[::1]:4", "guest").expect(&["tune 2047 131072 60"]);
    world.pass(500);
    right.expect(&["tune 2047 131072 60"]);
    // That makes up for what was mistyped before.
    assert!(is_refused(&dialled("127.0.0.1:5", "wrong")));

    // A client that goes while it waits frees its place among those that do.
    for _ in 0..10 {
        let guess = dialled("127.0.0.1:6", "wrong");
        world.pass(5_000);
        assert!(is_refused(&guess));
    }
    let in_line = || (0..64).map(|_| dialled("127.0.0.1:7", "wrong"));
    let waiting: Vec<Client> = (0..8).flat_map(|_| in_line()).collect();
    assert!(is_refused(&dialled("127.0.0.1:8", "guest")));
    waiting.iter().for_each(Client::vanish);
    let late = dialled("127.0.0.1:9", "guest");
    world.pass(5_000);
    late.expect(&["tune 2047 131072 60"]);

    // Behind many who guess, the right password has its turn.
    for _ in 0..10 {
        let guess = dialled("127.0.0.1:6", "wrong");
        world.pass(5_000);
        assert!(is_refused(&guess));
    }
    let waiting: Vec<Client> = in_line().collect();
    let late = dialled("127.0.0.1:9", "guest");
    world.pass(9_999);
    assert!(waiting.iter().all(is_refused));
    late.expect_nothing();
    world.pass(1);
    late.expect(&["tune 2047 131072 60"]);
}

#[test]
fn guest_comes_from_this_machine_only() {
    let dial = Dial {
        remote: "192.0.2.1:40000",
        ..Dial::default()
    };
    let client = started(&dial);
    client.send(&dial.start_ok());
    assert!(client.lines()[0].starts_with("connection.close 403 ACCESS_REFUSED"));
}

#[test]
fn amqplain_works_and_external_only_with_a_certificate() {
    let mut response = Vec::new();
    for (name, value) in [("LOGIN", "guest"), ("PASSWORD", "guest")] {
        response.push(u8::try_from(name.len()).unwrap());
        response.extend(name.as_bytes());
        response.push(b'S');
        response.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        response.extend(value.as_bytes());
    }
    let dial = Dial {
        mechanism: "AMQPLAIN",
        response,
        ..Dial::default()
    };
    Client::connect(&World::volatile(), dial);

    let external = Dial {
        mechanism: "EXTERNAL",
        response: Vec::new(),
        ..Dial::default()
    };
    let client = started(&external);
    client.send(&external.start_ok());
    client.expect_connection_error(
        403,
        "ACCESS_REFUSED - unsupported authentication mechanism 'EXTERNAL'",
    );
    let known = Dial {
        tls_identity: Some("guest".to_owned()),
        ..external
    };
    Client::connect(&World::volatile(), known);
}

#[test]
fn a_client_may_lower_what_is_offered_and_not_raise_it() {
    let accepted = |frame_max, channel_max| {
        let dial = Dial {
            frame_max,
            channel_max,
            ..Dial::default()
        };
        let client = started(&dial);
        client.send(&dial.start_ok());
        client.send(&dial.tune_ok());
        client.send(&dial.open());
        client.lines().last().is_some_and(|line| line == "open-ok")
    };
    assert!(!accepted(0, 1));
    assert!(!accepted(4096, 0));
    assert!(accepted(4096, 1));
    assert!(!accepted(4095, 1));
    assert!(!accepted(131_073, 1));
    assert!(!accepted(131_072, 2048));
}

#[test]
fn an_unknown_vhost_is_530() {
    let dial = Dial {
        vhost: "nowhere",
        ..Dial::default()
    };
    let client = started(&dial);
    client.send(&dial.start_ok());
    client.send(&dial.tune_ok());
    client.send(&dial.open());
    client.expect(&[
        "tune 2047 131072 60",
        "connection.close 530 NOT_ALLOWED - vhost nowhere not found",
    ]);
}

#[test]
fn configured_vhosts_are_apart() {
    let world = World::volatile_with(BrokerConfig {
        vhosts: vec!["/rabbitmq".to_owned()],
        ..BrokerConfig::default()
    });
    let here = world.client();
    let dial = Dial {
        vhost: "/rabbitmq",
        ..Dial::default()
    };
    let there = Client::connect(&world, dial).with_channel(1);
    here.declare_ok("q", &[], &[]);
    there.declare("q", &[Flag::Passive], &[]);
    there.expect_channel_error(404, "NOT_FOUND - no queue 'q' in vhost '/rabbitmq'");
}

#[test]
fn the_wrong_method_in_the_handshake_closes() {
    let client = started(&Dial::default());
    client.send(&Dial::default().open());
    assert!(
        client.lines()[0].starts_with("connection.close 504 CHANNEL_ERROR"),
        "and the socket stays for close-ok"
    );
    let client = started(&Dial::default());
    client.send(&wire::method(1, (20, 10), Arguments::new().short("")));
    client.expect_nothing();
    assert!(client.is_closed());
}

#[test]
fn a_close_in_the_handshake_is_answered() {
    let client = started(&Dial::default());
    client.close();
    client.expect(&["connection.close-ok"]);
    assert!(client.is_closed());
}

#[test]
fn heartbeats_go_both_ways() {
    let world = World::volatile();
    let dial = Dial {
        heartbeat_s: 10,
        ..Dial::default()
    };
    let client = Client::connect(&world, dial);
    world.pass(4_999);
    client.expect_nothing();
    world.pass(1);
    client.expect(&["heartbeat"]);
    // Any byte counts as a sign of life.
    client.send(&wire::frame(8, 0, b""));
    world.pass(19_999);
    assert!(!client.is_closed());
    client.send(&wire::frame(8, 0, b""));
    world.pass(19_999);
    assert!(!client.is_closed());
    // Within a quarter of a second.
    world.pass(250);
    assert!(client.is_closed(), "two intervals without a sign of life");
}

#[test]
fn a_heartbeat_is_answered_unless_one_was_sent_of_late() {
    let world = World::volatile();
    let dial = Dial {
        heartbeat_s: 10,
        ..Dial::default()
    };
    let client = Client::connect(&world, dial);
    let beat = || client.send(&wire::frame(8, 0, b""));
    world.pass(2_499);
    beat();
    client.expect_nothing();
    world.pass(1);
    beat();
    client.expect(&["heartbeat"]);
    beat();
    world.pass(4_999);
    client.expect_nothing();
    beat();
    client.expect(&["heartbeat"]);
    let quiet = world.client();
    world.pass(4_000);
    quiet.send(&wire::frame(8, 0, b""));
    quiet.expect_nothing();
}

#[test]
fn heartbeats_of_many_connections_are_due_at_once() {
    let world = World::volatile();
    let clients: Vec<_> = (0..20)
        .map(|_| {
            world.pass(10);
            let heartbeat_s = 4;
            Client::connect(
                &world,
                Dial {
                    heartbeat_s,
                    ..Dial::default()
                },
            )
        })
        .collect();
    // The first came 190 ms before the last, and waits for it; none is sent later than a quarter of a second.
    world.pass(2_249 - 200);
    clients.iter().for_each(Client::expect_nothing);
    world.pass(1);
    for client in &clients {
        client.expect(&["heartbeat"]);
    }
}

#[test]
fn without_heartbeats_silence_is_fine() {
    let world = World::volatile();
    let client = world.client();
    world.pass(1_000_000);
    client.expect_nothing();
    assert!(!client.is_closed());
}

#[test]
fn a_new_secret_is_taken() {
    let client = World::volatile().client();
    let arguments = Arguments::new().long(b"secret").short("because");
    client.send(&wire::method(0, (10, 70), arguments));
    client.expect(&["update-secret-ok"]);
}

#[test]
fn close_is_answered_and_ends_it() {
    let client = World::volatile().client();
    client.close();
    client.expect(&["connection.close-ok"]);
    assert!(client.is_closed());
}

#[test]
fn the_broker_can_close_and_waits_for_the_answer() {
    let world = World::volatile();
    let client = world.client();
    client.force_close("shutdown");
    client.publish("q", "is ignored");
    client.expect_connection_error(320, "CONNECTION_FORCED - shutdown");

    let deaf = world.client();
    deaf.force_close("shutdown");
    world.pass(4_999);
    assert!(!deaf.is_closed());
    world.pass(1);
    assert!(deaf.is_closed(), "nobody waits for ever");
}

#[test]
fn all_connections_can_be_closed_at_once() {
    let world = World::volatile();
    let clients = [world.client(), world.client()];
    world
        .broker
        .close_all(leveret_codec::ReplyCode::ConnectionForced, "bye");
    world.run();
    for client in clients {
        client.expect_connection_error(320, "CONNECTION_FORCED - bye");
    }
}

#[test]
fn channels_open_close_and_reopen() {
    let client = World::volatile().client();
    let second = client.with_channel(2);
    second.close_channel();
    client.expect(&["2: channel.close-ok"]);
    second.with_channel(2);
    second.call((20, 20), Arguments::new().bits(&[true]));
    client.expect(&["2: flow-ok"]);
}

#[test]
fn errors_of_channels_that_cost_the_connection() {
    let check = |bytes: &[u8], code: u16, text: &str| {
        let client = World::volatile().client();
        client.send(bytes);
        client.expect_connection_error(code, text);
    };
    let open = |channel| wire::method(channel, (20, 10), Arguments::new().short(""));
    check(&open(1), 504, "CHANNEL_ERROR - second 'channel.open' seen");
    check(
        &wire::method(2, (60, 110), Arguments::new().bits(&[true])),
        504,
        "CHANNEL_ERROR - expected 'channel.open'",
    );
    check(
        &wire::method(1, (20, 20), Arguments::new().bits(&[false])),
        540,
        "NOT_IMPLEMENTED - active=false",
    );
}

#[test]
fn channels_are_counted_whatever_their_numbers() {
    let dial = Dial {
        channel_max: 2,
        ..Dial::default()
    };
    let client = Client::connect(&World::volatile(), dial);
    client.with_channel(700).with_channel(9).close_channel();
    client.expect(&["9: channel.close-ok"]);
    client.with_channel(10);
    client.on(11).call((20, 10), Arguments::new().short(""));
    client.expect_connection_error(
        530,
        "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)",
    );
}

#[test]
fn closes_that_cross_are_both_answered() {
    let client = World::volatile().client();
    client.get("missing", true);
    client.close_channel();
    client.expect(&[
        "channel.close 404 NOT_FOUND - no queue 'missing' in vhost '/'",
        "channel.close-ok",
    ]);
    client.close_channel_ok();
    client.with_channel(1);
}
