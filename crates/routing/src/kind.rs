//! The types of exchanges, by name.

use crate::matcher::ExchangeType;
use crate::{
    consistent_hash, delayed_message, direct, fanout, headers, message_deduplication, modulus_hash,
    random, recent_history, topic,
};

/// One row for each type, in the order in which a management page would list them. To add one is to add a row, and a file
/// with the type's name, its check of arguments and its matcher. What the broker does by one that
/// [is stateful](ExchangeKind::is_stateful) is a file of the broker's.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident => $file:ident::$row:ident,)+) => {
        /// The type of an exchange.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ExchangeKind {
            $($(#[$doc])* $kind,)+
        }

        const ALL: &[ExchangeKind] = &[$(ExchangeKind::$kind),+];

        impl ExchangeKind {
            pub(crate) fn row(self) -> &'static ExchangeType {
                match self {
                    $(ExchangeKind::$kind => &$file::$row,)+
                }
            }
        }
    };
}

kinds! {
    /// Binding key equals routing key.
    Direct => direct::DIRECT,
    /// Everything matches.
    Fanout => fanout::FANOUT,
    /// Binding keys are patterns of words.
    Topic => topic::TOPIC,
    /// Binding arguments are patterns of headers.
    Headers => headers::HEADERS,
    /// One queue by consistent hashing; binding keys are weights.
    ConsistentHash => consistent_hash::CONSISTENT_HASH,
    /// One queue by chance.
    Random => random::RANDOM,
    /// As [`Self::Random`]; in RabbitMQ among the queues of one node.
    LocalRandom => random::LOCAL_RANDOM,
    /// One queue by the routing key's hash modulo the number of queues.
    ModulusHash => modulus_hash::MODULUS_HASH,
    /// As [`Self::Fanout`]; the broker keeps the last messages for those who bind later.
    RecentHistory => recent_history::RECENT_HISTORY,
    /// As the kind in `x-delayed-type`; the broker holds messages with `x-delay` back.
    DelayedMessage => delayed_message::DELAYED_MESSAGE,
    /// As [`Self::Fanout`]; the broker drops duplicates.
    MessageDeduplication => message_deduplication::MESSAGE_DEDUPLICATION,
}

impl ExchangeKind {
    /// All kinds.
    pub fn all() -> impl ExactSizeIterator<Item = Self> {
        ALL.iter().copied()
    }

    /// The kind that clients call `name`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// What clients call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// Whether the broker must see each message that comes by: to hold it back, remember it or drop
    /// it. See [`Topology::route_past`](crate::Topology::route_past).
    #[must_use]
    pub fn is_stateful(self) -> bool {
        self.row().is_stateful
    }
}

#[cfg(test)]
mod tests {
    use super::ExchangeKind;

    #[test]
    fn names_are_read_back() {
        for kind in ExchangeKind::all() {
            assert_eq!(ExchangeKind::parse(kind.name()), Some(kind));
        }
        assert_eq!(ExchangeKind::parse("zz"), None);
    }
}
