//! What was seen, compared with what the model says.

use std::collections::BTreeMap;

use super::queue::Letter;
use super::trial::{GETTER, Trial};
use crate::dead_letters::deaths;
use crate::harness::client::Seen;

impl Trial {
    pub(super) fn check_got(&mut self, letter: Letter, most: usize) {
        let channel = self.model.channels.get_mut(&GETTER).unwrap();
        channel.last_tag += 1;
        let redelivered = if letter.redelivered {
            " redelivered"
        } else {
            ""
        };
        let seen = self.client.seen();
        let (line, left) = seen[0].text.rsplit_once(" left=").unwrap();
        let expected = format!("4: get-ok {}{redelivered}", channel.last_tag);
        assert_eq!(
            (line, seen[0].body_text()),
            (expected.as_str(), letter.name.clone())
        );
        let left: usize = left.parse().unwrap();
        assert!((self.model.ready.len()..=most).contains(&left), "{left}");
        channel.unacked.insert(channel.last_tag, (letter, false));
    }

    /// Compares what was seen with what was expected, and the counts.
    pub(super) fn check(&mut self, expected: Vec<Letter>) {
        self.check_delivered(expected);
        self.world.pass(0);
        self.model.expire(self.world.now().0);
        self.check_delivered(Vec::new());
        let consumers = self
            .model
            .channels
            .values()
            .filter(|it| it.consumer.is_some())
            .count();
        let counts = self.client.counts("q");
        assert_eq!(
            (counts.0 as usize, counts.1 as usize),
            (self.model.ready.len(), consumers),
            "ready {:?}",
            self.model.ready.keys()
        );
        self.check_dead();
    }

    /// Asks which messages the queue has let expire, and leaves them to [`Trial::check_dead`].
    pub(super) fn look_what_expired(&mut self) {
        let seen = self.undertaker.seen();
        let expired = seen
            .iter()
            .filter(|seen| deaths(&seen.headers()) == "q expired 1");
        self.model.expired = expired.map(Seen::body_text).collect();
        self.undertaker.put_back(seen);
    }

    /// Compares what has died; in which order, is tested elsewhere.
    pub(super) fn check_dead(&mut self) {
        let mut seen: Vec<(String, String)> = self
            .undertaker
            .seen()
            .iter()
            .map(|seen| (seen.body_text(), deaths(&seen.headers())))
            .collect();
        let dead = std::mem::take(&mut self.model.dead).into_iter();
        let mut expected: Vec<(String, String)> = dead
            .map(|(name, why)| (name, format!("q {why} 1")))
            .collect();
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected);
    }

    pub(super) fn check_delivered(&mut self, expected: Vec<Letter>) {
        let mut missing = expected.clone();
        let mut latest: BTreeMap<u16, usize> = BTreeMap::new();
        for seen in self.client.seen() {
            let (number, text) = match seen.text.split_once(": ") {
                Some((number, text)) => (number.parse().unwrap(), text),
                None => (1, seen.text.as_str()),
            };
            if !text.starts_with("deliver ") {
                continue;
            }
            let name = seen.body_text();
            let place = expected.iter().position(|it| it.name == name);
            let place = place.unwrap_or_else(|| panic!("{name} delivered, expected {expected:?}"));
            let letter = expected[place].clone();
            missing.retain(|it| it.name != name);
            let before = latest.insert(number, place);
            assert!(
                before.is_none_or(|before| before < place),
                "out of order: {name}"
            );
            let channel = self.model.channels.get_mut(&number).unwrap();
            assert!(channel.room() > 0, "more than the prefetch on {number}");
            channel.last_tag += 1;
            let redelivered = if letter.redelivered {
                " redelivered"
            } else {
                ""
            };
            assert_eq!(
                text,
                format!("deliver c{number} {}{redelivered}", channel.last_tag)
            );
            let returns = seen.headers().inner().get("x-delivery-count").cloned();
            let returns = returns.as_ref().and_then(leveret_codec::value_as_integer);
            assert_eq!(returns.unwrap_or(0), i64::from(letter.returns), "{name}");
            channel.unacked.insert(channel.last_tag, (letter, true));
        }
        assert!(missing.is_empty(), "not delivered: {missing:?}");
    }
}
