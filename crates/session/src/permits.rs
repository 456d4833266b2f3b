//! A connection's permits among those its virtual host and user may have.

use std::sync::Arc;

use leveret_access::tally::Permit;
use leveret_access::users::UserTallies;
use leveret_broker::broker::Broker;
use leveret_broker::vhost::VirtualHost;
use leveret_message::error::ConnectionError;

/// A connection that counts; its permits are free again once it is dropped.
pub(super) struct ConnectionPermits {
    of_user: Arc<UserTallies>,
    _permits: [Permit; 2],
}

impl ConnectionPermits {
    /// Counts a connection.
    ///
    /// # Errors
    /// 530 when a limit is reached.
    pub(super) fn take(
        broker: &Broker,
        vhost: &VirtualHost,
        user: &str,
    ) -> Result<ConnectionPermits, ConnectionError> {
        let vhost_limit = vhost.limits.read().max_connections;
        let in_vhost = vhost
            .connections
            .enter(vhost_limit)
            .map_err(|limit| ConnectionError::vhost_connection_limit(vhost.name(), user, limit))?;
        let of_user = broker.users.tallies(user);
        let limits = broker.users.limits(user);
        let by_user = of_user
            .connections
            .enter(limits.max_connections)
            .map_err(|limit| ConnectionError::user_connection_limit(user, limit))?;
        Ok(ConnectionPermits {
            of_user,
            _permits: [in_vhost, by_user],
        })
    }

    /// Counts one of the connection's channels.
    ///
    /// # Errors
    /// 530 when the user's limit is reached.
    pub(super) fn channel(&self, broker: &Broker, user: &str) -> Result<Permit, ConnectionError> {
        self.of_user
            .channels
            .enter(broker.users.limits(user).max_channels)
            .map_err(|limit| ConnectionError::user_channel_limit(user, limit))
    }
}
