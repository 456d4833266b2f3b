//! No step of the broker takes long, whatever is asked of it: debug builds count and name those that do. A binary of its
//! own, so that no other tests run beside what is measured.

#![cfg(debug_assertions)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test's way to fail")]

mod durable;
mod leaving;
mod routes;
mod units;
mod wide;

use std::io::Write;

use leveret_codec::protocol::{basic, channel, confirm, exchange, queue, tx};
use leveret_codec::{
    AMQPClass, AMQPProperties, AMQPValue, ChannelNumber, FieldTable, write_method,
};
use leveret_tests::wire::{Client, Incoming};
use leveret_tests::{Leveret, PATIENCE, eventually};

use leveret_tests::process::{log_in, read_frame};

const QUEUE: &str = "q";

/// How often what a scenario does may be tried. A step that is long because of what it has to do is so each time; one that
/// the machine made long, with a cold page or memory that goes back to the kernel, is not.
const ATTEMPTS: usize = 5;

/// Plays `scenario`, which returns the lines about its long steps, until there are none.
#[track_caller]
fn expect_short_steps(scenario: impl Fn() -> Vec<String>) {
    let mut long = Vec::new();
    for _ in 0..ATTEMPTS {
        let told = scenario();
        if told.is_empty() {
            return;
        }
        long.push(told);
    }
    panic!("long steps each time: {long:#?}");
}

/// Stops the broker, which has measured its steps: those that were too long.
#[track_caller]
fn stopped(mut broker: Leveret) -> Vec<String> {
    assert!(broker.terminate().success());
    let log = broker.log();
    assert!(log.contains("steps measured"), "{log}");
    long_steps(&log)
}

fn long_steps(log: &str) -> Vec<String> {
    let long = log.lines().filter(|line| line.contains("long step "));
    long.map(str::to_owned).collect()
}

fn declare(name: &str, passive: bool) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        passive,
        durable: false,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

fn delete(name: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Delete(queue::Delete {
        queue: name.into(),
        if_unused: false,
        if_empty: false,
        nowait: false,
    }))
}

fn get() -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Get(basic::Get {
        queue: QUEUE.into(),
        no_ack: true,
    }))
}

/// Sends all of this at once, `times` over, and takes as many answers.
fn flood(client: &mut Client, what: &[AMQPClass], times: usize) {
    for _ in 0..times {
        what.iter().for_each(|method| client.say(method));
    }
    client.flush().unwrap();
    for _ in 0..times * what.len() {
        assert!(client.next(PATIENCE).unwrap().is_some());
    }
}

#[test]
fn floods_of_methods() {
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        flood(&mut client, &[get()], 20_000);
        flood(&mut client, &[declare(QUEUE, true)], 10_000);
        flood(
            &mut client,
            &[declare("other", false), delete("other")],
            5_000,
        );
        client.close().unwrap();
        stopped(broker)
    });
}

#[test]
fn floods_of_messages() {
    const MESSAGES: usize = 20_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        for _ in 0..MESSAGES {
            client.publish("", QUEUE, b"small");
        }
        flood(&mut client, &[get()], MESSAGES);
        client.close().unwrap();
        stopped(broker)
    });
}

#[test]
fn floods_of_failures() {
    const FAILURES: usize = 5_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut socket = log_in(broker.addr());
        let mut bytes = Vec::new();
        for method in [
            AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
            declare("missing", true),
            AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
        ] {
            write_method(&mut bytes, ChannelNumber(1), &method);
        }
        socket.write_all(&bytes.repeat(FAILURES)).unwrap();
        for _ in 0..FAILURES {
            for expected in [[0, 20, 0, 11], [0, 20, 0, 40]] {
                let (_, _, payload) = read_frame(&mut socket);
                assert_eq!(payload[..4], expected);
            }
        }
        drop(socket);
        stopped(broker)
    });
}

fn exclusive(name: &str) -> AMQPClass {
    own(name, true, FieldTable::default())
}

/// A queue that stays; without an answer.
fn lasting(name: &str, arguments: FieldTable) -> AMQPClass {
    let mut class = own(name, false, arguments);
    if let AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) = &mut class {
        declare.auto_delete = false;
    }
    class
}

/// A queue that goes by itself; without an answer.
fn own(name: &str, exclusive: bool, arguments: FieldTable) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        passive: false,
        durable: false,
        exclusive,
        auto_delete: !exclusive,
        nowait: true,
        arguments,
    }))
}

fn bind(key: &str) -> AMQPClass {
    bind_to(QUEUE, "amq.topic", key)
}

fn bind_to(name: &str, exchange: &str, key: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
        queue: name.into(),
        exchange: exchange.into(),
        routing_key: key.into(),
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

fn consume(tag: &str, nowait: bool) -> AMQPClass {
    consume_from(QUEUE, tag, nowait)
}

fn consume_from(name: &str, tag: &str, nowait: bool) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: name.into(),
        consumer_tag: tag.into(),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait,
        arguments: FieldTable::default(),
    }))
}

#[test]
fn very_many_exclusive_queues_and_bindings() {
    const MANY: usize = 10_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        for number in 0..MANY {
            client.say(&exclusive(&format!("exclusive{number}")));
            client.say(&bind(&format!("a.{number}.b")));
        }
        client.call(&delete(QUEUE)).unwrap();
        client.close().unwrap();
        stopped(broker)
    });
}

/// Deliveries come back from consumers that have read them, and from those that have not.
#[test]
fn consumers_that_die_with_very_many_deliveries() {
    const MESSAGES: usize = 50_000;
    const CONSUMERS: usize = 20;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut publisher = Client::connect(broker.addr()).unwrap();
        publisher.call(&declare(QUEUE, false)).unwrap();
        for _ in 0..MESSAGES {
            publisher.publish("", QUEUE, b"small");
        }
        publisher.flush().unwrap();
        let mut reader = Client::connect(broker.addr()).unwrap();
        reader.call(&consume("reader", false)).unwrap();
        for _ in 0..MESSAGES {
            assert!(reader.next(PATIENCE).unwrap().is_some());
        }
        let unread: Vec<Client> = (0..CONSUMERS)
            .map(|_| {
                let mut client = Client::connect(broker.addr()).unwrap();
                for number in 0..CONSUMERS {
                    client.say(&consume(&number.to_string(), true));
                }
                client.flush().unwrap();
                client
            })
            .collect();
        drop(reader);
        drop(unread);
        let back = eventually(PATIENCE, || {
            let answer = publisher.call(&declare(QUEUE, true)).unwrap();
            let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = answer else {
                return None;
            };
            (ok.message_count as usize == MESSAGES && ok.consumer_count == 0).then_some(())
        });
        assert!(back.is_some());
        publisher.close().unwrap();
        stopped(broker)
    });
}

fn commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}

/// Very many publishes and very many acknowledgements, rolled back and committed.
#[test]
fn transactions_of_very_much() {
    const MESSAGES: usize = 50_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        client.call(&declare("other", false)).unwrap();
        let select = AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}));
        let rollback = AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}));
        client.call(&select).unwrap();
        for _ in 0..MESSAGES {
            client.publish("", QUEUE, b"small");
        }
        client.call(&commit()).unwrap();
        client.call(&consume("reader", false)).unwrap();
        let mut last = 0;
        for _ in 0..MESSAGES {
            let Some(Incoming::Delivery(delivery)) = client.next(PATIENCE).unwrap() else {
                panic!("no delivery");
            };
            last = delivery.tag;
        }
        for end in [&rollback, &commit()] {
            client.ack(last, true);
            for _ in 0..MESSAGES {
                client.publish("", "other", b"small");
            }
            client.call(end).unwrap();
        }
        let answer = client.call(&declare("other", true)).unwrap();
        let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(ok.message_count as usize, MESSAGES);
        client.close().unwrap();
        stopped(broker)
    });
}

/// Whether there is no such queue any more. Unlike a declaration, asking is no use of it.
fn is_gone(broker: &Leveret, name: &str) -> bool {
    let mut probe = Client::connect(broker.addr()).unwrap();
    let AMQPClass::Queue(queue::AMQPMethod::Bind(mut bind)) = bind_to(name, "amq.topic", "a.0.b")
    else {
        unreachable!("it is a binding");
    };
    bind.nowait = false;
    let answer = probe.call(&AMQPClass::Queue(queue::AMQPMethod::Bind(bind)));
    answer.is_err_and(|error| error.to_string().contains("NOT_FOUND"))
}

/// What goes with its consumer, its connection, or for want of use, and has very many bindings.
#[test]
fn very_many_bindings_that_go_by_themselves() {
    const BINDINGS: usize = 10_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let mut expires = FieldTable::default();
        expires.insert("x-expires".into(), AMQPValue::LongInt(2_000));
        client.say(&own("with its consumer", false, FieldTable::default()));
        client.say(&lasting("for want of use", expires));
        client.say(&exclusive("with its connection"));
        let names = [
            "with its consumer",
            "for want of use",
            "with its connection",
        ];
        for name in names {
            for number in 0..BINDINGS {
                client.say(&bind_to(name, "amq.topic", &format!("a.{number}.b")));
            }
        }
        client
            .call(&consume_from("with its consumer", "c", false))
            .unwrap();
        drop(client);
        let gone = eventually(PATIENCE, || {
            names
                .iter()
                .all(|name| is_gone(&broker, name))
                .then_some(())
        });
        assert!(gone.is_some());
        stopped(broker)
    });
}

/// A connection with very many consumers, of one queue and of very many.
#[test]
fn very_many_consumers_that_close() {
    const CONSUMERS: usize = 20_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        for number in 0..CONSUMERS {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            client.say(&consume_from(&name, &name, true));
            client.say(&consume(&number.to_string(), true));
        }
        // Some go before the others.
        for number in 0..1_000 {
            client.say(&cancel(&number.to_string()));
        }
        client.call(&declare("other", false)).unwrap();
        drop(client);
        // The first is the last to go.
        assert!(eventually(PATIENCE, || is_gone(&broker, "q0").then_some(())).is_some());
        stopped(broker)
    });
}

fn cancel(tag: &str) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Cancel(basic::Cancel {
        consumer_tag: tag.into(),
        nowait: true,
    }))
}

#[test]
fn very_many_consumers_of_a_queue_that_is_deleted() {
    const CONSUMERS: usize = 50_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&declare(QUEUE, false)).unwrap();
        for number in 0..CONSUMERS {
            client.say(&consume(&number.to_string(), true));
        }
        client.call(&declare("other", false)).unwrap();
        let mut other = Client::connect(broker.addr()).unwrap();
        other.call(&delete(QUEUE)).unwrap();
        other.close().unwrap();
        client.call(&delete("other")).unwrap();
        client.close().unwrap();
        stopped(broker)
    });
}

#[test]
fn one_message_for_very_many_queues() {
    const QUEUES: usize = 20_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            client.say(&bind_to(&name, "amq.fanout", ""));
        }
        for _ in 0..3 {
            client.publish("amq.fanout", "", b"wide");
        }
        let answer = client.call(&declare_exclusive("q19999")).unwrap();
        let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(ok.message_count, 3);
        client.close().unwrap();
        stopped(broker)
    });
}

/// Very many queues have their consumers on one channel, which gets them all when its limit goes.
#[test]
fn shared_credit_for_very_many_queues() {
    const QUEUES: usize = 10_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.call(&qos(1)).unwrap();
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            client.say(&consume_from(&name, &name, true));
            client.publish("", &name, b"small");
        }
        client.say(&qos(0));
        client.flush().unwrap();
        let mut deliveries = 0;
        while deliveries < QUEUES {
            let incoming = client.next(PATIENCE).unwrap();
            deliveries += usize::from(matches!(incoming, Some(Incoming::Delivery(_))));
            assert!(incoming.is_some());
        }
        client.close().unwrap();
        stopped(broker)
    });
}

fn qos(limit: u16) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Qos(basic::Qos {
        prefetch_count: limit,
        global: true,
    }))
}

/// Asks for a queue of the connection's own.
fn declare_exclusive(name: &str) -> AMQPClass {
    let AMQPClass::Queue(queue::AMQPMethod::Declare(mut declare)) = exclusive(name) else {
        unreachable!("it is a declaration");
    };
    declare.nowait = false;
    AMQPClass::Queue(queue::AMQPMethod::Declare(declare))
}
