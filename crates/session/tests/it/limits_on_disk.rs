//! What is over a limit goes as if it were at hand, wherever its bytes are: for the limit, and before a consumer or the
//! clock gets it.

use std::rc::Rc;

use leveret_broker::BrokerConfig;
use leveret_codec::AMQPValue;

use crate::dead_letters::deaths;
use crate::harness::calls::{Flag, number, string};
use crate::harness::{Client, Properties, World};

/// So much memory for the messages of a queue: none, some, and plenty.
const MEMORY: [usize; 3] = [0, 300, 1 << 20];

struct Trial {
    world: Rc<World>,
    client: Client,
    /// Consumes the dead letters.
    undertaker: Client,
}

/// The queue `q` with these arguments, whose messages leave memory when they are more than so many bytes.
fn trial(memory_bytes: usize, arguments: &[(&'static str, AMQPValue)]) -> Trial {
    let world = World::durable_with(BrokerConfig {
        queue_memory_bytes: memory_bytes,
        unacked_bytes_max: memory_bytes,
        ..BrokerConfig::default()
    });
    let (client, undertaker) = (world.client(), world.client());
    undertaker.declare_ok("dead", &[Flag::Durable], &[]);
    undertaker.consume("dead", "u", &[Flag::NoAck], &[]);
    undertaker.expect_first("consume-ok u");
    let mut arguments = arguments.to_vec();
    arguments.push(("x-dead-letter-exchange", string("")));
    arguments.push(("x-dead-letter-routing-key", string("dead")));
    client.declare_ok("q", &[Flag::Durable], &arguments);
    Trial {
        world,
        client,
        undertaker,
    }
}

impl Trial {
    fn dead(&self) -> Vec<String> {
        let seen = self.undertaker.seen();
        let told = seen
            .iter()
            .map(|it| format!("{}: {}", it.body_text(), deaths(&it.headers())));
        told.collect()
    }
}

fn letters(names: &str, reason: &str) -> Vec<String> {
    let names = names.split(' ');
    names.map(|name| format!("{name}: q {reason} 1")).collect()
}

#[test]
fn it_goes_at_once_and_not_when_somebody_comes_to_read_it() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length", number(2))]);
        it.client.publish_all("q", "a b", &Properties::persistent());
        it.world.hold_paging();
        it.client.confirms();
        it.client
            .publish_all("q", "c d e f g", &Properties::persistent());
        it.client.expect(&["ack 5 multiple"]);
        assert_eq!(it.client.counts("q"), (2, 0), "{memory}");
        assert_eq!(it.dead(), letters("a b c d e", "maxlen"), "{memory}");
    }
}

#[test]
fn what_comes_back_is_dropped_before_any_of_it_goes_out_again() {
    for memory in MEMORY {
        let arguments = [("x-max-priority", number(2)), ("x-max-length", number(2))];
        let it = trial(memory, &arguments);
        it.client.qos_ok(3, false);
        it.client.consume_ok("q", "c");
        it.client
            .publish_all("q", "a b c", &Properties::priority(1));
        it.client.expect_bodies("a b c");
        it.client.nack(3, true, true);
        it.client.expect_bodies("b! c!");
        assert_eq!(it.dead(), letters("a", "maxlen"), "{memory}");
    }
}

/// It is not the head when the limit is reached, but when the one before it has been dropped for that.
#[test]
fn what_has_no_time_left_behind_what_is_dropped_goes_for_the_limit_too() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length-bytes", number(12))]);
        for names in ["m1", "m2 m3 m4 m5", "m6 m7"] {
            it.client.publish_all("q", names, &Properties::default());
        }
        it.client
            .publish_with("q", "m8", &Properties::expiring("0"));
        it.client
            .publish_all("q", "m9 m10 m11 m12", &Properties::default());
        let expected = letters("m1 m2 m3 m4 m5 m6 m7 m8", "maxlen");
        assert_eq!(it.dead(), expected, "{memory}");
    }
}

/// The head is looked at before a message comes that is one too many: what has expired makes room for it.
#[test]
fn what_has_expired_when_the_next_one_comes_goes_for_that() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length", number(3))]);
        it.client.publish_all("q", "a", &Properties::default());
        it.client
            .publish_all("q", "b c", &Properties::expiring("20"));
        it.world.pass(30);
        it.client.publish_all("q", "d e f", &Properties::default());
        let [first, rest @ ..] = &it.dead()[..] else {
            panic!("nobody died");
        };
        assert_eq!(*first, "a: q maxlen 1", "{memory}");
        assert_eq!(rest, letters("b c", "expired"), "{memory}");
        assert_eq!(it.client.counts("q"), (3, 0), "{memory}");
    }
}

/// It was decided while the message had time left.
#[test]
fn a_drop_stays_a_drop_however_long_it_takes() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length", number(40))]);
        let lives_long = Properties::expiring("1000");
        let names: Vec<String> = (0..80).map(|number| number.to_string()).collect();
        let (first, later) = names.split_at(40);
        it.client.publish_all("q", &first.join(" "), &lives_long);
        it.client.qos_ok(0, false);
        it.client.consume_ok("q", "c");
        it.client.expect_bodies(&first.join(" "));
        it.client.cancel("c");
        it.client.expect(&["cancel-ok c"]);
        it.client.publish_all("q", &later.join(" "), &lives_long);
        it.world.hold_paging();
        it.client.nack(0, true, true);
        it.world.wait(2_000);
        it.world.go_on_paging();
        it.world.pass(0);
        let mut dead = it.dead();
        let expired = dead.split_off(40);
        assert_eq!(dead, letters(&first.join(" "), "maxlen"), "{memory}");
        assert_eq!(expired, letters(&later.join(" "), "expired"), "{memory}");
    }
}

#[test]
fn nothing_is_got_before_what_is_over_the_limit_has_gone() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length", number(1))]);
        it.client.qos_ok(0, false);
        it.client.consume_ok("q", "c");
        it.client
            .publish_all("q", "a b c d e f g h", &Properties::default());
        it.client.expect_bodies("a b c d e f g h");
        it.client.cancel("c");
        it.client.expect(&["cancel-ok c"]);
        it.world.hold_paging();
        it.client.nack(0, true, true);
        it.client.get("q", true);
        it.client.expect(&["get-ok 9 redelivered left=0 'h'"]);
        assert_eq!(it.dead(), letters("a b c d e f g", "maxlen"), "{memory}");
    }
}

/// The limit takes only what nobody waits for, also where that must be read first.
#[test]
fn a_consumer_that_waits_comes_before_the_limit() {
    for memory in MEMORY {
        let it = trial(memory, &[("x-max-length", number(2))]);
        it.client.publish_all("q", "a b", &Properties::persistent());
        it.world.hold_paging();
        it.client.qos_ok(0, false);
        it.client.consume_ok("q", "c");
        it.client.publish_all("q", "c d", &Properties::persistent());
        it.client.expect_bodies("a b c d");
        assert_eq!(it.dead(), [""; 0], "{memory}");
    }
}
