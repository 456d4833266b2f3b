//! Messages found in the bytes of runs, and how much of each is as it was written.

use leveret_store_api::{LogId, Sequence};

use crate::segments::run::{Entries, EntryHeader, RunHeader, Sound};

/// A message found in a chunk.
pub(super) struct Found<'a> {
    pub(super) sequence: Sequence,
    /// Says nothing where there is no content.
    pub(super) entry: EntryHeader,
    pub(super) content: Content<'a>,
}

/// What of a message is as it was written.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// The payload.
    Whole(&'a [u8]),
    /// The part by which it is known.
    Head(&'a [u8]),
    Nothing,
}

impl<'a> Content<'a> {
    /// Of a message of a checked run.
    pub(super) fn of(
        log: LogId,
        sequence: Sequence,
        entry: &EntryHeader,
        payload: &'a [u8],
    ) -> Content<'a> {
        if !entry.has_head(log, sequence, payload) {
            Content::Nothing
        } else if entry.has_body(payload) {
            Content::Whole(payload)
        } else {
            Content::Head(entry.head(payload))
        }
    }

    pub(super) fn bytes(&self) -> &'a [u8] {
        match self {
            Content::Whole(bytes) => bytes,
            Content::Head(_) | Content::Nothing => &[],
        }
    }
}

/// Adds the wanted messages of a run of which it can be said where they are.
pub(super) fn add_run<'a>(
    header: &RunHeader,
    entries: &'a [u8],
    is_wanted: &dyn Fn(u64) -> bool,
    found: &mut Vec<Found<'a>>,
) {
    let sound = header.look_at(entries);
    if sound == Sound::Nothing {
        return;
    }
    for (sequence, (entry, payload)) in
        (header.first.0..header.end()).zip(Entries::new(header, entries))
    {
        if is_wanted(sequence) {
            let sequence = Sequence(sequence);
            let content = match sound {
                Sound::Whole => Content::Whole(payload),
                Sound::Outline | Sound::Nothing => {
                    Content::of(header.log, sequence, &entry, payload)
                }
            };
            found.push(Found {
                sequence,
                entry,
                content,
            });
        }
    }
}
