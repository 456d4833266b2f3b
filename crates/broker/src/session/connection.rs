//! An open connection: its channels, consumers and queues, and the order of its work.
//!
//! Publishes and settlements gather here while frames are read, and are carried out together:
//! [`Connection::flush`] runs at the end of a read and before every method that is neither, so that
//! the order a client sees holds.

use std::sync::Arc;

use leveret_codec::protocol::{AMQPClass, channel as wire, connection as connection_wire};
use leveret_codec::{
    Frame, FrameKind, Method, MethodError, ReplyCode, ShortString, decode_method, shorten,
    write_method,
};
use leveret_store::CommitPoint;
use rustc_hash::FxHashMap;

use super::ahead::LargePublish;
use super::auth::Login;
use super::batch::Batch;
use super::channel::{Channel, PublishMode};
use super::consume::Consumers;
use super::deliver::DeliveryForms;
use super::places::ConnectionPlace;
use super::queue_table::QueueTable;
use super::repeat::Repeat;
use super::route_cache::RouteCache;
use super::{Link, OUTPUT_MAX};
use crate::commit::PendingCommit;
use crate::error::{ChannelError, ConnectionError, Failure};
use crate::events::INTERNAL_USER;
use crate::mailbox::{Letters, Notice};
use crate::queue::dispatch::HoldMark;
use crate::queue::handle::QueueHandle;
use crate::time::Timestamp;
use crate::users::Grant;
use crate::vhost::VirtualHost;

/// How often it is asked whether consumers still keep up with a publisher that is held back for them.
const HOLD_TIMEOUT_MS: u64 = 50;

/// A reply that waits for stable storage; no further input is taken meanwhile.
pub(super) struct Parked {
    pub(super) point: CommitPoint,
    pub(super) reply: Vec<u8>,
    pub(super) committed: Option<Committed>,
}

/// A transaction that shows with the reply.
pub(super) struct Committed {
    pub(super) commit: Arc<PendingCommit>,
    pub(super) channel: u16,
    /// What its settlements give back of the channel's shared credit.
    pub(super) credit: u32,
}

/// A publisher held back.
enum Hold {
    /// Until this queue has drained, or the time is up.
    Queue(QueueHandle, HoldMark, Timestamp),
    /// Until the store has caught up to this point.
    Store(CommitPoint),
}

pub(crate) struct Connection {
    pub(super) vhost: Arc<VirtualHost>,
    pub(super) login: Login,
    pub(super) grant: Arc<Grant>,
    place: ConnectionPlace,
    pub(super) channels: FxHashMap<u16, Channel>,
    /// How many channels it ever opened.
    channels_opened: u64,
    pub(super) consumers: Consumers,
    pub(super) queues: QueueTable,
    pub(super) routes: RouteCache,
    pub(super) batch: Batch,
    pub(super) repeat: Repeat,
    pub(super) parked: Option<Parked>,
    hold: Option<Hold>,
    /// A large message on its way to the disk; no further input is taken meanwhile.
    pub(super) large: Option<Box<LargePublish>>,
    /// Queues that die with this connection.
    pub(super) exclusive_queues: Vec<QueueHandle>,
    /// Channels with confirms that wait for a commit.
    pub(super) confirming: Vec<u16>,
    /// The commit point this session has asked the store to be woken at.
    pub(super) wake_point: Option<CommitPoint>,
    pub(super) letters: Letters,
    pub(super) delivery_forms: DeliveryForms,
    /// Channels whose shared credit came back.
    pub(super) freed: Vec<u16>,
    close_requested: bool,
    forced: Option<(ReplyCode, String)>,
    /// The store is full; input stops with the first publish.
    store_full: bool,
    pub(super) publishes: bool,
    /// No delivery must be settled before this moment.
    pub(super) acknowledge_by: Timestamp,
}

impl Connection {
    pub(super) fn new(
        vhost: Arc<VirtualHost>,
        login: Login,
        grant: Arc<Grant>,
        place: ConnectionPlace,
    ) -> Connection {
        Connection {
            vhost,
            login,
            grant,
            place,
            channels: FxHashMap::default(),
            channels_opened: 0,
            consumers: Consumers::default(),
            queues: QueueTable::default(),
            routes: RouteCache::default(),
            batch: Batch::default(),
            repeat: Repeat::default(),
            parked: None,
            hold: None,
            large: None,
            exclusive_queues: Vec::new(),
            confirming: Vec::new(),
            wake_point: None,
            letters: Letters::default(),
            delivery_forms: DeliveryForms::default(),
            freed: Vec::new(),
            close_requested: false,
            forced: None,
            store_full: false,
            publishes: false,
            acknowledge_by: Timestamp::NEVER,
        }
    }

    pub(super) fn wants_input(&self, link: &Link) -> bool {
        self.parked.is_none()
            && self.hold.is_none()
            && self.large.is_none()
            && !link.blocked
            && link.output.len() < OUTPUT_MAX
    }

    pub(super) fn take_close_request(&mut self) -> bool {
        std::mem::take(&mut self.close_requested)
    }

    /// Handles one frame. `behind` is what follows it in the read buffer; answers how much of that
    /// was used as well (a whole publish is taken in one go).
    pub(super) fn handle_frame(
        &mut self,
        link: &mut Link,
        frame: Frame<'_>,
        behind: &[u8],
        now: Timestamp,
    ) -> Result<usize, Failure> {
        match frame.kind {
            FrameKind::Method => {}
            FrameKind::Heartbeat if frame.channel == 0 => return Ok(0),
            FrameKind::Heartbeat => {
                return Err(ConnectionError::unexpected_frame("type 8, all octets = <<>>").into());
            }
            FrameKind::Header => {
                return self
                    .content_header(link, frame.channel, frame.payload, now)
                    .map(|()| 0);
            }
            FrameKind::Body => {
                return self
                    .content_body(link, frame.channel, frame.payload, now)
                    .map(|()| 0);
            }
        }
        let method = match decode_method(frame.payload) {
            Ok(method) => method,
            Err(MethodError::UnknownClass(_) | MethodError::UnknownMethod { .. }) => {
                return Err(Failure::Abort);
            }
            Err(error) => return Err(ConnectionError::frame_error(error).into()),
        };
        if frame.channel == 0 {
            return self.connection_method(link, &method, now).map(|()| 0);
        }
        match self.channels.get(&frame.channel) {
            Some(channel) if channel.closing => {
                return self
                    .closing_method(link, frame.channel, &method)
                    .map(|()| 0);
            }
            Some(channel) if channel.is_assembling() => {
                return Err(ConnectionError::unexpected_frame(
                    "expected content header for class 60, got non content header frame instead",
                )
                .into());
            }
            Some(_) => {}
            None => return self.open_channel(link, frame.channel, &method).map(|()| 0),
        }
        match method {
            Method::Publish(publish) => {
                self.publish_method(link, frame.channel, &publish, behind, now)
            }
            Method::Ack {
                delivery_tag,
                multiple,
            } => self.ack(frame.channel, delivery_tag, multiple).map(|()| 0),
            Method::Nack {
                delivery_tag,
                multiple,
                requeue,
            } => self
                .nack(frame.channel, delivery_tag, multiple, requeue)
                .map(|()| 0),
            Method::Reject {
                delivery_tag,
                requeue,
            } => self
                .nack(frame.channel, delivery_tag, false, requeue)
                .map(|()| 0),
            Method::Qos {
                prefetch_size,
                prefetch_count,
                global,
            } => {
                self.flush(link, now);
                self.qos(
                    link,
                    frame.channel,
                    prefetch_size,
                    prefetch_count,
                    global,
                    now,
                )
                .map(|()| 0)
            }
            Method::Control(class) => {
                self.flush(link, now);
                self.control_method(link, frame.channel, *class, now)
                    .map(|()| 0)
            }
        }
    }

    fn connection_method(
        &mut self,
        link: &mut Link,
        method: &Method<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method.control() {
            Some(AMQPClass::Connection(connection_wire::AMQPMethod::Close(_))) => {
                self.flush(link, now);
                self.close_requested = true;
                Ok(())
            }
            Some(AMQPClass::Connection(connection_wire::AMQPMethod::UpdateSecret(_))) => {
                // The new secret matters to token logins only; a password was checked once at the start.
                tracing::debug!(user = self.login.user, mechanism = ?self.login.mechanism, "secret updated");
                link.send(
                    0,
                    &AMQPClass::Connection(connection_wire::AMQPMethod::UpdateSecretOk(
                        connection_wire::UpdateSecretOk {},
                    )),
                );
                Ok(())
            }
            _ => Err(ConnectionError::channel_error(
                "unexpected method in connection state running",
            )
            .into()),
        }
    }

    /// The first method on a channel number must open it.
    fn open_channel(
        &mut self,
        link: &mut Link,
        number: u16,
        method: &Method<'_>,
    ) -> Result<(), Failure> {
        let Some(AMQPClass::Channel(method)) = method.control() else {
            return Err(ConnectionError::channel_error("expected 'channel.open'").into());
        };
        match method {
            // rabbitmq: channels are counted, whatever their numbers
            wire::AMQPMethod::Open(_) if self.channels.len() >= usize::from(link.channel_max) => {
                Err(ConnectionError::not_allowed(format_args!(
                    "number of channels opened ({}) has reached the negotiated channel_max ({})",
                    self.channels.len(),
                    link.channel_max
                ))
                .into())
            }
            wire::AMQPMethod::Open(_) => {
                let place = self.place.channel(&link.broker, &self.login.user)?;
                self.channels_opened += 1;
                let channel = Channel::new(number, self.channels_opened, place);
                self.channels.insert(number, channel);
                self.tell_channel(link, number, self.channels_opened);
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::OpenOk(wire::OpenOk {})),
                );
                Ok(())
            }
            // rabbitmq: a close that crossed ours on the wire
            wire::AMQPMethod::CloseOk(_) => Ok(()),
            wire::AMQPMethod::Close(_) => {
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::CloseOk(wire::CloseOk {})),
                );
                Ok(())
            }
            _ => Err(ConnectionError::channel_error("expected 'channel.open'").into()),
        }
    }

    /// On a channel that was closed by us only the answer counts.
    fn closing_method(
        &mut self,
        link: &mut Link,
        number: u16,
        method: &Method<'_>,
    ) -> Result<(), Failure> {
        match method.control() {
            Some(AMQPClass::Channel(wire::AMQPMethod::CloseOk(_))) => {
                self.channels.remove(&number);
            }
            // rabbitmq: a close that crossed ours is answered; ours still waits for its answer
            Some(AMQPClass::Channel(wire::AMQPMethod::Close(_))) => {
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::CloseOk(wire::CloseOk {})),
                );
            }
            _ => {}
        }
        Ok(())
    }

    fn control_method(
        &mut self,
        link: &mut Link,
        number: u16,
        class: AMQPClass,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match class {
            AMQPClass::Basic(method) => self.basic_method(link, number, method, now),
            AMQPClass::Channel(method) => self.channel_method(link, number, &method, now),
            AMQPClass::Exchange(method) => self.exchange_method(link, number, method),
            AMQPClass::Queue(method) => self.queue_method(link, number, method, now),
            AMQPClass::Tx(method) => self.tx_method(link, number, &method, now),
            AMQPClass::Confirm(method) => self.confirm_method(link, number, &method),
            // rabbitmq: the realm access class is not known at all
            AMQPClass::Access(_) => Err(Failure::Abort),
            AMQPClass::Connection(_) => {
                Err(ConnectionError::command_invalid("unimplemented method").into())
            }
        }
    }

    fn channel_method(
        &mut self,
        link: &mut Link,
        number: u16,
        method: &wire::AMQPMethod,
        now: Timestamp,
    ) -> Result<(), Failure> {
        match method {
            wire::AMQPMethod::Open(_) => {
                Err(ConnectionError::channel_error("second 'channel.open' seen").into())
            }
            wire::AMQPMethod::Flow(flow) if flow.active => {
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::FlowOk(wire::FlowOk { active: true })),
                );
                Ok(())
            }
            wire::AMQPMethod::Flow(_) => {
                Err(ConnectionError::not_implemented("active=false").into())
            }
            wire::AMQPMethod::FlowOk(_) => Ok(()),
            wire::AMQPMethod::Close(_) => {
                self.release_channel(link, number, now);
                self.channels.remove(&number);
                link.send(
                    number,
                    &AMQPClass::Channel(wire::AMQPMethod::CloseOk(wire::CloseOk {})),
                );
                Ok(())
            }
            wire::AMQPMethod::OpenOk(_) | wire::AMQPMethod::CloseOk(_) => {
                Err(ConnectionError::command_invalid("unimplemented method").into())
            }
        }
    }

    /// The channel that frames on it were checked to have.
    pub(super) fn channel(&mut self, number: u16) -> Result<&mut Channel, Failure> {
        self.channels
            .get_mut(&number)
            .ok_or_else(|| ConnectionError::channel_error("expected 'channel.open'").into())
    }

    /// Closes one channel for an error.
    pub(super) fn fail_channel(
        &mut self,
        link: &mut Link,
        number: u16,
        error: &ChannelError,
        ids: (u16, u16),
        now: Timestamp,
    ) {
        // What was gathered before the error still counts.
        self.flush(link, now);
        tracing::warn!(
            channel = number,
            code = error.code.number(),
            text = error.text,
            "closing channel"
        );
        self.release_channel(link, number, now);
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.reset_closing();
        }
        let close = wire::Close {
            reply_code: error.code.number(),
            reply_text: shorten(&error.text),
            class_id: ids.0,
            method_id: ids.1,
        };
        link.send(number, &AMQPClass::Channel(wire::AMQPMethod::Close(close)));
    }

    /// Sends `reply` once `point` is durable; until then no more input is taken.
    pub(super) fn reply_when_durable(
        &mut self,
        link: &mut Link,
        number: u16,
        reply: &AMQPClass,
        point: CommitPoint,
    ) {
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
        if self.vhost.services.is_durable(parked.point) {
            self.unpark(link, parked);
        } else {
            self.parked = Some(parked);
        }
    }

    fn unpark(&mut self, link: &mut Link, parked: Parked) {
        link.output.buffer().extend_from_slice(&parked.reply);
        let Some(committed) = parked.committed else {
            return;
        };
        committed.commit.finish(link.now);
        if let Some(channel) = self.channels.get_mut(&committed.channel)
            && channel.credit.give_back(committed.credit)
        {
            self.resume_channel(committed.channel, link.now);
        }
    }

    /// Carries out everything gathered so far.
    pub(super) fn flush(&mut self, link: &mut Link, now: Timestamp) {
        // Acknowledgements first: who sees the confirm of a publish knows those before it are durable.
        self.flush_settlements(now);
        self.flush_publishes(link, now);
    }

    /// Holds this publisher back, unless it also consumes: then its acknowledgements must be read.
    pub(super) fn consider_hold(
        &mut self,
        link: &Link,
        queue: Option<QueueHandle>,
        point: CommitPoint,
        now: Timestamp,
    ) {
        if self.hold.is_some() {
            return;
        }
        let services = &self.vhost.services;
        if services.store.staged_bytes() > link.broker.config.store_behind_bytes
            && !services.is_durable(point)
        {
            self.hold = Some(Hold::Store(point));
        } else if let Some(queue) = queue
            && self.consumers.is_empty()
            && let Some(mark) = queue.hold(&link.mailbox)
        {
            self.hold = Some(Hold::Queue(queue, mark, now + HOLD_TIMEOUT_MS));
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Timestamp> {
        let hold = match &self.hold {
            Some(Hold::Queue(.., deadline)) => *deadline,
            _ => Timestamp::NEVER,
        };
        Some(hold.min(self.acknowledge_by)).filter(|at| *at != Timestamp::NEVER)
    }

    pub(super) fn handle_timeout(&mut self, link: &mut Link, now: Timestamp) {
        self.handle_overdue(link, now);
        if let Some(Hold::Queue(queue, mark, deadline)) = &mut self.hold
            && *deadline <= now
        {
            match queue.go_on_holding(*mark) {
                Some(later) => (*mark, *deadline) = (later, now + HOLD_TIMEOUT_MS),
                None => self.hold = None,
            }
        }
    }

    /// Looks after commit points, holds and notices.
    pub(super) fn handle_wake(&mut self, link: &mut Link) {
        let services = Arc::clone(&self.vhost.services);
        if let Some(parked) = self
            .parked
            .take_if(|parked| services.is_durable(parked.point))
        {
            self.unpark(link, parked);
        }
        self.look_after_large(link);
        let released = link.mailbox.take_release();
        let over = match &self.hold {
            Some(Hold::Queue(..)) => released,
            Some(Hold::Store(point)) => services.is_durable(*point),
            None => false,
        };
        if over {
            self.hold = None;
        }
    }

    /// Registers for the earliest commit point this session waits for.
    pub(super) fn register_wake(&mut self, link: &Link) {
        let confirms = self
            .confirming
            .iter()
            .filter_map(|number| self.channels.get(number)?.confirms_waiting_for());
        let parked = self.parked.as_ref().map(|parked| parked.point);
        let held = match &self.hold {
            Some(Hold::Store(point)) => Some(*point),
            _ => None,
        };
        let point = confirms.chain(parked).chain(held).min();
        if point == self.wake_point {
            return;
        }
        self.wake_point = point;
        if let Some(point) = point
            && !self
                .vhost
                .services
                .store
                .wake_at(point, link.mailbox.waker())
        {
            // It has become durable in this moment: look again.
            self.wake_point = None;
            link.mailbox.wake();
        }
    }

    /// Notices out of the mailbox.
    pub(super) fn take_notices(&mut self, link: &mut Link) {
        let notices = std::mem::take(&mut self.letters.notices);
        for notice in notices {
            match notice {
                Notice::ConsumerCancelled(slot) => self.consumer_cancelled(link, slot),
                Notice::CloseConnection(code, text) => self.forced = Some((code, text)),
                Notice::Blocked(reason) => self.set_blocked(link, reason.as_deref()),
            }
        }
    }

    pub(super) fn forced_close(&mut self) -> Option<(ReplyCode, String)> {
        self.forced.take()
    }

    /// The store is full (with the reason) or has room again.
    pub(super) fn set_blocked(&mut self, link: &mut Link, reason: Option<&str>) {
        self.store_full = reason.is_some();
        link.blocked = self.store_full && self.publishes;
        if !link.understands_blocked {
            return;
        }
        let method = match reason {
            Some(reason) => connection_wire::AMQPMethod::Blocked(connection_wire::Blocked {
                reason: ShortString::from(reason),
            }),
            None => connection_wire::AMQPMethod::Unblocked(connection_wire::Unblocked {}),
        };
        link.send(0, &AMQPClass::Connection(method));
    }

    /// A publish came: from now on this connection is one that a full store blocks.
    pub(super) fn note_publisher(&mut self, link: &mut Link) {
        self.publishes = true;
        if self.store_full {
            link.blocked = true;
        }
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        self.letters.shrink();
        self.batch.shrink();
        self.repeat.forget();
        self.delivery_forms.forget();
    }

    /// Gives back everything: consumers, unacknowledged deliveries, exclusive queues.
    pub(super) fn release(&mut self, link: &mut Link) {
        let now = link.now;
        let _written = self.publish_large();
        self.flush(link, now);
        // A commit under way is not undone.
        if let Some(committed) = self.parked.take().and_then(|parked| parked.committed) {
            committed.commit.finish_alone(&self.vhost.services, now);
        }
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.release_channel(link, number, now);
        }
        self.channels.clear();
        if let Some(Hold::Queue(queue, ..)) = self.hold.take() {
            queue.release_hold(&link.mailbox);
        }
        for queue in std::mem::take(&mut self.exclusive_queues) {
            self.vhost.delete_queue(&queue, INTERNAL_USER, now);
        }
        self.tell_closed(link);
    }
}

impl Channel {
    /// The earliest commit point this channel's confirms wait for.
    fn confirms_waiting_for(&self) -> Option<CommitPoint> {
        match &self.mode {
            PublishMode::Confirm(confirms) => confirms.waiting_for(),
            _ => None,
        }
    }
}
