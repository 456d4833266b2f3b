//! Publishing: checks, routes, and the batch that goes to the queues under one lock each.

use leveret_broker::exchange::{blind_keys, copy_without_blind, without_blind_copies};
use leveret_broker::permission::{Access, Resource};
use leveret_broker::vhost::{Targets, VirtualHost, carbon_copies};
use leveret_codec::{ContentHeader, RawTable, ReplyCode, decode_header, split_names, write_return};
use leveret_deduplication::number_of_producer;
use leveret_message::error::{ChannelError, Failure};
use leveret_message::marks::Marks;
use leveret_message::{Message, Timestamp, parse_expiration};
use leveret_routing::QueueId;
use leveret_store_api::CommitPoint;

use super::assembly::WholePublish;
use super::attended_publish::AttendedPublish;
use super::batch::Batch;
use super::channel::PublishMode;
use super::connection::Connection;
use super::link::Link;
use super::pressure::Pressure;
use super::route_cache::{RouteCache, RouteNumber};
use super::trace::keys_of_publish;
use super::work;

/// The pseudo-queue of direct reply-to.
pub(super) const REPLY_TO: &str = "amq.rabbitmq.reply-to";

/// Where a publish goes.
enum Destination {
    /// To the same queues as the publish before it.
    AsBefore,
    /// Along a known route.
    Known(RouteNumber),
    /// To these, like every publish with the same names.
    ByNames(Targets),
    /// To these; the next one with the same names may go elsewhere.
    ThisOnce(Targets),
    /// To very many, in steps.
    Wide(Vec<QueueId>),
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
    fn targets(&self, batch: &Batch, routes: &RouteCache, vhost: &VirtualHost) -> Targets {
        match self {
            Destination::AsBefore => batch.latest_queues(),
            Destination::Known(route) => routes.targets(*route).into(),
            Destination::Wide(queues) => vhost.handles(queues),
            Destination::ByNames(targets)
            | Destination::ThisOnce(targets)
            | Destination::Attended(targets) => targets.clone(),
        }
    }
}

impl Connection {
    /// Takes a whole publish: checks it, routes it, and adds it to the batch or the transaction.
    pub(super) fn take_publish(
        &mut self,
        link: &mut Link,
        number: u16,
        mut whole: WholePublish<'_>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let destination = self.destination(link, &whole);
        if !is_about_exchange(&destination) {
            self.check_properties(number, whole.header)?;
        }
        let mut destination = destination?;
        let producer_number = number_of_producer(whole.header.properties.headers);
        if producer_number.is_some() {
            destination =
                Destination::Attended(destination.targets(&self.batch, &self.routes, &self.vhost));
        }
        let attended = matches!(destination, Destination::Attended(_));
        // What exchanges may keep is routed later, and needs its BCC header for that.
        let rewritten = self.rewritten_header(number, whole.header, attended)?;
        let is_traced = self.vhost.is_traced();
        let traced = is_traced.then(|| keys_of_publish(&whole));
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
            link.work.add(work::DETOUR);
            let attended = AttendedPublish {
                message,
                mandatory: whole.mandatory,
                routable: !targets.is_empty(),
                number: producer_number,
            };
            return self.publish_attended(link, number, attended, now);
        }
        if let Some(keys) = traced {
            let queues = destination.targets(&self.batch, &self.routes, &self.vhost);
            self.trace_publish(link, number, &message, keys, queues.iter(), now);
        }
        if whole.header.body_size >= self.vhost.services.ahead_bytes_min {
            let targets = destination.targets(&self.batch, &self.routes, &self.vhost);
            let memory = &mut whole.memory;
            if self.write_ahead(link, number, &message, &targets, memory, now) {
                return Ok(());
            }
        }
        if let Destination::Wide(queues) = destination {
            if !self.keeps_back(number) {
                self.spread(link, number, message, queues, now);
                return Ok(());
            }
            destination = Destination::ThisOnce(self.vhost.handles(&queues));
        }
        let channel = self.channels.get_mut(number);
        let tag = match channel.map(|channel| &mut channel.mode) {
            Some(PublishMode::Transaction(transaction)) => {
                let targets = destination.targets(&self.batch, &self.routes, &self.vhost);
                transaction.publish(
                    message,
                    targets,
                    whole.mandatory,
                    link.broker.config().transaction_bytes_max,
                )?;
                self.account_for_transaction(link, number, now);
                return Ok(());
            }
            Some(PublishMode::Confirm(confirms)) => {
                let tag = confirms.next_tag();
                self.batch.note_confirm(number, tag);
                tag
            }
            _ => 0,
        };
        match destination {
            Destination::AsBefore if rewritten.is_none() && !is_traced => {
                self.repeat
                    .consider(link, number, &message, whole.mandatory);
            }
            Destination::AsBefore => {}
            Destination::Known(route) => self.batch.follow(whole.names, route, &self.routes),
            Destination::ByNames(targets) => self.batch.set_targets(whole.names, &targets),
            Destination::ThisOnce(targets) | Destination::Attended(targets) => {
                self.batch.set_targets(&[], &targets);
            }
            // It has gone its own way.
            Destination::Wide(_) => return Ok(()),
        }
        if self.batch.latest_targets.is_empty() {
            self.batch.latest_names.clear();
            if whole.mandatory {
                link.work.add(work::DETOUR);
                return_message(link, number, &message);
            }
            return Ok(());
        }
        // The first one is counted with the frame.
        let others = self.batch.latest_targets.len() - 1;
        link.work.add(u32::try_from(others).unwrap_or(u32::MAX));
        self.batch.add(message, number, tag);
        if self.batch.is_full() {
            self.flush(link, now);
        }
        Ok(())
    }

    /// rabbitmq: an exchange that is missing or closed to the user is told first, then what is wrong here, in this
    /// order, and then what is wrong with the headers.
    fn check_properties(&self, number: u16, header: &ContentHeader<'_>) -> Result<(), Failure> {
        let properties = &header.properties;
        if properties.reply_to == Some(REPLY_TO.as_bytes())
            && self.delivering.reply_address(number).is_none()
        {
            return Err(no_reply_consumer().into());
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
        if let Some(expiration) = properties.expiration
            && parse_expiration(expiration).is_none()
        {
            return Err(bad_expiration(expiration).into());
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
        let mut properties = header.properties;
        let mut fields = Vec::new();
        if blind.is_some()
            && let Some(headers) = headers
        {
            copy_without_blind(headers, &mut fields);
            properties.headers = Some(RawTable::from_encoded(&fields));
        }
        if replies {
            let address = self.delivering.reply_address(number);
            properties.reply_to = Some(address.ok_or_else(no_reply_consumer)?.as_bytes());
        }
        let payload = properties.encode_header(header.body_size);
        Ok(Some(Rewritten {
            payload,
            blind: blind.unwrap_or_default(),
        }))
    }

    /// Where a publish goes.
    fn destination(
        &mut self,
        link: &Link,
        whole: &WholePublish<'_>,
    ) -> Result<Destination, Failure> {
        let (names, header) = (whole.names, whole.header);
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
            if let Some(route) = self.routes.get(names, whole.behind) {
                return Ok(Destination::Known(route));
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
        if routed.wide {
            let queues = std::mem::take(&mut self.batch.route.queues).into_vec();
            return Ok(Destination::Wide(queues));
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
    pub(super) fn flush_publishes(&mut self, link: &mut Link, now: Timestamp) {
        if self.batch.is_empty() {
            return;
        }
        let vhost = &self.vhost;
        let mut pressure = Pressure::none();
        let (point, refused) = self.batch.carry_out(now, |queue, effects| {
            pressure.add(queue, &effects);
            vhost.care(queue, effects, now);
        });
        self.owe_confirms(point, &refused);
        self.batch.clear();
        self.consider(link, pressure, now);
    }

    fn owe_confirms(&mut self, point: CommitPoint, refused: &[u32]) {
        for &(number, last_tag) in &self.batch.confirming {
            let Some(PublishMode::Confirm(confirms)) = self
                .channels
                .get_mut(number)
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

/// Whether a publish cannot be routed for its exchange's sake, not for its headers'.
fn is_about_exchange(destination: &Result<Destination, Failure>) -> bool {
    match destination {
        Ok(_) => false,
        Err(Failure::Channel(error)) => error.code != ReplyCode::PreconditionFailed,
        Err(_) => true,
    }
}

fn no_reply_consumer() -> ChannelError {
    ChannelError::precondition("fast reply consumer does not exist")
}

/// RabbitMQ's complaint about an `expiration` that is no time.
fn bad_expiration(text: &[u8]) -> ChannelError {
    let text = String::from_utf8_lossy(text);
    let (sign, unsigned) = text.split_at(usize::from(text.starts_with(['+', '-'])));
    let is_digit = |c: char| c.is_ascii_digit();
    let end = unsigned.find(|c| !is_digit(c)).unwrap_or(unsigned.len());
    let (digits, leftover) = unsigned.split_at(end);
    let number = digits.trim_start_matches('0');
    let why = match (digits, leftover, sign) {
        ("", ..) => "no_integer".to_owned(),
        (_, "", "-") => format!("{{value_negative,-{number}}}"),
        (_, "", _) => format!("{{value_too_large,{number}}}"),
        _ => format!("{{leftover_string,<<\"{leftover}\">>}}"),
    };
    ChannelError::precondition(format_args!("invalid expiration '{text}': {why}"))
}
