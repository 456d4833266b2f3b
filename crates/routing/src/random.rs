//! `x-random` and `x-local-random`: one of the bound destinations by chance.
//!
//! Chance is the caller's number. `x-local-random` is in RabbitMQ about a cluster's nodes; with one
//! node all queues are local, and what is left of it are its rules for bindings.

use crate::binding::BindError;
use crate::stable_hash;
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};

/// One of `targets`. The exchange's place is mixed in, so that two exchanges on one message's way
/// choose independently.
pub(crate) fn pick(targets: &TargetSet, random: u64, at: ExchangeIndex) -> Option<Target> {
    if targets.is_empty() {
        return None;
    }
    let choice = stable_hash::mix(random ^ stable_hash::mix(u64::from(at.0) + 1));
    targets.at(stable_hash::index_below(choice, targets.len()))
}

/// The rules of `x-local-random`.
pub(crate) fn check_local(terms: &Terms<'_>) -> Result<(), BindError> {
    if !terms.routing_key.is_empty() {
        return Err(BindError::KeyNotEmpty {
            key: terms.routing_key.to_vec(),
        });
    }
    match terms.target {
        Target::Queue(_) => Ok(()),
        Target::Exchange(_) => Err(BindError::QueuesOnly),
    }
}
