//! Leveret's broker as its clients see it, without sockets and with a clock moved by hand.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "tests stop where they fail, and their helpers are for one another"
)]

mod admission;
mod carried_headers;
mod commits_and_limits;
mod commits_in_steps;
mod consuming;
mod damaged;
mod dead_letter_model;
mod dead_letters;
mod decided;
mod deduplication;
mod definitions;
mod delayed;
mod durability;
mod events;
mod expiry;
mod flow;
mod giving_back;
mod handshake;
mod harness;
mod hostile;
mod large_messages;
mod letters_in_order;
mod limits;
mod limits_on_disk;
mod memory;
mod million_keys;
mod model;
mod overdue;
mod paging;
mod partly_durable;
mod policies;
mod producers;
mod publishing;
mod recent_history;
mod redeliveries;
mod repeats;
mod replies;
mod retries;
mod routes;
mod settling;
mod settling_matrix;
mod shared_credit;
#[cfg(debug_assertions)]
mod shortcuts;
mod statistics;
mod stream_model;
mod streams;
mod topology;
mod tracing;
mod transaction_units;
mod transactions;
mod turns;
mod unacked_memory;
mod units_in_steps;
mod unreadable;
mod waiting;
mod work;
