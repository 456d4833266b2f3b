//! The types of exchanges that keep something.

use leveret_codec::value_as_integer;
use leveret_deduplication::{KeyLogs, WINDOW};
use leveret_message::Store;
use leveret_message::arguments::argument;
use leveret_routing::{Exchange, ExchangeKind};

use super::cache::MESSAGE_DEDUPLICATION;
use super::delayed::DELAYED_MESSAGE;
use super::history::RECENT_HISTORY;
use super::keeper::{Keeper, KeeperType};
use super::logs::ExchangeLogs;

/// One for each type that [is stateful](ExchangeKind::is_stateful).
static TYPES: &[&KeeperType] = &[&DELAYED_MESSAGE, &RECENT_HISTORY, &MESSAGE_DEDUPLICATION];

fn of(kind: ExchangeKind) -> Option<&'static KeeperType> {
    TYPES.iter().copied().find(|it| it.kind == kind)
}

/// What an exchange keeps for its type's sake. Nothing of it is read back yet.
pub(super) fn keeper(
    exchange: &Exchange,
    logs: ExchangeLogs,
    store: &Store,
) -> Option<Box<dyn Keeper>> {
    of(exchange.kind).and_then(|it| (it.keeper)(exchange, logs, store))
}

impl ExchangeLogs {
    /// The logs that `exchange` needs.
    pub(crate) fn allocate(exchange: &Exchange, store: &Store) -> ExchangeLogs {
        let of_type = of(exchange.kind).map(|it| (it.logs)(exchange, store));
        ExchangeLogs {
            // A policy may have a durable exchange keep keys at any time.
            keys: exchange.durable.then(|| KeyLogs::allocate(store)),
            ..of_type.unwrap_or_default()
        }
    }
}

/// Checks the arguments of a declaration: those that decide how the exchange matches, and what it keeps.
///
/// # Errors
/// What is wrong, in the words of the plugins; 406.
pub(crate) fn check(exchange: &Exchange) -> Result<(), String> {
    exchange.check().map_err(|error| error.to_string())?;
    if let Some(keeper) = of(exchange.kind) {
        (keeper.check)(exchange)?;
    }
    let window = argument(&exchange.arguments, WINDOW);
    if window.is_some_and(|window| value_as_integer(window).is_none_or(|window| window <= 0)) {
        let name = &exchange.name;
        return Err(format!("invalid arg '{WINDOW}' for exchange '{name}'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_that_is_stateful_keeps_something_and_no_other_does() {
        for kind in ExchangeKind::all() {
            assert_eq!(of(kind).is_some(), kind.is_stateful(), "{}", kind.name());
        }
    }
}
