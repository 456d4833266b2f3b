//! Names of arguments and keys that more than their rows ask for.

/// The argument that names the type of a queue.
pub const QUEUE_TYPE: &str = "x-queue-type";
/// The argument that names where dead letters go.
pub const DEAD_LETTER_EXCHANGE: &str = "x-dead-letter-exchange";
pub(super) const DEAD_LETTER_KEY: &str = "x-dead-letter-routing-key";
pub(super) const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";
/// The argument of queues and consumers that bounds how long a delivery may stay unacknowledged.
pub const CONSUMER_TIMEOUT: &str = "x-consumer-timeout";
/// The key of policies, and the argument of an exchange, that names what takes its unroutable messages.
pub const ALTERNATE_EXCHANGE: &str = "alternate-exchange";
