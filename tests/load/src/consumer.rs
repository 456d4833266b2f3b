//! A consuming connection: one or more consumers, their deliveries checked and acknowledged.

use std::net::TcpStream;
use std::sync::Arc;

use leveret_codec::{DeliveryTag, Frame, FrameKind, write_ack};

use crate::clock;
use crate::connection::{self, BULK, CHANNEL, Connection, Filled, SMALL};
use crate::error::Error;
use crate::event_loop::{Next, Peer};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::Counters;
use crate::stamp::Stamp;
use crate::topology::Topology;
use crate::verify::Received;

/// Bytes of the read buffers of all connections together, each at least `ROOM_MIN`.
const ROOM_TOTAL: usize = 64 << 20;
const ROOM_MIN: usize = 16 << 10;

/// The delivery whose frames are coming in.
#[derive(Debug, Default)]
struct Delivery {
    /// Which consumer of the connection it is for.
    subscription: usize,
    tag: u64,
    redelivered: bool,
    size: u64,
    received: u64,
    stamp: Option<Stamp>,
}

/// One basic.consume.
#[derive(Debug)]
struct Subscription {
    queue: usize,
    /// The least sequence that may come next, for each producer.
    expected: Vec<u64>,
}

/// A connection with consumers.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) connection: Connection,
    /// What came.
    pub(crate) received: Received,
    /// From (intended) sending to receipt.
    pub(crate) latency: Histogram,
    subscriptions: Vec<Subscription>,
    current: Delivery,
    topology: Arc<Topology>,
    size: u64,
    acknowledge_every: Option<u64>,
    unacknowledged: u64,
    last_tag: u64,
    /// When the last delivery came.
    last_at: u64,
    /// Nanoseconds that a delivery takes, where there is a rate.
    interval: Option<f64>,
    not_before: u64,
    measure_from: u64,
    /// Bytes may wait in the socket.
    more: bool,
    counters: Arc<Counters>,
}

impl Consumer {
    /// Opens connection `number` of `connections` and begins to consume.
    pub(crate) fn open(
        options: &Options,
        topology: &Arc<Topology>,
        (number, connections): (usize, usize),
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        let room = match options.consume_rate {
            Some(_) => SMALL,
            None => (ROOM_TOTAL / connections).clamp(ROOM_MIN, BULK),
        };
        let mut connection = Connection::open_with_channel(options, room)?;
        if options.prefetch > 0 {
            connection.limit_prefetch(options.prefetch)?;
        }
        let mut subscriptions = Vec::new();
        for consumer in (number..options.consumers).step_by(connections) {
            let queue = consumer % topology.queues;
            let tag = subscriptions.len().to_string();
            connection.consume(&topology.queue_name(queue), &tag, options.auto_ack)?;
            subscriptions.push(Subscription {
                queue,
                expected: vec![0; options.producers],
            });
        }
        Ok(Self {
            connection,
            received: Received::default(),
            latency: Histogram::default(),
            subscriptions,
            current: Delivery::default(),
            topology: Arc::clone(topology),
            size: options.size as u64,
            acknowledge_every: (!options.auto_ack).then_some(options.multi_ack),
            unacknowledged: 0,
            last_tag: 0,
            last_at: 0,
            interval: options.consume_rate.map(|rate| 1e9 / rate),
            not_before: 0,
            measure_from: 0,
            more: false,
            counters: Arc::clone(counters),
        })
    }

    /// Says from when on latencies count.
    pub(crate) fn measure_from(&mut self, time: u64) {
        self.measure_from = time;
    }

    /// Takes in all whole frames there are; answers how many messages ended with them.
    fn frames(&mut self, now: u64) -> Result<u64, Error> {
        let before = self.received.sum.count;
        while let Some(frame) = self.connection.input.frame()? {
            match frame.kind {
                FrameKind::Method => match deliver(&frame) {
                    Some(delivery) => self.current = delivery,
                    None => connection::unexpected(&frame)?,
                },
                FrameKind::Header => {
                    let size = frame
                        .payload
                        .get(4..12)
                        .and_then(|size| size.try_into().ok());
                    self.current.size = size.map_or(0, u64::from_be_bytes);
                }
                FrameKind::Body => {
                    let current = &mut self.current;
                    if current.received == 0 {
                        current.stamp = Stamp::read(frame.payload);
                    }
                    current.received += frame.payload.len() as u64;
                    if current.received >= current.size {
                        self.arrived(now);
                    }
                }
                FrameKind::Heartbeat => {}
            }
        }
        Ok(self.received.sum.count - before)
    }

    fn arrived(&mut self, now: u64) {
        let delivery = std::mem::take(&mut self.current);
        let Some(stamp) = delivery.stamp.filter(|_| delivery.received == self.size) else {
            self.received.corrupt += 1;
            return;
        };
        self.received.sum.add(stamp);
        if stamp.sent >= self.measure_from {
            self.latency.record(now.saturating_sub(stamp.sent));
        }
        self.check(&delivery, stamp);
        let Some(every) = self.acknowledge_every else {
            return;
        };
        self.unacknowledged += 1;
        self.last_tag = delivery.tag;
        if self.unacknowledged >= every {
            self.acknowledge();
        }
    }

    fn check(&mut self, delivery: &Delivery, stamp: Stamp) {
        let Some(subscription) = self.subscriptions.get_mut(delivery.subscription) else {
            return;
        };
        let producer = usize::from(stamp.producer);
        let queue = self.topology.queue_of(producer, stamp.sequence);
        self.received.misrouted +=
            u64::from(queue.is_some_and(|queue| queue != subscription.queue));
        if let Some(expected) = subscription.expected.get_mut(producer) {
            let late = stamp.sequence < *expected && !delivery.redelivered;
            self.received.out_of_order += u64::from(late);
            *expected = stamp.sequence + 1;
        }
    }

    fn acknowledge(&mut self) {
        let multiple = self.unacknowledged > 1;
        write_ack(
            &mut self.connection.output,
            CHANNEL,
            DeliveryTag(self.last_tag),
            multiple,
        );
        self.unacknowledged = 0;
    }
}

/// basic.deliver, read by hand: there is one for each message.
fn deliver(frame: &Frame<'_>) -> Option<Delivery> {
    let arguments = frame.payload.strip_prefix(&[0, 60, 0, 60])?;
    let (&length, rest) = arguments.split_first()?;
    let (consumer, rest) = rest.split_at_checked(usize::from(length))?;
    let (tag, rest) = rest.split_first_chunk::<8>()?;
    let digits = consumer
        .iter()
        .map(|digit| usize::from(digit.wrapping_sub(b'0')));
    Some(Delivery {
        subscription: digits.fold(0, |number, digit| number * 10 + digit),
        tag: u64::from_be_bytes(*tag),
        redelivered: rest.first() == Some(&1),
        ..Delivery::default()
    })
}

impl Peer for Consumer {
    fn stream(&self) -> &TcpStream {
        &self.connection.stream
    }

    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a run"
    )]
    fn step(&mut self, now: u64, readable: bool) -> Result<Next, Error> {
        self.more |= readable;
        if now < self.not_before {
            return Ok(Next::At(self.not_before));
        }
        if self.more {
            let filled = self.connection.read()?;
            self.more = filled == Filled::Full;
            // The time after the read, not before it.
            let now = clock::now();
            let arrived = self.frames(now)?;
            if arrived > 0 {
                self.last_at = now;
                self.counters.consumed(arrived);
            }
            if let Some(interval) = self.interval {
                self.more = filled != Filled::Empty;
                self.not_before = now + (arrived as f64 * interval) as u64;
            }
        }
        let written = self.connection.write()?;
        Ok(match (self.more, written) {
            (true, _) if now < self.not_before => Next::At(self.not_before),
            (true, _) => Next::Again,
            (false, _) => Next::OnEvent,
        })
    }

    /// Acknowledges what is left over where nothing comes any more.
    fn tick(&mut self, now: u64) -> Result<(), Error> {
        if self.unacknowledged > 0 && now > self.last_at + 20_000_000 {
            self.acknowledge();
            self.connection.write()?;
        }
        Ok(())
    }
}
