//! A publishing connection: composes messages from templates, keeps to its rate and its window of confirms.

use std::net::TcpStream;
use std::sync::Arc;

use leveret_codec::{FrameKind, Method, decode_method};

use crate::connection::{self, BULK, Connection, Filled};
use crate::error::Error;
use crate::event_loop::{Next, Peer};
use crate::histogram::Histogram;
use crate::options::Options;
use crate::report::Counters;
use crate::stamp::{self, Stamp};
use crate::topology::{Template, Topology};
use crate::unconfirmed::Unconfirmed;
use crate::verify::Sum;

/// Read buffer: confirms are short.
const ROOM: usize = BULK / 8;

/// When a run begins, is measured, and ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// The first message.
    pub(crate) start: u64,
    /// Latencies count from here.
    pub(crate) measure_from: u64,
    /// The last message, unless their number bounds the run.
    pub(crate) end: u64,
}

/// What became of a producer's messages.
#[derive(Debug, Default)]
pub(crate) struct Published {
    /// All that were sent.
    pub(crate) sum: Sum,
    /// How many of them the broker confirmed.
    pub(crate) confirmed: u64,
    /// How many it refused.
    pub(crate) nacked: u64,
    /// Confirms of nothing.
    pub(crate) bad_confirms: u64,
    /// From (intended) sending to the confirm.
    pub(crate) confirm_latency: Histogram,
    /// From intended sending to sending.
    pub(crate) send_lag: Histogram,
}

/// A producer.
#[derive(Debug)]
pub(crate) struct Producer {
    pub(crate) connection: Connection,
    pub(crate) published: Published,
    number: u16,
    templates: Vec<Template>,
    /// Which template is next.
    turn: usize,
    /// Most unconfirmed messages; 0 is without confirms.
    window: usize,
    batch: usize,
    /// Nanoseconds between messages, where there is a rate.
    interval: Option<f64>,
    /// Part of an interval by which this producer is behind the first.
    stagger: f64,
    limit: Option<u64>,
    schedule: Schedule,
    unconfirmed: Unconfirmed,
    counters: Arc<Counters>,
    done: bool,
}

impl Producer {
    /// Opens the connection.
    #[allow(clippy::cast_precision_loss, reason = "numbers of connections")]
    pub(crate) fn open(
        options: &Options,
        topology: &Topology,
        number: u16,
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        let mut connection = Connection::open_with_channel(options, ROOM)?;
        if options.confirms > 0 {
            connection.select_confirms()?;
        }
        let producers = options.producers as f64;
        let templates = topology.templates(number.into(), options, connection.frame_max);
        Ok(Self {
            connection,
            published: Published::default(),
            number,
            templates,
            turn: 0,
            window: options.confirms,
            batch: options.batch,
            interval: options.rate.map(|rate| 1e9 * producers / rate),
            stagger: f64::from(number) / producers,
            limit: options.share(number.into()),
            schedule: Schedule {
                start: 0,
                measure_from: 0,
                end: 0,
            },
            unconfirmed: Unconfirmed::default(),
            counters: Arc::clone(counters),
            done: false,
        })
    }

    /// Says when to publish.
    pub(crate) fn schedule(&mut self, schedule: Schedule) {
        self.schedule = schedule;
    }

    /// When a message is to be sent, at a rate.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a run"
    )]
    fn intended(&self, interval: f64, sequence: u64) -> u64 {
        self.schedule.start + ((sequence as f64 + self.stagger) * interval) as u64
    }

    fn sent(&self) -> u64 {
        self.published.sum.count
    }

    fn is_finished(&self, now: u64) -> bool {
        match self.limit {
            Some(limit) => self.sent() >= limit,
            None => now >= self.schedule.end,
        }
    }

    /// How many messages may be sent now.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times of a run"
    )]
    fn quota(&self, now: u64) -> u64 {
        if now < self.schedule.start || self.is_finished(now) {
            return 0;
        }
        let mut quota = self.limit.map_or(u64::MAX, |limit| limit - self.sent());
        if self.window > 0 {
            quota = quota.min((self.window - self.unconfirmed.outstanding()) as u64);
        }
        if let Some(interval) = self.interval {
            let turns = (now - self.schedule.start) as f64 / interval - self.stagger;
            let due = if turns < 0.0 { 0 } else { turns as u64 + 1 };
            quota = quota.min(due.saturating_sub(self.sent()));
        }
        quota
    }

    fn compose(&mut self, now: u64, quota: u64) {
        let mut left = quota;
        while left > 0 && self.connection.output.len() < self.batch {
            let sequence = self.sent();
            let sent = match self.interval {
                Some(interval) => self.intended(interval, sequence),
                None => now,
            };
            let stamp = Stamp {
                producer: self.number,
                sequence,
                sent,
            };
            self.copy_template(stamp);
            self.published.sum.add(stamp);
            if self.window > 0 {
                self.unconfirmed.push(sent);
            }
            if self.interval.is_some() && sent >= self.schedule.measure_from {
                self.published.send_lag.record(now.saturating_sub(sent));
            }
            left -= 1;
        }
        self.counters.published(quota - left);
    }

    fn copy_template(&mut self, stamp: Stamp) {
        let Some(template) = self.templates.get(self.turn) else {
            return;
        };
        let output = &mut self.connection.output;
        let at = output.len() + template.stamp_at;
        output.extend_from_slice(&template.frames);
        if let Some(place) = output.get_mut(at..at + stamp::LENGTH) {
            place.copy_from_slice(&stamp.bytes());
        }
        self.turn += 1;
        if self.turn == self.templates.len() {
            self.turn = 0;
        }
    }

    fn read(&mut self, now: u64) -> Result<(), Error> {
        loop {
            let filled = self.connection.read()?;
            while let Some(frame) = self.connection.input.frame()? {
                let method =
                    (frame.kind == FrameKind::Method).then(|| decode_method(frame.payload));
                let (tag, multiple, acknowledged) = match method {
                    Some(Ok(Method::Ack {
                        delivery_tag,
                        multiple,
                    })) => (delivery_tag.0, multiple, true),
                    Some(Ok(Method::Nack {
                        delivery_tag,
                        multiple,
                        ..
                    })) => (delivery_tag.0, multiple, false),
                    _ => {
                        connection::unexpected(&frame)?;
                        continue;
                    }
                };
                let published = &mut self.published;
                let mut count = 0;
                let known = self.unconfirmed.confirm(tag, multiple, |sent| {
                    count += 1;
                    if sent >= self.schedule.measure_from {
                        published.confirm_latency.record(now.saturating_sub(sent));
                    }
                });
                published.bad_confirms += u64::from(known.is_err());
                if acknowledged {
                    published.confirmed += count;
                } else {
                    published.nacked += count;
                }
                self.counters.confirmed(count);
            }
            if filled != Filled::Full {
                return Ok(());
            }
        }
    }

    fn end(&mut self) -> Next {
        self.done = true;
        Next::Done
    }
}

impl Peer for Producer {
    fn stream(&self) -> &TcpStream {
        &self.connection.stream
    }

    fn step(&mut self, now: u64, readable: bool) -> Result<Next, Error> {
        if self.done {
            return Ok(Next::OnEvent);
        }
        if readable {
            self.read(now)?;
        }
        if !self.connection.write()? {
            return Ok(Next::OnEvent);
        }
        let quota = self.quota(now);
        if quota > 0 {
            self.compose(now, quota);
            return Ok(if self.connection.write()? {
                Next::Again
            } else {
                Next::OnEvent
            });
        }
        if now < self.schedule.start {
            return Ok(Next::At(self.schedule.start));
        }
        if self.is_finished(now) {
            let all_confirmed = self.unconfirmed.outstanding() == 0;
            return Ok(if all_confirmed {
                self.end()
            } else {
                Next::OnEvent
            });
        }
        let has_room = self.window == 0 || self.unconfirmed.outstanding() < self.window;
        Ok(match self.interval {
            Some(interval) if has_room => {
                Next::At(self.intended(interval, self.sent()).max(now + 1))
            }
            _ => Next::OnEvent,
        })
    }

    fn tick(&mut self, _now: u64) -> Result<(), Error> {
        Ok(())
    }
}
