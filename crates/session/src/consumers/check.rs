//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;

use super::Consumers;

impl Consumers {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let there = self.entries.len();
        faults.same("consumers by tag", self.tags.len(), there);
        let by_channel = self.by_channel.values().map(Vec::len);
        faults.same("consumers by channel", by_channel.sum(), there);
        for (number, of_channel) in &self.by_channel {
            for (position, index) in of_channel.iter().enumerate() {
                let entry = self.entries.get(*index as usize);
                let known = entry.map(|it| (it.consumer.channel, it.in_channel));
                faults.same("where a consumer stands", known, Some((*number, position)));
            }
        }
        faults.count(self.entries.len());
    }
}
