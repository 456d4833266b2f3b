//! What a type of exchange is made of, and what it does with its bindings: each has a file with both.

use std::fmt::Debug;

use leveret_codec::FieldTable;

use crate::binding::BindError;
use crate::exchange_error::ExchangeError;
use crate::route::{Route, RouteInput};
use crate::target::{ExchangeIndex, Terms};

/// A type of exchange.
pub(crate) struct ExchangeType {
    /// What clients call it.
    pub(crate) name: &'static str,
    /// The broker must see each message that comes by: to hold it back, remember it or drop it.
    pub(crate) is_stateful: bool,
    /// Checks the arguments of a declaration.
    pub(crate) check: fn(&FieldTable) -> Result<(), ExchangeError>,
    /// The matcher of an exchange with these arguments. It makes do with those that `check` refuses.
    pub(crate) matcher: fn(&FieldTable) -> Box<dyn Matcher>,
}

/// No argument decides anything.
pub(crate) fn any_arguments(_: &FieldTable) -> Result<(), ExchangeError> {
    Ok(())
}

/// One exchange's bindings, indexed by the rules of its type.
pub(crate) trait Matcher: Debug + Send + Sync {
    /// Says why a binding is none, if so.
    fn check(&self, _terms: &Terms<'_>) -> Result<(), BindError> {
        Ok(())
    }

    /// Adds a binding, or says why it is none and changes nothing.
    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError>;

    /// Removes a binding that was added with the same `terms`.
    fn remove(&mut self, terms: &Terms<'_>);

    /// Adds to `route` what matches; true when anything did. `at` is the exchange's place.
    fn collect(&self, input: &RouteInput<'_>, at: ExchangeIndex, route: &mut Route) -> bool;

    /// Whether what matches follows from the routing keys and is worth remembering for each.
    fn is_cacheable(&self) -> bool {
        false
    }

    fn boxed(&self) -> Box<dyn Matcher>;
}

impl Clone for Box<dyn Matcher> {
    fn clone(&self) -> Self {
        self.as_ref().boxed()
    }
}
