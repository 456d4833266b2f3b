//! `basic.qos` with `global`: the consumers of a channel share its limit and take turns.

use std::rc::Rc;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::{Flag, number, string};
use crate::harness::client::{Client, Seen};
use crate::harness::wire::Arguments;
use crate::harness::{Properties, World};

/// A publisher, and a consumer whose channel has this limit.
fn limited(limit: u16) -> (Rc<World>, Client, Client) {
    let world = World::volatile();
    let (publisher, consumer) = (world.client(), world.client());
    for queue in ["q", "r", "s"] {
        publisher.declare_ok(queue, &[], &[]);
    }
    qos(&consumer, limit, true);
    (world, publisher, consumer)
}

fn publish(client: &Client, queue: &str, count: usize) {
    client.publish_all(queue, &"x ".repeat(count), &Properties::default());
}

/// Consumer tag and delivery tag of a delivery.
fn delivered(seen: &Seen) -> Option<(String, u64)> {
    let mut words = seen
        .text
        .split_whitespace()
        .skip_while(|it| *it != "deliver");
    let (_, consumer, tag) = (words.next()?, words.next()?, words.next()?);
    Some((consumer.to_owned(), tag.parse().ok()?))
}

/// Exactly these bodies were delivered or got, in this order, whatever else was said; `!` marks a redelivery.
#[track_caller]
fn expect_deliveries(client: &Client, expected: &str) {
    let mut bodies = String::new();
    for seen in client.seen() {
        if delivered(&seen).is_some() || seen.text.starts_with("get-ok") {
            let again = seen.text.ends_with(" redelivered");
            bodies = format!(
                "{bodies} {}{}",
                seen.body_text(),
                if again { "!" } else { "" }
            );
        }
    }
    assert_eq!(bodies.trim_start(), expected);
}

/// How many deliveries there were.
fn deliveries(client: &Client) -> usize {
    client.seen().iter().filter_map(delivered).count()
}

/// `basic.qos`; what is said to it stays.
fn qos(client: &Client, count: u16, global: bool) {
    let arguments = Arguments::new().u32(0).u16(count).bits(&[global]);
    client.call((60, 10), arguments);
}

/// Takes `count` deliveries, acknowledging each before the next is looked at; answers the consumers' tags.
fn one_by_one(client: &Client, count: usize) -> String {
    let mut order = String::new();
    for _ in 0..count {
        let seen: Vec<_> = client.seen().iter().filter_map(delivered).collect();
        let [(consumer, tag)] = seen.as_slice() else {
            panic!("one delivery expected, not {seen:?}");
        };
        order.push_str(consumer);
        let tag = *tag;
        client.ack(tag, false);
    }
    order
}

#[test]
fn consumers_of_a_queue_take_turns() {
    let (_, publisher, consumer) = limited(1);
    for tag in ["a", "b", "c"] {
        consumer.consume("q", tag, &[], &[]);
    }
    publish(&publisher, "q", 9);
    assert_eq!(one_by_one(&consumer, 9), "abcabcabc");
}

#[test]
fn queues_take_turns_however_much_is_in_them() {
    let (_, publisher, consumer) = limited(1);
    publish(&publisher, "q", 50);
    consumer.consume("q", "a", &[], &[]);
    consumer.consume("r", "b", &[], &[]);
    consumer.consume("s", "c", &[], &[]);
    publish(&publisher, "r", 3);
    publish(&publisher, "s", 1);
    assert_eq!(one_by_one(&consumer, 10), "aabcababaa");
}

#[test]
fn a_queue_that_never_runs_dry_starves_no_other() {
    let (_, _, consumer) = limited(1);
    consumer.consume("q", "a", &[], &[]);
    consumer.consume("r", "b", &[], &[]);
    consumer.publish("q", "x");
    publish(&consumer, "r", 5);
    let mut order = String::new();
    for _ in 0..10 {
        let seen = consumer.seen();
        let (by, tag) = seen.iter().find_map(delivered).expect("a delivery");
        order.push_str(&by);
        if by == "a" {
            consumer.publish("q", "x");
        }
        consumer.ack(tag, false);
    }
    assert_eq!(order, "ababababab");
}

#[test]
fn the_highest_priority_of_a_queue_goes_first() {
    let (_, publisher, consumer) = limited(1);
    publish(&publisher, "q", 4);
    consumer.consume("q", "low", &[], &[]);
    consumer.consume("q", "high", &[], &[("x-priority", number(1))]);
    let first = consumer.seen().iter().find_map(delivered);
    assert_eq!(first, Some(("low".to_owned(), 1)));
    consumer.ack(1, false);
    assert_eq!(one_by_one(&consumer, 3), "highhighhigh");
}

#[test]
fn much_room_is_shared_between_the_queues() {
    let (_, publisher, consumer) = limited(10);
    publish(&publisher, "q", 100);
    publish(&publisher, "r", 100);
    publish(&publisher, "s", 2);
    for (queue, tag) in [("q", "a"), ("r", "b"), ("s", "c")] {
        consumer.consume(queue, tag, &[], &[]);
    }
    consumer.seen();
    consumer.ack(0, true);
    let got = || {
        let seen = consumer.seen();
        let by = |tag: &str| {
            let is_its = |seen: &&Seen| delivered(seen).is_some_and(|(by, _)| by == tag);
            seen.iter().filter(is_its).count()
        };
        [by("a"), by("b"), by("c")]
    };
    let first = got();
    assert!(
        first[2] == 2 && first[0].abs_diff(first[1]) <= 1,
        "{first:?}"
    );
    consumer.ack(0, true);
    assert_eq!(got(), [5, 5, 0]);
}

#[test]
fn a_limit_for_consumers_lifts_the_channels() {
    let (_, publisher, consumer) = limited(1);
    consumer.consume("q", "a", &[], &[]);
    publish(&publisher, "q", 6);
    assert_eq!(deliveries(&consumer), 1);
    // For consumers that are there at once, and there is no limit for them.
    qos(&consumer, 2, false);
    assert_eq!(deliveries(&consumer), 5);
    consumer.consume("r", "b", &[], &[]);
    publish(&publisher, "r", 6);
    assert_eq!(deliveries(&consumer), 2);
    // Both hold together in this order.
    qos(&consumer, 3, true);
    consumer.ack(0, true);
    assert_eq!(deliveries(&consumer), 2);
    publish(&publisher, "q", 6);
    assert_eq!(deliveries(&consumer), 1);
}

#[test]
fn quorum_queues_know_no_limit_of_a_channel() {
    let world = World::durable();
    let client = world.client();
    let quorum = [("x-queue-type", string("quorum"))];
    client.declare_ok("quorum", &[Flag::Durable], &quorum);
    qos(&client, 1, true);
    // It is lifted by one for consumers.
    qos(&client, 3, false);
    client.consume("quorum", "c", &[], &[]);
    client.publish_all("quorum", "x y z", &Properties::default());
    expect_deliveries(&client, "x y z");
    client.qos_ok(1, true);
    client.consume("quorum", "d", &[Flag::NoAck], &[]);
    client.expect_connection_error(
        540,
        "NOT_IMPLEMENTED - queue 'quorum' in vhost '/' does not support global qos",
    );
}

#[test]
fn deliveries_without_acknowledgement_wait_while_the_channel_is_full() {
    let (_, publisher, consumer) = limited(1);
    consumer.consume("q", "a", &[], &[]);
    consumer.consume("r", "b", &[Flag::NoAck], &[]);
    consumer.seen();
    publisher.publish_all("r", "1 2", &Properties::default());
    expect_deliveries(&consumer, "1 2");
    publisher.publish("q", "x");
    publisher.publish_all("r", "3 4 5", &Properties::default());
    expect_deliveries(&consumer, "x");
    assert_eq!(publisher.counts("r"), (3, 1));
    consumer.ack(3, false);
    expect_deliveries(&consumer, "3 4 5");
}

#[test]
fn messages_that_were_got_are_none_of_the_limits_business() {
    let (_, publisher, consumer) = limited(2);
    publisher.publish_all("q", "a b c d e", &Properties::default());
    consumer.get("q", false);
    consumer.consume("q", "c", &[], &[]);
    expect_deliveries(&consumer, "a b c");
    consumer.ack(1, false);
    consumer.get("q", false);
    expect_deliveries(&consumer, "d");
    consumer.nack(4, false, true);
    consumer.expect_nothing();
    consumer.ack(2, false);
    expect_deliveries(&consumer, "d!");
    consumer.ack(3, false);
    expect_deliveries(&consumer, "e");
}

#[test]
fn nor_are_several_of_them_that_are_settled_together() {
    for acknowledges in [true, false] {
        let (_, publisher, consumer) = limited(1);
        publisher.publish_all("r", "x y", &Properties::default());
        consumer.get("r", false);
        consumer.get("r", false);
        consumer.seen();
        publisher.publish_all("q", "a b", &Properties::default());
        consumer.consume("q", "c", &[], &[]);
        expect_deliveries(&consumer, "a");
        if acknowledges {
            consumer.ack(2, true);
        } else {
            consumer.nack(2, true, false);
        }
        consumer.expect_nothing();
        consumer.ack(3, true);
        expect_deliveries(&consumer, "b");
    }
}

#[test]
fn what_is_recovered_gives_its_room_back() {
    let (_, publisher, consumer) = limited(1);
    consumer.consume("q", "c", &[], &[]);
    publisher.publish_all("q", "a b", &Properties::default());
    expect_deliveries(&consumer, "a");
    consumer.recover(true);
    expect_deliveries(&consumer, "a!");
    consumer.recover(true);
    expect_deliveries(&consumer, "a!");
    consumer.ack(0, true);
    expect_deliveries(&consumer, "b");
}

#[test]
fn what_is_put_back_or_rejected_makes_room_for_another_queue() {
    let (_, publisher, consumer) = limited(1);
    consumer.consume("q", "c", &[], &[]);
    consumer.consume("r", "d", &[], &[]);
    publisher.publish("q", "a");
    publisher.publish("r", "b");
    expect_deliveries(&consumer, "a");
    consumer.nack(1, false, true);
    expect_deliveries(&consumer, "b");
    consumer.reject(2, false);
    expect_deliveries(&consumer, "a!");
}

#[test]
fn a_transaction_gives_room_back_when_it_is_committed() {
    let (_, publisher, consumer) = limited(2);
    consumer.consume("q", "c", &[], &[]);
    publisher.publish_all("q", "a b c d e", &Properties::default());
    expect_deliveries(&consumer, "a b");
    consumer.tx(10);
    consumer.expect(&["tx.select-ok"]);
    consumer.ack(1, false);
    consumer.nack(2, false, true);
    consumer.expect_nothing();
    consumer.tx(30);
    consumer.expect(&["rollback-ok"]);
    consumer.ack(2, true);
    consumer.tx(20);
    expect_deliveries(&consumer, "c d");
    consumer.reject(3, false);
    consumer.nack(4, false, true);
    consumer.tx(20);
    expect_deliveries(&consumer, "d! e");
}

#[test]
fn who_is_gone_is_not_waited_for() {
    let (_, publisher, consumer) = limited(1);
    for (queue, tag) in [("q", "a"), ("r", "b"), ("s", "c"), ("s", "d")] {
        consumer.consume(queue, tag, &[], &[]);
        publisher.publish(queue, tag);
    }
    publisher.publish("s", "last");
    consumer.seen();
    consumer.cancel("c");
    publisher.delete("r", false, false);
    consumer.expect(&["cancel-ok c", "cancel b"]);
    consumer.ack(1, false);
    expect_deliveries(&consumer, "c");
    consumer.cancel("d");
    consumer.expect(&["cancel-ok d"]);
    // Its delivery is outstanding still, and room again once it is settled.
    publisher.publish("q", "later");
    consumer.expect_nothing();
    consumer.ack(2, false);
    expect_deliveries(&consumer, "later");
}

#[test]
fn a_channel_that_closes_leaves_its_messages_to_others() {
    let (world, publisher, consumer) = limited(1);
    consumer.consume("q", "a", &[], &[]);
    consumer.consume("r", "b", &[], &[]);
    publisher.publish_all("q", "x y", &Properties::default());
    publisher.publish("r", "z");
    expect_deliveries(&consumer, "x");
    let other = world.client();
    qos(&other, 1, true);
    other.consume("q", "c", &[], &[]);
    other.consume("r", "d", &[], &[]);
    expect_deliveries(&other, "y");
    consumer.close_channel();
    other.ack(1, false);
    expect_deliveries(&other, "z");
    other.ack(2, false);
    expect_deliveries(&other, "x!");
}

#[test]
fn channels_share_nothing_with_each_other() {
    let (world, publisher, first) = limited(1);
    let second = world.client();
    qos(&second, 2, true);
    first.consume("q", "a", &[], &[]);
    second.consume("q", "b", &[], &[]);
    publisher.publish_all("q", "1 2 3 4 5 6", &Properties::default());
    expect_deliveries(&first, "1");
    expect_deliveries(&second, "2 3");
    second.ack(0, true);
    expect_deliveries(&second, "4 5");
    first.ack(1, false);
    expect_deliveries(&first, "6");
}

#[test]
fn a_full_mailbox_holds_up_only_its_own() {
    let (_, publisher, consumer) = limited(4);
    let large = "x".repeat(300_000);
    consumer.consume("q", "a", &[], &[]);
    consumer.set_reads(false);
    for _ in 0..40 {
        publisher.publish("q", &large);
    }
    consumer.set_reads(true);
    let mut seen = 0;
    while seen < 40 {
        let tags: Vec<_> = consumer.seen().iter().filter_map(delivered).collect();
        assert!((1..=4).contains(&tags.len()), "{tags:?} after {seen}");
        seen += tags.len();
        consumer.ack(0, true);
    }
}

#[test]
fn readers_of_streams_that_were_there_before_the_limit_take_turns_too() {
    let world = World::durable();
    let client = world.client();
    let stream = [("x-queue-type", string("stream"))];
    let first = [("x-stream-offset", string("first"))];
    client.declare_ok("stream", &[Flag::Durable], &stream);
    client.declare_ok("q", &[], &[]);
    qos(&client, 10, false);
    client.consume("stream", "a", &[], &first);
    client.consume("stream", "b", &[], &first);
    client.consume("q", "c", &[], &[]);
    client.seen();
    qos(&client, 1, true);
    publish(&client, "stream", 3);
    publish(&client, "q", 3);
    let order = one_by_one(&client, 9);
    let mut sorted: Vec<char> = order.chars().collect();
    sorted.sort_unstable();
    assert_eq!(sorted, "aaabbbccc".chars().collect::<Vec<_>>());
    assert!(!order.ends_with("ccc"), "{order}");
    client.expect_nothing();
}

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, u8),
    Consume(u8, bool, u16),
    Cancel(u8),
    Ack(u8, bool),
    Requeue(u8),
    Get(u8),
    Recover,
    Limit(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..3, 1u8..9).prop_map(|(queue, count)| Step::Publish(queue, count)),
        2 => (0u8..3, any::<bool>(), 0u16..3).prop_map(|(queue, no_ack, prefetch)| Step::Consume(queue, no_ack, prefetch)),
        1 => any::<u8>().prop_map(Step::Cancel),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(which, multiple)| Step::Ack(which, multiple)),
        1 => any::<u8>().prop_map(Step::Requeue),
        1 => (0u8..3).prop_map(Step::Get),
        1 => Just(Step::Recover),
        1 => (0u16..5).prop_map(Step::Limit),
    ];
    vec(step, 1..60)
}

const QUEUES: [&str; 3] = ["q", "r", "s"];

/// What a client with one channel knows of it.
struct Known {
    client: Client,
    limit: u16,
    /// Tag, and whether it counts: not where it was got.
    unsettled: Vec<(u64, bool)>,
    consumers: Vec<Consumer>,
    /// Tags of unsettled deliveries, and the consumer of each.
    held: Vec<(u64, String)>,
    consumers_made: u32,
}

#[derive(Debug)]
struct Consumer {
    tag: String,
    queue: &'static str,
    no_ack: bool,
    prefetch: u16,
}

impl Known {
    fn look(&mut self) {
        for seen in self.client.seen() {
            if let Some((by, tag)) = delivered(&seen) {
                let acknowledges = self.consumers.iter().any(|it| it.tag == by && !it.no_ack);
                if acknowledges {
                    self.unsettled.push((tag, true));
                    self.held.push((tag, by));
                }
            } else if let Some(rest) = seen.text.strip_prefix("get-ok ") {
                let tag = rest
                    .split_whitespace()
                    .next()
                    .and_then(|it| it.parse().ok());
                self.unsettled.push((tag.expect("a tag"), false));
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.unsettled.iter().filter(|(_, counts)| *counts).count()
    }

    fn settled(&mut self, tag: u64, multiple: bool) {
        let goes = |of: u64| of == tag || (multiple && of < tag);
        self.unsettled.retain(|(of, _)| !goes(*of));
        self.held.retain(|(of, _)| !goes(*of));
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Publish(queue, count) => {
                publish(&self.client, QUEUES[usize::from(queue)], usize::from(count));
            }
            Step::Consume(queue, no_ack, prefetch) => {
                // Sets the limit for the consumer and restores that of the channel, which it lifts.
                let tag = format!("c{}", self.consumers_made);
                self.consumers_made += 1;
                let queue = QUEUES[usize::from(queue)];
                qos(&self.client, prefetch, false);
                qos(&self.client, self.limit, true);
                let flags: &[Flag] = if no_ack { &[Flag::NoAck] } else { &[] };
                self.client.consume(queue, &tag, flags, &[]);
                let prefetch = if no_ack { 0 } else { prefetch };
                self.consumers.push(Consumer {
                    tag,
                    queue,
                    no_ack,
                    prefetch,
                });
            }
            Step::Cancel(which) if !self.consumers.is_empty() => {
                let which = usize::from(which) % self.consumers.len();
                self.client.cancel(&self.consumers[which].tag);
                self.look();
                self.consumers.remove(which);
            }
            Step::Ack(which, multiple) if !self.unsettled.is_empty() => {
                let (tag, _) = self.unsettled[usize::from(which) % self.unsettled.len()];
                self.client.ack(tag, multiple);
                self.settled(tag, multiple);
            }
            Step::Requeue(which) if !self.unsettled.is_empty() => {
                let (tag, _) = self.unsettled[usize::from(which) % self.unsettled.len()];
                self.client.nack(tag, false, true);
                self.settled(tag, false);
            }
            Step::Get(queue) => self.client.get(QUEUES[usize::from(queue)], false),
            Step::Recover => {
                self.unsettled.clear();
                self.held.clear();
                self.client.recover(true);
            }
            Step::Limit(limit) => {
                self.limit = limit;
                qos(&self.client, limit, true);
            }
            _ => {}
        }
        self.look();
    }

    fn has_room(&self, consumer: &Consumer) -> bool {
        let held = self.held.iter().filter(|(_, by)| *by == consumer.tag);
        consumer.prefetch == 0 || held.count() < usize::from(consumer.prefetch)
    }
}

proptest! {
    /// Never more than the limit, and never less while somebody could take a message.
    #[test]
    fn the_limit_is_kept_and_used_up(steps in steps()) {
        let (_, publisher, client) = limited(2);
        let mut known = Known { client, limit: 2, unsettled: Vec::new(), consumers: Vec::new(), held: Vec::new(), consumers_made: 0 };
        for step in &steps {
            let before = known.in_flight();
            known.take(step);
            let limit = usize::from(known.limit);
            // A limit that was lowered is kept from the next delivery on.
            let most = if limit == 0 { usize::MAX } else { limit.max(before) };
            if !matches!(step, Step::Consume(..)) {
                prop_assert!(known.in_flight() <= most, "{} of {limit} after {step:?}", known.in_flight());
            }
            if limit == 0 || known.in_flight() < limit {
                for consumer in known.consumers.iter().filter(|it| known.has_room(it)) {
                    let ready = publisher.counts(consumer.queue).0;
                    prop_assert_eq!(ready, 0, "{:?} waits after {:?}", consumer, step);
                }
            }
        }
    }
}
