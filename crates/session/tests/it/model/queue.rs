//! The model: a map of what is ready, and what each channel holds.

use std::collections::BTreeMap;

use super::options::{Options, Overflow};

#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) name: String,
    /// Level (the highest first) and place in the queue.
    pub(super) place: (u8, u64),
    pub(super) expires_at: u64,
    pub(super) redelivered: bool,
    pub(super) returns: u32,
}

#[derive(Debug, Default)]
pub(super) struct Channel {
    /// Prefetch of its consumer, if it has one, and when that came.
    pub(super) consumer: Option<(u16, u64)>,
    /// Unacknowledged by tag, and whether they count for the prefetch.
    pub(super) unacked: BTreeMap<u64, (Letter, bool)>,
    pub(super) last_tag: u64,
}

impl Channel {
    pub(super) fn room(&self) -> usize {
        match self.consumer {
            None => 0,
            Some((0, _)) => usize::MAX,
            Some((prefetch, _)) => {
                let counted = self.unacked.values().filter(|(_, counts)| *counts).count();
                usize::from(prefetch).saturating_sub(counted)
            }
        }
    }
}

pub(super) struct Model {
    pub(super) options: Options,
    pub(super) ready: BTreeMap<(u8, u64), Letter>,
    pub(super) channels: BTreeMap<u16, Channel>,
    pub(super) published: u64,
    pub(super) consumers_ever: u64,
    /// What has died since somebody looked, and why.
    pub(super) dead: Vec<(String, &'static str)>,
    /// What the queue has let expire since.
    pub(super) expired: Vec<String>,
}

impl Model {
    pub(super) fn room(&self) -> usize {
        let active = self
            .channels
            .values()
            .filter_map(|channel| channel.consumer.map(|(_, since)| since))
            .min();
        self.channels
            .values()
            .filter(|channel| {
                !self.options.single_active || channel.consumer.map(|(_, since)| since) == active
            })
            .map(Channel::room)
            .fold(0, usize::saturating_add)
    }

    /// Whether it is over a limit with these names more.
    pub(super) fn is_full(&self, extra: &[&str]) -> bool {
        let names = self.ready.values().map(|letter| letter.name.as_str());
        let names = names.chain(extra.iter().copied());
        let (count, bytes) = names.fold((0, 0), |(count, bytes), name| {
            (count + 1, bytes + name.len() as u64)
        });
        self.options.max_length.is_some_and(|max| count > max)
            || self.options.max_bytes.is_some_and(|max| bytes > max)
    }

    pub(super) fn is_quorum(&self) -> bool {
        self.options.delivery_limit.is_some()
    }

    /// Messages came back: a classic queue keeps its limit at once.
    pub(super) fn keep_limit(&mut self) {
        if !self.is_quorum() {
            self.drop_head();
        }
    }

    /// A quorum queue does when consumers have had their turn, and time has.
    pub(super) fn keep_limit_after_all(&mut self, now: u64) {
        self.expire(now);
        while self.options.overflow == Overflow::DropHead
            && self.is_full(&[])
            && let Some((_, letter)) = self.ready.pop_first()
        {
            self.dead.push((letter.name, "maxlen"));
            self.expire(now);
        }
    }

    pub(super) fn drop_head(&mut self) {
        while self.options.overflow == Overflow::DropHead && self.is_full(&[]) {
            let Some((_, letter)) = self.ready.pop_first() else {
                return;
            };
            self.dead.push((letter.name, "maxlen"));
        }
    }

    /// What the next `room` deliveries are. In the millisecond in which its time ends nobody knows whether it has: then
    /// either of both is right.
    pub(super) fn dispatch(&mut self, room: &mut usize, now: u64, delivered: &mut Vec<Letter>) {
        while *room > 0
            && let Some((_, letter)) = self.ready.pop_first()
        {
            let lives = match letter.expires_at == now {
                true => !self.expired.contains(&letter.name),
                false => letter.expires_at > now,
            };
            if lives {
                *room -= 1;
                delivered.push(letter);
            } else {
                self.dead.push((letter.name, "expired"));
            }
        }
    }

    /// The first of each level goes when its time has come.
    pub(super) fn expire(&mut self, now: u64) {
        for level in 0..=u8::MAX {
            while let Some((&place, letter)) =
                self.ready.range((level, 0)..=(level, u64::MAX)).next()
                && letter.expires_at <= now
            {
                self.dead.push((letter.name.clone(), "expired"));
                self.ready.remove(&place);
            }
        }
    }

    pub(super) fn put_back(&mut self, letter: Letter) {
        let returns = letter.returns + 1;
        if self
            .options
            .delivery_limit
            .is_none_or(|limit| returns <= limit)
        {
            let letter = Letter {
                redelivered: true,
                returns,
                ..letter
            };
            self.ready.insert(letter.place, letter);
        } else {
            self.dead.push((letter.name, "delivery_limit"));
        }
    }
}
