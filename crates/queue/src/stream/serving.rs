//! Whom of a stream's readers to serve next: there may be very many, so they are served some at a time.

use std::collections::VecDeque;

use super::Stream;
use super::readers::{Reader, Standing};
use crate::queue::effects::Effects;

/// So many readers are looked at before others have their turn.
const READERS_MAX: u32 = 1024;
/// So many deliveries are made before.
const DELIVERIES_MAX: usize = 2048;

/// How far the present round has come, in which each reader that waits for messages is served.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// The round is for messages below this offset.
    visible: u64,
    /// The place that is next.
    next: u32,
    /// So many places are left.
    left: u32,
    /// Readers that have come to wait for messages, whatever round it is.
    fresh: VecDeque<u32>,
}

impl Serving {
    /// The reader at this place waits for messages anew.
    pub(super) fn add(&mut self, index: u32) {
        self.fresh.push_back(index);
    }

    pub(super) fn is_done(&self) -> bool {
        self.left == 0 && self.fresh.is_empty()
    }

    /// Who is next.
    fn next(&mut self, places: u32) -> Option<u32> {
        if let Some(index) = self.fresh.pop_front() {
            return Some(index);
        }
        self.left = self.left.checked_sub(1)?;
        let index = if self.next < places { self.next } else { 0 };
        self.next = index + 1;
        Some(index)
    }
}

impl Stream {
    /// Serves readers that wait for messages: all, if there are new ones. What is left has the pager come.
    pub(crate) fn dispatch(&mut self, effects: &mut Effects) {
        self.tail.advance(self.store.durable_point());
        let places = self.readers.places();
        if self.tail.visible() > self.serving.visible {
            self.serving.visible = self.tail.visible();
            self.serving.left = places;
        }
        let mut deliveries = 0;
        for _ in 0..READERS_MAX {
            if deliveries >= DELIVERIES_MAX {
                break;
            }
            let Some(index) = self.serving.next(places) else {
                break;
            };
            let waits = |reader: &Reader| reader.standing == Standing::Messages;
            if self.readers.get(index).is_some_and(waits) {
                deliveries += self.serve(index, effects);
            }
        }
        if !self.serving.is_done() {
            self.ask_page_in(effects);
        }
        self.ask_durable(effects);
    }
}
