//! Publishes past exchanges that keep something: one at a time, each one commit.

use leveret_broker::exchange::without_blind_copies;
use leveret_codec::ChannelNumber;
use leveret_message::Timestamp;
use leveret_message::error::Failure;

use super::channel::PublishMode;
use super::connection::Connection;
use super::link::Link;
use super::pressure::Pressure;
use super::returned::return_message;
use super::stateful_publish::StatefulPublish;
use super::transaction::Kept;

impl Connection {
    /// Publishes a message by itself.
    pub(super) fn publish_stateful(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        publish: StatefulPublish,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let transaction_bytes_max = link.broker.config().transaction_bytes_max;
        let random = self.publishing.next_random();
        let channel = self.channel(number)?;
        // Without confirms there is nothing to tell of a gap with.
        let strict = matches!(channel.mode, PublishMode::Confirm(_));
        if let PublishMode::Transaction(transaction) = &mut channel.mode {
            transaction.publish(Kept::Stateful { publish, random }, transaction_bytes_max)?;
            self.note_uncommitted(number);
            return self.account_for_transaction(link, number, now);
        }
        self.flush_publishes(link, now);
        let exchange = publish.message.exchange_and_key().0;
        let exchange = String::from_utf8_lossy(exchange);
        if publish.number.is_some() {
            self.vhost.keep_numbers_of(&exchange);
        }
        let incoming = publish.incoming(&exchange, random, strict);
        let shown = self
            .vhost
            .publish_past(&incoming, Vec::new(), &|_| true, now);
        let of_letters = shown.left.iter().filter(|(_, effects)| effects.letters);
        let letters = of_letters.map(|(queue, _)| queue.clone()).collect();
        self.vhost.carry_out_all(shown.left, now);
        if !publish.routable && !shown.duplicate && !shown.refused {
            if incoming.returned {
                return_message(link, number, &without_blind_copies(publish.message.clone()));
            }
            self.note_unroutable(number, &publish.message, incoming.returned);
        }
        if let Some(channel) = self.channels.get_mut(number)
            && let PublishMode::Confirm(confirms) = &mut channel.mode
        {
            let tag = confirms.next_tag();
            self.publishing
                .owe_confirm(channel, tag, shown.refused, shown.point);
        }
        let pressure = Pressure {
            queue: shown.hold_back,
            staged: shown.point,
            letters,
        };
        self.consider(link, pressure, now);
        Ok(())
    }
}
