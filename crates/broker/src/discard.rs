//! Getting rid of what a start cannot use and puts aside, at an operator's word.

use leveret_message::{Store, Timestamp};
use leveret_store_api::{CommitPoint, StoreError};

use crate::broker::Broker;
use crate::config::BrokerConfig;

/// What was discarded, one line each, and when that is durable.
#[derive(Debug)]
pub struct Discarded {
    /// As [`crate::examine_definitions`] names them.
    pub lines: Vec<String>,
    /// The commit point of their removal.
    pub point: CommitPoint,
}

/// Why nothing was discarded.
#[derive(Debug, thiserror::Error)]
pub enum DiscardError {
    /// The definitions cannot be had.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no unusable definition of that.
    #[error("no definition of {0} is put aside")]
    NotAside(String),
}

/// Removes the definitions of this store that a start cannot use, for good, with the messages they keep: those of the
/// things that are `named` as [`crate::examine_definitions`] names them, or all if none is. For a store that no broker
/// runs on.
///
/// # Errors
/// The definitions cannot be had, or one of the names is not among them; nothing is removed then.
pub fn discard(store: Store, named: &[String]) -> Result<Discarded, DiscardError> {
    let broker = Broker::blank(BrokerConfig::default(), store, Timestamp::default());
    broker.recover(Timestamp::default())?;
    let mut changes = Vec::new();
    let lines = broker
        .aside()
        .discard(named, &mut changes)
        .map_err(DiscardError::NotAside)?;
    let point = broker.services.store.stage(&mut changes);
    Ok(Discarded { lines, point })
}
