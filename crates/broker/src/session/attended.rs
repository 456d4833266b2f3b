//! Publishes past exchanges that keep something: one at a time, each one commit.

use leveret_store::CommitPoint;

use super::Link;
use super::channel::PublishMode;
use super::connection::Connection;
use super::publish::return_message;
use crate::error::Failure;
use crate::exchange::{Passing, without_blind_copies};
use crate::message::Message;
use crate::time::Timestamp;

impl Connection {
    /// Publishes a message, which has its BCC header still. `routable`: it has queues to go to, were
    /// it not for what exchanges on its way do.
    pub(super) fn publish_attended(
        &mut self,
        link: &mut Link,
        number: u16,
        message: Message,
        mandatory: bool,
        routable: bool,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let transaction_bytes_max = link.broker.config.transaction_bytes_max;
        let random = self.batch.next_random();
        let channel = self.channel(number)?;
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            return transaction.publish_attended(
                message,
                mandatory,
                routable,
                random,
                transaction_bytes_max,
            );
        }
        self.flush_publishes(link, now)?;
        let returned = mandatory && !routable;
        if returned {
            return_message(link, number, &without_blind_copies(message.clone()));
        }
        let exchange = message.exchange_and_key().0;
        let passing = Passing {
            exchange: &String::from_utf8_lossy(exchange),
            attended_to: false,
            returned,
            message: &message,
            random,
        };
        let passed = self.vhost.pass(&passing, Vec::new(), &|_| true, now);
        for (queue, effects) in passed.left {
            self.vhost.care(&queue, effects, now);
        }
        self.settle_attended(number, passed.refused, passed.point);
        self.consider_hold(link, passed.hold, passed.point, now);
        Ok(())
    }

    /// Owes the publisher its confirm.
    fn settle_attended(&mut self, number: u16, refused: bool, point: CommitPoint) {
        let Some(PublishMode::Confirm(confirms)) = self
            .channels
            .get_mut(&number)
            .map(|channel| &mut channel.mode)
        else {
            return;
        };
        let tag = confirms.next_tag();
        if refused {
            confirms.owe_nack(tag, point);
        } else {
            confirms.owe_ack(tag, point);
        }
        if !self.confirming.contains(&number) {
            self.confirming.push(number);
        }
    }
}
