//! The consumers of a connection, by slot, by channel and by tag.

#[cfg(debug_assertions)]
mod check;

use std::hash::BuildHasher;

use hashbrown::HashTable;
use leveret_codec::{ChannelNumber, ConsumerTag};
use leveret_queue::mailbox::ConsumerSlot;
use leveret_queue::queue::consumers::ConsumerRef;
use rustc_hash::{FxBuildHasher, FxHashMap};
use slab::Slab;

use super::queue_table::QueueNumber;

/// A consumer as its session knows it.
#[derive(Debug)]
pub(super) struct Consumer {
    pub(super) channel: ChannelNumber,
    pub(super) tag: Box<[u8]>,
    pub(super) no_ack: bool,
    /// Its deliveries say at which offset they stand.
    pub(super) of_stream: bool,
    pub(super) queue: QueueNumber,
    pub(super) reference: ConsumerRef,
    /// `x-consumer-timeout` of `basic.consume`.
    pub(super) timeout_ms: Option<u64>,
    /// The address of direct reply-to, if it consumes from that.
    pub(super) reply_address: Option<String>,
}

impl Consumer {
    #[inline]
    pub(super) fn tag(&self) -> ConsumerTag<'_> {
        ConsumerTag(&self.tag)
    }

    /// It consumes direct replies.
    pub(super) fn gets_replies(&self) -> bool {
        self.reply_address.is_some()
    }
}

/// A consumer in its slot; nobody who had the slot before it had its generation.
#[derive(Debug)]
struct Entry {
    generation: u32,
    consumer: Consumer,
    /// Where its channel's list has it.
    in_channel: usize,
}

/// All consumers of a connection. However many there are, one more or less costs the same.
#[derive(Debug, Default)]
pub(super) struct Consumers {
    entries: Slab<Entry>,
    /// That of the latest.
    generation: u32,
    tags: HashTable<Tagged>,
    pub(super) by_channel: FxHashMap<ChannelNumber, Vec<u32>>,
}

impl Consumers {
    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    pub(super) fn get(&self, slot: ConsumerSlot) -> Option<&Consumer> {
        let entry = self.entries.get(slot.index as usize)?;
        (entry.generation == slot.generation).then_some(&entry.consumer)
    }

    /// The slot the next consumer will have.
    pub(super) fn next_slot(&self) -> ConsumerSlot {
        ConsumerSlot {
            index: u32::try_from(self.entries.vacant_key()).unwrap_or(u32::MAX),
            generation: self.generation.wrapping_add(1),
        }
    }

    /// Adds a consumer, at [`Consumers::next_slot`].
    pub(super) fn insert(&mut self, slot: ConsumerSlot, consumer: Consumer) {
        debug_assert_eq!(slot, self.next_slot());
        self.generation = slot.generation;
        let hash = hash_of(consumer.channel, consumer.tag());
        self.tags
            .insert_unique(hash, Tagged { hash, slot }, |tagged| tagged.hash);
        let of_channel = self.by_channel.entry(consumer.channel).or_default();
        self.entries.insert(Entry {
            generation: slot.generation,
            consumer,
            in_channel: of_channel.len(),
        });
        of_channel.push(slot.index);
    }

    pub(super) fn remove(&mut self, slot: ConsumerSlot) -> Option<Consumer> {
        self.get(slot)?;
        let Entry {
            consumer,
            in_channel: position,
            ..
        } = self.entries.remove(slot.index as usize);
        let hash = hash_of(consumer.channel, consumer.tag());
        if let Ok(tagged) = self.tags.find_entry(hash, |tagged| tagged.slot == slot) {
            tagged.remove();
        }
        if let Some(of_channel) = self.by_channel.get_mut(&consumer.channel) {
            of_channel.swap_remove(position);
            let moved = of_channel.get(position).copied();
            if of_channel.is_empty() {
                self.by_channel.remove(&consumer.channel);
            }
            if let Some(entry) = moved.and_then(|moved| self.entries.get_mut(moved as usize)) {
                entry.in_channel = position;
            }
        }
        Some(consumer)
    }

    pub(super) fn find(
        &self,
        channel: ChannelNumber,
        tag: ConsumerTag<'_>,
    ) -> Option<ConsumerSlot> {
        let is_it = |tagged: &Tagged| {
            let consumer = self.get(tagged.slot);
            consumer.is_some_and(|it| it.channel == channel && it.tag() == tag)
        };
        let found = self.tags.find(hash_of(channel, tag), is_it);
        found.map(|tagged| tagged.slot)
    }

    pub(super) fn slots(&self) -> impl Iterator<Item = ConsumerSlot> + '_ {
        self.tags.iter().map(|tagged| tagged.slot)
    }

    pub(super) fn slots_of_channel(
        &self,
        channel: ChannelNumber,
    ) -> impl Iterator<Item = ConsumerSlot> + '_ {
        let of_channel = self.by_channel.get(&channel);
        of_channel.into_iter().flatten().filter_map(|&index| {
            let entry = self.entries.get(index as usize)?;
            let generation = entry.generation;
            Some(ConsumerSlot { index, generation })
        })
    }

    pub(super) fn of_channel(&self, channel: ChannelNumber) -> impl Iterator<Item = &Consumer> {
        self.slots_of_channel(channel)
            .filter_map(|slot| self.get(slot))
    }

    /// Where replies to this channel go, if it consumes them.
    pub(super) fn reply_address(&self, channel: ChannelNumber) -> Option<&str> {
        self.of_channel(channel)
            .find_map(|consumer| consumer.reply_address.as_deref())
    }
}

/// A consumer by its channel and tag, with the hash of these: a table that grows need not read very many tags at once.
#[derive(Debug)]
struct Tagged {
    hash: u64,
    slot: ConsumerSlot,
}

fn hash_of(channel: ChannelNumber, tag: ConsumerTag<'_>) -> u64 {
    FxBuildHasher.hash_one((channel, tag))
}
