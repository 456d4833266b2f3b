//! Publishing: checks, routes, and the batch that goes to the queues under one lock each.

use leveret_codec::{
    AMQPProperties, ContentHeader, ReplyCode, ShortString, decode_header, decode_properties,
    encode_header, split_names, write_return,
};
use leveret_routing::{QueueId, Route};
use leveret_store::CommitPoint;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::Link;
use super::attended::AttendedPublish;
use super::channel::PublishMode;
use super::connection::Connection;
use super::content::WholePublish;
use super::trace::keys_of_publish;
use crate::deduplication::number_of_producer;
use crate::error::{ChannelError, Failure};
use crate::exchange::{blind_keys, without_blind_copies};
use crate::marks::Marks;
use crate::message::{Message, MessageScratch, parse_expiration};
use crate::queue::handle::QueueHandle;
use crate::time::Timestamp;
use crate::users::{Access, Resource};
use crate::vhost::{Targets, carbon_copies};

/// The pseudo-queue of direct reply-to.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// A batch is published when it has grown to this many bytes, however much more is to be read.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Targets up to this number are found by looking at each.
const SCANNED_TARGETS_MAX: usize = 8;

struct Publishing {
    message: Option<Message>,
    /// Queues that still have to take it.
    remaining: u32,
    channel: u16,
    tag: u64,
}

struct BatchTarget {
    queue: QueueHandle,
    /// Which messages of the batch go there, in order.
    messages: Vec<u32>,
}

/// Where a publish goes.
enum Destination {
    /// To the same queues as the publish before it.
    AsBefore,
    /// To these, like every publish with the same names.
    ByNames(Targets),
    /// To these; the next one with the same names may go elsewhere.
    ThisOnce(Targets),
    /// Past exchanges that keep something; these are its queues if all of them let it pass.
    Attended(Targets),
}

/// A content header that the broker changed.
struct Rewritten {
    payload: Vec<u8>,
    /// The keys of the BCC header it had.
    blind: Vec<u8>,
}

impl Destination {
    fn targets(&self, batch: &Batch) -> Targets {
        match self {
            Destination::AsBefore => batch.latest_queues(),
            Destination::ByNames(targets)
            | Destination::ThisOnce(targets)
            | Destination::Attended(targets) => targets.clone(),
        }
    }
}

/// Publishes gathered while frames are read. Holds nothing but publishes, so order is kept.
#[derive(Default)]
pub(super) struct Batch {
    messages: Vec<Publishing>,
    targets: Vec<BatchTarget>,
    by_queue: FxHashMap<QueueId, u32>,
    /// Names of the latest publish, and where in `targets` its queues are.
    latest_names: Vec<u8>,
    latest_targets: SmallVec<[u32; 4]>,
    /// Channels with confirms to give, and the tag of their latest publish.
    confirming: SmallVec<[(u16, u64); 2]>,
    bytes: usize,
    scratch: MessageScratch,
    route: Route,
    rejected: Vec<usize>,
    random: u64,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.targets.clear();
        self.by_queue.clear();
        self.latest_names.clear();
        self.latest_targets.clear();
        self.confirming.clear();
        self.bytes = 0;
    }

    /// The latest publish's queues say nothing about the next one's.
    pub(super) fn routes_changed(&mut self) {
        self.latest_names.clear();
    }

    /// Gives buffers back that have grown in a burst.
    pub(super) fn shrink(&mut self) {
        const KEPT: usize = 64;
        if self.messages.is_empty() && self.messages.capacity() > KEPT {
            self.messages = Vec::new();
            self.targets = Vec::new();
            self.by_queue = FxHashMap::default();
            self.scratch = MessageScratch::default();
        }
    }

    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.confirming.is_empty()
    }

    /// The publish with `tag` is to be confirmed with this batch.
    fn note_confirm(&mut self, channel: u16, tag: u64) {
        match self
            .confirming
            .iter_mut()
            .find(|(number, _)| *number == channel)
        {
            Some((_, last)) => *last = tag,
            None => self.confirming.push((channel, tag)),
        }
    }

    /// Makes `targets` the ones that [`Batch::add`] uses.
    fn set_targets(&mut self, names: &[u8], targets: &Targets) {
        self.latest_names.clear();
        self.latest_names.extend_from_slice(names);
        self.latest_targets.clear();
        for queue in targets {
            let place = self.place_of(queue);
            self.latest_targets.push(place);
        }
    }

    fn place_of(&mut self, queue: &QueueHandle) -> u32 {
        let id = queue.id();
        let found = if self.targets.len() <= SCANNED_TARGETS_MAX {
            self.targets
                .iter()
                .position(|target| target.queue.id() == id)
                .and_then(|place| u32::try_from(place).ok())
        } else {
            if self.by_queue.is_empty() {
                self.by_queue.extend(
                    self.targets
                        .iter()
                        .zip(0u32..)
                        .map(|(target, place)| (target.queue.id(), place)),
                );
            }
            self.by_queue.get(&id).copied()
        };
        found.unwrap_or_else(|| {
            let place = u32::try_from(self.targets.len()).unwrap_or(u32::MAX);
            self.targets.push(BatchTarget {
                queue: queue.clone(),
                messages: Vec::new(),
            });
            if !self.by_queue.is_empty() {
                self.by_queue.insert(id, place);
            }
            place
        })
    }

    fn add(&mut self, message: Message, channel: u16, tag: u64) {
        let index = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        self.bytes += message.memory_bytes();
        for &place in &self.latest_targets {
            if let Some(target) = self.targets.get_mut(place as usize) {
                target.messages.push(index);
            }
        }
        let remaining = u32::try_from(self.latest_targets.len()).unwrap_or(u32::MAX);
        self.messages.push(Publishing {
            message: Some(message),
            remaining,
            channel,
            tag,
        });
    }

    /// Any number; the seed differs from connection to connection.
    pub(super) fn next_random(&mut self) -> u64 {
        // splitmix64
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Gives each queue its messages.
    fn carry_out(
        &mut self,
        now: Timestamp,
        mut after: impl FnMut(&QueueHandle, crate::queue::effects::Effects),
    ) -> (CommitPoint, Vec<u32>, Option<QueueHandle>) {
        let mut point = CommitPoint::NONE;
        let mut refused = Vec::new();
        let mut hold = None;
        let Batch {
            messages,
            targets,
            rejected,
            ..
        } = self;
        for target in targets.iter() {
            let each = target.messages.iter().filter_map(|&index| {
                let publishing = messages.get_mut(index as usize)?;
                publishing.remaining -= 1;
                if publishing.remaining == 0 {
                    publishing.message.take()
                } else {
                    publishing.message.clone()
                }
            });
            let effects = target.queue.publish(each, now, rejected);
            refused.extend(
                rejected
                    .drain(..)
                    .filter_map(|place| target.messages.get(place).copied()),
            );
            point = point.max(effects.point);
            if effects.hold {
                hold = Some(target.queue.clone());
            }
            after(&target.queue, effects);
        }
        refused.sort_unstable();
        refused.dedup();
        (point, refused, hold)
    }
}

impl Connection {
    /// Takes a whole publish: checks it, routes it, and adds it to the batch or the transaction.
    pub(super) fn take_publish(
        &mut self,
        link: &mut Link,
        number: u16,
        whole: WholePublish<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        self.check_properties(whole.header)?;
        let mut destination = self.destination(link, whole.names, whole.header)?;
        let producer_number = number_of_producer(whole.header.properties.headers);
        if producer_number.is_some() {
            destination = Destination::Attended(destination.targets(&self.batch));
        }
        let attended = matches!(destination, Destination::Attended(_));
        // What exchanges may keep is routed later, and needs its BCC header for that.
        let rewritten = self.rewritten_header(number, whole.header, attended)?;
        let traced = self.vhost.is_traced().then(|| keys_of_publish(&whole));
        let scratch = &mut self.batch.scratch;
        let message = match &rewritten {
            Some(Rewritten { payload, blind }) => {
                let header = decode_header(payload).map_err(ChannelError::precondition)?;
                let marks = Marks::blind(blind);
                Message::compose_marked(scratch, whole.names, marks, &header, whole.body)
            }
            None => Message::compose(scratch, whole.names, whole.header, whole.body),
        };
        if let Destination::Attended(targets) = destination {
            if let Some(keys) = traced {
                let seen = without_blind_copies(message.clone());
                self.trace_publish(link, number, &seen, keys, targets.iter(), now);
            }
            let attended = AttendedPublish {
                message,
                mandatory: whole.mandatory,
                routable: !targets.is_empty(),
                number: producer_number,
            };
            return self.publish_attended(link, number, attended, now);
        }
        if let Some(keys) = traced {
            let queues = destination.targets(&self.batch);
            self.trace_publish(link, number, &message, keys, queues.iter(), now);
        }
        let channel = self.channels.get_mut(&number);
        let tag = match channel.map(|channel| &mut channel.mode) {
            Some(PublishMode::Transaction(transaction)) => {
                let targets = destination.targets(&self.batch);
                return transaction.publish(
                    message,
                    targets,
                    whole.mandatory,
                    link.broker.config.transaction_bytes_max,
                );
            }
            Some(PublishMode::Confirm(confirms)) => {
                let tag = confirms.next_tag();
                self.batch.note_confirm(number, tag);
                tag
            }
            _ => 0,
        };
        match destination {
            Destination::AsBefore => {}
            Destination::ByNames(targets) => self.batch.set_targets(whole.names, &targets),
            Destination::ThisOnce(targets) | Destination::Attended(targets) => {
                self.batch.set_targets(&[], &targets);
            }
        }
        if self.batch.latest_targets.is_empty() {
            self.batch.latest_names.clear();
            if whole.mandatory {
                return_message(link, number, &message);
            }
            return Ok(());
        }
        self.batch.add(message, number, tag);
        if self.batch.bytes > BATCH_BYTES_MAX {
            self.flush(link, now)?;
        }
        Ok(())
    }

    fn check_properties(&self, header: &ContentHeader<'_>) -> Result<(), Failure> {
        let properties = &header.properties;
        if let Some(expiration) = properties.expiration
            && parse_expiration(expiration).is_none()
        {
            return Err(bad_expiration(expiration).into());
        }
        if let Some(user) = properties.user_id
            && user != self.login.user.as_bytes()
        {
            return Err(ChannelError::precondition(format_args!(
                "user_id property set to '{}' but authenticated user was '{}'",
                String::from_utf8_lossy(user),
                self.login.user
            ))
            .into());
        }
        Ok(())
    }

    /// The header to store where it cannot stay as it came: BCC is taken out, and the pseudo-queue in
    /// reply-to becomes the address of this channel's reply consumer. With it the keys in BCC.
    fn rewritten_header(
        &self,
        number: u16,
        header: &ContentHeader<'_>,
        keep_blind: bool,
    ) -> Result<Option<Rewritten>, Failure> {
        let replies = header.properties.reply_to == Some(REPLY_TO.as_bytes());
        let headers = header.properties.headers.filter(|_| !keep_blind);
        let blind = headers.and_then(blind_keys);
        if !replies && blind.is_none() {
            return Ok(None);
        }
        let mut properties: AMQPProperties =
            decode_properties(header.payload).map_err(ChannelError::precondition)?;
        if blind.is_some()
            && let Some(headers) = properties.headers().clone()
        {
            let mut kept = leveret_codec::FieldTable::default();
            for (key, value) in headers
                .inner()
                .iter()
                .filter(|(key, _)| key.as_str() != "BCC")
            {
                kept.insert(key.clone(), value.clone());
            }
            properties = properties.with_headers(kept);
        }
        if replies {
            let address = self
                .consumers
                .reply_address(number)
                .ok_or_else(|| ChannelError::precondition("fast reply consumer does not exist"))?;
            properties = properties.with_reply_to(ShortString::from(address));
        }
        let payload = encode_header(header.body_size, &properties);
        Ok(Some(Rewritten {
            payload,
            blind: blind.unwrap_or_default(),
        }))
    }

    /// Where a publish goes.
    fn destination(
        &mut self,
        link: &Link,
        names: &[u8],
        header: &ContentHeader<'_>,
    ) -> Result<Destination, Failure> {
        let copied = header
            .properties
            .headers
            .is_some_and(|headers| headers.get(b"CC").is_some() || headers.get(b"BCC").is_some());
        if self.routes.renew(self.vhost.generation()) {
            self.batch.routes_changed();
            self.renew_grant(link);
        }
        if !copied {
            if !names.is_empty() && self.batch.latest_names == names {
                return Ok(Destination::AsBefore);
            }
            if let Some(targets) = self.routes.get(names) {
                return Ok(Destination::ByNames(targets.clone()));
            }
        }
        let (exchange, routing_key) = split_names(names).unwrap_or_default();
        let name = String::from_utf8_lossy(exchange);
        self.grant.check(Access::Write, Resource::Exchange(&name))?;
        if self.grant.restricts_topics(&name) && self.vhost.has_topic_exchange(&name) {
            self.check_topics(&name, routing_key, header)?;
        }
        let random = self.batch.next_random();
        let routed =
            self.vhost
                .route(exchange, routing_key, header, random, &mut self.batch.route)?;
        if routed.attended {
            return Ok(Destination::Attended(routed.targets));
        }
        if routed.cacheable && !routed.targets.is_empty() && !copied {
            self.routes.insert(names, &routed.targets);
            return Ok(Destination::ByNames(routed.targets));
        }
        Ok(Destination::ThisOnce(routed.targets))
    }

    /// Checks every routing key of a publish, those in CC and BCC too.
    fn check_topics(
        &self,
        exchange: &str,
        routing_key: &[u8],
        header: &ContentHeader<'_>,
    ) -> Result<(), ChannelError> {
        let copies = carbon_copies(header.properties.headers)?;
        for key in std::iter::once(routing_key).chain(copies) {
            self.grant.check_topic(Access::Write, exchange, key)?;
        }
        Ok(())
    }

    /// Publishes the batch, queue by queue.
    pub(super) fn flush_publishes(
        &mut self,
        link: &mut Link,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let vhost = &self.vhost;
        let mut spilled = CommitPoint::NONE;
        let (point, refused, hold) = self.batch.carry_out(now, |queue, effects| {
            spilled = spilled.max(effects.spilled);
            vhost.care(queue, effects, now);
        });
        self.owe_confirms(point, &refused);
        self.batch.clear();
        let staged = point.max(spilled);
        if hold.is_some() || staged > CommitPoint::NONE {
            self.consider_hold(link, hold, staged, now);
        }
        Ok(())
    }

    fn owe_confirms(&mut self, point: CommitPoint, refused: &[u32]) {
        for &(number, last_tag) in &self.batch.confirming {
            let Some(PublishMode::Confirm(confirms)) = self
                .channels
                .get_mut(&number)
                .map(|channel| &mut channel.mode)
            else {
                continue;
            };
            for publishing in refused
                .iter()
                .filter_map(|&index| self.batch.messages.get(index as usize))
            {
                if publishing.channel == number {
                    confirms.owe_nack(publishing.tag, point);
                }
            }
            confirms.owe_ack(last_tag, point);
            if !self.confirming.contains(&number) {
                self.confirming.push(number);
            }
        }
    }
}

impl Batch {
    /// The queues of the latest publish.
    fn latest_queues(&self) -> Targets {
        self.latest_targets
            .iter()
            .filter_map(|&place| {
                self.targets
                    .get(place as usize)
                    .map(|target| target.queue.clone())
            })
            .collect()
    }
}

/// `basic.return` for a mandatory message that no queue wants.
pub(super) fn return_message(link: &mut Link, channel: u16, message: &Message) {
    let code = ReplyCode::NoRoute;
    write_return(
        link.output.buffer(),
        channel,
        code.number(),
        code.name(),
        message.names(),
    );
    link.output.write_content(channel, link.frame_max, message);
}

/// RabbitMQ's complaint about an `expiration` that is no time.
fn bad_expiration(text: &[u8]) -> ChannelError {
    let text = String::from_utf8_lossy(text);
    let why = match text.parse::<i128>() {
        Ok(number) if number < 0 => format!("{{value_negative,{number}}}"),
        Ok(number) => format!("{{value_too_large,{number}}}"),
        Err(_) if text.starts_with(|first: char| first.is_ascii_digit()) => {
            let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
            format!("{{leftover_string,<<\"{rest}\">>}}")
        }
        Err(_) => "no_integer".to_owned(),
    };
    ChannelError::precondition(format_args!("invalid expiration '{text}': {why}"))
}
