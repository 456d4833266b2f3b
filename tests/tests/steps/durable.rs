//! Very many durable queues.

use serde_json::json;

use super::*;

/// A broker with so many durable queues, each bound to `amq.fanout`.
fn with_queues(count: usize) -> Leveret {
    let names = (0..count).map(|number| format!("q{number}"));
    let queue = |name| json!({"name": name, "vhost": "/", "durable": true});
    let binding = |name| {
        json!({
            "source": "amq.fanout", "vhost": "/", "destination": name,
            "destination_type": "queue", "routing_key": "", "arguments": {},
        })
    };
    let queues: Vec<_> = names.clone().map(queue).collect();
    let bindings: Vec<_> = names.map(binding).collect();
    let definitions = json!({"queues": queues, "bindings": bindings}).to_string();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("definitions.json");
    std::fs::write(&file, definitions).unwrap();
    Leveret::start_measured(&["--definitions", file.to_str().unwrap()])
}

fn select_confirms(client: &mut Client) {
    let select = confirm::Select { nowait: false };
    let select = AMQPClass::Confirm(confirm::AMQPMethod::Select(select));
    client.call(&select).unwrap();
}

/// Waits until so many publishes are confirmed.
fn expect_confirms(client: &mut Client, last: u64) {
    loop {
        match client.next(PATIENCE).unwrap() {
            Some(Incoming::Acked { tag, .. }) if tag == last => return,
            Some(Incoming::Acked { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// To all with one message, and to each with its own.
#[test]
fn publishes_into_very_many_durable_queues() {
    const QUEUES: usize = 50_000;
    const WIDE: u64 = 3;
    expect_short_steps(|| {
        let broker = with_queues(QUEUES);
        let mut client = Client::connect(broker.addr()).unwrap();
        select_confirms(&mut client);
        for _ in 0..WIDE {
            client.publish("amq.fanout", "", b"wide");
        }
        client.flush().unwrap();
        expect_confirms(&mut client, WIDE);
        for number in 0..QUEUES {
            client.publish("", &format!("q{number}"), b"small");
        }
        client.flush().unwrap();
        expect_confirms(&mut client, WIDE + QUEUES as u64);
        client.close().unwrap();
        stopped(broker)
    });
}
