//! What the API answers about: a file for each kind of thing, with its part of the table.

mod bindings;
mod delayed;
mod exchanges;
mod messages;
mod missing;
mod overview;
mod queues;

use crate::api::Table;

/// The whole table.
pub(crate) fn all() -> Table {
    [
        bindings::table(),
        delayed::table(),
        exchanges::table(),
        missing::table(),
        overview::table(),
        queues::table(),
    ]
    .into_iter()
    .fold(Table::new(), Table::merge)
}
