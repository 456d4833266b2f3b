//! Logins, connections, channels and consumers.

use super::{listener, told, told_keys, told_one};
use crate::harness::calls::{Flag, number};
use crate::harness::{Client, Dial, World};

#[test]
fn a_connection_its_channel_and_its_consumer_are_told_by_their_identities() {
    let world = World::volatile();
    let client = listener(&world, "#");
    client.declare_ok("q", &[], &[]);
    told(&client);
    let other = Client::connect(
        &world,
        Dial {
            heartbeat_s: 30,
            channel_max: 7,
            ..Dial::default()
        },
    );
    let told = told_keys(
        &client,
        &["user.authentication.success", "connection.created"],
    );
    let shared = [
        ("host", "{127,0,0,1}"),
        ("peer_host", "{127,0,0,1}"),
        ("peer_port", "40000"),
        ("protocol", "{0,9,1}"),
        ("ssl", "false"),
        ("auth_mechanism", "PLAIN"),
    ];
    told[0].expect("user.authentication.success", &shared);
    told[0].expect(
        "user.authentication.success",
        &[
            ("name", "guest"),
            ("connection_type", "network"),
            ("connection_name", "127.0.0.1:40000 -> 127.0.0.1:5672"),
            ("vhost", "-"),
            ("error", "-"),
        ],
    );
    let created = &told[1];
    created.expect("connection.created", &shared);
    created.expect(
        "connection.created",
        &[
            ("name", "127.0.0.1:40000 -> 127.0.0.1:5672"),
            ("port", "5672"),
            ("user", "guest"),
            ("vhost", "/"),
            ("timeout", "30"),
            ("channel_max", "7"),
            ("frame_max", "131072"),
            ("connected_at", &world.now().0.to_string()),
            ("node", "leveret@localhost"),
            ("ssl_cipher", ""),
            ("user_who_performed_action", "guest"),
        ],
    );
    let pid = created.text("pid");
    assert!(
        created
            .text("client_properties")
            .starts_with("{<<\"capabilities\">>,table,[")
    );

    let channel = other.with_channel(3);
    let opened = told_one(&client);
    opened.expect(
        "channel.created",
        &[
            ("name", "127.0.0.1:40000 -> 127.0.0.1:5672 (3)"),
            ("number", "3"),
            ("connection", &pid),
            ("user", "guest"),
            ("vhost", "/"),
        ],
    );
    let channel_pid = opened.text("pid");
    channel.qos_ok(9, false);
    channel.consume("q", "tag", &[], &[("x-priority", number(3))]);
    told_one(&client).expect(
        "consumer.created",
        &[
            ("consumer_tag", "tag"),
            ("queue", "q"),
            ("vhost", "/"),
            ("channel", &channel_pid),
            ("ack_required", "true"),
            ("exclusive", "false"),
            ("prefetch_count", "9"),
            ("arguments", "{<<\"x-priority\">>,long,3}"),
            ("user_who_performed_action", "guest"),
        ],
    );
    drop(channel.seen());
    // A refused method closes the channel, and the channel tells it once.
    channel.declare("nowhere", &[Flag::Passive], &[]);
    let told = told_keys(&client, &["consumer.deleted", "channel.closed"]);
    told[0].expect(
        "consumer.deleted",
        &[("consumer_tag", "tag"), ("channel", &channel_pid)],
    );
    told[1].expect(
        "channel.closed",
        &[("pid", &channel_pid), ("consumer_count", "1")],
    );
    other.close();
    told_one(&client).expect("connection.closed", &[("pid", &pid)]);
}

#[test]
fn a_deleted_queue_takes_its_consumers_along() {
    let world = World::volatile();
    let client = listener(&world, "consumer.*");
    let other = world.client();
    other.declare_ok("q", &[], &[]);
    other.consume_ok("q", "tag");
    told_one(&client).expect("consumer.created", &[]);
    client.delete("q", false, false);
    told_one(&client).expect(
        "consumer.deleted",
        &[("queue", "q"), ("consumer_tag", "tag")],
    );
}

#[test]
fn direct_replies_are_nobodys_business() {
    let world = World::volatile();
    let client = listener(&world, "#");
    client.consume("amq.rabbitmq.reply-to", "replies", &[Flag::NoAck], &[]);
    client.cancel("replies");
    assert!(told(&client).is_empty());
}

#[test]
fn failed_logins_are_told() {
    let world = World::volatile();
    let client = listener(&world, "user.authentication.*");
    let attempt = |remote, response: &[u8]| {
        let dial = Dial {
            remote,
            response: response.to_vec(),
            ..Dial::default()
        };
        let socket = Client::socket(&world, &dial);
        socket.send(&leveret_codec::PROTOCOL_HEADER);
        socket.send(&dial.start_ok());
    };
    attempt("127.0.0.1:40001", b"\0ann\0wrong");
    told_one(&client).expect(
        "user.authentication.failure",
        &[
            ("name", "ann"),
            ("error", "user 'ann' - invalid credentials"),
            ("peer_port", "40001"),
            ("auth_mechanism", "PLAIN"),
        ],
    );
    attempt("10.0.0.1:40001", b"\0guest\0guest");
    told_one(&client).expect(
        "user.authentication.failure",
        &[
            ("name", "guest"),
            ("error", "user 'guest' can only connect via localhost"),
            ("peer_host", "{10,0,0,1}"),
        ],
    );
}
