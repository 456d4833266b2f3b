//! Fanout exchanges: every message goes to every destination.

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::route::{Route, RouteInput};
use crate::target::{ExchangeIndex, TargetSet, Terms};

pub(crate) static FANOUT: ExchangeType = ExchangeType {
    name: "fanout",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(Fanout::default()),
};

#[derive(Clone, Debug, Default)]
struct Fanout(TargetSet);

impl Matcher for Fanout {
    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        self.0.insert(terms.target);
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        self.0.remove(terms.target);
    }

    fn collect(&self, _: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        route.add_all(&self.0)
    }

    fn is_cacheable(&self) -> bool {
        true
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}
