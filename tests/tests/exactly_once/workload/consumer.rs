//! Takes messages and settles them, one way or another.

use std::collections::VecDeque;
use std::io;

use leveret_tests::history::{
    ConsumerId, DeliveryId, Event, MessageId, Outcome, PublisherId, QueueId,
};
use leveret_tests::wire::{Client, Incoming};

use super::producer::Confirms;
use super::topology::{name, select_confirms};
use super::{Desk, Dice, Ended, IDLE, RECEIPTS, body, connect, consume};

/// How often a delivery is not acknowledged, in percent.
#[derive(Clone, Copy)]
pub(super) struct Odds {
    requeued: u64,
    rejected: u64,
}

impl Odds {
    pub(super) const ALL_ACKED: Self = Self {
        requeued: 0,
        rejected: 0,
    };
    pub(super) const SOME_BACK: Self = Self {
        requeued: 10,
        rejected: 0,
    };
    pub(super) const MIXED: Self = Self {
        requeued: 10,
        rejected: 15,
    };
    pub(super) const HALF_ACKED: Self = Self {
        requeued: 20,
        rejected: 30,
    };

    pub(super) fn throw(self, dice: &mut Dice) -> Outcome {
        match dice.between(0, 100) {
            number if number < self.requeued => Outcome::Requeued,
            number if number < self.requeued + self.rejected => Outcome::Rejected,
            _ => Outcome::Acked,
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Consumer {
    queue: QueueId,
    odds: Odds,
    receipts: bool,
}

impl Consumer {
    pub(super) fn of(queue: QueueId, odds: Odds) -> Self {
        Self {
            queue,
            odds,
            receipts: false,
        }
    }

    /// It publishes a receipt after each batch: once that is confirmed, what it settled before is for good.
    pub(super) fn with_receipts(self) -> Self {
        Self {
            receipts: true,
            ..self
        }
    }

    /// Works with one connection.
    pub(super) fn work(&self, desk: &Desk, dice: &mut Dice) -> io::Result<Ended> {
        let mut client = connect(desk)?;
        select_confirms(&mut client)?;
        consume(&mut client, self.queue, 50)?;
        let mut session = Session {
            desk,
            client,
            queue: self.queue,
            consumer: ConsumerId(desk.ledger.number()),
            publisher: PublisherId(desk.ledger.number()),
            confirms: Confirms::default(),
            receipts: VecDeque::new(),
        };
        loop {
            if desk.is_stopping() {
                desk.closed(session.consumer);
                session.client.close()?;
                return Ok(Ended::Stopped);
            }
            let batch = session.batch(dice.between(1, 30))?;
            if dice.percent(2) {
                // With all of the batch unsettled, in order or not.
                desk.closed(session.consumer);
                if dice.percent(50) {
                    session.client.close()?;
                }
                return Ok(Ended::Again);
            }
            session.settle(&batch, self.odds, dice);
            if self.receipts && !batch.is_empty() {
                session.write_receipt(&batch);
            }
            session.client.flush()?;
        }
    }
}

struct Session<'a> {
    desk: &'a Desk,
    client: Client,
    queue: QueueId,
    consumer: ConsumerId,
    publisher: PublisherId,
    confirms: Confirms,
    /// Receipts on their way: the tag of each, and what was settled before it.
    receipts: VecDeque<(u64, Vec<DeliveryId>)>,
}

impl Session<'_> {
    /// Deliveries, at most so many; none if none come.
    fn batch(&mut self, most: u64) -> io::Result<Vec<(u64, DeliveryId)>> {
        let mut batch = Vec::new();
        while (batch.len() as u64) < most
            && let Some(incoming) = self.client.next(IDLE)?
        {
            match incoming {
                Incoming::Delivery(delivery) => {
                    let id = self.desk.delivered(self.consumer, self.queue, &delivery);
                    batch.push((delivery.tag, id));
                }
                Incoming::Acked { tag, multiple } => self.confirmed(tag, multiple),
                other => return Err(io::Error::other(format!("{other:?}"))),
            }
        }
        Ok(batch)
    }

    fn confirmed(&mut self, tag: u64, multiple: bool) {
        self.confirms.acked(self.desk, tag, multiple);
        while let Some((sent, _)) = self.receipts.front()
            && *sent <= tag
        {
            // A confirm is for good, and so is everything before the publish it is for.
            for delivery in self.receipts.pop_front().into_iter().flat_map(|(_, it)| it) {
                self.desk.ledger.note(Event::SettledForGood { delivery });
            }
        }
    }

    fn settle(&mut self, batch: &[(u64, DeliveryId)], odds: Odds, dice: &mut Dice) {
        let all_acked = dice.percent(30);
        for (tag, delivery) in batch {
            let outcome = if all_acked {
                Outcome::Acked
            } else {
                odds.throw(dice)
            };
            self.desk.settled(*delivery, outcome, None);
            match outcome {
                Outcome::Acked if all_acked => {}
                Outcome::Acked => self.client.ack(*tag, false),
                Outcome::Requeued => self.client.nack(*tag, true),
                Outcome::Rejected => self.client.nack(*tag, false),
            }
        }
        if let Some((tag, _)) = batch.last().filter(|_| all_acked) {
            self.client.ack(*tag, true);
        }
    }

    fn write_receipt(&mut self, batch: &[(u64, DeliveryId)]) {
        let message = MessageId(self.desk.ledger.number());
        self.desk.ledger.note(Event::Published {
            message,
            publisher: self.publisher,
            queues: vec![RECEIPTS],
            transaction: None,
            key: None,
        });
        let tag = self.confirms.sent(message);
        let settled = batch.iter().map(|(_, delivery)| *delivery).collect();
        self.receipts.push_back((tag, settled));
        self.client.publish("", name(RECEIPTS), &body(message));
    }
}
