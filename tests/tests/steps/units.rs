//! What enters its queues as one, and is very much: transactions, histories, dead letters.

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
