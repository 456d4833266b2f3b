//! Definitions that a start could not use: unreadable ones, and those that have nothing to stand on.
//!
//! They are kept in the store, under keys of their own, so that their names are free; and so are their
//! messages. Every start tries them again. Whoever deletes a queue or an exchange of that name, or unbinds
//! what they bind, gets rid of them, and so does an operator (see `discard`).

use leveret_message::Message;
use leveret_store_api::{Change, LogId};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;

use crate::definitions::Subject;

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

/// What removes one for good, with what it keeps.
const DISCARD: &str = "`leveret store discard-definitions`";

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
            Subject::TopicPermission(..) => write!(
                f,
                "; it is put aside, and no topic of that exchange is permitted, until {DISCARD} gets rid of it"
            ),
            Subject::Other(_) => write!(f, "; it is put aside, until {DISCARD} gets rid of it"),
        }
    }
}

impl Aside {
    /// Adds its removal to `changes`.
    fn remove(&self, changes: &mut Vec<Change<Message>>) {
        changes.push(Change::RemoveDefinition {
            key: self.key.clone(),
        });
        let logs = self.logs.iter().flatten();
        changes.extend(logs.map(|log| Change::DeleteLog { log: *log }));
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
                aside.remove(changes);
            }
            !goes
        });
    }

    /// Gets rid of what is `named`, or of all if nothing is; adds the removal to `changes`. Answers what went, one line
    /// each, or a name that is not among them, and then nothing goes.
    pub(crate) fn discard(
        &self,
        named: &[String],
        changes: &mut Vec<Change<Message>>,
    ) -> Result<Vec<String>, String> {
        let mut all = self.0.lock();
        let All { list, subjects } = &mut *all;
        let names: FxHashSet<String> = list.iter().map(|it| it.subject.to_string()).collect();
        if let Some(unknown) = named.iter().find(|name| !names.contains(*name)) {
            return Err(unknown.clone());
        }
        let mut lines = Vec::new();
        list.retain(|aside| {
            let goes = named.is_empty() || named.contains(&aside.subject.to_string());
            if goes {
                subjects.remove(&aside.subject);
                aside.remove(changes);
                lines.push(format!("{}: {}", aside.subject, aside.reason));
            }
            !goes
        });
        Ok(lines)
    }
}
