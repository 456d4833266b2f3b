//! What connections and channels did, added up: those that are gone included, so that no count ever falls.

/// Bounds of the sizes of messages, in bytes. rabbitmq: as of its version 4
pub const SIZES: [u64; 9] = [
    100,
    1_000,
    10_000,
    100_000,
    1_000_000,
    10_000_000,
    50_000_000,
    100_000_000,
    u64::MAX,
];

/// Which of the [`SIZES`] a message of this size is counted under: the first that it does not exceed.
#[must_use]
pub fn place_of_size(size: u64) -> usize {
    SIZES.partition_point(|bound| *bound < size)
}

/// What connections did, or one, or a channel.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Traffic {
    /// Connections opened.
    pub connections_opened: u64,
    /// Of them: those that are closed.
    pub connections_closed: u64,
    /// Channels opened.
    pub channels_opened: u64,
    /// Of them: those that are closed.
    pub channels_closed: u64,
    /// Channels that are open and published something.
    pub publishers: u64,
    /// Messages published.
    pub published: u64,
    /// Of them: those that were to be confirmed.
    pub published_to_confirm: u64,
    /// Publishes answered for.
    pub confirmed: u64,
    /// Publishes that came back since there was no queue for them.
    pub returned: u64,
    /// Publishes for which there was no queue, and that need not come back.
    pub dropped: u64,
    /// Messages by their sizes, see [`place_of_size`].
    pub sizes: [u64; SIZES.len()],
    /// Bytes of their bodies.
    pub size_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Times something was received.
    pub received: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Times something was sent.
    pub sent: u64,
}

impl Traffic {
    /// Adds what others did.
    pub fn add(&mut self, other: &Traffic) {
        let Traffic {
            connections_opened,
            connections_closed,
            channels_opened,
            channels_closed,
            publishers,
            published,
            published_to_confirm,
            confirmed,
            returned,
            dropped,
            sizes,
            size_bytes,
            received_bytes,
            received,
            sent_bytes,
            sent,
        } = other;
        self.connections_opened += connections_opened;
        self.connections_closed += connections_closed;
        self.channels_opened += channels_opened;
        self.channels_closed += channels_closed;
        self.publishers += publishers;
        self.published += published;
        self.published_to_confirm += published_to_confirm;
        self.confirmed += confirmed;
        self.returned += returned;
        self.dropped += dropped;
        for (count, more) in self.sizes.iter_mut().zip(sizes) {
            *count += more;
        }
        self.size_bytes += size_bytes;
        self.received_bytes += received_bytes;
        self.received += received;
        self.sent_bytes += sent_bytes;
        self.sent += sent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_counted_under_the_first_bound_that_it_does_not_exceed() {
        let places = [0, 100, 101, 1_000, 100_000_000, 100_000_001, u64::MAX];
        assert_eq!(places.map(place_of_size), [0, 0, 1, 1, 7, 8, 8]);
    }
}
