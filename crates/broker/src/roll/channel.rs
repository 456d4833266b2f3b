//! A channel as administrators see it.

use leveret_codec::ChannelNumber;
use leveret_message::Timestamp;

use super::figure::Figure;
use super::traffic::Traffic;

/// How publishes on a channel are answered for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChannelMode {
    /// Not at all.
    Plain,
    /// `confirm.select`
    Confirm,
    /// `tx.select`
    Transaction,
}

/// A channel. All figures are its session's to change.
#[derive(Debug, Default)]
pub struct ChannelFacts {
    /// What its client calls it.
    pub number: ChannelNumber,
    /// Which of the connection's channels it is, counted from 1.
    pub serial: u64,
    mode: Figure,
    /// `basic.qos` for consumers to come.
    pub prefetch: Figure,
    /// `basic.qos` with `global`.
    pub global_prefetch: Figure,
    /// When something was last published, delivered or settled.
    pub active_at: Figure,
    /// Messages published.
    pub published: Figure,
    /// How many of them came before `confirm.select`.
    before_confirms: Figure,
    /// Publishes since then that were answered for.
    pub confirmed: Figure,
    /// Publishes that came back since there was no queue for them.
    pub returned: Figure,
    /// Publishes for which there was no queue, and that need not come back.
    pub dropped: Figure,
    /// Deliveries that are to be acknowledged.
    pub delivered: Figure,
    /// Deliveries that are not.
    pub delivered_no_ack: Figure,
    /// Messages got that are to be acknowledged.
    pub got: Figure,
    /// Messages got that are not.
    pub got_no_ack: Figure,
    /// Gets of an empty queue.
    pub got_empty: Figure,
    /// Deliveries of messages that had been delivered before.
    pub redelivered: Figure,
    /// Deliveries acknowledged.
    pub acknowledged: Figure,
    /// Deliveries that are not settled.
    pub unacknowledged: Figure,
    /// Publishes of an open transaction.
    pub uncommitted: Figure,
    /// Settlements of an open transaction.
    pub settlements_uncommitted: Figure,
}

impl ChannelFacts {
    /// A channel that is opened `now`.
    #[must_use]
    pub fn new(number: ChannelNumber, serial: u64, now: Timestamp) -> ChannelFacts {
        let facts = ChannelFacts {
            number,
            serial,
            ..ChannelFacts::default()
        };
        facts.note_active(now);
        facts
    }

    /// Something is published, delivered or settled.
    #[inline]
    pub fn note_active(&self, now: Timestamp) {
        self.active_at.set(now.0);
    }

    /// Messages are published.
    #[inline]
    pub fn note_published(&self, count: u64, now: Timestamp) {
        self.published.add(count);
        self.note_active(now);
    }

    /// A message is for no queue, and comes back if it is `mandatory`.
    pub fn note_unroutable(&self, mandatory: bool) {
        match mandatory {
            true => self.returned.add(1),
            false => self.dropped.add(1),
        }
    }

    /// `confirm.select`
    pub fn begin_to_confirm(&self) {
        self.before_confirms.set(self.published.get());
        self.set_mode(ChannelMode::Confirm);
    }

    /// It answers for publishes otherwise from now on.
    pub fn set_mode(&self, mode: ChannelMode) {
        self.mode.set(match mode {
            ChannelMode::Plain => 0,
            ChannelMode::Confirm => 1,
            ChannelMode::Transaction => 2,
        });
    }

    /// How publishes are answered for.
    #[must_use]
    pub fn mode(&self) -> ChannelMode {
        match self.mode.get() {
            0 => ChannelMode::Plain,
            1 => ChannelMode::Confirm,
            _ => ChannelMode::Transaction,
        }
    }

    /// Of the publishes, those that are to be answered for.
    #[must_use]
    pub fn published_to_confirm(&self) -> u64 {
        if self.mode() != ChannelMode::Confirm {
            return 0;
        }
        let before = self.before_confirms.get();
        self.published.get().saturating_sub(before)
    }

    /// What it did.
    pub(super) fn traffic(&self) -> Traffic {
        let published = self.published.get();
        Traffic {
            channels_opened: 1,
            publishers: u64::from(published > 0),
            published,
            published_to_confirm: self.published_to_confirm(),
            confirmed: self.confirmed.get(),
            returned: self.returned.get(),
            dropped: self.dropped.get(),
            ..Traffic::default()
        }
    }

    /// Publishes that are not answered for.
    #[must_use]
    pub fn unconfirmed(&self) -> u64 {
        let answered = self.confirmed.get();
        self.published_to_confirm().saturating_sub(answered)
    }
}
