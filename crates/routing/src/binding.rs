//! What a binding is, and why one may be refused.

use leveret_codec::FieldTable;

use crate::erlang_text::Binary;

/// A queue as routing knows it. The caller chooses the number and never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId(pub u64);

/// Where a binding leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue that was made known by [`Topology::add_queue`](crate::Topology::add_queue).
    Queue(QueueId),
    /// An exchange, by name: RabbitMQ's exchange-to-exchange bindings.
    Exchange(String),
}

/// One binding. All four parts together are its identity: two bindings that differ in their arguments
/// alone are two bindings.
#[derive(Clone, Debug, PartialEq)]
pub struct Binding {
    /// The exchange that messages come from.
    pub source: String,
    /// Where matching messages go.
    pub destination: Destination,
    /// The binding key: a pattern for topic exchanges, a weight for `x-consistent-hash`.
    pub routing_key: Vec<u8>,
    /// The arguments: the pattern of a headers exchange.
    pub arguments: FieldTable,
}

/// Why a binding was refused. `Display` is RabbitMQ's text where RabbitMQ has one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// The source, or a destination exchange, does not exist.
    #[error("no exchange '{0}'")]
    NoExchange(String),
    /// The destination queue was never added.
    #[error("no queue with id {}", .0.0)]
    NoQueue(QueueId),
    /// The default exchange's bindings follow from the queues' names; it takes no others.
    #[error("operation not permitted on the default exchange")]
    DefaultExchange,
    /// A headers binding's `x-match` is none of the four values.
    #[error("Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x", Binary(.value))]
    InvalidMatch {
        /// The value as given.
        value: Vec<u8>,
    },
    /// A headers binding's `x-match` is not a string.
    #[error("Invalid x-match field type {type_name} (value {value}); expected longstr")]
    InvalidMatchType {
        /// RabbitMQ's name of the type.
        type_name: &'static str,
        /// The value as RabbitMQ would print it.
        value: String,
    },
    /// A binding key of `x-consistent-hash` is not a number.
    #[error("The binding key must be an integer: {}", Binary(.key))]
    WeightNotInteger {
        /// The key as given.
        key: Vec<u8>,
    },
    /// A binding key of `x-consistent-hash` is zero or negative.
    #[error("The binding key must be greater than 0")]
    WeightNotPositive,
    /// `x-local-random` takes the empty binding key only.
    #[error("Non empty binding '{}' key not permitted", String::from_utf8_lossy(.key))]
    KeyNotEmpty {
        /// The key as given.
        key: Vec<u8>,
    },
    /// `x-local-random` takes queues only.
    #[error("Destination not found")]
    QueuesOnly,
}
