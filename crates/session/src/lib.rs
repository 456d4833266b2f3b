//! One client's side of the protocol: what a connection's bytes ask of the broker, and what it is answered.
//!
//! Bytes and the time go in; bytes, deadlines and wakes come out. Nothing here is async, reads a clock, opens a file or
//! starts a thread, and a session knows no other. Follow one message: [`session`] (receive), `content`, `publish`,
//! `publishing`, `batch`, and on its way out `deliver`, `delivering`, `unacked`, `settle`.

#![forbid(unsafe_code)]

mod assembly;
mod auth;
mod batch;
mod blocks;
mod body_memory;
mod bring;
mod bringing;
mod channel;
mod channels;
mod commit_job;
mod committing;
mod confirm;
mod confirms;
mod connection;
mod consume;
mod consumer_arguments;
mod consumers;
mod content;
mod deleting;
mod deletion;
mod deliver;
mod delivered;
mod delivering;
mod delivery_forms;
mod ending;
mod events;
mod giving_back;
mod greeting;
mod handshake;
mod job;
mod known_routes;
mod large_publish;
mod link;
mod memory;
mod methods;
pub mod output;
mod overdue;
mod parked;
mod patience;
mod permits;
mod pressure;
mod publish;
mod publishing;
mod queue_table;
mod repeat_form;
mod returned;
mod rolling_back;
mod route_cache;
pub mod session;
mod settle;
mod settled;
mod spread;
mod spreading;
mod stamp;
mod stateful;
mod stateful_publish;
mod stream;
mod topology;
mod trace;
mod traced;
mod transaction;
mod tx;
mod unacked;
mod upcoming_routes;
mod waiting;
mod work;

pub use link::Peer;
pub use output::Output;
pub use session::Session;
