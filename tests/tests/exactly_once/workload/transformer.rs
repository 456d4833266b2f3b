//! Consume, transform, produce: takes messages, settles them one way or another and puts out others, in transactions.

use std::io;

use leveret_codec::AMQPClass;
use leveret_codec::protocol::tx;
use leveret_tests::history::{
    ConsumerId, DeliveryId, Event, MessageId, Outcome, PublisherId, QueueId, TransactionId,
};
use leveret_tests::wire::{Client, Incoming};

use super::consumer::Odds;
use super::topology::{name, select_transactions};
use super::{Desk, Dice, Ended, IDLE, body, connect, consume};

#[derive(Clone, Copy)]
pub(super) struct Transformer {
    pub(super) from: QueueId,
    pub(super) odds: Odds,
    /// Each gets a message for every one that was taken.
    pub(super) into: &'static [QueueId],
}

/// Works with one connection.
pub(super) fn work(transformer: Transformer, desk: &Desk, dice: &mut Dice) -> io::Result<Ended> {
    let mut client = connect(desk)?;
    select_transactions(&mut client)?;
    consume(&mut client, transformer.from, 40)?;
    let mut session = Session {
        desk,
        transformer,
        client,
        consumer: ConsumerId(desk.ledger.number()),
        publisher: PublisherId(desk.ledger.number()),
    };
    loop {
        if desk.is_stopping() {
            desk.closed(session.consumer);
            session.client.close()?;
            return Ok(Ended::Stopped);
        }
        let batch = session.batch(dice.between(1, 12))?;
        if batch.is_empty() {
            continue;
        }
        loop {
            let transaction = session.put_out(&batch, dice);
            match dice.between(0, 100) {
                0..8 => session.roll_back(transaction)?,
                8..11 => return session.abandon(),
                11..14 => return session.commit_and_go(transaction),
                _ => {
                    session.commit(transaction)?;
                    break;
                }
            }
        }
    }
}

struct Session<'a> {
    desk: &'a Desk,
    transformer: Transformer,
    client: Client,
    consumer: ConsumerId,
    publisher: PublisherId,
}

impl Session<'_> {
    fn batch(&mut self, most: u64) -> io::Result<Vec<(u64, DeliveryId)>> {
        let mut batch = Vec::new();
        while (batch.len() as u64) < most
            && let Some(incoming) = self.client.next(IDLE)?
        {
            let Incoming::Delivery(delivery) = incoming else {
                return Err(io::Error::other(format!("{incoming:?}")));
            };
            let from = self.transformer.from;
            let id = self.desk.delivered(self.consumer, from, &delivery);
            batch.push((delivery.tag, id));
        }
        Ok(batch)
    }

    /// Writes the transaction but for its end.
    fn put_out(&mut self, batch: &[(u64, DeliveryId)], dice: &mut Dice) -> TransactionId {
        let transaction = TransactionId(self.desk.ledger.number());
        for (tag, delivery) in batch {
            for queue in self.transformer.into {
                let message = MessageId(self.desk.ledger.number());
                self.desk.ledger.note(Event::Published {
                    message,
                    publisher: self.publisher,
                    queues: vec![*queue],
                    transaction: Some(transaction),
                    key: None,
                });
                self.client.publish("", name(*queue), &body(message));
            }
            let outcome = self.transformer.odds.throw(dice);
            self.desk.settled(*delivery, outcome, Some(transaction));
            match outcome {
                Outcome::Acked => self.client.ack(*tag, false),
                Outcome::Requeued => self.client.nack(*tag, true),
                Outcome::Rejected => self.client.nack(*tag, false),
            }
        }
        transaction
    }

    fn commit(&mut self, transaction: TransactionId) -> io::Result<()> {
        self.desk.ledger.note(Event::CommitSent(transaction));
        self.client.call(&commit())?;
        self.desk.ledger.note(Event::Committed(transaction));
        Ok(())
    }

    fn roll_back(&mut self, transaction: TransactionId) -> io::Result<()> {
        self.desk.ledger.note(Event::RolledBack(transaction));
        let rollback = AMQPClass::Tx(tx::AMQPMethod::Rollback(tx::Rollback {}));
        self.client.call(&rollback)?;
        Ok(())
    }

    /// Goes in the middle of a transaction.
    fn abandon(mut self) -> io::Result<Ended> {
        self.client.flush()?;
        self.desk.closed(self.consumer);
        Ok(Ended::Again)
    }

    /// Commits and does not wait to hear of it.
    fn commit_and_go(mut self, transaction: TransactionId) -> io::Result<Ended> {
        self.desk.ledger.note(Event::CommitSent(transaction));
        self.desk.closed(self.consumer);
        self.client.say(&commit());
        self.client.flush()?;
        Ok(Ended::Again)
    }
}

fn commit() -> AMQPClass {
    AMQPClass::Tx(tx::AMQPMethod::Commit(tx::Commit {}))
}
