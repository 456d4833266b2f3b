//! Where one message goes: very many queues, very many bindings, and tables that grow with them.

use super::*;

const QUEUES: usize = 20_000;

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

fn bind_with(name: &str, exchange: &str, arguments: &[(&str, AMQPValue)]) -> AMQPClass {
    let mut class = bind_to(name, exchange, "");
    if let AMQPClass::Queue(queue::AMQPMethod::Bind(bind)) = &mut class {
        for (key, value) in arguments {
            bind.arguments.insert((*key).into(), value.clone());
        }
    }
    class
}

fn bind_exchange(from: &str, to: &str) -> AMQPClass {
    AMQPClass::Exchange(exchange::AMQPMethod::Bind(exchange::Bind {
        destination: to.into(),
        source: from.into(),
        routing_key: "".into(),
        nowait: true,
        arguments: FieldTable::default(),
    }))
}

/// How many messages are ready in a queue of the connection's own, once what it said before has been done.
fn ready(client: &mut Client, name: &str) -> u32 {
    let answer = client.call(&declare_exclusive(name)).unwrap();
    let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(ok)) = answer else {
        panic!("{answer:?}");
    };
    ok.message_count
}

/// Three exchanges in a row lead to the same queues, in other orders.
#[test]
fn very_many_queues_that_are_found_again() {
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        client.say(&bind_exchange("amq.fanout", "amq.direct"));
        client.say(&bind_exchange("amq.fanout", "amq.topic"));
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            client.say(&bind_to(&name, "amq.fanout", ""));
        }
        for number in (0..QUEUES).rev() {
            let name = format!("q{number}");
            client.say(&bind_to(&name, "amq.direct", ""));
            client.say(&bind_to(&name, "amq.topic", "#"));
        }
        for _ in 0..3 {
            client.publish("amq.fanout", "", b"wide");
        }
        assert_eq!(ready(&mut client, "q19999"), 3);
        client.close().unwrap();
        stopped(broker)
    });
}

/// A message fulfils one header of each of very many different patterns.
#[test]
fn very_many_patterns_of_a_headers_exchange() {
    const EACH: usize = 3;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        for number in 0..QUEUES {
            let name = format!("q{number}");
            client.say(&exclusive(&name));
            for other in 0..EACH {
                let arguments = [
                    ("x-match", text("any")),
                    ("kind", text("order")),
                    ("number", text(&format!("{number}.{other}"))),
                ];
                client.say(&bind_with(&name, "amq.headers", &arguments));
            }
        }
        // None of these is fulfilled.
        for number in 0..QUEUES {
            let name = format!("header{number}");
            let arguments = [("kind", text("order")), (&*name, AMQPValue::Void)];
            client.say(&bind_with("q0", "amq.headers", &arguments));
        }
        let mut headers = FieldTable::default();
        headers.insert("kind".into(), text("order"));
        for _ in 0..3 {
            let properties = AMQPProperties::default().with_headers(headers.clone());
            client.publish_as("amq.headers", "", properties, b"wide");
        }
        assert_eq!(ready(&mut client, "q19999"), 3);
        client.close().unwrap();
        stopped(broker)
    });
}

/// Tables double many times over while they grow, and are freed.
#[test]
fn tables_that_grow() {
    const MANY: usize = 120_000;
    expect_short_steps(|| {
        let broker = Leveret::start_measured(&[]);
        let mut client = Client::connect(broker.addr()).unwrap();
        for number in 0..MANY {
            let name = format!("q{number}");
            client.say(&lasting(&name, FieldTable::default()));
            client.say(&bind_to(&name, "amq.fanout", ""));
            client.say(&bind_to("q0", "amq.direct", &name));
            let arguments = [("number", text(&name))];
            client.say(&bind_with("q0", "amq.headers", &arguments));
        }
        client.call(&delete("q0")).unwrap();
        client.close().unwrap();
        stopped(broker)
    });
}

/// A publisher still knows the way to very many queues when another connection has deleted them.
#[test]
fn very_many_queues_that_are_gone_when_their_routes_are_forgotten() {
    for goes_on in [true, false] {
        expect_short_steps(|| {
            let broker = Leveret::start_measured(&[]);
            let mut client = Client::connect(broker.addr()).unwrap();
            let mut publisher = Client::connect(broker.addr()).unwrap();
            for number in 0..QUEUES {
                client.say(&lasting(&format!("q{number}"), FieldTable::default()));
            }
            client.call(&declare("last", false)).unwrap();
            for number in 0..QUEUES {
                publisher.publish("", &format!("q{number}"), b"small");
            }
            publisher.call(&declare("last", true)).unwrap();
            for number in 0..QUEUES {
                client.say(&delete(&format!("q{number}")));
            }
            client.flush().unwrap();
            for _ in 0..QUEUES {
                assert!(client.next(PATIENCE).unwrap().is_some());
            }
            if goes_on {
                publisher.publish("", "last", b"small");
                publisher.call(&declare("last", true)).unwrap();
            }
            publisher.close().unwrap();
            client.close().unwrap();
            stopped(broker)
        });
    }
}
