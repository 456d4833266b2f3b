//! See [`leveret_broker::check`].

use super::{Phase, Session};
use crate::connection::Connection;
use crate::link::Link;
use leveret_broker::check::Outside;

impl Session {
    /// Counts anew what the session holds, and adds it to what all hold.
    pub fn check(&self, outside: &mut Outside) {
        match &self.phase {
            Phase::Open(connection) => connection.check(&self.link, outside),
            Phase::Leaving(..) => outside.is_partial = true,
            _ => {}
        }
    }
}

impl Connection {
    fn check(&self, link: &Link, outside: &mut Outside) {
        outside.faults.look_at(format!("session {:?}", link.id));
        outside.connections += 1;
        let busy = self.waiting.commits();
        self.delivering.check(&self.channels, link, busy, outside);
    }
}
