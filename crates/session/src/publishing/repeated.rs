//! Publishes like the one before: recognised by their bytes and taken without being read anew.
//!
//! Most publishers send to the same place with the same properties time and again. Where a publish goes
//! where the one before it went, its form is kept; those that follow and differ in nothing but their bodies
//! have passed every check already and go to the same queues. Whatever is different in any way is left to
//! the usual way, which decides anew.

use super::Publishing;
use crate::channel::PublishMode;
use crate::channels::Channels;
use crate::confirms::PublishTag;
use crate::link::Link;
use crate::repeat_form::Form;
use leveret_queue::shortcuts::Shortcut;

impl Publishing {
    /// Takes the publishes at the front of `input` that are like the one before them; answers how many bytes
    /// they are.
    #[inline]
    pub(crate) fn take_repeats(
        &mut self,
        channels: &mut Channels,
        link: &mut Link,
        input: &[u8],
    ) -> usize {
        if self.repeat.form.is_none() || !Shortcut::Repeats.is_open() {
            return 0;
        }
        self.take_repeats_of_form(channels, link, input)
    }

    /// By itself, so that what other frames need does not take registers from this loop.
    #[inline(never)]
    fn take_repeats_of_form(
        &mut self,
        channels: &mut Channels,
        link: &mut Link,
        input: &[u8],
    ) -> usize {
        let Some(form) = self.repeat.form.as_deref_mut() else {
            return 0;
        };
        let Form { pattern, message } = form;
        let Some(mut next) = pattern.next(input) else {
            if self.repeat.patience.fails() {
                self.repeat.form = None;
            }
            return 0;
        };
        let number = pattern.channel();
        let Some(channel) = channels.get_mut(number) else {
            return 0;
        };
        let in_the_way = channel.closing || channel.is_assembling() || self.vhost.is_watched();
        let goes_there = self.routes.is_of(self.vhost.generation())
            && !self.batch.latest_targets.is_empty()
            && self.batch.latest_names == message.names();
        if in_the_way || !goes_there {
            return 0;
        }
        let mut confirms = match &mut channel.mode {
            PublishMode::Plain => None,
            PublishMode::Confirm(confirms) => Some(confirms),
            PublishMode::Transaction(_) => return 0,
        };
        let targets = u32::try_from(self.batch.latest_targets.len()).unwrap_or(u32::MAX);
        let mut room = link.work.room_for_messages(targets);
        let from = self.batch.len();
        self.batch.reserve(input.len() / next.1);
        let mut used = 0;
        let mut tag = PublishTag::NONE;
        loop {
            let (body, length) = next;
            if let Some(confirms) = &mut confirms {
                tag = confirms.next_tag();
            }
            self.counts.note_size(body.len() as u64);
            self.batch.push(message.compose(body), number, tag);
            used += length;
            room -= 1;
            if room == 0 || self.batch.is_full() {
                break;
            }
            match input.get(used..).and_then(|rest| pattern.next(rest)) {
                Some(another) => next = another,
                None => break,
            }
        }
        let count = self.batch.len() - from;
        link.work.add(count.saturating_mul(targets));
        self.batch.direct(from);
        channel.facts.note_published(count.into(), link.now);
        if tag != PublishTag::NONE {
            self.batch.add_confirm(number, tag);
        }
        self.repeat.patience.reward();
        used
    }
}
