//! An open connection: its channels, what it publishes, what it is sent, what it waits for, and the order of its work.
//!
//! Publishes gather in [`Publishing`] and settlements in [`Delivering`] while frames are read, and are carried out
//! together: [`Connection::flush`] runs at the end of a read and before every method that is neither, so that
//! the order a client sees holds. What is here concerns more than one of them.

use std::collections::VecDeque;
use std::sync::Arc;

use leveret_access::grant::Grant;
use leveret_broker::commit::Finished;
use leveret_broker::roll::{ConnectionFacts, ConnectionState};
use leveret_broker::vhost::VirtualHost;
use leveret_codec::protocol::{AMQPClass, connection as connection_wire};
use leveret_codec::{ChannelNumber, ReplyCode, ShortString, write_method};
use leveret_message::error::ChannelError;
use leveret_message::{Message, Timestamp};
use leveret_queue::mailbox::Notice;
use leveret_store_api::CommitPoint;

use super::auth::Login;
use super::channels::Channels;
use super::delivering::Delivering;
use super::job::Job;
use super::link::{Link, OUTPUT_MAX};
use super::parked::{Parked, Showing};
use super::permits::ConnectionPermits;
use super::pressure::Pressure;
use super::publishing::Publishing;
use super::queue_table::ExclusiveQueues;
use super::waiting::Waiting;

/// The class and method of `tx.commit`.
pub(super) const COMMIT: (u16, u16) = (90, 20);

pub(crate) struct Connection {
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) login: Login,
    pub(super) grant: Arc<Grant>,
    pub(super) permits: ConnectionPermits,
    /// What administrators see of it.
    pub(super) facts: Arc<ConnectionFacts>,
    pub(super) channels: Channels,
    pub(super) publishing: Publishing,
    pub(super) delivering: Delivering,
    pub(super) waiting: Waiting,
    /// Queues that die with this connection.
    pub(super) exclusive_queues: ExclusiveQueues,
    /// Notices that are to be dealt with.
    notices: VecDeque<Notice>,
    /// The client's `connection.close`, to be answered.
    pub(super) close_requested: Option<connection_wire::Close>,
    /// It closes, and nothing new begins.
    pub(super) leaves: bool,
    forced: Option<(ReplyCode, String)>,
}

impl Connection {
    pub(super) fn new(
        vhost: Arc<VirtualHost>,
        login: Login,
        grant: Arc<Grant>,
        permits: ConnectionPermits,
        facts: Arc<ConnectionFacts>,
    ) -> Connection {
        Connection {
            publishing: Publishing::new(&vhost),
            waiting: Waiting::new(&vhost),
            delivering: Delivering::new(&vhost),
            vhost,
            login,
            grant,
            permits,
            facts,
            channels: Channels::default(),
            exclusive_queues: ExclusiveQueues::default(),
            notices: VecDeque::new(),
            close_requested: None,
            leaves: false,
            forced: None,
        }
    }

    pub(super) fn wants_input(&self, link: &Link) -> bool {
        self.waiting.is_over()
            && !self.publishing.awaits_large()
            && !link.blocked
            && link.output.len() < OUTPUT_MAX
    }

    pub(super) fn take_close_request(&mut self) -> Option<connection_wire::Close> {
        self.close_requested.take()
    }

    /// Sends `reply` once `point` is durable; until then no more input is taken.
    pub(super) fn reply_when_durable(
        &mut self,
        link: &mut Link,
        number: ChannelNumber,
        reply: &AMQPClass,
        point: CommitPoint,
    ) {
        if self.leaves {
            return;
        }
        let mut bytes = Vec::new();
        write_method(&mut bytes, number, reply);
        self.park(
            link,
            Parked {
                point,
                reply: bytes,
                committed: None,
            },
        );
    }

    pub(super) fn park(&mut self, link: &mut Link, parked: Parked) {
        if let Some(parked) = self.waiting.park(parked) {
            self.unpark(link, parked);
        }
    }

    fn unpark(&mut self, link: &mut Link, parked: Parked) {
        let Parked {
            reply, committed, ..
        } = parked;
        match committed {
            None => link.output.buffer().extend_from_slice(&reply),
            Some(committed) => {
                let showing = Showing { committed, reply };
                self.begin_now(link, Job::Showing(Box::new(showing)), link.now);
            }
        }
    }

    /// Shows a part of a transaction; answers whether there is more.
    pub(super) fn show_step(
        &mut self,
        link: &mut Link,
        showing: &mut Showing,
        now: Timestamp,
    ) -> bool {
        let Showing { committed, reply } = showing;
        if let Finished::Some { read } = committed.commit.finish_some(self.step_cost(), now) {
            self.delivering.set_read(read);
            return true;
        }
        if committed.refused {
            let error = ChannelError::partial_transaction();
            self.fail_channel(link, committed.channel, &error, COMMIT, now);
            return false;
        }
        link.output.buffer().extend_from_slice(reply);
        if let Some(channel) = self.channels.get_mut(committed.channel)
            && channel.credit.give_back(committed.credit)
        {
            self.delivering
                .hand_out_credit(&self.channels, committed.channel, now);
        }
        false
    }

    /// Carries out everything gathered so far.
    pub(super) fn flush(&mut self, link: &mut Link, now: Timestamp) {
        // Acknowledgements first: who sees the confirm of a publish knows those before it are durable.
        self.delivering.flush_settlements(&self.channels, now);
        self.flush_publishes(link, now);
    }

    /// Holds this publisher back for those it is too fast for, if need be.
    pub(super) fn consider(&mut self, link: &Link, pressure: Pressure, now: Timestamp) {
        let consumes = self.delivering.consumes();
        self.waiting.consider(link, pressure, consumes, now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let settled_by = if self.is_working() {
            Timestamp::NEVER
        } else {
            self.delivering.acknowledge_by()
        };
        let earliest = self.waiting.deadline().min(settled_by);
        Some(earliest).filter(|at| *at != Timestamp::NEVER)
    }

    pub(super) fn handle_timeout(&mut self, link: &mut Link, now: Timestamp) {
        self.handle_overdue(link, now);
        self.end_what_stands_still(link, now);
        self.waiting.stays_held_back(now);
    }

    /// Sends the reply that waits for stable storage, if it has come there.
    fn unpark_if_durable(&mut self, link: &mut Link) {
        if let Some(parked) = self.waiting.take_durable() {
            self.unpark(link, parked);
        }
    }

    /// Looks after commit points, holds and notices.
    pub(super) fn handle_wake(&mut self, link: &mut Link) {
        self.go_on(link, link.now);
        if !self.is_working() {
            self.unpark_if_durable(link);
            self.delivering.go_on_handing_out(&self.channels, link.now);
        }
        if self.publishing.has_written_large() && !self.publishing.waits_at_gate() {
            // Used when it is staged, and of no use any more then.
            let _written = self.publishing.batch_large(&mut self.channels);
            self.flush(link, link.now);
        }
        if let Some(wanted) = self.waiting.look_after_held_back(link)
            && self.may_go_on(wanted, link)
        {
            self.waiting.let_go();
        }
    }

    /// Registers for the earliest commit point this session waits for.
    pub(super) fn register_wake(&mut self, link: &Link) {
        let confirms = self.publishing.confirms_wait_for(&self.channels);
        let others = confirms.into_iter().chain(self.delivering.relief_point());
        self.waiting.register_wake(link, others);
    }

    /// Notices out of the mailbox; of very many, the rest later.
    pub(super) fn take_notices(&mut self, link: &mut Link) {
        let goes_on = !self.notices.is_empty();
        self.delivering.move_notices(&mut self.notices);
        if !goes_on && self.tell_some(link) {
            self.begin(link, Job::Telling);
        }
    }

    /// Deals with a part of the notices; answers whether there are more.
    pub(super) fn tell_some(&mut self, link: &mut Link) -> bool {
        const TOLD_MAX: usize = 512;
        // Whoever deletes a queue has the answer before its consumers there are told.
        self.unpark_if_durable(link);
        let count = self.notices.len().min(TOLD_MAX);
        let notices: Vec<Notice> = self.notices.drain(..count).collect();
        for notice in notices {
            match notice {
                Notice::ConsumerCancelled(slot) => self.consumer_cancelled(link, slot),
                Notice::CloseConnection(code, text) => self.forced = Some((code, text)),
                Notice::Blocked(reason) => self.set_blocked(link, reason.as_deref()),
            }
        }
        !self.notices.is_empty()
    }

    /// The connection is to be closed.
    pub(super) fn force_close(&mut self, code: ReplyCode, text: String) {
        self.forced = Some((code, text));
    }

    pub(super) fn forced_close(&mut self) -> Option<(ReplyCode, String)> {
        self.forced.take()
    }

    /// The store is full (with the reason) or has room again.
    pub(super) fn set_blocked(&mut self, link: &mut Link, reason: Option<&str>) {
        self.publishing.set_store_full(reason.is_some());
        link.blocked = self.publishing.is_blocked();
        if !link.understands_blocked {
            return;
        }
        let method = match reason {
            Some(reason) => connection_wire::AMQPMethod::Blocked(connection_wire::Blocked {
                reason: ShortString::from(reason),
            }),
            None => connection_wire::AMQPMethod::Unblocked(connection_wire::Unblocked {}),
        };
        link.send(ChannelNumber::CONNECTION, &AMQPClass::Connection(method));
    }

    /// There was no queue for a publish, which came back if it is `mandatory`.
    pub(super) fn note_unroutable(
        &mut self,
        number: ChannelNumber,
        message: &Message,
        mandatory: bool,
    ) {
        let (exchange, _) = message.exchange_and_key();
        self.publishing.note_unroutable(exchange, mandatory);
        if let Some(channel) = self.channels.get(number) {
            channel.facts.note_unroutable(mandatory);
        }
    }

    /// Tells administrators what has gone over the socket, and what the connection is at.
    pub(super) fn note_traffic(&self, link: &Link) {
        let facts = &self.facts;
        facts.received_bytes.set(link.received_bytes);
        facts.received.set(link.received);
        let (sent_bytes, sent) = link.output.written();
        facts.sent_bytes.set(sent_bytes);
        facts.sent.set(sent);
        facts.to_send.set(link.output.len() as u64);
        facts.set_state(if link.blocked {
            ConnectionState::Blocked
        } else if self.publishing.meets_full_store() {
            ConnectionState::Blocking
        } else if self.waiting.is_held_back() {
            ConnectionState::Flow
        } else {
            ConnectionState::Running
        });
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        self.delivering.shrink();
        self.publishing.shrink();
    }
}
