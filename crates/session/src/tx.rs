//! `tx.select`, `tx.commit`, `tx.rollback`.

use leveret_broker::roll::ChannelMode;
use leveret_codec::ChannelNumber;
use leveret_codec::protocol::{AMQPClass, tx as wire};
use leveret_message::Timestamp;
use leveret_message::error::{ChannelError, ConnectionError, Failure};

use super::channel::PublishMode;
use super::connection::Connection;
use super::job::Job;
use super::link::Link;
use super::methods::encoded;
use super::rolling_back::RollingBack;
use super::transaction::Transaction;

impl Connection {
    pub(super) fn tx_method(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        method: &wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method {
            wire::AMQPMethod::Select(_) => {
                let channel = self.channel(number)?;
                match channel.mode {
                    PublishMode::Confirm(_) => {
                        return Err(ChannelError::precondition(
                            "cannot switch from confirm to tx mode",
                        )
                        .into());
                    }
                    PublishMode::Plain => {
                        channel.mode = PublishMode::Transaction(Box::default());
                        channel.facts.set_mode(ChannelMode::Transaction);
                    }
                    PublishMode::Transaction(_) => {}
                }
                link.send(
                    number,
                    &AMQPClass::Tx(wire::AMQPMethod::SelectOk(wire::SelectOk {})),
                );
                Ok(())
            }
            wire::AMQPMethod::Commit(_) => {
                let transaction = std::mem::take(self.transaction(number)?);
                self.note_uncommitted(number);
                self.commit(link, number, transaction, now);
                Ok(())
            }
            wire::AMQPMethod::Rollback(_) => {
                self.transaction(number)?;
                let ok = AMQPClass::Tx(wire::AMQPMethod::RollbackOk(wire::RollbackOk {}));
                let rolling = RollingBack {
                    channel: number,
                    reply: encoded(number, &ok),
                };
                self.begin_now(link, Job::RollingBack(rolling), now);
                Ok(())
            }
            _ => Err(ConnectionError::command_invalid("unimplemented method").into()),
        }
    }

    /// A part of a rollback; answers whether there is more.
    pub(super) fn roll_back_step(&mut self, link: &mut Link, rolling: &RollingBack) -> bool {
        let most = self.step_cost();
        let channel = self.channels.get_mut(rolling.channel);
        if let Some(channel) = channel
            && let PublishMode::Transaction(transaction) = &mut channel.mode
            && transaction.roll_back_some(&mut channel.ledger, &channel.facts, most)
        {
            return true;
        }
        self.note_uncommitted(rolling.channel);
        if let Some(channel) = self.channels.get(rolling.channel) {
            self.delivering.watch_for_overdue(channel);
        }
        link.output.buffer().extend_from_slice(&rolling.reply);
        false
    }

    /// Tells administrators how much of a transaction is open.
    pub(super) fn note_uncommitted(&self, number: ChannelNumber) {
        let channel = self.channels.get(number);
        if let Some(channel) = channel
            && let PublishMode::Transaction(transaction) = &channel.mode
        {
            let (publishes, settlements) =
                (transaction.publishes.len(), transaction.settlements.len());
            channel.facts.uncommitted.set(publishes as u64);
            channel
                .facts
                .settlements_uncommitted
                .set(settlements as u64);
        }
    }

    pub(super) fn transaction(
        &mut self,
        number: ChannelNumber,
    ) -> Result<&mut Transaction, Failure> {
        match &mut self.channel(number)?.mode {
            PublishMode::Transaction(transaction) => Ok(transaction),
            _ => Err(ChannelError::precondition("channel is not transactional").into()),
        }
    }
}
