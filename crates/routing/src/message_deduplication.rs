//! `x-message-deduplication`: matches as `fanout`; that it drops duplicates is the broker's doing, and so are its arguments.

use crate::fanout::FANOUT;
use crate::matcher::{ExchangeType, any_arguments};

pub(crate) static MESSAGE_DEDUPLICATION: ExchangeType = ExchangeType {
    name: "x-message-deduplication",
    is_stateful: true,
    check: any_arguments,
    matcher: FANOUT.matcher,
};
