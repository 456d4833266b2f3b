//! Many messages at once for several consumers: whose they are, and in which order, whichever way they take to them.

use std::rc::Rc;

use leveret_broker::BrokerConfig;

use crate::harness::calls::{Flag, number};
use crate::harness::client::Client;
use crate::harness::{Properties, World};

/// The ways from the publisher to the consumers.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Nothing has to be decided.
    Straight,
    /// Through the queue, as it keeps a limit.
    Limited,
    /// Through the queue, as the store has them.
    Stored,
}

const WAYS: [Way; 3] = [Way::Straight, Way::Limited, Way::Stored];

impl Way {
    fn world(self, config: BrokerConfig) -> (Rc<World>, Client) {
        let world = match self {
            Way::Straight | Way::Limited => World::volatile_with(config),
            Way::Stored => World::durable_with(config),
        };
        let client = world.client();
        match self {
            Way::Straight => client.declare_ok("q", &[], &[]),
            Way::Limited => client.declare_ok("q", &[], &[("x-max-length", number(1_000_000))]),
            Way::Stored => client.declare_ok("q", &[Flag::Durable], &[]),
        }
        (world, client)
    }

    fn open(self) -> (Rc<World>, Client) {
        self.world(BrokerConfig::default())
    }

    fn message(self) -> Properties {
        match self {
            Way::Stored => Properties::persistent(),
            Way::Straight | Way::Limited => Properties::default(),
        }
    }
}

fn words(numbers: impl Iterator<Item = usize>) -> String {
    let words: Vec<_> = numbers.map(|number| number.to_string()).collect();
    words.join(" ")
}

fn consumer(world: &Rc<World>, prefetch: u16) -> Client {
    let client = world.client();
    client.qos_ok(prefetch, false);
    client.consume_ok("q", "c");
    client
}

#[test]
fn each_gets_one_in_turn() {
    for way in WAYS {
        let (world, client) = way.open();
        let consumers = [0; 3].map(|prefetch| consumer(&world, prefetch));
        client.publish_all("q", &words(0..100), &way.message());
        client.publish_all("q", &words(100..160), &way.message());
        for (first, consumer) in consumers.iter().enumerate() {
            consumer.expect_bodies(&words((first..160).step_by(3)));
        }
        assert_eq!(client.counts("q"), (0, 3), "{way:?}");
    }
}

#[test]
fn what_a_connection_gets_is_in_the_order_of_the_queue() {
    for way in WAYS {
        let (world, client) = way.open();
        let both = world.client();
        both.consume_ok("q", "one");
        let other = consumer(&world, 0);
        both.consume_ok("q", "two");
        client.publish_all("q", &words(0..90), &way.message());
        both.expect_bodies(&words((0..90).filter(|number| number % 3 != 1)));
        other.expect_bodies(&words((1..90).step_by(3)));
    }
}

#[test]
fn limits_of_some_leave_the_rest_to_others() {
    for way in WAYS {
        let (world, client) = way.open();
        let (few, more, free) = (
            consumer(&world, 2),
            consumer(&world, 10),
            consumer(&world, 0),
        );
        client.publish_all("q", &words(0..60), &way.message());
        few.expect_bodies("0 3");
        more.expect_bodies("1 4 6 8 10 12 14 16 18 20");
        let alternating = [2, 5, 7, 9, 11, 13, 15, 17, 19].into_iter();
        free.expect_bodies(&words(alternating.chain(21..60)));
        few.ack(2, true);
        client.publish_all("q", &words(60..64), &way.message());
        assert_eq!(few.bodies().len() + free.bodies().len(), 4, "{way:?}");
    }
}

#[test]
fn credit_of_all_together_is_never_exceeded() {
    for way in WAYS {
        let (world, client) = way.open();
        let consumers = [3, 4, 5].map(|prefetch| consumer(&world, prefetch));
        client.publish_all("q", &words(0..100), &way.message());
        let taken = consumers.each_ref().map(|consumer| consumer.bodies().len());
        assert_eq!(taken, [3, 4, 5], "{way:?}");
        assert_eq!(client.counts("q"), (88, 3), "{way:?}");
        consumers[1].ack(4, true);
        consumers[1].expect_bodies(&words(12..16));
    }
}

#[test]
fn one_that_does_not_read_gets_what_its_mailbox_holds_and_no_more() {
    const KIB: usize = 1 << 10;
    for way in WAYS {
        let config = BrokerConfig {
            mailbox_bytes: 64 * KIB,
            publisher_ahead_bytes: 4096 * KIB,
            ..BrokerConfig::default()
        };
        let (world, client) = way.world(config);
        let consumers = [0; 3].map(|prefetch| consumer(&world, prefetch));
        consumers[0].set_reads(false);
        let bodies: Vec<_> = (0..3_000)
            .map(|number| format!("{number:0>KIB$}"))
            .collect();
        client.publish_all("q", &bodies.join(" "), &way.message());
        let length = consumers[0].output_length();
        assert!(length < 600 * KIB, "{way:?}: {length}");
        consumers[0].set_reads(true);
        let mut received = Vec::new();
        for consumer in &consumers {
            let bodies = consumer.bodies();
            assert!(bodies.is_sorted(), "{way:?}");
            received.extend(bodies);
        }
        received.sort_unstable();
        assert!(received == bodies, "{way:?}: {} came", received.len());
    }
}

#[test]
fn what_the_store_has_does_not_change_the_order() {
    let (world, client) = Way::Stored.open();
    let consumer = consumer(&world, 0);
    for (number, message) in
        (0..12).map(|number| (number, [Properties::default(), Properties::persistent()]))
    {
        let [transient, persistent] = message;
        let message = if number % 4 == 2 {
            persistent
        } else {
            transient
        };
        client.write(&client.publishing("q", number.to_string().as_bytes(), &message));
    }
    world.run();
    consumer.expect_bodies(&words(0..12));
}

#[test]
fn what_went_straight_to_a_consumer_expires_when_it_has_come_back() {
    for way in WAYS {
        let (world, client) = way.open();
        let consumer = consumer(&world, 0);
        client.publish_with("q", "a", &Properties::expiring("100"));
        consumer.expect_bodies("a");
        consumer.cancel("c");
        consumer.seen();
        consumer.nack(1, false, true);
        assert_eq!(client.counts("q"), (1, 0), "{way:?}");
        world.pass(100);
        assert_eq!(client.counts("q"), (0, 0), "{way:?}");
    }
}

#[test]
fn those_that_go_leave_the_others_their_turns() {
    for way in WAYS {
        let (world, client) = way.open();
        let all: Vec<Client> = (0..8).map(|_| consumer(&world, 0)).collect();
        let go = |who: &[usize]| {
            for &number in who {
                all[number].cancel("c");
                all[number].expect(&["cancel-ok c"]);
            }
        };
        let get_two_each = |who: &[usize], from: usize| {
            let until = from + 2 * who.len();
            client.publish_all("q", &words(from..until), &way.message());
            for (first, &number) in who.iter().enumerate() {
                let theirs = (from + first..until).step_by(who.len());
                all[number].expect_bodies(&words(theirs));
            }
        };
        go(&[1, 5]);
        get_two_each(&[0, 2, 3, 4, 6, 7], 0);
        go(&[2, 0, 3]);
        get_two_each(&[4, 6, 7], 20);
        go(&[4]);
        for new in [1, 0] {
            all[new].consume_ok("q", "c");
        }
        get_two_each(&[6, 7, 1, 0], 40);
        go(&[0, 7, 6, 1]);
        all[3].consume_ok("q", "c");
        get_two_each(&[3], 60);
        assert_eq!(client.counts("q"), (0, 1), "{way:?}");
    }
}
