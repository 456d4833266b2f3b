//! What a connection publishes, on its way to whoever counts it: told once a batch.

use leveret_broker::roll::{ConnectionFacts, SIZES, place_of_size};
use leveret_broker::vhost::VirtualHost;

/// Sizes of messages, and for which exchanges there was no queue. Messages of one size are counted together, and so are
/// those for one exchange.
#[derive(Debug, Default)]
pub(super) struct PublishCounts {
    /// The size of the latest publish, and how many of that size were not added yet.
    size: u64,
    run: u64,
    sizes: [u64; SIZES.len()],
    bytes: u64,
    unroutable: Unroutable,
}

#[derive(Debug, Default)]
struct Unroutable {
    exchange: Vec<u8>,
    returned: u64,
    dropped: u64,
}

impl PublishCounts {
    /// A message is published.
    #[inline]
    pub(super) fn note_size(&mut self, size: u64) {
        if self.size == size {
            self.run += 1;
        } else {
            self.add_run();
            (self.size, self.run) = (size, 1);
        }
    }

    #[cold]
    fn add_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        if let Some(count) = self.sizes.get_mut(place_of_size(self.size)) {
            *count += run;
        }
        self.bytes += self.size * run;
    }

    /// There is no queue for a message.
    pub(super) fn note_unroutable(
        &mut self,
        vhost: &VirtualHost,
        exchange: &[u8],
        mandatory: bool,
    ) {
        let unroutable = &mut self.unroutable;
        if unroutable.exchange != exchange {
            unroutable.tell(vhost);
            unroutable.exchange.clear();
            unroutable.exchange.extend_from_slice(exchange);
        }
        match mandatory {
            true => unroutable.returned += 1,
            false => unroutable.dropped += 1,
        }
    }

    /// Tells of what was published since the last time.
    pub(super) fn tell(&mut self, vhost: &VirtualHost, facts: &ConnectionFacts) {
        self.unroutable.tell(vhost);
        self.add_run();
        let bytes = std::mem::take(&mut self.bytes);
        facts.note_sizes(&mut self.sizes, bytes);
    }
}

impl Unroutable {
    fn tell(&mut self, vhost: &VirtualHost) {
        if self.returned + self.dropped > 0 {
            let exchange = String::from_utf8_lossy(&self.exchange);
            vhost.note_unroutable(&exchange, self.returned, self.dropped);
            (self.returned, self.dropped) = (0, 0);
        }
    }
}
