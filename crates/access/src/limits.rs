//! Limits of virtual hosts and users. What counts against them is in `tally`, what a client is told
//! in `error`.

use serde::{Deserialize, Serialize};

/// Limits of a virtual host; None: no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct VhostLimits {
    /// Connections open at a time.
    #[serde(
        rename = "max-connections",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_connections: Option<u64>,
    /// Queues that exist.
    #[serde(
        rename = "max-queues",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_queues: Option<u64>,
}

/// Limits of a user; None: no limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct UserLimits {
    /// Connections open at a time.
    #[serde(
        rename = "max-connections",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_connections: Option<u64>,
    /// Channels open at a time, over all connections.
    #[serde(
        rename = "max-channels",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub max_channels: Option<u64>,
}
