//! What the API answers about: a file for each kind of thing, with its part of the table.

mod about;
mod alone;
mod bindings;
mod change;
mod channels;
mod connections;
mod consumers;
mod definitions;
mod delayed;
mod exchanges;
mod health;
mod limits;
mod messages;
mod missing;
mod nodes;
mod overview;
mod parameters;
mod permissions;
mod policies;
mod queues;
mod users;
mod vhosts;
mod watched;

use crate::api::Table;
use crate::page::{files, login};

/// The whole table.
pub(crate) fn all() -> Table {
    [
        about::table(),
        alone::table(),
        bindings::table(),
        channels::table(),
        connections::table(),
        consumers::table(),
        definitions::table(),
        delayed::table(),
        exchanges::table(),
        health::table(),
        limits::table(),
        missing::table(),
        nodes::table(),
        overview::table(),
        parameters::table(),
        permissions::table(),
        policies::table(),
        queues::table(),
        users::table(),
        vhosts::table(),
        watched::table(),
        files::table(),
        login::table(),
    ]
    .into_iter()
    .fold(Table::new(), Table::merge)
}
