//! Every method as scenarios call it, and what a client usually expects back.

use leveret_codec::{AMQPValue, FieldTable, encode_header};

use super::client::{Client, FRAME_MAX, Properties};
use super::wire::{self, Arguments};

/// Methods as scenarios use them: each is sent with the usual arguments. Those named `..._ok` also
/// expect the usual answer.
impl Client {
    pub fn declare(&self, queue: &str, flags: &[Flag], arguments: &[(&str, AMQPValue)]) {
        let has = |flag: Flag| flags.contains(&flag);
        let bits = [
            has(Flag::Passive),
            has(Flag::Durable),
            has(Flag::Exclusive),
            has(Flag::AutoDelete),
            has(Flag::NoWait),
        ];
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .bits(&bits)
            .table(&table(arguments));
        self.call((50, 10), arguments);
    }

    #[track_caller]
    pub fn declare_ok(&self, queue: &str, flags: &[Flag], arguments: &[(&str, AMQPValue)]) {
        self.declare(queue, flags, arguments);
        let lines = self.lines();
        assert!(
            lines.len() == 1 && lines[0].contains(&format!("declare-ok {queue} ")),
            "{lines:?}"
        );
    }

    /// Ready messages and consumers of a queue.
    #[track_caller]
    pub fn counts(&self, queue: &str) -> (u32, u32) {
        let earlier = self.seen();
        self.declare(queue, &[Flag::Passive], &[]);
        let mut lines = self.lines();
        let line = lines.pop().expect("an answer");
        let mut words = line.rsplit(' ').map(|word| {
            word.parse::<u32>()
                .unwrap_or_else(|_| panic!("no counts in '{line}'"))
        });
        let (consumers, ready) = (words.next(), words.next());
        self.wired.borrow_mut().seen.splice(0..0, earlier);
        (
            ready.expect("a message count"),
            consumers.expect("a consumer count"),
        )
    }

    pub fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .short(exchange)
            .short(key)
            .bits(&[false])
            .table(&FieldTable::default());
        self.call((50, 20), arguments);
    }

    /// A binding with arguments and no key.
    #[track_caller]
    pub fn bind_with(&self, queue: &str, exchange: &str, arguments: &[(&str, AMQPValue)]) {
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .short(exchange)
            .short("")
            .bits(&[false])
            .table(&table(arguments));
        self.call((50, 20), arguments);
        self.expect_first("bind-ok");
    }

    pub fn unbind(&self, queue: &str, exchange: &str, key: &str) {
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .short(exchange)
            .short(key)
            .table(&FieldTable::default());
        self.call((50, 50), arguments);
    }

    pub fn purge(&self, queue: &str) {
        self.call(
            (50, 30),
            Arguments::new().ticket().short(queue).bits(&[false]),
        );
    }

    pub fn delete(&self, queue: &str, if_unused: bool, if_empty: bool) {
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .bits(&[if_unused, if_empty, false]);
        self.call((50, 40), arguments);
    }

    pub fn declare_exchange(
        &self,
        name: &str,
        kind: &str,
        flags: &[Flag],
        arguments: &[(&str, AMQPValue)],
    ) {
        let has = |flag: Flag| flags.contains(&flag);
        let bits = [
            has(Flag::Passive),
            has(Flag::Durable),
            has(Flag::AutoDelete),
            has(Flag::Internal),
            has(Flag::NoWait),
        ];
        let arguments = Arguments::new()
            .ticket()
            .short(name)
            .short(kind)
            .bits(&bits)
            .table(&table(arguments));
        self.call((40, 10), arguments);
    }

    pub fn delete_exchange(&self, name: &str, if_unused: bool) {
        self.call(
            (40, 20),
            Arguments::new()
                .ticket()
                .short(name)
                .bits(&[if_unused, false]),
        );
    }

    /// `exchange.bind` or, with 40, `exchange.unbind`.
    pub fn exchange_binding(&self, method: u16, destination: &str, source: &str, key: &str) {
        let arguments = Arguments::new()
            .ticket()
            .short(destination)
            .short(source)
            .short(key)
            .bits(&[false])
            .table(&FieldTable::default());
        self.call((40, method), arguments);
    }

    /// The bytes of a publish.
    pub fn publishing(&self, key: &str, body: &[u8], message: &Properties) -> Vec<u8> {
        let header = encode_header(body.len() as u64, &message.properties);
        wire::publish(
            self.channel,
            message.exchange,
            key,
            message.mandatory,
            &header,
            body,
            FRAME_MAX,
        )
    }

    pub fn publish(&self, key: &str, body: &str) {
        self.publish_with(key, body, &Properties::default());
    }

    pub fn publish_with(&self, key: &str, body: &str, message: &Properties) {
        self.send(&self.publishing(key, body.as_bytes(), message));
    }

    /// Publishes each word, in one read.
    pub fn publish_all(&self, key: &str, bodies: &str, message: &Properties) {
        for body in bodies.split_whitespace() {
            self.write(&self.publishing(key, body.as_bytes(), message));
        }
        self.world.run();
    }

    pub fn consume(&self, queue: &str, tag: &str, flags: &[Flag], arguments: &[(&str, AMQPValue)]) {
        let has = |flag: Flag| flags.contains(&flag);
        let bits = [
            false,
            has(Flag::NoAck),
            has(Flag::Exclusive),
            has(Flag::NoWait),
        ];
        let arguments = Arguments::new()
            .ticket()
            .short(queue)
            .short(tag)
            .bits(&bits)
            .table(&table(arguments));
        self.call((60, 20), arguments);
    }

    /// A consumer that acknowledges; what the queue holds is delivered at once.
    #[track_caller]
    pub fn consume_ok(&self, queue: &str, tag: &str) {
        self.consume(queue, tag, &[], &[]);
        self.expect_first(&format!("consume-ok {tag}"));
    }

    /// The first of what was said; the rest stays.
    #[track_caller]
    pub fn expect_first(&self, expected: &str) {
        let mut seen = self.seen();
        assert!(!seen.is_empty(), "nothing seen, expected {expected}");
        let first = seen.remove(0).line();
        assert!(
            first.ends_with(expected),
            "seen {first}, expected {expected}"
        );
        self.wired.borrow_mut().seen = seen;
    }

    pub fn cancel(&self, tag: &str) {
        self.call((60, 30), Arguments::new().short(tag).bits(&[false]));
    }

    pub fn get(&self, queue: &str, no_ack: bool) {
        self.call(
            (60, 70),
            Arguments::new().ticket().short(queue).bits(&[no_ack]),
        );
    }

    pub fn ack(&self, tag: u64, multiple: bool) {
        self.call((60, 80), Arguments::new().u64(tag).bits(&[multiple]));
    }

    pub fn nack(&self, tag: u64, multiple: bool, requeue: bool) {
        self.send(&self.nacking(tag, multiple, requeue));
    }

    /// The bytes of a `basic.nack`.
    pub fn nacking(&self, tag: u64, multiple: bool, requeue: bool) -> Vec<u8> {
        let arguments = Arguments::new().u64(tag).bits(&[multiple, requeue]);
        wire::method(self.channel, (60, 120), arguments)
    }

    pub fn reject(&self, tag: u64, requeue: bool) {
        self.call((60, 90), Arguments::new().u64(tag).bits(&[requeue]));
    }

    pub fn recover(&self, requeue: bool) {
        self.call((60, 110), Arguments::new().bits(&[requeue]));
    }

    #[track_caller]
    pub fn qos_ok(&self, count: u16, global: bool) {
        let arguments = Arguments::new().u32(0).u16(count).bits(&[global]);
        self.call((60, 10), arguments);
        self.expect_first("qos-ok");
    }

    #[track_caller]
    pub fn confirms(&self) {
        self.call((85, 10), Arguments::new().bits(&[false]));
        self.expect_first("confirm.select-ok");
    }

    /// `tx.select` (10), `tx.commit` (20) or `tx.rollback` (30).
    pub fn tx(&self, method: u16) {
        self.call((90, method), Arguments::new());
    }

    pub fn close_channel(&self) {
        let arguments = Arguments::new().u16(200).short("bye").u16(0).u16(0);
        self.call((20, 40), arguments);
    }

    pub fn close_channel_ok(&self) {
        self.call((20, 41), Arguments::new());
    }

    pub fn close(&self) {
        let arguments = Arguments::new().u16(200).short("bye").u16(0).u16(0);
        self.send(&wire::method(0, (10, 50), arguments));
    }

    /// The channel was closed with this; it can be opened again afterwards.
    #[track_caller]
    pub fn expect_channel_error(&self, code: u16, text: &str) {
        let line = format!("channel.close {code} {text}");
        match self.channel {
            1 => self.expect(&[line]),
            number => self.expect(&[format!("{number}: {line}")]),
        }
        self.close_channel_ok();
        self.with_channel(self.channel);
    }

    /// The connection was closed with this; the close is answered.
    #[track_caller]
    pub fn expect_connection_error(&self, code: u16, text: &str) {
        self.expect(&[format!("connection.close {code} {text}")]);
        self.send(&wire::method(0, (10, 51), Arguments::new()));
        assert!(self.is_closed());
    }
}

/// Booleans of several methods.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flag {
    Passive,
    Durable,
    Exclusive,
    AutoDelete,
    Internal,
    NoAck,
    NoWait,
}

pub fn table(entries: &[(&str, AMQPValue)]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert((*name).into(), value.clone());
    }
    table
}

pub fn number(value: i64) -> AMQPValue {
    AMQPValue::LongLongInt(value)
}

pub fn string(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.as_bytes().to_vec().into())
}
