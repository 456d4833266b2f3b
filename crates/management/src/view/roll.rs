//! Connections, channels and consumers, as the broker's roll has them.

use std::sync::Arc;

use leveret_access::users::User;
use leveret_broker::roll::ConsumerFacts;
use leveret_codec::ReplyCode;

use super::{QueueView, VhostView, View};

pub(crate) use leveret_broker::roll::{ChannelFacts, ChannelMode, ConnectionFacts};

/// A channel and whose it is.
pub(crate) struct ChannelView {
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) channel: Arc<ChannelFacts>,
}

/// A consumer and whose it is.
pub(crate) struct ConsumerView {
    pub(crate) connection: Arc<ConnectionFacts>,
    pub(crate) consumer: Arc<ConsumerFacts>,
    pub(crate) queue: QueueView,
}

impl ConsumerView {
    /// Whether it gets messages: not where another one is the single active consumer.
    pub(crate) fn is_active(&self) -> bool {
        self.queue.queue.is_active(self.consumer.reference)
    }

    /// Its queue has one active consumer at a time.
    pub(crate) fn is_of_single_active(&self) -> bool {
        self.queue.queue.options().single_active_consumer
    }
}

impl View {
    /// The open connections, in no order.
    pub(crate) fn connections(&self) -> Vec<Arc<ConnectionFacts>> {
        self.broker.roll.connections()
    }

    /// Those whose contents a user may see: rabbitmq: its own, and all of them for monitors
    pub(crate) fn connections_of(&self, user: &User) -> Vec<Arc<ConnectionFacts>> {
        let mut connections = self.connections();
        if !user.is_monitor() {
            connections.retain(|it| *it.identity.user == *user.name);
        }
        connections
    }

    /// The connection of that name.
    pub(crate) fn connection(&self, name: &str) -> Option<Arc<ConnectionFacts>> {
        let mut connections = self.connections().into_iter();
        connections.find(|it| it.identity.name() == name)
    }

    /// Closes a connection as an administrator does, whose words `reason` are.
    pub(crate) fn close_connection(&self, connection: &ConnectionFacts, reason: &str) {
        let session = connection.identity.session;
        let code = ReplyCode::ConnectionForced;
        self.broker.close_session(session, code, reason);
    }

    /// The consumers of these connections, in no order. One whose queue goes is none any more.
    pub(crate) fn consumers(
        &self,
        connections: Vec<Arc<ConnectionFacts>>,
    ) -> impl Iterator<Item = ConsumerView> {
        connections.into_iter().flat_map(|connection| {
            let vhost = self.vhost(&connection.identity.vhost);
            let consumers = connection.consumers().into_iter();
            consumers.filter_map(move |consumer| {
                let VhostView(vhost) = vhost.as_ref()?;
                Some(ConsumerView {
                    connection: Arc::clone(&connection),
                    queue: QueueView {
                        vhost: Arc::clone(vhost),
                        queue: vhost.queue_by_id(consumer.queue)?,
                    },
                    consumer,
                })
            })
        })
    }
}

impl QueueView {
    /// Its consumers, in no order.
    pub(crate) fn consumers(&self, view: &View) -> Vec<ConsumerView> {
        let mut connections = view.connections();
        connections.retain(|it| it.identity.vhost == *self.vhost.name());
        let consumers = view.consumers(connections);
        let id = self.queue.id();
        consumers.filter(|it| it.consumer.queue == id).collect()
    }
}
