//! See [`leveret_broker::check`].

use leveret_queue::check::Faults;

use super::Consumers;

impl Consumers {
    pub(crate) fn check(&self, faults: &mut Faults) {
        let there = self.places.iter().filter(|place| place.consumer.is_some());
        let there = there.count();
        faults.same("consumers by tag", self.tags.len(), there);
        faults.same(
            "places of consumers",
            self.free.len() + there,
            self.places.len(),
        );
        let by_channel = self.by_channel.values().map(Vec::len);
        faults.same("consumers by channel", by_channel.sum(), there);
        for (number, of_channel) in &self.by_channel {
            for (position, index) in of_channel.iter().enumerate() {
                let place = self.places.get(*index as usize);
                let known = place.and_then(|place| {
                    let consumer = place.consumer.as_ref()?;
                    Some((consumer.channel, place.in_channel))
                });
                faults.same("where a consumer stands", known, Some((*number, position)));
            }
        }
        faults.count(self.places.len());
    }
}
