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

pub(crate) use index::HeadersIndex;
pub(crate) use pattern::Pattern;
pub(crate) use value::ValueRef;
