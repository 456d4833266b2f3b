//! The store as the broker uses it: with messages as payloads.

use std::sync::Arc;

use leveret_store_api::{DefinitionStore, MessageLog};

use crate::message::Message;

/// The store as the broker uses it.
pub trait Storage: MessageLog<Message> + DefinitionStore {}
impl<T: MessageLog<Message> + DefinitionStore> Storage for T {}

/// A shared store.
pub type Store = Arc<dyn Storage>;
