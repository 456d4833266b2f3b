//! What all tasks of the server share.

use std::sync::Arc;

use leveret_broker::Broker;

use crate::clock::Clock;
use crate::connections::Connections;
use crate::descriptors::Descriptors;
use crate::lookout::Lookout;

/// The broker and what is about all of its connections.
pub(crate) struct Shared {
    pub(crate) broker: Arc<Broker>,
    pub(crate) clock: Clock,
    pub(crate) connections: Arc<Connections>,
    pub(crate) descriptors: Arc<Descriptors>,
    pub(crate) lookout: Arc<Lookout>,
}
