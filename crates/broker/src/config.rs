//! What a broker is told when it is opened; every value is legal by construction of the caller.

use leveret_queue::queue::memory::QueueMemory;

/// What becomes of a consumer that leaves a delivery unacknowledged for too long.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ConsumerTimeoutAction {
    /// Its channel is closed with 406, as RabbitMQ does.
    #[default]
    Close,
    /// Its deliveries go back and it alone is cancelled.
    Cancel,
}

/// Settings of the whole broker.
#[derive(Clone, Debug)]
pub struct BrokerConfig {
    /// `product` in server-properties; clients choose behaviour by it.
    pub product: String,
    /// `version` in server-properties; clients parse it.
    pub version: String,
    /// `cluster_name` in server-properties.
    pub cluster_name: String,
    /// Largest frame, offered in `connection.tune`.
    pub frame_max: u32,
    /// Most channels of a connection, offered in `connection.tune`.
    pub channel_max: u16,
    /// Heartbeat interval in seconds, offered in `connection.tune`; 0: none.
    pub heartbeat_s: u16,
    /// How long a client may take until `connection.open`, milliseconds.
    pub handshake_timeout_ms: u64,
    /// Largest body accepted, bytes.
    pub message_bytes_max: u64,
    /// Virtual hosts to create at start, beside `/`.
    pub vhosts: Vec<String>,
    /// Virtual hosts whose messages are copied to `amq.rabbitmq.trace` from the start.
    pub traced_vhosts: Vec<String>,
    /// Made when it does not exist and either no user exists or `ensure_default_user` is set.
    pub default_user: String,
    /// The default user's password.
    pub default_password: String,
    /// Make the default user even when other users exist.
    pub ensure_default_user: bool,
    /// Users that may only connect from a loopback address.
    pub loopback_users: Vec<String>,
    /// The user that ANONYMOUS logs in as; None: ANONYMOUS is off.
    pub anonymous: Option<String>,
    /// Bytes of messages each queue keeps in memory at its head, and again at its tail.
    pub queue_memory_bytes: usize,
    /// Bytes of messages a connection may have waiting to be sent to it.
    pub mailbox_bytes: usize,
    /// How far publishers may run ahead of a consumer that keeps up, bytes.
    pub publisher_ahead_bytes: usize,
    /// Bytes that may be staged in the store before publishers are held back.
    pub store_behind_bytes: u64,
    /// Largest transaction (`tx`) held in memory, bytes.
    pub transaction_bytes_max: usize,
    /// Bodies on their way, of all connections together, bytes.
    pub assembly_bytes_max: usize,
    /// Open transactions of all connections together, bytes.
    pub transactions_bytes_max: usize,
    /// Messages sent to clients and not settled that stay in memory, of all connections together, bytes.
    pub unacked_bytes_max: usize,
    /// Producers (`x-producer`) whose numbers one exchange or queue keeps.
    pub producers_max: usize,
    /// How long a delivery may stay unacknowledged where neither consumer nor queue says; None: for ever.
    pub consumer_timeout_ms: Option<u64>,
    /// What happens then.
    pub consumer_timeout_action: ConsumerTimeoutAction,
    /// How much a connection settles or gives back before others have their turn; an acknowledgement counts 1.
    pub step_cost: usize,
}

impl Default for BrokerConfig {
    fn default() -> BrokerConfig {
        const MIB: usize = 1 << 20;
        BrokerConfig {
            product: "RabbitMQ".to_owned(),
            version: "3.13.7".to_owned(),
            cluster_name: "leveret@localhost".to_owned(),
            frame_max: 131_072,
            channel_max: 2047,
            heartbeat_s: 60,
            handshake_timeout_ms: 10_000,
            message_bytes_max: 128 << 20,
            vhosts: Vec::new(),
            traced_vhosts: Vec::new(),
            default_user: "guest".to_owned(),
            default_password: "guest".to_owned(),
            ensure_default_user: false,
            loopback_users: vec!["guest".to_owned()],
            anonymous: None,
            queue_memory_bytes: MIB,
            mailbox_bytes: MIB / 2,
            publisher_ahead_bytes: MIB,
            store_behind_bytes: 10 << 20,
            transaction_bytes_max: 256 * MIB,
            assembly_bytes_max: 512 * MIB,
            transactions_bytes_max: 512 * MIB,
            unacked_bytes_max: 128 * MIB,
            producers_max: 100_000,
            consumer_timeout_ms: None,
            consumer_timeout_action: ConsumerTimeoutAction::Close,
            step_cost: 4096,
        }
    }
}

impl BrokerConfig {
    pub(crate) fn queue_memory(&self) -> QueueMemory {
        QueueMemory {
            head_bytes: self.queue_memory_bytes,
            tail_bytes: self.queue_memory_bytes,
            publisher_ahead_bytes: self.publisher_ahead_bytes,
        }
    }
}
