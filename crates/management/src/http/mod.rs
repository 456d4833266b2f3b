//! HTTP as the API speaks it, whatever it is asked for: connections and their bounds, requests, answers, lists.

pub(crate) mod answer;
pub(crate) mod ask;
pub(crate) mod audit;
pub(crate) mod body;
pub(crate) mod connection;
pub(crate) mod date;
pub(crate) mod desk;
pub(crate) mod guests;
pub(crate) mod list;
pub(crate) mod path;
mod patience;
pub(crate) mod query;
pub(crate) mod table;
pub(crate) mod upload;
