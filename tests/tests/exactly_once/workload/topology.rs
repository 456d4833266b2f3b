//! The queues, and what is done with them before and after the work.

use std::io;

use leveret_codec::protocol::{basic, confirm, exchange, queue, tx};
use leveret_codec::{AMQPClass, AMQPValue, FieldTable};
use leveret_tests::history::{ConsumerId, Event, Ledger, Outcome, QueueFacts, QueueId};
use leveret_tests::wire::Client;

use super::Desk;

pub(crate) const IN: QueueId = QueueId(0);
pub(crate) const COPY: QueueId = QueueId(1);
pub(crate) const OUT: QueueId = QueueId(2);
pub(crate) const COUNT: QueueId = QueueId(3);
pub(crate) const DEAD: QueueId = QueueId(4);
pub(crate) const RECEIPTS: QueueId = QueueId(5);

/// Bound to [`IN`] and [`COPY`].
pub(crate) const RECORDS: &str = "records";

pub(crate) fn facts() -> Vec<QueueFacts> {
    let facts = |name, dead_letters_to, in_order| QueueFacts {
        name,
        dead_letters_to,
        in_order,
    };
    vec![
        facts("in", None, true),
        facts("copy", None, true),
        facts("out", Some(DEAD), true),
        facts("count", None, true),
        facts("dead", None, false),
        facts("receipts", None, true),
    ]
}

pub(crate) fn name(queue: QueueId) -> &'static str {
    ["in", "copy", "out", "count", "dead", "receipts"]
        .get(queue.0)
        .copied()
        .expect("a queue of this workload")
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.as_bytes().into())
}

fn arguments(queue: QueueId) -> FieldTable {
    let mut arguments = FieldTable::default();
    if queue == OUT {
        arguments.insert("x-dead-letter-exchange".into(), text(""));
        arguments.insert("x-dead-letter-routing-key".into(), text(name(DEAD)));
    } else if queue == COUNT {
        arguments.insert("x-queue-type".into(), text("quorum"));
    }
    arguments
}

/// Declares everything, durable.
pub(crate) fn declare(client: &mut Client) -> io::Result<()> {
    client.call(&AMQPClass::Exchange(exchange::AMQPMethod::Declare(
        exchange::Declare {
            exchange: RECORDS.into(),
            kind: "fanout".into(),
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: FieldTable::default(),
        },
    )))?;
    for queue in [IN, COPY, OUT, COUNT, DEAD, RECEIPTS] {
        declare_queue(client, queue, false)?;
    }
    for queue in [IN, COPY] {
        client.call(&AMQPClass::Queue(queue::AMQPMethod::Bind(queue::Bind {
            queue: name(queue).into(),
            exchange: RECORDS.into(),
            routing_key: "".into(),
            nowait: false,
            arguments: FieldTable::default(),
        })))?;
    }
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
        arguments: FieldTable::default(),
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
    for queue in [IN, COPY, OUT, COUNT, DEAD, RECEIPTS] {
        let consumer = ConsumerId(ledger.number());
        while let Some(delivery) = client.get(name(queue))? {
            let id = desk.delivered(consumer, queue, &delivery);
            desk.settled(id, Outcome::Acked, None);
            client.ack(delivery.tag, false);
        }
        ledger.note(Event::Closed { consumer });
    }
    client.close()
}

/// How many messages there are in all queues.
pub(crate) fn left(desk: &Desk) -> io::Result<u32> {
    let mut client = Client::connect(desk.address)?;
    let mut left = 0;
    for queue in [IN, COPY, OUT, COUNT, DEAD, RECEIPTS] {
        left += declare_queue(&mut client, queue, true)?;
    }
    client.close()?;
    Ok(left)
}
