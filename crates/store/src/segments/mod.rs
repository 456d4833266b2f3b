//! Segments: the files of the journal, and the layout of messages in them. Knows neither records nor the index.

pub(crate) mod body;
pub(crate) mod files;
pub(crate) mod run;
pub(crate) mod segment;
mod spent;
