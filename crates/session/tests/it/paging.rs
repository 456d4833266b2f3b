//! Queues larger than their memory: complete, in order, and with the right marks.

use std::rc::Rc;

use crate::harness::calls::{Flag, number};
use crate::harness::{Client, Properties, World};

fn numbers(range: std::ops::Range<u32>) -> String {
    range.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

fn paging() -> (Rc<World>, Client) {
    let world = World::paging(600);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[]);
    (world, client)
}

#[test]
fn everything_comes_in_order_to_a_late_consumer() {
    for message in [Properties::persistent(), Properties::default()] {
        for flags in [&[Flag::Durable][..], &[]] {
            let world = World::paging(600);
            let client = world.client();
            client.declare_ok("q", flags, &[]);
            for n in 0..200 {
                client.publish_with("q", &n.to_string(), &message);
            }
            assert_eq!(client.counts("q"), (200, 0));
            client.consume_ok("q", "c");
            client.expect_bodies(&numbers(0..200));
        }
    }
}

/// Also past an exchange that keeps something, where each is shown by itself.
#[test]
fn what_is_published_leaves_memory() {
    for exchange in ["amq.fanout", "past"] {
        let (world, client) = paging();
        let kept = [("x-recent-history-length", number(1))];
        client.declare_exchange("past", "x-recent-history", &[], &kept);
        client.bind("q", exchange, "");
        client.seen();
        let vhost = world.broker.vhost("/").expect("the virtual host");
        let queue = vhost.queue("q").expect("the queue");
        let memory = || queue.statistics(world.now()).memory_bytes;
        let empty = memory();
        let message = Properties {
            exchange,
            ..Properties::persistent()
        };
        client.publish_all("", &numbers(0..500), &message);
        assert_eq!(client.counts("q"), (500, 0));
        world.pass(100);
        assert!(memory() < empty + 20_000, "{} bytes", memory() - empty);
    }
}

#[test]
fn transient_and_persistent_mixed_keep_their_order() {
    let (_, client) = paging();
    for n in 0..200 {
        let message = if n % 3 == 0 {
            Properties::persistent()
        } else {
            Properties::default()
        };
        client.publish_with("q", &n.to_string(), &message);
    }
    client.consume_ok("q", "c");
    client.expect_bodies(&numbers(0..200));
}

#[test]
fn get_reads_what_is_paged() {
    let (world, client) = paging();
    client.publish_all("q", &numbers(0..50), &Properties::persistent());
    client.publish_all("q", &numbers(50..100), &Properties::persistent());
    world.hold_paging();
    for n in 0..100 {
        client.get("q", true);
        client.expect(&[format!("get-ok {} left={} '{n}'", n + 1, 99 - n)]);
    }
    client.get("q", true);
    client.expect(&["get-empty"]);
}

#[test]
fn publishing_goes_on_behind_a_slow_consumer() {
    let (_, client) = paging();
    client.qos_ok(3, false);
    client.consume_ok("q", "c");
    let mut received = Vec::new();
    let mut tag = 0;
    for round in 0..60 {
        client.publish_all(
            "q",
            &numbers(round * 5..round * 5 + 5),
            &Properties::persistent(),
        );
        for body in client.bodies() {
            received.push(body);
            tag += 1;
        }
        client.ack(tag, true);
    }
    loop {
        let bodies = client.bodies();
        if bodies.is_empty() {
            break;
        }
        tag += bodies.len() as u64;
        received.extend(bodies);
        client.ack(tag, true);
    }
    assert_eq!(received.join(" "), numbers(0..300));
}

#[test]
fn requeued_messages_come_back_before_paged_ones() {
    let (world, client) = paging();
    client.publish_all("q", &numbers(0..30), &Properties::persistent());
    client.publish_all("q", &numbers(30..60), &Properties::persistent());
    let consumer = world.client();
    consumer.qos_ok(10, false);
    consumer.consume_ok("q", "c");
    consumer.expect_bodies(&numbers(0..10));
    consumer.vanish();
    client.consume_ok("q", "c");
    let marked: Vec<String> = (0..60)
        .map(|n| format!("{n}{}", if n < 10 { "!" } else { "" }))
        .collect();
    client.expect_bodies(&marked.join(" "));
}

#[test]
fn nothing_leaves_memory_before_it_is_durable() {
    let (world, client) = paging();
    world.hold_commits();
    for round in 0..20 {
        client.publish_all(
            "q",
            &numbers(round * 10..round * 10 + 10),
            &Properties::persistent(),
        );
    }
    client.consume_ok("q", "c");
    client.expect_bodies(&numbers(0..200));
    world.commit();
}

#[test]
fn commits_in_the_middle_lose_nothing() {
    let (world, client) = paging();
    world.hold_commits();
    for round in 0..40 {
        client.publish_all(
            "q",
            &numbers(round * 5..round * 5 + 5),
            &Properties::persistent(),
        );
        if round % 3 == 0 {
            world.commit();
        }
    }
    client.consume_ok("q", "c");
    world.commit();
    client.expect_bodies(&numbers(0..200));
}

#[test]
fn much_memory_is_freed_by_the_pager() {
    let world = World::volatile();
    world.hold_paging();
    let client = world.client();
    world.calls_the_pager();
    for (count, by_the_pager) in [(10, false), (20_000, true)] {
        for verb in ["purge", "delete"] {
            client.declare_ok("q", &[], &[]);
            let bodies = vec!["x"; count].join(" ");
            client.publish_all("q", &bodies, &Properties::default());
            assert!(!world.calls_the_pager());
            match verb {
                "purge" => client.purge("q"),
                _ => client.delete("q", false, false),
            }
            client.expect(&[format!("{verb}-ok {count}")]);
            assert_eq!(world.calls_the_pager(), by_the_pager, "{verb} {count}");
            world.broker.run_pager(world.now());
        }
    }
}

#[test]
fn purge_and_delete_reach_the_paged_run() {
    let (world, client) = paging();
    client.publish_all("q", &numbers(0..50), &Properties::persistent());
    client.publish_all("q", &numbers(0..50), &Properties::persistent());
    client.purge("q");
    client.expect(&["purge-ok 100"]);
    client.publish("q", "after");
    client.get("q", true);
    client.expect(&["get-ok 1 left=0 'after'"]);
    assert_eq!(world.restarted().client().counts("q"), (0, 0));
}

#[test]
fn a_restart_finds_all_of_it() {
    let (world, client) = paging();
    for round in 0..10 {
        client.publish_all(
            "q",
            &numbers(round * 10..round * 10 + 10),
            &Properties::persistent(),
        );
    }
    client.publish("q", "transient");
    for _ in 0..3 {
        client.get("q", true);
    }
    let after = world.restarted();
    let client = after.client();
    assert_eq!(client.counts("q"), (97, 0));
    client.publish_with("q", "new", &Properties::persistent());
    client.consume_ok("q", "c");
    let expected: Vec<String> = (3..100).map(|n| n.to_string()).collect();
    client.expect_bodies(&format!("{} new", expected.join(" ")));
}

#[test]
fn priorities_are_paged_apart() {
    let world = World::paging(600);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-max-priority", number(2))]);
    for n in 0..90 {
        client.publish_with("q", &n.to_string(), &Properties::priority(n % 3));
    }
    client.consume_ok("q", "c");
    let expected: Vec<String> = [2, 1, 0]
        .iter()
        .flat_map(|priority| (0..90).filter(move |n| n % 3 == *priority))
        .map(|n| n.to_string())
        .collect();
    client.expect_bodies(&expected.join(" "));
}

#[test]
fn a_length_limit_reaches_the_paged_run() {
    let world = World::paging(600);
    let client = world.client();
    client.declare_ok("q", &[Flag::Durable], &[("x-max-length", number(40))]);
    for n in 0..200 {
        client.publish_with("q", &n.to_string(), &Properties::persistent());
    }
    assert_eq!(client.counts("q"), (40, 0));
    client.consume_ok("q", "c");
    client.expect_bodies(&numbers(160..200));
}

#[test]
fn a_transaction_larger_than_memory() {
    let (world, client) = paging();
    client.tx(10);
    client.expect(&["tx.select-ok"]);
    world.hold_commits();
    client.publish_all("q", &numbers(0..100), &Properties::persistent());
    client.tx(20);
    let other = world.client();
    other.publish_all("q", &numbers(100..150), &Properties::persistent());
    other.consume_ok("q", "c");
    other.expect_nothing();
    world.commit();
    other.expect_bodies(&numbers(0..150));
}

#[test]
fn large_bodies_are_paged_too() {
    let (_, client) = paging();
    let bodies: Vec<String> = (0..20)
        .map(|n| format!("{n}-{}", "x".repeat(5000)))
        .collect();
    for body in &bodies {
        client.publish_with("q", body, &Properties::persistent());
    }
    client.consume_ok("q", "c");
    assert_eq!(client.bodies(), bodies);
}
