//! What is done to what, and the patterns of who may do it.

use serde::{Deserialize, Serialize};

/// What is done to a resource.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Create or delete it, or alter its behaviour.
    Configure,
    /// Put messages into it.
    Write,
    /// Take messages out of it.
    Read,
}

impl Access {
    /// As it stands in error texts.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Access::Configure => "configure",
            Access::Write => "write",
            Access::Read => "read",
        }
    }
}

/// What is accessed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Resource<'a> {
    /// An exchange by name.
    Exchange(&'a str),
    /// A queue by name.
    Queue(&'a str),
}

/// The three patterns of one user in one virtual host, as stored. An empty pattern allows nothing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Permission {
    /// Pattern for [`Access::Configure`].
    pub configure: String,
    /// Pattern for [`Access::Write`].
    pub write: String,
    /// Pattern for [`Access::Read`].
    pub read: String,
}

impl Permission {
    /// Everything is allowed.
    #[must_use]
    pub fn full() -> Permission {
        let all = || ".*".to_owned();
        Permission {
            configure: all(),
            write: all(),
            read: all(),
        }
    }
}
