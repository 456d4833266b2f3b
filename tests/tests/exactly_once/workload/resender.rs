//! Publishes with keys, and sends again whatever nobody has answered for; and much of what somebody has.

use std::collections::VecDeque;
use std::io;

use leveret_codec::protocol::tx;
use leveret_codec::{AMQPClass, AMQPProperties, AMQPValue};
use leveret_tests::history::{Event, MessageId, PublisherId, QueueId, TransactionId};
use leveret_tests::wire::{Client, Incoming};

use super::topology::{
    CACHED, NUMBERED, OWN_NUMBERS, OWN_WINDOW, WINDOW, WINDOW_COPY, name, select_confirms,
    select_transactions, table, text,
};
use super::{Desk, Dice, Ended, body, connect};

/// Publishes that may be unconfirmed.
const WINDOW_OF_CONFIRMS: usize = 40;

/// By what a duplicate is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    MessageId,
    Header,
    Number,
}

/// One form of deduplication.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    by: Known,
    /// None is the default exchange, and the queue does it.
    exchange: Option<&'static str>,
    queues: &'static [QueueId],
}

/// All of them; each has a client, and a place in the clients' memory.
pub(super) const FORMS: [Form; 5] = [
    form(Known::MessageId, Some("window"), &[WINDOW, WINDOW_COPY]),
    form(Known::MessageId, None, &[OWN_WINDOW]),
    form(Known::Header, Some("cache"), &[CACHED]),
    form(Known::Number, Some("numbers"), &[NUMBERED]),
    form(Known::Number, None, &[OWN_NUMBERS]),
];

const fn form(by: Known, exchange: Option<&'static str>, queues: &'static [QueueId]) -> Form {
    Form {
        by,
        exchange,
        queues,
    }
}

impl Form {
    fn properties(self, key: u64) -> AMQPProperties {
        let properties = AMQPProperties::default();
        let headers = match self.by {
            Known::MessageId => return properties.with_message_id(key.to_string().into()),
            Known::Header => table([("x-deduplication-header", text(&key.to_string()))]),
            Known::Number => {
                let sequence = AMQPValue::LongLongInt(i64::try_from(key).unwrap_or(i64::MAX));
                table([("x-producer", text("resender")), ("x-sequence", sequence)])
            }
        };
        properties.with_headers(headers)
    }
}

/// Works with one connection.
pub(super) fn work(number: usize, desk: &Desk, dice: &mut Dice) -> io::Result<Ended> {
    let mut client = connect(desk)?;
    let in_transactions = dice.percent(30);
    if in_transactions {
        select_transactions(&mut client)?;
    } else {
        select_confirms(&mut client)?;
    }
    let session = Session {
        desk,
        number,
        form: FORMS[number],
        client,
        publisher: PublisherId(desk.ledger.number()),
        transaction: None,
        sent: 0,
        unconfirmed: VecDeque::new(),
    };
    if in_transactions {
        session.commits(dice)
    } else {
        session.confirms(dice)
    }
}

struct Session<'a> {
    desk: &'a Desk,
    number: usize,
    form: Form,
    client: Client,
    publisher: PublisherId,
    transaction: Option<TransactionId>,
    sent: u64,
    /// By tag; None is a message that is to be refused.
    unconfirmed: VecDeque<(u64, MessageId, Option<u64>)>,
}

impl Session<'_> {
    /// Sends a key's message, which is another one each time.
    fn send(&mut self, key: u64) -> MessageId {
        let message = MessageId(self.desk.ledger.number());
        self.desk.ledger.note(Event::Published {
            message,
            publisher: self.publisher,
            queues: self.form.queues.to_vec(),
            transaction: self.transaction,
            key: Some(((self.number as u64) << 48) | key),
        });
        let routing_key = match (self.form.exchange, self.form.queues) {
            (None, [queue, ..]) => name(*queue),
            _ => "",
        };
        let exchange = self.form.exchange.unwrap_or_default();
        let properties = self.form.properties(key);
        self.client
            .publish_as(exchange, routing_key, properties, &body(message));
        self.sent += 1;
        message
    }

    /// Some new ones, and some of the latest once more.
    fn batch(&self, dice: &mut Dice) -> Vec<u64> {
        let mut keys = self.desk.memory.keys(self.number);
        let mut batch = Vec::new();
        for _ in 0..dice.between(1, 12) {
            batch.push(keys.next());
            if dice.percent(15) {
                batch.extend(keys.recent(dice.between(0, 30)));
            }
        }
        batch
    }

    fn unanswered(&self, dice: &mut Dice) -> Vec<u64> {
        let keys = self.desk.memory.keys(self.number);
        keys.to_be_sent_again(dice.between(0, 20))
    }

    fn confirms(mut self, dice: &mut Dice) -> io::Result<Ended> {
        let mut batch = self.unanswered(dice);
        loop {
            for key in batch {
                let message = self.send(key);
                self.unconfirmed.push_back((self.sent, message, Some(key)));
            }
            if self.form.by == Known::Number && dice.percent(80) && self.is_known() {
                self.leave_a_gap()?;
            }
            self.client.flush()?;
            if dice.percent(2) {
                return Ok(Ended::Again);
            }
            let most = if self.desk.is_stopping() {
                0
            } else {
                WINDOW_OF_CONFIRMS
            };
            while self.unconfirmed.len() > most {
                self.hear()?;
            }
            if self.desk.is_stopping() {
                self.client.close()?;
                return Ok(Ended::Stopped);
            }
            batch = self.batch(dice);
        }
    }

    /// The broker is sure to know this producer: its first number may be any.
    fn is_known(&self) -> bool {
        let first = self.unconfirmed.front();
        first.map_or(self.sent > 0, |(tag, ..)| *tag > 1)
    }

    /// Waits for the answer: from a connection that nobody listens to, this message might come too late to be one too
    /// early.
    fn leave_a_gap(&mut self) -> io::Result<()> {
        let key = self.desk.memory.keys(self.number).after_next();
        let message = self.send(key);
        self.unconfirmed.push_back((self.sent, message, None));
        self.client.flush()?;
        while !self.unconfirmed.is_empty() {
            self.hear()?;
        }
        Ok(())
    }

    fn hear(&mut self) -> io::Result<()> {
        match self.client.next(leveret_tests::PATIENCE)? {
            Some(Incoming::Acked { tag, multiple }) => self.answered(tag, multiple, true),
            Some(Incoming::Nacked { tag, multiple }) => self.answered(tag, multiple, false),
            other => Err(io::Error::other(format!("instead of a confirm: {other:?}"))),
        }
    }

    fn answered(&mut self, tag: u64, multiple: bool, acked: bool) -> io::Result<()> {
        let is_meant = |sent: u64| sent == tag || (multiple && sent < tag);
        let (meant, rest) = std::mem::take(&mut self.unconfirmed)
            .into_iter()
            .partition(|(sent, ..)| is_meant(*sent));
        self.unconfirmed = rest;
        let meant: VecDeque<_> = meant;
        for (tag, message, key) in meant {
            match key {
                Some(key) if acked => {
                    self.desk.ledger.note(Event::Confirmed { message });
                    self.desk.memory.keys(self.number).answered(key);
                }
                None if !acked => self.desk.ledger.note(Event::Refused { message }),
                _ => {
                    let what = format!("{:?}: {tag} {key:?} acked: {acked}", self.form);
                    return Err(io::Error::other(what));
                }
            }
        }
        Ok(())
    }

    fn commits(mut self, dice: &mut Dice) -> io::Result<Ended> {
        let mut batch = self.unanswered(dice);
        loop {
            let transaction = TransactionId(self.desk.ledger.number());
            self.transaction = Some(transaction);
            for key in &batch {
                self.send(*key);
            }
            match dice.between(0, 100) {
                0..8 => {
                    self.desk.ledger.note(Event::RolledBack(transaction));
                    let rollback = tx::AMQPMethod::Rollback(tx::Rollback {});
                    self.client.call(&AMQPClass::Tx(rollback))?;
                    // All of it again: numbers must not be left out.
                    continue;
                }
                8..11 => {
                    self.client.flush()?;
                    return Ok(Ended::Again);
                }
                choice => {
                    self.desk.ledger.note(Event::CommitSent(transaction));
                    let commit = AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}));
                    if choice < 14 {
                        self.client.say(&commit);
                        self.client.flush()?;
                        return Ok(Ended::Again);
                    }
                    self.client.call(&commit)?;
                    self.desk.ledger.note(Event::Committed(transaction));
                }
            }
            let mut keys = self.desk.memory.keys(self.number);
            batch.iter().for_each(|key| keys.answered(*key));
            drop(keys);
            if self.desk.is_stopping() {
                self.client.close()?;
                return Ok(Ended::Stopped);
            }
            batch = self.batch(dice);
        }
    }
}
