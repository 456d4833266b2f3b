//! Definitions that a start could not use: unreadable ones, and those that have nothing to stand on.
//!
//! They are kept in the store, under keys of their own, so that their names are free; and so are their
//! messages. Every start tries them again. Whoever deletes a queue or an exchange of that name, or unbinds
//! what they bind, gets rid of them.

use leveret_store::{Change, LogId};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::definitions::Subject;
use crate::message::Message;

/// The letter before the key that a definition had.
const ASIDE: u8 = b'x';
/// More of them are only counted in the log.
const REPORTED_MAX: usize = 100;

/// The key under which a definition with this key is put aside.
pub(crate) fn key_aside(key: &[u8]) -> Vec<u8> {
    [&[ASIDE], key].concat()
}

/// The key that a definition had before it was put aside, if it was.
pub(crate) fn key_before(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(&[ASIDE])
}

/// A definition that was put aside.
#[derive(Clone, Debug)]
pub(crate) struct Aside {
    /// What it is of.
    pub(crate) subject: Subject,
    /// Why.
    pub(crate) reason: String,
    /// Where it lies in the store.
    pub(crate) key: Vec<u8>,
    /// What it keeps; None if that cannot be told.
    pub(crate) logs: Option<Vec<LogId>>,
}

impl std::fmt::Display for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Aside {
            subject, reason, ..
        } = self;
        write!(f, "the definition of {subject} cannot be used: {reason}")?;
        match subject {
            Subject::Queue(..) => f.write_str(
                "; it and its messages are put aside, until a queue of that name is deleted",
            ),
            Subject::Exchange(..) => {
                f.write_str("; it is put aside, until an exchange of that name is deleted")
            }
            Subject::Binding(_) => {
                f.write_str("; it is put aside, until it is unbound, with any arguments, or one of its ends is deleted")
            }
            Subject::TopicPermission(..) => {
                f.write_str("; it is put aside, and no topic of that exchange is permitted")
            }
            Subject::Other(_) => f.write_str("; it is put aside"),
        }
    }
}

/// All that is put aside.
#[derive(Debug, Default)]
pub(crate) struct Asides(Mutex<All>);

#[derive(Debug, Default)]
struct All {
    list: Vec<Aside>,
    /// What they are of.
    subjects: FxHashSet<Subject>,
}

impl Asides {
    pub(crate) fn add(&self, aside: Aside) {
        let mut all = self.0.lock();
        all.subjects.insert(aside.subject.clone());
        all.list.push(aside);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().list.is_empty()
    }

    /// Whether this thing is put aside.
    pub(crate) fn contains(&self, subject: &Subject) -> bool {
        self.0.lock().subjects.contains(subject)
    }

    /// Whether some of them keep logs that nobody can name.
    pub(crate) fn keep_unknown_logs(&self) -> bool {
        self.0.lock().list.iter().any(|aside| aside.logs.is_none())
    }

    /// The logs that they keep.
    pub(crate) fn logs(&self) -> Vec<LogId> {
        let all = self.0.lock();
        let named = all.list.iter().filter_map(|aside| aside.logs.as_deref());
        named.flatten().copied().collect()
    }

    /// What there is, one line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().list.iter().map(Aside::to_string).collect()
    }

    /// Says at the start what is put aside.
    pub(crate) fn report(&self) {
        let lines = self.lines();
        for line in lines.iter().take(REPORTED_MAX) {
            tracing::error!("{line}");
        }
        if lines.len() > REPORTED_MAX {
            tracing::error!(
                more = lines.len() - REPORTED_MAX,
                "there are more definitions that cannot be used; `leveret store verify` lists all"
            );
        }
    }

    /// Gets rid of a thing that was put aside, and of bindings from and to it; adds the removal to
    /// `changes`.
    pub(crate) fn forget(&self, subject: &Subject, changes: &mut Vec<Change<Message>>) {
        let mut all = self.0.lock();
        let All { list, subjects } = &mut *all;
        list.retain(|aside| {
            let goes = aside.subject == *subject
                || matches!(&aside.subject, Subject::Binding(ends) if ends.subjects().contains(subject));
            if goes {
                subjects.remove(&aside.subject);
                changes.push(Change::RemoveDefinition {
                    key: aside.key.clone(),
                });
                let logs = aside.logs.iter().flatten();
                changes.extend(logs.map(|log| Change::DeleteLog { log: *log }));
            }
            !goes
        });
    }
}
