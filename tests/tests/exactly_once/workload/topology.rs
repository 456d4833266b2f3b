//! The queues, and what is done with them before and after the work.

use std::io;

use leveret_codec::protocol::{basic, confirm, exchange, queue, tx};
use leveret_codec::{AMQPClass, AMQPValue, FieldTable};
use leveret_tests::history::{ConsumerId, Event, Ledger, Outcome, QueueFacts, QueueId};
use leveret_tests::wire::Client;

use super::{Desk, reader};

pub(crate) const IN: QueueId = QueueId(0);
pub(crate) const COPY: QueueId = QueueId(1);
pub(crate) const OUT: QueueId = QueueId(2);
pub(crate) const COUNT: QueueId = QueueId(3);
pub(crate) const DEAD: QueueId = QueueId(4);
pub(crate) const RECEIPTS: QueueId = QueueId(5);
/// A stream.
pub(crate) const LOG: QueueId = QueueId(6);
/// Two behind an exchange with a window of deduplication.
pub(super) const WINDOW: QueueId = QueueId(7);
pub(super) const WINDOW_COPY: QueueId = QueueId(8);
/// With a window of its own.
pub(super) const OWN_WINDOW: QueueId = QueueId(9);
/// Behind an exchange of the plugin's type.
pub(super) const CACHED: QueueId = QueueId(10);
/// For producers that number their messages, by an exchange and by none.
pub(super) const NUMBERED: QueueId = QueueId(11);
pub(super) const OWN_NUMBERS: QueueId = QueueId(12);

/// All but streams.
const QUEUES: [QueueId; 12] = [
    IN,
    COPY,
    OUT,
    COUNT,
    DEAD,
    RECEIPTS,
    WINDOW,
    WINDOW_COPY,
    OWN_WINDOW,
    CACHED,
    NUMBERED,
    OWN_NUMBERS,
];

/// A fanout.
pub(crate) const RECORDS: &str = "records";
/// What is bound to it.
pub(super) const RECORDED: [QueueId; 3] = [IN, COPY, LOG];

/// Longer than any test.
const WINDOW_MS: i32 = 86_400_000;

/// Fanout exchanges: name, type, arguments, what is bound to them.
fn exchanges() -> [(&'static str, &'static str, FieldTable, &'static [QueueId]); 4] {
    let cache = [
        ("x-cache-size", AMQPValue::LongInt(10_000_000)),
        ("x-cache-persistence", text("disk")),
    ];
    let window = [(DEDUPLICATION_WINDOW, AMQPValue::LongInt(WINDOW_MS))];
    [
        (RECORDS, "fanout", table([]), &RECORDED),
        ("window", "fanout", table(window), &[WINDOW, WINDOW_COPY]),
        ("cache", "x-message-deduplication", table(cache), &[CACHED]),
        ("numbers", "fanout", table([]), &[NUMBERED]),
    ]
}

const DEDUPLICATION_WINDOW: &str = "x-dedup-window-ms";

pub(super) fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

pub(crate) fn facts() -> Vec<QueueFacts> {
    let facts = |name, dead_letters_to, in_order| QueueFacts {
        name,
        dead_letters_to,
        in_order,
        is_stream: name == "log",
    };
    vec![
        facts("in", None, true),
        facts("copy", None, true),
        facts("out", Some(DEAD), true),
        facts("count", None, true),
        facts("dead", None, false),
        facts("receipts", None, true),
        facts("log", None, true),
        facts("window", None, false),
        facts("window copy", None, false),
        facts("own window", None, false),
        facts("cached", None, false),
        facts("numbered", None, false),
        facts("own numbers", None, false),
    ]
}

pub(crate) fn name(queue: QueueId) -> &'static str {
    let facts = facts();
    facts.get(queue.0).expect("a queue of this workload").name
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.as_bytes().into())
}

fn arguments(queue: QueueId) -> FieldTable {
    let mut arguments = FieldTable::default();
    if queue == OUT {
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(name(DEAD)));
    } else if queue == COUNT {
        arguments.insert("x-queue-type".into(), text("quorum"));
    } else if queue == LOG {
        arguments.insert("x-queue-type".into(), text("stream"));
    } else if queue == OWN_WINDOW {
        arguments.insert(DEDUPLICATION_WINDOW.into(), AMQPValue::LongInt(WINDOW_MS));
    }
    arguments
}

/// Declares everything, durable.
pub(crate) fn declare(client: &mut Client) -> io::Result<()> {
    for queue in QUEUES.into_iter().chain([LOG]) {
        declare_queue(client, queue, false)?;
    }
    for (exchange, kind, arguments, queues) in exchanges() {
        declare_exchange(client, exchange, kind, arguments)?;
        for queue in queues {
            bind(client, exchange, *queue)?;
        }
    }
    Ok(())
}

fn declare_exchange(
    client: &mut Client,
    exchange: &str,
    kind: &str,
    arguments: FieldTable,
) -> io::Result<()> {
    let declare = exchange::Declare {
        exchange: exchange.into(),
        kind: kind.into(),
        passive: false,
        durable: true,
        auto_delete: false,
        internal: false,
        nowait: false,
        arguments,
    };
    client.call(&AMQPClass::Exchange(exchange::AMQPMethod::Declare(declare)))?;
    Ok(())
}

fn bind(client: &mut Client, exchange: &str, queue: QueueId) -> io::Result<()> {
    let bind = queue::Bind {
        queue: name(queue).into(),
        exchange: exchange.into(),
        routing_key: "".into(),
        nowait: false,
        arguments: FieldTable::default(),
    };
    client.call(&AMQPClass::Queue(queue::AMQPMethod::Bind(bind)))?;
    Ok(())
}

/// Declares one; answers how many messages are in it.
fn declare_queue(client: &mut Client, queue: QueueId, passive: bool) -> io::Result<u32> {
    let answer = client.call(&AMQPClass::Queue(queue::AMQPMethod::Declare(
        queue::Declare {
            queue: name(queue).into(),
            passive,
            durable: true,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: arguments(queue),
        },
    )))?;
    match answer {
        AMQPClass::Queue(queue::AMQPMethod::DeclareOk(it)) => Ok(it.message_count),
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

/// Consumes with acknowledgements.
pub(crate) fn consume(client: &mut Client, queue: QueueId, prefetch: u16) -> io::Result<()> {
    consume_with(client, queue, prefetch, FieldTable::default())
}

/// Reads a stream from this place on.
pub(super) fn read(client: &mut Client, queue: QueueId, from: AMQPValue) -> io::Result<()> {
    consume_with(client, queue, 200, table([("x-stream-offset", from)]))
}

fn consume_with(
    client: &mut Client,
    queue: QueueId,
    prefetch: u16,
    arguments: FieldTable,
) -> io::Result<()> {
    let qos = basic::Qos {
        prefetch_count: prefetch,
        global: false,
    };
    client.call(&AMQPClass::Basic(basic::AMQPMethod::Qos(qos)))?;
    let consume = basic::Consume {
        queue: name(queue).into(),
        consumer_tag: "".into(),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments,
    };
    client.call(&AMQPClass::Basic(basic::AMQPMethod::Consume(consume)))?;
    Ok(())
}

pub(super) fn select_confirms(client: &mut Client) -> io::Result<()> {
    let select = confirm::Select { nowait: false };
    client.call(&AMQPClass::Confirm(confirm::AMQPMethod::Select(select)))?;
    Ok(())
}

pub(super) fn select_transactions(client: &mut Client) -> io::Result<()> {
    client.call(&AMQPClass::Tx(tx::AMQPMethod::Select(tx::Select {})))?;
    Ok(())
}

/// Takes everything out of all queues. Nobody else works, and what was unacknowledged has come back.
pub(crate) fn drain(ledger: &Ledger, desk: &Desk) -> io::Result<()> {
    let mut client = Client::connect(desk.address)?;
    for queue in QUEUES {
        let consumer = ConsumerId(ledger.number());
        while let Some(delivery) = client.get(name(queue))? {
            let id = desk.delivered(consumer, queue, &delivery);
            desk.settled(id, Outcome::Acked, None);
            client.ack(delivery.tag, false);
        }
        ledger.note(Event::Closed { consumer });
    }
    let messages = declare_queue(&mut client, LOG, true)?;
    client.close()?;
    reader::read_all(desk, messages)
}

/// How many messages there are in all queues.
pub(crate) fn left(desk: &Desk) -> io::Result<u32> {
    let mut client = Client::connect(desk.address)?;
    let mut left = 0;
    for queue in QUEUES {
        left += declare_queue(&mut client, queue, true)?;
    }
    client.close()?;
    Ok(left)
}
