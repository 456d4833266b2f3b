//! Publishes past exchanges that keep something: one at a time, each one commit; in steps where gates are shut or very many
//! queues get it.

use leveret_broker::exchange::{Slice, without_blind_copies};
use leveret_codec::ChannelNumber;
use leveret_message::error::Failure;
use leveret_message::{Message, Timestamp};
use leveret_store_api::CommitPoint;

use super::channel::PublishMode;
use super::confirms::PublishTag;
use super::connection::Connection;
use super::job::Job;
use super::link::Link;
use super::pressure::Pressure;
use super::returned::return_message;
use super::stateful_publish::{PassingOn, StatefulPublish};
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
        let channel = self.channels.get_mut(number);
        let tag = match channel.map(|channel| &mut channel.mode) {
            Some(PublishMode::Confirm(confirms)) => Some(confirms.next_tag()),
            _ => None,
        };
        let shown = match self.is_working() {
            // What came before it waits.
            true => Err(self.vhost.begin_to_pass(&incoming)),
            false => self.vhost.publish_past(&incoming, Vec::new(), now),
        };
        match shown {
            Ok(shown) => {
                link.work
                    .add(u32::try_from(shown.left.len()).unwrap_or(u32::MAX));
                let of_letters = shown.left.iter().filter(|(_, effects)| effects.letters);
                let letters = of_letters.map(|(queue, _)| queue.clone()).collect();
                self.vhost.carry_out_all(shown.left, now);
                if !publish.routable && !shown.duplicate && !shown.refused {
                    let is_returned = incoming.returned;
                    self.lead_nowhere(link, number, &publish.message, is_returned);
                }
                self.answer_for(number, tag, shown.refused, shown.point);
                let pressure = Pressure {
                    queue: shown.hold_back,
                    staged: shown.point,
                    letters,
                };
                self.consider(link, pressure, now);
            }
            Err(passage) => {
                let incoming = PassingOn {
                    channel: number,
                    tag,
                    is_returned: incoming.returned,
                    is_routable: publish.routable,
                    passage,
                };
                self.begin(link, Job::Passing(Box::new(incoming)));
            }
        }
        Ok(())
    }

    /// The publisher is to hear of it when it is durable, if it wants to.
    fn answer_for(
        &mut self,
        number: ChannelNumber,
        tag: Option<PublishTag>,
        refused: bool,
        point: CommitPoint,
    ) {
        if let (Some(tag), Some(channel)) = (tag, self.channels.get_mut(number)) {
            self.publishing.owe_confirm(channel, tag, refused, point);
        }
    }

    /// A message has no queue to go to.
    fn lead_nowhere(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        message: &Message,
        is_returned: bool,
    ) {
        if is_returned {
            return_message(link, number, &without_blind_copies(message.clone()));
        }
        self.note_unroutable(number, message, is_returned);
    }

    /// Has a message go on past exchanges that keep something.
    pub(super) fn pass_step(
        &mut self,
        link: &mut Link,
        incoming: &mut PassingOn,
        now: Timestamp,
    ) -> Slice {
        let mut left = Vec::new();
        let passage = &mut incoming.passage;
        let waker = link.mailbox.waker();
        let slice = passage.go_on(&self.vhost, self.step_cost(), waker, &mut left, now);
        self.vhost.carry_out_all(left, now);
        match slice {
            Slice::More => return slice,
            Slice::Waits if self.waiting.gives_up() => return Slice::Last,
            Slice::Waits => return slice,
            Slice::Last => {}
        }
        let (point, refused) = (passage.point(), passage.has_refused());
        let pressure = Pressure {
            queue: passage.hold_back.take(),
            staged: point,
            letters: passage.letters.drain(..).collect(),
        };
        if !incoming.is_routable && !passage.is_duplicate() && !refused && !self.leaves {
            let message = passage.message().clone();
            self.lead_nowhere(link, incoming.channel, &message, incoming.is_returned);
        }
        self.answer_for(incoming.channel, incoming.tag, refused, point);
        if !self.leaves {
            self.consider(link, pressure, now);
        }
        Slice::Last
    }
}
