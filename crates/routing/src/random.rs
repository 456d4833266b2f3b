//! `x-random` and `x-local-random`: one of the bound destinations by chance.
//!
//! Chance is the caller's number. `x-local-random` is in RabbitMQ about a cluster's nodes; with one
//! node all queues are local, and what is left of it are its rules for bindings.

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::route::{Route, RouteInput};
use crate::stable_hash;
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};

pub(crate) static RANDOM: ExchangeType = ExchangeType {
    name: "x-random",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(Random::checking(|_| Ok(()))),
};

pub(crate) static LOCAL_RANDOM: ExchangeType = ExchangeType {
    name: "x-local-random",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(Random::checking(check_local)),
};

#[derive(Clone, Debug)]
struct Random {
    targets: TargetSet,
    check: fn(&Terms<'_>) -> Result<(), BindError>,
}

impl Random {
    fn checking(check: fn(&Terms<'_>) -> Result<(), BindError>) -> Random {
        Random {
            targets: TargetSet::default(),
            check,
        }
    }

    /// One of the targets. The exchange's place is mixed in, so that two exchanges on one message's way
    /// choose independently.
    fn pick(&self, random: u64, at: ExchangeIndex) -> Option<Target> {
        if self.targets.is_empty() {
            return None;
        }
        let choice = stable_hash::mix(random ^ stable_hash::mix(u64::from(at.0) + 1));
        let count = self.targets.len();
        self.targets.at(stable_hash::index_below(choice, count))
    }
}

impl Matcher for Random {
    fn check(&self, terms: &Terms<'_>) -> Result<(), BindError> {
        (self.check)(terms)
    }

    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        (self.check)(terms)?;
        self.targets.insert(terms.target);
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        self.targets.remove(terms.target);
    }

    fn collect(&self, input: &RouteInput<'_>, at: ExchangeIndex, route: &mut Route) -> bool {
        route.add_one(self.pick(input.random, at))
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

/// The rules of `x-local-random`.
fn check_local(terms: &Terms<'_>) -> Result<(), BindError> {
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
