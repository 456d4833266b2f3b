//! Virtual hosts, what is said of them, and their end.

use leveret_broker::vhost_metadata::{VhostChanges, VhostMetadata};
use leveret_broker::vhost_removal::NotDeleted;

use super::{CommitPoint, VhostView, View};

pub(crate) use leveret_broker::vhost_removal::VhostRemoval;

/// Why a virtual host stays.
pub(crate) enum Stays {
    /// There is none of that name.
    Unknown,
    /// It is protected.
    Protected,
    /// Something else, in words.
    Otherwise(String),
}

impl VhostView {
    /// What is said of it.
    pub(crate) fn metadata(&self) -> VhostMetadata {
        self.0.metadata()
    }
}

impl View {
    /// Protects a virtual host from deletion, or does no longer; None: there is none of that name.
    pub(crate) fn protect_vhost(
        &self,
        name: &str,
        protected: bool,
    ) -> Result<Option<CommitPoint>, String> {
        let changes = VhostChanges {
            protected_from_deletion: Some(protected),
            ..VhostChanges::default()
        };
        let changed = self.broker.change_vhost(name, changes);
        changed.map_err(|error| error.to_string())
    }

    /// Nobody finds the virtual host any more; [`View::go_on_deleting_vhost`] follows.
    pub(crate) fn begin_to_delete_vhost(&self, name: &str) -> Result<VhostRemoval, Stays> {
        let begun = self.broker.begin_to_delete_vhost(name);
        begun.map_err(|error| match error {
            NotDeleted::Unknown => Stays::Unknown,
            NotDeleted::Protected => Stays::Protected,
            other => Stays::Otherwise(other.to_string()),
        })
    }

    /// Deletes a part of it; None as long as there is more to do.
    pub(crate) fn go_on_deleting_vhost(&self, removal: &VhostRemoval) -> Option<CommitPoint> {
        self.broker.go_on_deleting_vhost(removal)
    }
}
