//! No step of the broker takes long, whatever is asked of it: debug builds count and name those that do.

use std::io::Write;

use leveret_codec::protocol::{basic, channel, queue, tx};
use leveret_codec::{AMQPClass, FieldTable, write_method};
use leveret_tests::wire::{Client, Incoming};
use leveret_tests::{Leveret, PATIENCE, eventually};

use crate::process::{log_in, read_frame};

const QUEUE: &str = "q";

/// Stops the broker, which says how many of its steps were too long.
#[track_caller]
fn expect_short_steps(mut broker: Leveret) {
    assert!(broker.terminate().success());
    let log = broker.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("step")).collect();
    let measured = told.iter().find(|line| line.contains("steps measured"));
    assert!(
        measured.is_some_and(|line| line.ends_with("long=0")),
        "{told:#?}"
    );
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
    expect_short_steps(broker);
}

#[test]
fn floods_of_messages() {
    const MESSAGES: usize = 20_000;
    let broker = Leveret::start_measured(&[]);
    let mut client = Client::connect(broker.addr()).unwrap();
    client.call(&declare(QUEUE, false)).unwrap();
    for _ in 0..MESSAGES {
        client.publish("", QUEUE, b"small");
    }
    flood(&mut client, &[get()], MESSAGES);
    client.close().unwrap();
    expect_short_steps(broker);
}

#[test]
fn floods_of_failures() {
    const FAILURES: usize = 5_000;
    let broker = Leveret::start_measured(&[]);
    let mut socket = log_in(broker.addr());
    let mut bytes = Vec::new();
    for method in [
        AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {})),
        declare("missing", true),
        AMQPClass::Channel(channel::AMQPMethod::CloseOk(channel::CloseOk {})),
    ] {
        write_method(&mut bytes, 1, &method);
    }
    socket.write_all(&bytes.repeat(FAILURES)).unwrap();
    for _ in 0..FAILURES {
        for expected in [[0, 20, 0, 11], [0, 20, 0, 40]] {
            let (_, _, payload) = read_frame(&mut socket);
            assert_eq!(payload[..4], expected);
        }
    }
    drop(socket);
    expect_short_steps(broker);
}

fn exclusive(name: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Declare(queue::Declare {
        queue: name.into(),
        passive: false,
        durable: false,
        exclusive: true,
        auto_delete: false,
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

fn bind(key: &str) -> AMQPClass {
    AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
        queue: QUEUE.into(),
        exchange: "amq.topic".into(),
        routing_key: key.into(),
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

fn consume(tag: &str, nowait: bool) -> AMQPClass {
    AMQPClass::Basic(basic::AMQPMethod::Consume(basic::Consume {
        queue: QUEUE.into(),
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
    let broker = Leveret::start_measured(&[]);
    let mut client = Client::connect(broker.addr()).unwrap();
    client.call(&declare(QUEUE, false)).unwrap();
    for number in 0..MANY {
        client.say(&exclusive(&format!("exclusive{number}")));
        client.say(&bind(&format!("a.{number}.b")));
    }
    client.call(&delete(QUEUE)).unwrap();
    client.close().unwrap();
    expect_short_steps(broker);
}

/// Deliveries come back from consumers that have read them, and from those that have not.
#[test]
fn consumers_that_die_with_very_many_deliveries() {
    const MESSAGES: usize = 50_000;
    const CONSUMERS: usize = 20;
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
    expect_short_steps(broker);
}

fn commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}

/// Very many publishes and very many acknowledgements, rolled back and committed.
#[test]
fn transactions_of_very_much() {
    const MESSAGES: usize = 50_000;
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
    expect_short_steps(broker);
}
