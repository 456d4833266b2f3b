//! `x-modulus-hash`: the destination whose number is the routing key's hash modulo their count.

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::route::{Route, RouteInput};
use crate::stable_hash;
use crate::target::{ExchangeIndex, Target, TargetSet, Terms};

pub(crate) static MODULUS_HASH: ExchangeType = ExchangeType {
    name: "x-modulus-hash",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(ModulusHash::default()),
};

/// Bound destinations in an order that does not depend on when they were bound, so that keys stay
/// where they are over a restart.
#[derive(Clone, Debug, Default)]
struct ModulusHash {
    counted: TargetSet,
    ordered: Vec<(u64, Target)>,
}

impl Matcher for ModulusHash {
    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        let known = self.counted.len();
        self.counted.insert(terms.target);
        let entry = (terms.seed, terms.target);
        if self.counted.len() > known
            && let Err(position) = self.ordered.binary_search(&entry)
        {
            self.ordered.insert(position, entry);
        }
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        if self.counted.remove(terms.target)
            && let Ok(position) = self.ordered.binary_search(&(terms.seed, terms.target))
        {
            self.ordered.remove(position);
        }
    }

    fn collect(&self, input: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        route.add_one(self.pick(input))
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}

impl ModulusHash {
    fn pick(&self, input: &RouteInput<'_>) -> Option<Target> {
        // rabbitmq: the list of all routing keys, CC and BCC included, is hashed as one.
        let hash = input.keys().fold(0, stable_hash::hash_bytes);
        let count = u64::try_from(self.ordered.len())
            .ok()
            .filter(|count| *count > 0)?;
        let position = usize::try_from(hash % count).ok()?;
        self.ordered.get(position).map(|(_, target)| *target)
    }
}
