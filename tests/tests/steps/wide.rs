//! One event for very many queues, and very many consumers of one.

use super::*;

#[test]
fn one_event_for_very_many_queues() {
    // Each is told of all that come after it: that is half a million events.
    const QUEUES: usize = 1_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            client.say(&bind_to(&name, "amq.rabbitmq.event", "queue.#"));
        }
        client.call(&declare("last", false)).unwrap();
        let mut other = Client::connect(broker.addr()).unwrap();
        other.call(&declare("after it", false)).unwrap();
        // All queues but the first have been told of; of both of the last ones, all.
        let told = eventually(PATIENCE, || {
            let got = client.get("q0").unwrap();
            got.is_none().then_some(())
        });
        assert!(told.is_some());
        // What these queues hold is not given back here: the kernel takes longer for so much memory than a step has.
        long_steps(&broker.log())
    });
}

fn consume_with(tag: &str, arguments: FieldTable) -> AMQPClass {
    let mut class = consume_from(QUEUE, tag, true);
    if let AMQPClass::Basic(basic::AMQPMethod::Consume(consume)) = &mut class {
        consume.arguments = arguments;
    }
    class
}

/// Each has another priority, or one of them is active at a time.
#[test]
fn very_many_consumers_with_priorities() {
    const CONSUMERS: i32 = 20_000;
    for is_single in [false, true] {
        expect_short_steps(|| {
            let broker = Leveret::start_measured(&[]);
            let mut client = Client::connect(broker.addr()).unwrap();
            let mut arguments = FieldTable::default();
            let single = AMQPValue::Boolean(is_single);
            arguments.insert("x-single-active-consumer".into(), single);
            client.say(&lasting(QUEUE, arguments));
            for number in 0..CONSUMERS {
                let mut arguments = FieldTable::default();
                arguments.insert("x-priority".into(), AMQPValue::LongInt(number));
                client.say(&consume_with(&number.to_string(), arguments));
            }
            // The one with its turn goes first, or last.
            for number in (0..CONSUMERS / 2).chain((CONSUMERS / 2..CONSUMERS).rev()) {
                client.say(&cancel(&number.to_string()));
            }
            client.call(&delete(QUEUE)).unwrap();
            client.close().unwrap();
            stopped(broker)
        });
    }
}

#[test]
fn very_many_readers_of_a_stream() {
    const READERS: usize = 5_000;
    const MESSAGES: usize = 5;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let mut arguments = FieldTable::default();
        let stream = AMQPValue::LongString("stream".into());
        arguments.insert("x-queue-type".into(), stream);
        let mut declare = lasting(QUEUE, arguments);
        if let AMQPClass::Queue(queue::AMQPMethod::Declare(declare)) = &mut declare {
            declare.durable = true;
        }
        client.say(&declare);
        client.call(&qos(0)).unwrap();
        let prefetch = basic::Qos {
            prefetch_count: 100,
            global: false,
        };
        client
            .call(&AMQPClass::Basic(basic::AMQPMethod::Qos(prefetch)))
            .unwrap();
        for number in 0..READERS {
            client.say(&consume_with(&number.to_string(), FieldTable::default()));
        }
        client.call(&self::declare("last", false)).unwrap();
        let mut publisher = Client::connect(broker.addr()).unwrap();
        for _ in 0..MESSAGES {
            publisher.publish("", QUEUE, b"read by all");
        }
        publisher.close().unwrap();
        let mut deliveries = 0;
        while deliveries < READERS * MESSAGES {
            let incoming = client.next(PATIENCE).unwrap();
            assert!(incoming.is_some(), "{deliveries}");
            deliveries += usize::from(matches!(incoming, Some(Incoming::Delivery(_))));
        }
        client.close().unwrap();
        stopped(broker)
    });
}
