//! What is said of a virtual host, and what of it is said anew.

use leveret_queue::queue::kind::QueueKind;
use serde::{Deserialize, Serialize};

/// What is said of a virtual host.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct VhostMetadata {
    /// In words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Words that mean nothing to the broker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The type of queues that are declared without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<QueueKind>,
    /// Nobody may delete it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub protected_from_deletion: bool,
}

/// What of it is said anew.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct VhostChanges {
    /// See [`VhostMetadata::description`].
    pub description: Option<String>,
    /// See [`VhostMetadata::tags`].
    pub tags: Option<Vec<String>>,
    /// See [`VhostMetadata::default_queue_type`].
    pub default_queue_type: Option<QueueKind>,
    /// See [`VhostMetadata::protected_from_deletion`].
    pub protected_from_deletion: Option<bool>,
}

impl VhostMetadata {
    pub(crate) fn change(&mut self, changes: VhostChanges) {
        let VhostChanges {
            description,
            tags,
            default_queue_type,
            protected_from_deletion,
        } = changes;
        if let Some(description) = description {
            self.description = description;
        }
        if let Some(tags) = tags {
            self.tags = tags;
        }
        if default_queue_type.is_some() {
            self.default_queue_type = default_queue_type;
        }
        if let Some(protected) = protected_from_deletion {
            self.protected_from_deletion = protected;
        }
    }
}
