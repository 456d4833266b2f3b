//! The management page: its files, who is logged in on it, and what it is told while it is shown.

pub(crate) mod files;
pub(crate) mod live;
pub(crate) mod login;
pub(crate) mod logins;
pub(crate) mod streams;
