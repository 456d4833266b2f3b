//! The queues, the exchange and the bindings of a run, and where each message has to go.

use leveret_codec::protocol::queue;
use leveret_codec::{
    AMQPProperties, AMQPValue, FieldTable, encode_header, shorten, write_body, write_header,
};

use crate::connection::{CHANNEL, Connection, SMALL};
use crate::error::Error;
use crate::options::{ExchangeKind, Options};
use crate::stamp;

/// What there is in the broker for a run.
#[derive(Clone, Debug)]
pub(crate) struct Topology {
    /// How many queues.
    pub(crate) queues: usize,
    kind: ExchangeKind,
    spread: bool,
    /// Routing keys (or headers) that producers use in turn.
    keys: usize,
    prefix: String,
}

/// The frames of one message, ready to be copied.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// Method, header and body.
    pub(crate) frames: Vec<u8>,
    /// Where in them the body, and so the stamp, begins.
    pub(crate) stamp_at: usize,
}

impl Topology {
    /// That of these options.
    pub(crate) fn new(options: &Options) -> Self {
        let keys = match options.exchange {
            ExchangeKind::Default if options.spread => options.queues,
            ExchangeKind::Default | ExchangeKind::Fanout => 1,
            _ => options.bindings.unwrap_or(0).max(options.queues),
        };
        Self {
            queues: options.queues,
            kind: options.exchange,
            spread: options.spread,
            keys,
            prefix: options.prefix.clone(),
        }
    }

    /// The name of a queue.
    pub(crate) fn queue_name(&self, queue: usize) -> String {
        format!("{}.q{queue}", self.prefix)
    }

    fn exchange_name(&self) -> String {
        match self.kind {
            ExchangeKind::Default => String::new(),
            kind => format!("{}.{}", self.prefix, kind.name()),
        }
    }

    /// How many deliveries one message becomes.
    pub(crate) fn copies(&self) -> u64 {
        match self.kind {
            ExchangeKind::Fanout => self.queues as u64,
            _ => 1,
        }
    }

    fn key_of(&self, producer: usize, sequence: u64) -> usize {
        let key = (producer as u64 + sequence) % self.keys as u64;
        usize::try_from(key).unwrap_or(0)
    }

    /// The queue a message goes to; None for all of them.
    pub(crate) fn queue_of(&self, producer: usize, sequence: u64) -> Option<usize> {
        match self.kind {
            ExchangeKind::Fanout => None,
            ExchangeKind::Default if !self.spread => Some(producer % self.queues),
            _ => Some(self.key_of(producer, sequence) % self.queues),
        }
    }

    /// Half of the topic patterns end in `*`, half in `#`; each key matches one.
    fn binding_key(&self, binding: usize) -> String {
        let wildcard = if binding.is_multiple_of(2) { '*' } else { '#' };
        match self.kind {
            ExchangeKind::Topic => format!("g{}.k{binding}.{wildcard}", binding % 10),
            // A fanout takes no notice of keys, but bindings with different ones are different bindings.
            ExchangeKind::Direct | ExchangeKind::Fanout => format!("k{binding}"),
            _ => String::new(),
        }
    }

    fn routing_key(&self, producer: usize, sequence: u64) -> String {
        let key = self.key_of(producer, sequence);
        match self.kind {
            ExchangeKind::Default if self.spread => self.queue_name(key),
            ExchangeKind::Default => self.queue_name(producer % self.queues),
            ExchangeKind::Topic => format!("g{}.k{key}.leaf", key % 10),
            ExchangeKind::Direct => format!("k{key}"),
            ExchangeKind::Fanout | ExchangeKind::Headers => String::new(),
        }
    }

    /// Makes everything anew, or with `--reuse` what is missing.
    pub(crate) fn declare(&self, options: &Options) -> Result<(), Error> {
        let mut connection = Connection::open_with_channel(options, SMALL)?;
        let durable = options.durable_queues();
        let exchange = self.exchange_name();
        if self.kind != ExchangeKind::Default {
            connection.declare_exchange(&exchange, self.kind.name(), durable)?;
        }
        for number in 0..self.queues {
            let name = self.queue_name(number);
            if !options.reuse {
                connection.delete_queue(&name)?;
            }
            connection.declare_queue(queue::Declare {
                queue: shorten(&name),
                passive: false,
                durable,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: options.queue_arguments(),
            })?;
        }
        let bindings = match self.kind {
            ExchangeKind::Default => 0,
            ExchangeKind::Fanout => options.bindings.unwrap_or(0).max(self.queues),
            _ => self.keys,
        };
        for binding in 0..bindings {
            connection.bind(queue::Bind {
                queue: shorten(&self.queue_name(binding % self.queues)),
                exchange: shorten(&exchange),
                routing_key: shorten(&self.binding_key(binding)),
                nowait: binding + 1 < bindings,
                arguments: self.binding_arguments(binding),
            })?;
        }
        connection.close()
    }

    fn binding_arguments(&self, binding: usize) -> FieldTable {
        let mut arguments = FieldTable::default();
        if self.kind == ExchangeKind::Headers {
            arguments.insert("x-match".into(), AMQPValue::LongString("all".into()));
            arguments.insert("key".into(), number(binding));
        }
        arguments
    }

    /// Takes everything away.
    pub(crate) fn delete(&self, options: &Options) -> Result<(), Error> {
        let mut connection = Connection::open_with_channel(options, SMALL)?;
        for queue in 0..self.queues {
            connection.delete_queue(&self.queue_name(queue))?;
        }
        if self.kind != ExchangeKind::Default {
            connection.delete_exchange(&self.exchange_name())?;
        }
        connection.close()
    }

    /// Messages that wait in all queues.
    pub(crate) fn depth(&self, options: &Options) -> Result<u64, Error> {
        let mut connection = Connection::open_with_channel(options, SMALL)?;
        let mut depth = 0;
        for number in 0..self.queues {
            depth += connection.declare_queue(queue::Declare {
                queue: shorten(&self.queue_name(number)),
                passive: true,
                durable: false,
                exclusive: false,
                auto_delete: false,
                nowait: false,
                arguments: FieldTable::default(),
            })?;
        }
        connection.close()?;
        Ok(depth)
    }

    /// The messages that a producer sends in turn.
    pub(crate) fn templates(
        &self,
        producer: usize,
        options: &Options,
        frame_max: u32,
    ) -> Vec<Template> {
        let body: Vec<u8> = (0..=250_u8).cycle().take(options.size).collect();
        (0..self.keys as u64)
            .map(|sequence| {
                let mut frames = Vec::new();
                let routing_key = self.routing_key(producer, sequence);
                write_publish(&mut frames, &self.exchange_name(), &routing_key);
                let properties = self.properties(producer, sequence, options);
                let header = encode_header(options.size as u64, &properties);
                write_header(&mut frames, CHANNEL, &header);
                let stamp_at = frames.len() + FRAME_HEADER;
                write_body(&mut frames, CHANNEL, frame_max, &body);
                Template { frames, stamp_at }
            })
            .collect()
    }

    fn properties(&self, producer: usize, sequence: u64, options: &Options) -> AMQPProperties {
        let delivery_mode = if options.persistent { 2 } else { 1 };
        let properties = AMQPProperties::default().with_delivery_mode(delivery_mode);
        if self.kind != ExchangeKind::Headers {
            return properties;
        }
        let mut headers = FieldTable::default();
        headers.insert("key".into(), number(self.key_of(producer, sequence)));
        properties.with_headers(headers)
    }
}

const FRAME_HEADER: usize = 7;
const _: () = assert!(stamp::LENGTH <= 4096 - 8, "a stamp fits the least frame");

fn number(number: usize) -> AMQPValue {
    AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX))
}

fn write_publish(out: &mut Vec<u8>, exchange: &str, routing_key: &str) {
    let publish = leveret_codec::protocol::basic::Publish {
        exchange: shorten(exchange),
        routing_key: shorten(routing_key),
        mandatory: false,
        immediate: false,
    };
    let publish = leveret_codec::protocol::basic::AMQPMethod::Publish(publish);
    leveret_codec::write_method(out, CHANNEL, &leveret_codec::AMQPClass::Basic(publish));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::stamp::Stamp;

    fn topology(arguments: &str) -> (Topology, Options) {
        let options = Options::parse_from(format!("load {arguments}").split(' '));
        (Topology::new(&options), options)
    }

    #[test]
    fn keys_and_queues_go_round() {
        let (topology, _) = topology("--exchange topic --bindings 10 --queues 3 --consumers 3");
        let queues: Vec<_> = (0..5)
            .map(|sequence| topology.queue_of(9, sequence))
            .collect();
        assert_eq!(queues, [Some(0), Some(0), Some(1), Some(2), Some(0)]);
    }

    #[test]
    fn a_template_has_room_for_the_stamp_at_its_body() {
        let (topology, options) = topology("--size 20");
        let templates = topology.templates(0, &options, 4096);
        let [template] = templates.as_slice() else {
            panic!("{templates:?}");
        };
        let body: Vec<u8> = (0..20).collect();
        assert_eq!(
            template
                .frames
                .get(template.stamp_at..template.frames.len() - 1),
            Some(body.as_slice())
        );
        assert!(Stamp::read(&body).is_some());
    }
}
