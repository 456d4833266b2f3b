//! No step of the broker takes long, whatever is asked of it: debug builds count and name those that do.

use std::io::Write;

use leveret_codec::protocol::{basic, channel, queue};
use leveret_codec::{AMQPClass, FieldTable, write_method};
use leveret_tests::wire::Client;
use leveret_tests::{Leveret, PATIENCE};

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
