//! Publishes past exchanges that keep something: one at a time, each one commit.

use leveret_broker::exchange::without_blind_copies;
use leveret_message::Timestamp;
use leveret_message::error::Failure;
use leveret_store_api::CommitPoint;

use super::attended_publish::AttendedPublish;
use super::channel::PublishMode;
use super::connection::Connection;
use super::link::Link;
use super::pressure::Pressure;
use super::publish::return_message;

impl Connection {
    /// Publishes a message by itself.
    pub(super) fn publish_attended(
        &mut self,
        link: &mut Link,
        number: u16,
        publish: AttendedPublish,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let transaction_bytes_max = link.broker.config().transaction_bytes_max;
        let random = self.batch.next_random();
        let channel = self.channel(number)?;
        // Without confirms there is nothing to tell of a gap with.
        let strict = matches!(channel.mode, PublishMode::Confirm(_));
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            transaction.publish_attended(publish, random, transaction_bytes_max)?;
            self.account_for_transaction(link, number, now);
            return Ok(());
        }
        self.flush_publishes(link, now);
        let exchange = publish.message.exchange_and_key().0;
        let exchange = String::from_utf8_lossy(exchange);
        if publish.number.is_some() {
            self.vhost.attend_to_producers(&exchange);
        }
        let passing = publish.passing(&exchange, random, strict);
        let passed = self.vhost.pass(&passing, Vec::new(), &|_| true, now);
        let of_letters = passed.left.iter().filter(|(_, effects)| effects.letters);
        let letters = of_letters.map(|(queue, _)| queue.clone()).collect();
        self.vhost.care_for_all(passed.left, now);
        if passing.returned && !passed.duplicate && !passed.refused {
            return_message(link, number, &without_blind_copies(publish.message.clone()));
        }
        self.settle_attended(number, passed.refused, passed.point);
        let pressure = Pressure {
            queue: passed.hold,
            staged: passed.point,
            letters,
        };
        self.consider(link, pressure, now);
        Ok(())
    }

    /// Owes the publisher its confirm.
    fn settle_attended(&mut self, number: u16, refused: bool, point: CommitPoint) {
        let channel = self.channels.get_mut(number);
        if let Some(PublishMode::Confirm(confirms)) = channel.map(|channel| &mut channel.mode) {
            let tag = confirms.next_tag();
            self.owe_confirm(number, tag, refused, point);
        }
    }

    /// Owes the publisher the confirm of one publish.
    pub(super) fn owe_confirm(&mut self, number: u16, tag: u64, refused: bool, point: CommitPoint) {
        let channel = self.channels.get_mut(number);
        let Some(PublishMode::Confirm(confirms)) = channel.map(|channel| &mut channel.mode) else {
            return;
        };
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
