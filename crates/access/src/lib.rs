//! Who may come, and what they may do: users and their passwords, permissions by pattern, limits, and the brake on
//! guessing. Nothing here knows what there is to be had access to but by its name.

#![forbid(unsafe_code)]

pub mod brake;
pub mod excerpt;
pub mod grant;
pub mod limits;
pub mod password;
pub mod pattern;
pub mod permission;
pub mod tally;
pub mod users;
