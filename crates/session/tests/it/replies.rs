//! What is answered, and in which order, where RabbitMQ's answer is not the obvious one.

use leveret_codec::{AMQPProperties, AMQPValue};

use crate::harness::calls::{Flag, number, string};
use crate::harness::client::Client;
use crate::harness::wire::{self, Arguments};
use crate::harness::{Dial, Properties, World};

/// Ten years of 365 days, the longest time there is.
const TEN_YEARS_MS: i64 = 315_360_000_000;
const DAY_MS: u64 = 24 * 3600 * 1000;

fn volatile() -> Client {
    World::volatile().client()
}

fn of_type(kind: &str) -> (&'static str, AMQPValue) {
    ("x-queue-type", string(kind))
}

fn locked(queue: &str) -> String {
    format!(
        "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally \
         declared on another connection or the exclusive property value does not match that of the original declaration."
    )
}

#[test]
fn unbinding_what_is_gone_is_no_error() {
    let client = volatile();
    client.unbind("nowhere", "nothing", "k");
    client.unbind("nowhere", "amq.direct", "k");
    client.declare_ok_between("q");
    client.unbind("q", "nothing", "k");
    client.unbind("q", "amq.direct", "never bound");
    client.expect(&["unbind-ok", "unbind-ok"]);
    client.bind("q", "amq.direct", "k");
    client.delete("q", false, false);
    client.unbind("q", "amq.direct", "k");
    client.expect(&["bind-ok", "delete-ok 0", "unbind-ok"]);
    client.exchange_binding(40, "nowhere", "nothing", "k");
    client.exchange_binding(40, "amq.fanout", "nothing", "k");
    client.expect(&["exchange.unbind-ok", "exchange.unbind-ok"]);
}

impl Client {
    /// Declares a queue after answers that are not looked at but for their number.
    #[track_caller]
    fn declare_ok_between(&self, queue: &str) {
        self.expect(&["unbind-ok", "unbind-ok"]);
        self.declare_ok(queue, &[], &[]);
    }
}

#[test]
fn anothers_binding_is_locked_only_where_it_exists() {
    let world = World::volatile();
    let (owner, other) = (world.client(), world.client());
    owner.declare_ok("mine", &[Flag::Exclusive], &[]);
    owner.bind("mine", "amq.direct", "k");
    owner.expect(&["bind-ok"]);
    other.unbind("mine", "amq.direct", "another");
    other.expect(&["unbind-ok"]);
    other.unbind("mine", "amq.direct", "k");
    other.expect_channel_error(405, &locked("mine"));
    owner.publish_with("k", "still bound", &Properties::to("amq.direct"));
    owner.get("mine", true);
    owner.expect(&["get-ok 1 left=0 'still bound'"]);
}

#[test]
fn a_missing_exchange_is_named_before_a_missing_or_locked_queue() {
    let world = World::volatile();
    let (owner, other) = (world.client(), world.client());
    owner.declare_ok("mine", &[Flag::Exclusive], &[]);
    for queue in ["nowhere", "mine"] {
        other.bind(queue, "nothing", "k");
        other.expect_channel_error(404, "NOT_FOUND - no exchange 'nothing' in vhost '/'");
    }
    other.exchange_binding(30, "nowhere", "nothing", "k");
    other.expect_channel_error(404, "NOT_FOUND - no exchange 'nothing' in vhost '/'");
}

#[test]
fn reserved_names_are_refused_whether_they_exist_or_not() {
    let client = volatile();
    client.declare("", &[Flag::Exclusive], &[]);
    let line = client.lines().remove(0);
    let name = line.split(' ').nth(1).expect("a name").to_owned();
    client.declare(&name, &[Flag::Passive], &[]);
    client.expect(&[format!("declare-ok {name} 0 0")]);
    client.declare(&name, &[Flag::Exclusive], &[]);
    client.expect_channel_error(
        403,
        &format!("ACCESS_REFUSED - queue name '{name}' contains reserved prefix 'amq.*'"),
    );
    // An exchange that exists may be declared as it is.
    client.declare_exchange("amq.direct", "direct", &[Flag::Durable], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_exchange("amq.direct", "topic", &[Flag::Durable], &[]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'amq.direct' in vhost '/': received 'topic' but \
         current is 'direct'",
    );
    client.delete_exchange("amq.nothing", false);
    client.expect_channel_error(
        403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.nothing' in vhost '/' not allowed",
    );
}

#[test]
fn declaring_a_reply_address_asks_whether_the_requester_is_there() {
    let client = volatile();
    client.declare("amq.rabbitmq.reply-to.nobody", &[], &[]);
    client.expect_channel_error(
        404,
        "NOT_FOUND - no queue 'amq.rabbitmq.reply-to.nobody' in vhost '/'",
    );
}

#[test]
fn an_exclusive_queue_is_transient_whatever_is_asked_for() {
    let client = volatile();
    client.declare_ok("q", &[Flag::Exclusive], &[]);
    client.declare_ok("q", &[Flag::Exclusive, Flag::Durable], &[]);
    client.declare("r", &[Flag::Exclusive, Flag::Durable], &[]);
    client.declare("r", &[Flag::Exclusive], &[]);
    client.expect(&["declare-ok r 0 0", "declare-ok r 0 0"]);
}

#[test]
fn only_classic_queues_get_their_names_from_the_broker() {
    let client = volatile();
    for kind in ["quorum", "stream"] {
        client.declare("", &[Flag::Durable], &[of_type(kind)]);
        client.expect_channel_error(
            406,
            &format!("PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_{kind}_queue"),
        );
    }
}

#[test]
fn nobody_gets_past_the_active_consumer_of_a_quorum_queue() {
    let client = volatile();
    let single = ("x-single-active-consumer", AMQPValue::Boolean(true));
    client.declare_ok("q", &[Flag::Durable], &[of_type("quorum"), single.clone()]);
    client.get("q", true);
    client.expect_channel_error(
        405,
        "RESOURCE_LOCKED - cannot obtain access to locked queue 'q' in vhost '/'. basic.get operations are not supported \
         by quorum queues with single active consumer",
    );
    client.declare_ok("classic", &[], &[single]);
    client.get("classic", true);
    client.expect(&["get-empty"]);
}

#[test]
fn what_has_expired_behind_a_message_is_not_counted_with_it() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    client.publish("q", "a");
    client.publish_with("q", "gone", &Properties::expiring("0"));
    client.publish_with("q", "gone", &Properties::expiring("0"));
    client.publish("q", "b");
    for answer in ["get-ok 1 left=1 'a'", "get-ok 2 left=0 'b'", "get-empty"] {
        client.get("q", true);
        client.expect(&[answer]);
    }
}

#[test]
fn times_may_be_ten_years() {
    let client = volatile();
    let too_large = TEN_YEARS_MS + 1;
    for name in ["x-message-ttl", "x-expires"] {
        client.declare_ok(name, &[], &[(name, number(TEN_YEARS_MS))]);
        client.declare("q", &[], &[(name, number(too_large))]);
        client.expect_channel_error(
            406,
            &format!(
                "PRECONDITION_FAILED - invalid arg '{name}' for queue 'q' in vhost '/': {{value_too_large,{too_large}}}"
            ),
        );
    }
    client.declare_ok("q", &[], &[]);
    client.publish_with("q", "a", &Properties::expiring(&TEN_YEARS_MS.to_string()));
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'a'"]);
    let longest = "9".repeat(60);
    for (expiration, why) in [
        ("315360000001", "{value_too_large,315360000001}"),
        (&longest, &format!("{{value_too_large,{longest}}}")),
        ("-5s", "{leftover_string,<<\"s\">>}"),
        ("+", "no_integer"),
    ] {
        client.publish_with("q", "x", &Properties::expiring(expiration));
        client.expect_channel_error(
            406,
            &format!("PRECONDITION_FAILED - invalid expiration '{expiration}': {why}"),
        );
    }
}

#[test]
fn long_times_are_kept_to_the_millisecond() {
    let world = World::durable();
    let client = world.client();
    let ninety_days = 90 * DAY_MS;
    let argument = number(90 * 24 * 3600 * 1000);
    client.declare_ok(
        "ttl",
        &[Flag::Durable],
        &[("x-message-ttl", argument.clone())],
    );
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.declare_ok("short", &[], &[("x-expires", argument)]);
    let persistent = AMQPProperties::default().with_delivery_mode(2);
    let expiring = persistent
        .clone()
        .with_expiration(ninety_days.to_string().into());
    client.publish_with("ttl", "a", &Properties::of(persistent));
    client.publish_with("q", "b", &Properties::of(expiring));
    world.pass(ninety_days - 1);
    assert_eq!((client.counts("ttl").0, client.counts("q").0), (1, 1));
    let restarted = world.restarted();
    let after = restarted.client();
    assert_eq!((after.counts("ttl").0, after.counts("q").0), (1, 1));
    for (world, client) in [(&world, &client), (&restarted, &after)] {
        world.pass(1);
        assert_eq!((client.counts("ttl").0, client.counts("q").0), (0, 0));
    }
    client.declare("short", &[Flag::Passive], &[]);
    client.expect_channel_error(404, "NOT_FOUND - no queue 'short' in vhost '/'");
}

#[test]
fn of_several_faults_of_a_publish_rabbitmqs_first_is_told() {
    let client = volatile();
    client.declare_exchange("inside", "fanout", &[Flag::Internal], &[]);
    client.expect(&["exchange.declare-ok"]);
    let mut headers = leveret_codec::FieldTable::default();
    headers.insert("CC".into(), AMQPValue::LongInt(1));
    let all = AMQPProperties::default()
        .with_headers(headers)
        .with_expiration("soon".into())
        .with_user_id("admin".into())
        .with_reply_to("amq.rabbitmq.reply-to".into());
    let attempt = |exchange: &'static str, properties: AMQPProperties, code, text: &str| {
        let message = Properties {
            exchange,
            properties,
            ..Properties::default()
        };
        client.publish_with("q", "x", &message);
        client.expect_channel_error(code, text);
    };
    attempt(
        "nothing",
        all.clone(),
        404,
        "NOT_FOUND - no exchange 'nothing' in vhost '/'",
    );
    attempt(
        "inside",
        all.clone(),
        403,
        "ACCESS_REFUSED - cannot publish to internal exchange 'inside' in vhost '/'",
    );
    attempt(
        "",
        all.clone(),
        406,
        "PRECONDITION_FAILED - fast reply consumer does not exist",
    );
    let all = all.with_reply_to("elsewhere".into());
    attempt(
        "",
        all.clone(),
        406,
        "PRECONDITION_FAILED - user_id property set to 'admin' but authenticated user was 'guest'",
    );
    let all = all.with_user_id("guest".into());
    attempt(
        "",
        all.clone(),
        406,
        "PRECONDITION_FAILED - invalid expiration 'soon': no_integer",
    );
    attempt(
        "",
        all.with_expiration("5".into()),
        406,
        "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",signedint}",
    );
}

#[test]
fn a_consumer_tag_in_use_is_told_before_a_missing_queue() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    client.consume_ok("q", "c");
    client.consume("nowhere", "c", &[], &[]);
    client.expect_connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 'c'");
}

#[test]
fn the_first_wrong_or_different_argument_in_rabbitmqs_order_is_named() {
    let client = volatile();
    let wrong = || AMQPValue::Double(1.5);
    client.declare(
        "q",
        &[],
        &[("x-expires", wrong()), ("x-dead-letter-exchange", wrong())],
    );
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid type 'double' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'",
    );
    client.declare(
        "q",
        &[],
        &[
            ("x-max-length", wrong()),
            ("x-dead-letter-routing-key", string("k")),
        ],
    );
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue 'q' in vhost '/': \
         routing_key_but_no_dlx_defined",
    );
    client.declare("q", &[], &[("x-queue-mode", number(1))]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid arg 'x-queue-mode' for queue 'q' in vhost '/': {unacceptable_type,long}",
    );
    client.declare("q", &[Flag::AutoDelete], &[of_type("quorum")]);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid property 'auto-delete' for queue 'q' in vhost '/'",
    );
    client.declare_ok("q", &[Flag::Durable], &[of_type("quorum")]);
    let more = [
        of_type("quorum"),
        ("x-message-ttl", number(5)),
        ("x-delivery-limit", number(3)),
        ("x-dead-letter-exchange", string("x")),
    ];
    for (from, named) in [(0, "x-dead-letter-exchange"), (1, "x-delivery-limit")] {
        client.declare("q", &[Flag::Durable], &more[..more.len() - from]);
        let line = client.lines().remove(0);
        assert!(
            line.contains(&format!("inequivalent arg '{named}'")),
            "{line}"
        );
        client.close_channel_ok();
        client.with_channel(1);
    }
    // What means nothing to the queue's type is not compared.
    client.declare_ok("classic", &[], &[]);
    client.declare_ok("classic", &[], &[("x-delivery-limit", number(5))]);
}

#[test]
fn an_alternate_exchange_of_a_wrong_type_is_another_one_where_the_exchange_exists() {
    let client = volatile();
    let wrong = [("alternate-exchange", AMQPValue::Boolean(true))];
    client.declare_exchange("x", "direct", &[], &wrong);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - invalid type 'bool' for arg 'alternate-exchange' in exchange 'x' in vhost '/'",
    );
    client.declare_exchange("x", "direct", &[], &[]);
    client.expect(&["exchange.declare-ok"]);
    client.declare_exchange("x", "direct", &[], &wrong);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': received the value \
         'true' of type 'bool' but current is none",
    );
}

#[test]
fn a_channel_that_is_not_open_is_not_closed() {
    for method in [40, 41] {
        let client = volatile();
        let arguments = match method {
            40 => Arguments::new().u16(200).short("bye").u16(0).u16(0),
            _ => Arguments::new(),
        };
        client.on(5).call((20, method), arguments);
        client.expect_connection_error(504, "CHANNEL_ERROR - expected 'channel.open'");
    }
    let client = volatile();
    client.close_channel();
    client.expect(&["channel.close-ok"]);
    client.close_channel();
    client.expect_connection_error(504, "CHANNEL_ERROR - expected 'channel.open'");
}

/// What a client sends in one go with a `channel.close` and behind it cannot know of the answer.
#[test]
fn what_crosses_the_answer_to_a_close_is_passed_over() {
    let close = || Arguments::new().u16(200).short("bye").u16(0).u16(0);
    let close = || wire::method(1, (20, 40), close());
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    let publish = client.publishing("q", b"late", &Properties::default());
    let burst = [
        close(),
        close(),
        publish,
        wire::method(1, (20, 41), Arguments::new()),
        close(),
    ];
    client.send(&burst.concat());
    client.expect(&["channel.close-ok"; 3]);
    client.with_channel(1);
    assert_eq!(client.counts("q"), (0, 0));
    let open = wire::method(1, (20, 10), Arguments::new().short(""));
    client.send(&[close(), open, close()].concat());
    client.expect(&["channel.close-ok", "channel.open-ok", "channel.close-ok"]);
    client.close_channel();
    client.expect_connection_error(504, "CHANNEL_ERROR - expected 'channel.open'");
}

#[test]
fn access_is_given_to_whoever_asks() {
    let client = volatile();
    client.call((30, 10), Arguments::new().short("/data").octet(0x1f));
    client.expect(&["access.request-ok"]);
    client.declare_ok("q", &[], &[]);
    client.call((30, 11), Arguments::new().u16(1));
    client.expect_connection_error(503, "COMMAND_INVALID - unimplemented method");
}

#[test]
fn more_body_than_was_announced_is_a_frame_error() {
    let client = volatile();
    let header = leveret_codec::encode_header(3, &AMQPProperties::default());
    client.send(&wire::publish(1, "", "q", false, &header, b"four", 4096));
    client.expect_connection_error(
        501,
        "FRAME_ERROR - content body frame exceeds remaining content size",
    );
}

#[test]
fn frames_before_tuning_may_have_8192_bytes() {
    let dial = Dial {
        response: [b"\0guest\0guest", &b"0"[..0]].concat(),
        ..Dial::default()
    };
    for (padding, is_taken) in [(6_000, true), (9_000, false)] {
        let client = Client::socket(&World::volatile(), &dial);
        client.send(&leveret_codec::PROTOCOL_HEADER);
        let token = ("token", string(&"t".repeat(padding)));
        let properties = crate::harness::calls::table(&[token]);
        let arguments = Arguments::new()
            .table(&properties)
            .short("PLAIN")
            .long(&dial.response)
            .short("en_US");
        client.send(&wire::method(0, (10, 11), arguments));
        let lines = client.lines();
        assert_eq!(
            lines.contains(&"tune 2047 131072 60".to_owned()),
            is_taken,
            "{lines:?}"
        );
    }
}

#[test]
fn a_deletion_is_answered_before_consumers_are_told() {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    let second = client.with_channel(2);
    client.declare_ok("q", &[Flag::Durable], &[]);
    client.consume_ok("q", "a");
    second.consume_ok("q", "b");
    other.consume_ok("q", "c");
    world.hold_commits();
    client.delete("q", false, false);
    client.expect_nothing();
    other.expect_nothing();
    world.commit();
    let lines = client.lines();
    assert_eq!(lines[0], "delete-ok 0");
    let mut told = lines[1..].to_vec();
    told.sort();
    assert_eq!(told, ["2: cancel b", "cancel a"]);
    other.expect(&["cancel c"]);
}

#[test]
fn consumers_are_told_of_a_deletion_whose_connection_is_gone() {
    let world = World::durable();
    let (client, other) = (world.client(), world.client());
    for queue in ["q", "r"] {
        client.declare_ok(queue, &[Flag::Durable], &[]);
        other.consume_ok(queue, queue);
    }
    world.hold_commits();
    // The second one without a reply.
    client.delete("q", false, false);
    client.vanish();
    other.expect_nothing();
    world.commit();
    other.expect(&["cancel q"]);
    let client = world.client();
    let nowait = Arguments::new()
        .ticket()
        .short("r")
        .bits(&[false, false, true]);
    client.call((50, 40), nowait);
    client.declare("passing", &[], &[]);
    client.expect(&["declare-ok passing 0 0"]);
    other.expect_nothing();
    world.commit();
    other.expect(&["cancel r"]);
}

#[test]
fn many_consumers_are_told_one_part_after_another() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for number in 0..3000 {
        client.consume("q", &format!("c{number}"), &[Flag::NoWait], &[]);
    }
    client.delete("q", false, false);
    let lines = client.lines();
    assert_eq!(lines.len(), 3001);
    assert_eq!(lines[0], "delete-ok 0");
}

#[test]
fn only_delivery_mode_2_is_persistent() {
    let world = World::durable();
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    for (mode, body) in [(0, "none"), (1, "one"), (2, "two"), (3, "three")] {
        let properties = AMQPProperties::default().with_delivery_mode(mode);
        client.publish_with("q", body, &Properties::of(properties));
    }
    assert_eq!(client.counts("q"), (4, 0));
    let after = world.restarted().client();
    after.get("q", true);
    after.expect(&["get-ok 1 left=0 'two'"]);
}

#[test]
fn quorum_queues_do_what_they_are_asked_for() {
    let client = World::durable().client();
    let limited = [
        of_type("quorum"),
        ("x-max-length", number(1)),
        ("x-overflow", string("reject-publish-dlx")),
        ("x-dead-letter-exchange", string("")),
        ("x-dead-letter-routing-key", string("refused")),
    ];
    client.declare_ok("q", &[Flag::Durable], &limited);
    client.declare_ok("refused", &[], &[]);
    client.publish_all("q", "a b", &Properties::default());
    client.get("refused", true);
    client.expect(&["get-ok 1 left=0 'b'"]);
    client.delete("q", false, true);
    client.expect_channel_error(
        406,
        "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty",
    );
    client.consume("q", "c", &[Flag::Exclusive], &[]);
    client.expect_first("consume-ok c");
    client.expect_bodies("a");
    let other = client.with_channel(2);
    other.consume("q", "d", &[], &[]);
    other.expect_channel_error(
        403,
        "ACCESS_REFUSED - queue 'q' in vhost '/' in exclusive use",
    );
    other.delete("q", true, false);
    other.expect_channel_error(406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use");
}

#[test]
fn an_alternate_exchange_without_a_name_is_the_default_one() {
    let client = volatile();
    client.declare_ok("q", &[], &[]);
    let alternate = [("alternate-exchange", string(""))];
    client.declare_exchange("x", "direct", &[], &alternate);
    client.expect(&["exchange.declare-ok"]);
    client.publish_with("q", "went on", &Properties::to("x"));
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'went on'"]);
}

#[test]
fn a_queue_may_have_256_levels_of_priority() {
    let client = World::durable().client();
    let levels = [("x-max-priority", number(255))];
    client.declare_ok("q", &[Flag::Durable], &levels);
    client.publish_with("q", "low", &Properties::priority(0));
    client.publish_with("q", "high", &Properties::priority(255));
    client.get("q", true);
    client.expect(&["get-ok 1 left=1 'high'"]);
    client.purge("q");
    client.delete("q", false, false);
    client.expect(&["purge-ok 1", "delete-ok 0"]);
}
