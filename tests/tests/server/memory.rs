//! What the process keeps resident: after its start, and after a burst.

use std::fs;
use std::time::Duration;

use leveret_codec::AMQPClass;
use leveret_codec::protocol::queue;
use leveret_tests::{Leveret, eventually};

use leveret_tests::wire::Client;

/// The broker's memory comes back once it has been at rest for some seconds.
const PATIENCE: Duration = Duration::from_secs(40);
const QUEUE: &str = "burst";

/// A field of the process's status, in KiB.
fn kib(broker: &Leveret, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", broker.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.unwrap().parse().unwrap()
}

#[test]
fn what_the_start_needed_is_let_go() {
    let broker = Leveret::start(&[]);
    let less = eventually(PATIENCE, || {
        let (now, most) = (kib(&broker, "VmRSS:"), kib(&broker, "VmHWM:"));
        (now * 3 < most * 2).then_some(now)
    });
    assert!(less.is_some(), "{} KiB at rest", kib(&broker, "VmRSS:"));
    // What was let go is there again when it is needed.
    Client::connect(broker.addr()).unwrap().close().unwrap();
}

/// 200 MB go through memory, and checkpoints come in between: what a checkpoint makes for the life of the
/// process must not stay resident because the memory it was made in had been used before.
#[test]
fn after_a_burst_of_persistent_messages_memory_comes_back() {
    let broker = Leveret::start(&[]);
    let mut client = Client::connect(broker.addr()).unwrap();
    let declare = queue::Declare {
        queue: QUEUE.into(),
        passive: false,
        durable: true,
        exclusive: false,
        auto_delete: false,
        nowait: false,
        arguments: leveret_codec::FieldTable::default(),
    };
    let purge = queue::Purge {
        queue: QUEUE.into(),
        nowait: false,
    };
    let declare = AMQPClass::Queue(queue::AMQPMethod::Declare(declare));
    let purge = AMQPClass::Queue(queue::AMQPMethod::Purge(purge));
    client.call(&declare).unwrap();
    let body = vec![b'x'; 20_000];
    for _ in 0..40 {
        for _ in 0..250 {
            client.publish("", QUEUE, &body);
        }
        client.flush().unwrap();
    }
    client.call(&purge).unwrap();
    client.close().unwrap();
    let back = eventually(PATIENCE, || {
        (kib(&broker, "RssAnon:") < 20_000).then_some(())
    });
    assert!(back.is_some(), "{} KiB are left", kib(&broker, "RssAnon:"));
}
