//! Headers exchanges: bindings whose arguments are a pattern for a message's headers.
//!
//! Semantics of RabbitMQ 4's `rabbit_exchange_type_headers`: `x-match` is `all` (also when missing),
//! `any`, `all-with-x` or `any-with-x`; the first two ignore keys that begin with `x-`; a void value
//! asks for the key's presence alone; an `all` without pairs matches everything, an `any` nothing.
//! One deviation: RabbitMQ 4 compares a message's timestamps in milliseconds with a binding's in
//! seconds, so that they never match; here both are seconds, as in RabbitMQ 3.

mod index;
mod message;
mod pattern;
mod value;

use crate::binding::BindError;
use crate::matcher::{ExchangeType, Matcher, any_arguments};
use crate::route::{Route, RouteInput};
use crate::target::{ExchangeIndex, Terms};
use index::HeadersIndex;
use pattern::Pattern;
pub(crate) use value::ValueRef;

pub(crate) static HEADERS: ExchangeType = ExchangeType {
    name: "headers",
    is_stateful: false,
    check: any_arguments,
    matcher: |_| Box::new(HeadersIndex::default()),
};

impl Matcher for HeadersIndex {
    fn check(&self, terms: &Terms<'_>) -> Result<(), BindError> {
        Pattern::parse(terms.arguments).map(drop)
    }

    fn insert(&mut self, terms: &Terms<'_>) -> Result<(), BindError> {
        self.add(Pattern::parse(terms.arguments)?, terms.target);
        Ok(())
    }

    fn remove(&mut self, terms: &Terms<'_>) {
        if let Ok(pattern) = Pattern::parse(terms.arguments) {
            self.take(&pattern, terms.target);
        }
    }

    fn collect(&self, input: &RouteInput<'_>, _: ExchangeIndex, route: &mut Route) -> bool {
        self.find(input.headers, route)
    }

    fn boxed(&self) -> Box<dyn Matcher> {
        Box::new(self.clone())
    }
}
