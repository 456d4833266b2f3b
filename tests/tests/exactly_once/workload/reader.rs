//! Reads the stream: whatever is added to it, or again what was read before, or all of it.

use std::io;

use leveret_codec::AMQPValue;
use leveret_tests::PATIENCE;
use leveret_tests::history::{ConsumerId, Event};
use leveret_tests::wire::{Client, Delivery, Incoming};

use super::topology::{LOG, read, text};
use super::{Desk, Dice, Ended, IDLE, connect, message_of};

/// Works with one connection.
pub(super) fn work(desk: &Desk, dice: &mut Dice) -> io::Result<Ended> {
    let known = desk.memory.read_to();
    let from = match dice.between(0, 10) {
        0..2 => text("next"),
        2 => text("last"),
        3 if known < 2_000 => text("first"),
        _ => number(known.saturating_sub(dice.between(0, 400))),
    };
    let mut reader = Reader::begin(desk, from)?;
    for _ in 0..dice.between(20, 400) {
        if desk.is_stopping() {
            reader.client.close()?;
            return Ok(Ended::Stopped);
        }
        let most = dice.between(1, 100);
        reader.batch(most)?;
    }
    Ok(Ended::Again)
}

/// Reads from the first message to the last of so many.
pub(super) fn read_all(desk: &Desk, messages: u32) -> io::Result<()> {
    let mut reader = Reader::begin(desk, text("first"))?;
    for read in 0..messages {
        match reader.client.next(PATIENCE)? {
            Some(Incoming::Delivery(delivery)) => reader.take(&delivery),
            other => {
                let what = format!("{read} of {messages} messages of the stream, then {other:?}");
                return Err(io::Error::other(what));
            }
        }
        reader.client.flush()?;
    }
    reader.client.close()
}

fn number(offset: u64) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX))
}

struct Reader<'a> {
    desk: &'a Desk,
    client: Client,
    reader: ConsumerId,
}

impl<'a> Reader<'a> {
    fn begin(desk: &'a Desk, from: AMQPValue) -> io::Result<Self> {
        let mut client = connect(desk)?;
        read(&mut client, LOG, from)?;
        let reader = ConsumerId(desk.ledger.number());
        Ok(Self {
            desk,
            client,
            reader,
        })
    }

    fn batch(&mut self, most: u64) -> io::Result<()> {
        for _ in 0..most {
            match self.client.next(IDLE)? {
                None => break,
                Some(Incoming::Delivery(delivery)) => self.take(&delivery),
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
        self.client.flush()
    }

    fn take(&mut self, delivery: &Delivery) {
        let offset = delivery.offset.expect("x-stream-offset");
        self.desk.ledger.note(Event::Read {
            reader: self.reader,
            queue: LOG,
            message: message_of(&delivery.body),
            offset,
        });
        self.desk.memory.set_read(offset);
        self.client.ack(delivery.tag, true);
    }
}
