//! Deliveries out of the mailbox, tagged, recorded and written.
//!
//! Tags are assigned here, by the task that owns the channel: the ledger needs no lock, and a client
//! cannot acknowledge what was not written.

use leveret_message::Timestamp;

use super::connection::Connection;
use super::link::{Link, OUTPUT_HIGH_WATER};

impl Connection {
    /// Moves confirms, notices and deliveries into the output while it has room.
    pub(super) fn transmit(&mut self, link: &mut Link, now: Timestamp) {
        self.publishing.release_confirms(&mut self.channels, link);
        if self.delivering.is_handing_out() {
            link.mailbox.wake();
        }
        if link.output.len() < OUTPUT_HIGH_WATER && !self.is_working() {
            self.take_mail(link, now);
        }
        self.delivering.relieve_some(&mut self.channels, link);
        self.register_wake(link);
    }

    /// Takes the mailbox out and deals with all of it.
    pub(super) fn take_mail(&mut self, link: &mut Link, now: Timestamp) {
        self.delivering.take_mail(link);
        self.deal_with_mail(link, now);
    }

    /// Deals with mail that is out of the mailbox.
    pub(super) fn deal_with_mail(&mut self, link: &mut Link, now: Timestamp) {
        let traced = self.delivering.write_deliveries(&mut self.channels, link);
        self.trace_deliveries(link, &traced, now);
        if self.delivering.has_notices() {
            self.take_notices(link);
        }
        self.delivering.flush_settlements(&self.channels, now);
        self.delivering.resume_stalled(now);
    }
}
