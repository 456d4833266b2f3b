//! The row of the table.

use leveret_codec::FieldTable;
use leveret_queue::queue::kind::QueueKind;
use leveret_queue::queue::options::QueueOptions;

use super::argument::Argument;
use super::key::Key;
use super::value::{Merge, Value};

/// One thing that a queue can be told: by an argument of its declaration, by policies, or by both.
pub(crate) struct Setting {
    pub(crate) argument: Option<Argument>,
    pub(crate) key: Option<Key>,
    pub(crate) effect: Effect,
}

/// What comes of a setting.
pub(crate) enum Effect {
    /// Nothing, on one node; its form is checked all the same.
    Nothing,
    /// It is told exchanges alone.
    OfExchanges,
    /// What counts of argument and policy goes into the options of the queue.
    Set {
        merge: MergeByKind,
        set: fn(&mut QueueOptions, &Value),
    },
}

/// Which counts of an argument and a policy, by the type of the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergeByKind {
    pub(crate) classic: Merge,
    pub(crate) quorum: Merge,
    pub(crate) stream: Merge,
}

impl MergeByKind {
    pub(super) const fn always(merge: Merge) -> MergeByKind {
        MergeByKind {
            classic: merge,
            quorum: merge,
            stream: merge,
        }
    }

    pub(crate) fn of(self, kind: QueueKind) -> Merge {
        match kind {
            QueueKind::Classic => self.classic,
            QueueKind::Quorum => self.quorum,
            QueueKind::Stream => self.stream,
        }
    }
}

impl Setting {
    /// What it is known by: the argument's name, else the key's.
    pub(crate) fn name(&self) -> &'static str {
        match (&self.argument, &self.key) {
            (Some(argument), _) => argument.name,
            (None, Some(key)) => key.names.first().copied().unwrap_or_default(),
            (None, None) => "",
        }
    }

    /// What the arguments of a declaration say of it.
    pub(crate) fn declared(&self, arguments: &FieldTable) -> Option<Value> {
        self.argument.as_ref()?.read(arguments)
    }
}
