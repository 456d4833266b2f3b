//! Producers' numbers of a whole transaction, looked at before any of it is carried out.

use leveret_deduplication::{Number, Producers, Standing};
use leveret_message::error::ChannelError;
use rustc_hash::FxHashMap;

use super::gates::{Gatekeeper, Gates};
use crate::exchange::incoming::Incoming;
use crate::vhost::VirtualHost;

/// The latest numbers as they will be when the messages looked at so far are taken.
#[derive(Default)]
pub struct Numbers(FxHashMap<((u8, u64), [u8; 16]), u64>);

impl Numbers {
    /// Looks at the next message's number.
    ///
    /// # Errors
    /// 406 if it leaves out numbers of its producer.
    pub fn check(
        &mut self,
        keeper: Gatekeeper,
        number: &Number,
        gates: &mut Gates<'_>,
    ) -> Result<(), ChannelError> {
        let place = (keeper.order(), number.producer.0);
        let latest = self.0.get(&place).copied().or_else(|| {
            let producers = gates.producers(&keeper)?;
            producers.latest(&number.producer)
        });
        match Producers::compare(latest, number.sequence) {
            Standing::Past => {}
            Standing::Next => {
                self.0.insert(place, number.sequence);
            }
            Standing::Gap => {
                if let Some(producers) = gates.producers(&keeper) {
                    producers.judge(number);
                }
                return Err(ChannelError::precondition(format_args!(
                    "x-sequence {} leaves out numbers after {}",
                    number.sequence,
                    latest.unwrap_or_default()
                )));
            }
        }
        Ok(())
    }
}

impl VirtualHost {
    /// Who keeps the numbers of a message that its producer has numbered: its exchange, or the queues if
    /// that is the default exchange.
    pub fn number_keepers(&self, incoming: &Incoming<'_>) -> Vec<Gatekeeper> {
        if !incoming.exchange.is_empty() {
            let exchange = self.stateful(incoming.exchange);
            return exchange.map(Gatekeeper::Exchange).into_iter().collect();
        }
        let route = self.route_incoming(incoming, &mut |_| true);
        let queues = self.handles(&route.queues).into_iter();
        queues.map(Gatekeeper::Queue).collect()
    }
}
