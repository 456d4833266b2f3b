//! What enters its queues as one, and is very much: transactions, histories, dead letters.

use leveret_codec::AMQPProperties;
use leveret_codec::protocol::exchange;

use super::*;

fn select(client: &mut Client) {
    let select = AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {}));
    client.call(&select).unwrap();
}

/// How many messages a queue shows.
fn ready(client: &mut Client, name: &str) -> usize {
    let answer = client.call(&declare(name, true)).unwrap();
    let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = answer else {
        panic!("{answer:?}");
    };
    ok.message_count as usize
}

/// In one queue, and in very many.
#[test]
fn times_to_live_of_a_transaction() {
    const MESSAGES: usize = 50_000;
    const QUEUES: usize = 2_000;
    const WIDE: usize = 10;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-message-ttl".into(), AMQPValue::LongInt(3_600_000));
        client.say(&lasting(QUEUE, arguments.clone()));
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&own(&name, true, arguments.clone()));
            client.say(&bind_to(&name, "amq.fanout", ""));
        }
        select(&mut client);
        for _ in 0..MESSAGES {
            client.publish("", QUEUE, b"small");
        }
        for _ in 0..WIDE {
            client.publish("amq.fanout", "", b"wide");
        }
        client.call(&commit()).unwrap();
        assert_eq!(ready(&mut client, QUEUE), MESSAGES);
        assert_eq!(ready(&mut client, "q0"), WIDE);
        client.close().unwrap();
        stopped(broker)
    });
}

/// What a deduplicating exchange or queue, and one that remembers, make of a large transaction.
#[test]
fn transactions_past_gates() {
    const MESSAGES: usize = 20_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let window = with("x-dedup-window-ms", AMQPValue::LongInt(3_600_000));
        client.call(&declare(QUEUE, false)).unwrap();
        client.say(&lasting("windowed", window.clone()));
        let length = with("x-recent-history-length", AMQPValue::LongInt(10_000));
        for (exchange, kind, arguments) in [
            ("deduplicating", "fanout", window),
            ("remembering", "x-recent-history", length),
        ] {
            client
                .call(&exchange_of(exchange, kind, arguments))
                .unwrap();
            client.say(&bind_to(QUEUE, exchange, ""));
        }
        select(&mut client);
        for number in 0..MESSAGES {
            let id = number.to_string();
            for (exchange, key) in [("deduplicating", ""), ("remembering", ""), ("", "windowed")] {
                let properties = AMQPProperties::default().with_message_id(id.as_str().into());
                client.publish_as(exchange, key, properties, b"small");
            }
        }
        client.call(&commit()).unwrap();
        assert_eq!(ready(&mut client, QUEUE), 2 * MESSAGES);
        assert_eq!(ready(&mut client, "windowed"), MESSAGES);
        client.close().unwrap();
        stopped(broker)
    });
}

/// To very many queues that look for duplicates.
#[test]
fn a_transaction_past_very_many_gates() {
    const QUEUES: usize = 10_000;
    const MESSAGES: usize = 3;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let window = with("x-dedup-window-ms", AMQPValue::LongInt(3_600_000));
        queues_of(&mut client, QUEUES, &window);
        select(&mut client);
        for _ in 0..MESSAGES {
            client.publish("amq.fanout", "", b"wide");
        }
        client.call(&commit()).unwrap();
        assert_eq!(ready(&mut client, "q0"), MESSAGES);
        client.close().unwrap();
        stopped(broker)
    });
}

fn with(name: &str, value: AMQPValue) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(name.into(), value);
    arguments
}

fn exchange_of(name: &str, kind: &str, arguments: FieldTable) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Declare(exchange::Declare {
        exchange: name.into(),
        kind: kind.into(),
        passive: false,
        durable: false,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments,
    }))
}

fn bind_exchange(destination: &str, source: &str) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
        destination: destination.into(),
        source: source.into(),
        routing_key: "".into(),
        nowait: false,
        arguments: FieldTable::default(),
    }))
}

/// Queues bound to amq.fanout.
fn queues_of(client: &mut Client, count: usize, arguments: &FieldTable) {
    for number in 0..count {
        let name = format!("q{number}");
        client.say(&own(&name, true, arguments.clone()));
        client.say(&bind_to(&name, "amq.fanout", ""));
    }
}

/// Waits until a queue shows so many messages.
fn wait_for(client: &mut Client, name: &str, count: usize) {
    let there = eventually(PATIENCE, || (ready(client, name) == count).then_some(()));
    assert!(there.is_some());
}

/// Dead letters, delayed messages and publishes past an exchange that remembers, for very many queues.
#[test]
fn messages_for_very_many_queues_that_go_another_way() {
    const QUEUES: usize = 20_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        queues_of(&mut client, QUEUES, &FieldTable::default());
        let fanout = AMQPValue::LongString("amq.fanout".into());
        client.say(&lasting(QUEUE, with("x-dead-letter-exchange", fanout)));
        let kind = with("x-delayed-type", AMQPValue::LongString("fanout".into()));
        for (name, exchange) in [
            ("later", exchange_of("later", "x-delayed-message", kind)),
            (
                "remembering",
                exchange_of("remembering", "x-recent-history", FieldTable::default()),
            ),
        ] {
            client.call(&exchange).unwrap();
            client.call(&bind_exchange("amq.fanout", name)).unwrap();
        }
        let expired = AMQPProperties::default().with_expiration("0".into());
        client.publish_as("", QUEUE, expired, b"dead");
        wait_for(&mut client, "q19999", 1);
        let delay = with("x-delay", AMQPValue::LongInt(1));
        let delayed = AMQPProperties::default().with_headers(delay);
        client.publish_as("later", "", delayed, b"delayed");
        wait_for(&mut client, "q19999", 2);
        client.publish("remembering", "", b"remembered");
        wait_for(&mut client, "q19999", 3);
        client.close().unwrap();
        stopped(broker)
    });
}

/// To a queue, to an exchange, and to an exchange with very many queues.
#[test]
fn long_histories() {
    const MESSAGES: usize = 20_000;
    const QUEUES: usize = 2_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        let length = with("x-recent-history-length", AMQPValue::LongInt(20_000));
        for (name, messages) in [("long", MESSAGES), ("short", 10)] {
            let exchange = exchange_of(name, "x-recent-history", length.clone());
            client.call(&exchange).unwrap();
            for _ in 0..messages {
                client.publish(name, "", b"small");
            }
        }
        client.call(&declare(QUEUE, false)).unwrap();
        client.call(&declare("other", false)).unwrap();
        client.say(&bind_to(QUEUE, "long", ""));
        client.say(&bind_to("other", "amq.topic", ""));
        client.call(&bind_exchange("amq.topic", "long")).unwrap();
        assert_eq!(ready(&mut client, QUEUE), MESSAGES);
        assert_eq!(ready(&mut client, "other"), MESSAGES);
        queues_of(&mut client, QUEUES, &FieldTable::default());
        client.call(&bind_exchange("amq.fanout", "short")).unwrap();
        assert_eq!(ready(&mut client, "q0"), 10);
        client.close().unwrap();
        stopped(broker)
    });
}
