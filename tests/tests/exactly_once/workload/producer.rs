//! Publishes with confirms, a few at a time.

use std::io;

use leveret_tests::history::{Event, MessageId, PublisherId};
use leveret_tests::wire::{Client, Incoming};

use super::topology::{RECORDED, RECORDS, select_confirms};
use super::{Desk, Dice, Ended, body, connect};

/// Publishes that may be unconfirmed.
const WINDOW: usize = 60;

/// Works with one connection.
pub(super) fn work(desk: &Desk, dice: &mut Dice) -> io::Result<Ended> {
    let mut client = connect(desk)?;
    select_confirms(&mut client)?;
    let publisher = PublisherId(desk.ledger.number());
    let mut confirms = Confirms::default();
    loop {
        if desk.is_stopping() {
            client.close()?;
            return Ok(Ended::Stopped);
        }
        for _ in 0..dice.between(1, 20) {
            let message = MessageId(desk.ledger.number());
            desk.ledger.note(Event::Published {
                message,
                publisher,
                queues: RECORDED.to_vec(),
                transaction: None,
                key: None,
            });
            confirms.sent(message);
            client.publish(RECORDS, "", &body(message));
        }
        client.flush()?;
        // Some do not care what becomes of their latest messages.
        if dice.percent(1) {
            return Ok(Ended::Again);
        }
        while confirms.waiting() > WINDOW {
            confirms.hear(desk, &mut client)?;
        }
    }
}

/// Publishes that wait for their confirm.
#[derive(Default)]
pub(super) struct Confirms {
    sent: u64,
    unconfirmed: std::collections::VecDeque<(u64, MessageId)>,
}

impl Confirms {
    pub(super) fn sent(&mut self, message: MessageId) -> u64 {
        self.sent += 1;
        self.unconfirmed.push_back((self.sent, message));
        self.sent
    }

    pub(super) fn waiting(&self) -> usize {
        self.unconfirmed.len()
    }

    fn hear(&mut self, desk: &Desk, client: &mut Client) -> io::Result<()> {
        match client.next(leveret_tests::PATIENCE)? {
            Some(Incoming::Acked { tag, multiple }) => {
                self.acked(desk, tag, multiple);
                Ok(())
            }
            other => Err(io::Error::other(format!("instead of a confirm: {other:?}"))),
        }
    }

    /// Notes what is confirmed.
    pub(super) fn acked(&mut self, desk: &Desk, tag: u64, multiple: bool) {
        self.unconfirmed.retain(|(sent, message)| {
            let is_meant = *sent == tag || (multiple && *sent < tag);
            if is_meant {
                desk.ledger.note(Event::Confirmed { message: *message });
            }
            !is_meant
        });
    }
}
