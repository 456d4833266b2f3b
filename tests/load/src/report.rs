//! Counts while a run is under way, and the line that is printed after it.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Map, Value};

use crate::clock;
use crate::options::Options;

/// A number on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Count(AtomicU64);

/// What all connections of a run have done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    published: Count,
    confirmed: Count,
    consumed: Count,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moment {
    /// When.
    pub(crate) at: u64,
    /// Messages sent.
    pub(crate) published: u64,
    /// Messages confirmed or refused.
    pub(crate) confirmed: u64,
    /// Deliveries.
    pub(crate) consumed: u64,
}

impl Counters {
    /// More were sent.
    pub(crate) fn published(&self, more: u64) {
        self.published.0.fetch_add(more, Ordering::Relaxed);
    }

    /// More were confirmed.
    pub(crate) fn confirmed(&self, more: u64) {
        self.confirmed.0.fetch_add(more, Ordering::Relaxed);
    }

    /// More came.
    pub(crate) fn consumed(&self, more: u64) {
        self.consumed.0.fetch_add(more, Ordering::Relaxed);
    }

    /// All of them now.
    pub(crate) fn now(&self) -> Moment {
        Moment {
            at: clock::now(),
            published: self.published.0.load(Ordering::Relaxed),
            confirmed: self.confirmed.0.load(Ordering::Relaxed),
            consumed: self.consumed.0.load(Ordering::Relaxed),
        }
    }
}

impl Moment {
    /// Whether anything happened since `before`.
    pub(crate) fn differs(&self, before: &Moment) -> bool {
        let counts = |moment: &Moment| (moment.published, moment.confirmed, moment.consumed);
        counts(self) != counts(before)
    }
}

/// Prints a result: `figures` after what all results have.
pub(crate) fn print(options: &Options, server: &str, figures: Value) {
    let mut line = Map::new();
    line.insert("tool".to_owned(), env!("CARGO_PKG_NAME").into());
    line.insert("version".to_owned(), env!("CARGO_PKG_VERSION").into());
    line.insert("server".to_owned(), server.into());
    line.insert(
        "mode".to_owned(),
        format!("{:?}", options.mode).to_lowercase().into(),
    );
    if let Value::Object(figures) = figures {
        line.extend(figures);
    }
    println!("{}", Value::Object(line));
}
