//! One channel: its mode of publishing, its ledger, and the content it is in the middle of.

use std::collections::BTreeSet;
use std::sync::Arc;

use leveret_access::tally::Permit;
use leveret_broker::roll::ChannelFacts;
use leveret_codec::{ChannelNumber, DeliveryTag};
use leveret_message::Timestamp;
use leveret_queue::credit::ChannelCredit;
use leveret_queue::queue::settle::Outcome;

use super::assembly::Assembly;
use super::confirms::Confirms;
use super::transaction::Transaction;
use super::unacked::Ledger;

/// How many deliveries that were taken back are remembered.
const FORGIVEN_MAX: usize = 1 << 16;

/// How publishes on a channel are answered for.
#[derive(Default)]
pub(super) enum PublishMode {
    /// Not at all.
    #[default]
    Plain,
    /// `confirm.select`
    Confirm(Confirms),
    /// `tx.select`
    Transaction(Box<Transaction>),
}

pub(super) struct Channel {
    pub(super) number: ChannelNumber,
    /// Which of the connection's channels it is, counted from 1.
    pub(super) serial: u64,
    /// What administrators see of it.
    pub(super) facts: Arc<ChannelFacts>,
    pub(super) mode: PublishMode,
    pub(super) ledger: Ledger,
    pub(super) last_delivery_tag: DeliveryTag,
    /// For consumers made from now on; 0: no limit.
    pub(super) prefetch: u16,
    pub(super) credit: Arc<ChannelCredit>,
    /// What an empty queue name stands for.
    pub(super) last_queue: Option<String>,
    pub(super) assembly: Option<Box<Assembly>>,
    /// `channel.close` is sent; only its answer counts.
    pub(super) closing: bool,
    /// Its permit among the channels its user may have; a closing one has none any more.
    _permit: Option<Permit>,
    /// Deliveries that were taken back from their consumer; settling one late is no error.
    forgiven: BTreeSet<DeliveryTag>,
}

impl Channel {
    pub(super) fn new(facts: Arc<ChannelFacts>, permit: Permit) -> Channel {
        Channel {
            serial: facts.serial,
            _permit: Some(permit),
            ..Channel::empty(facts.number, facts)
        }
    }

    fn empty(number: ChannelNumber, facts: Arc<ChannelFacts>) -> Channel {
        Channel {
            number,
            serial: 0,
            facts,
            mode: PublishMode::Plain,
            ledger: Ledger::default(),
            last_delivery_tag: DeliveryTag::NONE,
            prefetch: 0,
            credit: Arc::default(),
            last_queue: None,
            assembly: None,
            closing: false,
            _permit: None,
            forgiven: BTreeSet::new(),
        }
    }

    /// A publish waits for its content.
    pub(super) fn is_assembling(&self) -> bool {
        self.assembly.is_some()
    }

    /// Nothing is left but to wait for `channel.close-ok`.
    pub(super) fn reset_closing(&mut self) {
        *self = Channel {
            closing: true,
            ..Channel::empty(self.number, Arc::default())
        };
    }

    /// A delivery was taken back; its client may not know yet.
    pub(super) fn forgive(&mut self, tag: DeliveryTag) {
        self.forgiven.insert(tag);
        if self.forgiven.len() > FORGIVEN_MAX {
            self.forgiven.pop_first();
        }
    }

    /// Whether `tag` may be settled though it was taken back; once.
    pub(super) fn is_forgiven(&mut self, tag: DeliveryTag) -> bool {
        self.forgiven.remove(&tag)
    }

    /// Deliveries are written.
    #[inline]
    pub(super) fn note_delivered(
        &self,
        no_ack: bool,
        run: usize,
        redelivered: u64,
        now: Timestamp,
    ) {
        let facts = &self.facts;
        facts.note_active(now);
        if no_ack {
            facts.delivered_no_ack.add(run as u64);
        } else {
            facts.delivered.add(run as u64);
            facts.unacknowledged.add(run as u64);
        }
        facts.redelivered.add(redelivered);
    }

    /// Deliveries left the ledger.
    #[inline]
    pub(super) fn note_settled(&self, outcome: Outcome, count: usize) {
        self.facts.unacknowledged.subtract(count as u64);
        if outcome == Outcome::Acknowledged {
            self.facts.acknowledged.add(count as u64);
        }
    }

    /// A message was got.
    pub(super) fn note_got(&self, no_ack: bool, redelivered: bool, now: Timestamp) {
        let facts = &self.facts;
        facts.note_active(now);
        match no_ack {
            true => facts.got_no_ack.add(1),
            false => facts.got.add(1),
        }
        facts.redelivered.add(redelivered.into());
    }

    /// The first of the next `count` delivery tags, which are given now.
    #[inline]
    pub(super) fn take_delivery_tags(&mut self, count: usize) -> DeliveryTag {
        let first = self.last_delivery_tag.next();
        self.last_delivery_tag = self.last_delivery_tag.plus(count);
        first
    }
}
