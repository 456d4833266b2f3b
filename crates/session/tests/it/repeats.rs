//! Publishes and deliveries that are like the one before are taken and written in a shorter way: nobody can tell.

use std::rc::Rc;

use leveret_codec::{AMQPProperties, FieldTable, ShortString};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::{Flag, string, table};
use crate::harness::client::Client;
use crate::harness::wire::{self, Arguments};
use crate::harness::{Properties, World};

#[derive(Clone, Debug)]
struct Publish {
    channel: u16,
    exchange: &'static str,
    key: &'static str,
    mandatory: bool,
    kind: Option<&'static str>,
    headers: Option<(&'static str, &'static str)>,
    body: usize,
}

#[derive(Clone, Debug)]
enum Step {
    /// The same publish this many times.
    Publish(Publish, usize),
    /// The queue `two` is bound to the exchange `x`, or not any more.
    Bind(bool),
    /// The channel is closed and opened again.
    Reopen(u16),
}

fn publish() -> impl Strategy<Value = Publish> {
    let place = prop_oneof![
        4 => Just(("", "one")),
        2 => Just(("", "two")),
        1 => Just(("", "nowhere")),
        2 => Just(("x", "")),
    ];
    let kind = proptest::option::of(prop_oneof![Just("a"), Just("b")]);
    let headers = prop_oneof![
        4 => Just(None),
        1 => Just(Some(("h", "v"))),
        1 => Just(Some(("CC", "two"))),
    ];
    let body = prop_oneof![4 => 0usize..4, 1 => 4080usize..4100, 1 => Just(10_000usize)];
    (1u16..3, place, any::<bool>(), kind, headers, body).prop_map(
        |(channel, (exchange, key), mandatory, kind, headers, body)| Publish {
            channel,
            exchange,
            key,
            mandatory,
            kind,
            headers,
            body,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (publish(), 1usize..12).prop_map(|(publish, times)| Step::Publish(publish, times)),
        1 => any::<bool>().prop_map(Step::Bind),
        1 => (1u16..3).prop_map(Step::Reopen),
    ]
}

impl Publish {
    /// The bytes of one; `number` makes its body different from those of others.
    fn bytes(&self, publisher: &Client, number: usize) -> Vec<u8> {
        let mut properties = AMQPProperties::default();
        if let Some(kind) = self.kind {
            properties = properties.with_type(ShortString::from(kind));
        }
        if let Some((name, value)) = self.headers {
            let value = match name {
                "CC" => leveret_codec::AMQPValue::FieldArray(vec![string(value)].into()),
                _ => string(value),
            };
            properties = properties.with_headers(table(&[(name, value)]));
        }
        let message = Properties {
            exchange: self.exchange,
            mandatory: self.mandatory,
            properties,
        };
        let body: Vec<u8> = (0..self.body)
            .map(|at| b"abcdefghijklm"[(number + at) % 13])
            .collect();
        publisher
            .on(self.channel)
            .publishing(self.key, &body, &message)
    }
}

impl Step {
    /// What a publisher writes for it, each piece a publish or something else that is whole.
    fn pieces(&self, publisher: &Client, number: usize) -> Vec<Vec<u8>> {
        match self {
            Step::Publish(publish, times) => (0..*times)
                .map(|time| publish.bytes(publisher, number + time))
                .collect(),
            Step::Bind(bound) => {
                let names = Arguments::new().ticket().short("two").short("x").short("");
                let method = if *bound {
                    let arguments = names.bits(&[false]).table(&FieldTable::default());
                    wire::method(1, (50, 20), arguments)
                } else {
                    wire::method(1, (50, 50), names.table(&FieldTable::default()))
                };
                vec![method]
            }
            Step::Reopen(channel) => {
                let close = Arguments::new().u16(200).short("").u16(0).u16(0);
                vec![
                    wire::method(*channel, (20, 40), close),
                    wire::method(*channel, (20, 10), Arguments::new().short("")),
                ]
            }
        }
    }
}

struct Parties {
    publisher: Client,
    consumers: Vec<Client>,
}

impl Parties {
    fn new(confirms: bool) -> Parties {
        let world: Rc<World> = World::volatile();
        let publisher = world.client();
        if confirms {
            publisher.confirms();
        }
        publisher.with_channel(2);
        publisher.declare_exchange("x", "fanout", &[], &[]);
        publisher.declare("one", &[], &[]);
        publisher.declare("two", &[], &[]);
        publisher.bind("one", "x", "");
        let consumers = vec![world.client(), world.client()];
        for (consumer, queue) in consumers.iter().zip(["one", "two"]) {
            consumer.with_channel(2).consume(queue, "ack", &[], &[]);
            consumer.consume(queue, "no-ack", &[Flag::NoAck], &[]);
        }
        let parties = Parties {
            publisher,
            consumers,
        };
        parties.seen();
        parties
    }

    /// Nobody remembers anything of the message before.
    fn rest(&self) {
        self.publisher.rest();
        self.consumers.iter().for_each(Client::rest);
    }

    /// What everybody has seen; of confirms, which come for several publishes at once, only the last.
    fn seen(&self) -> Vec<Vec<String>> {
        let mut publisher = self.publisher.lines();
        let last = publisher.iter().rposition(|line| line.starts_with("ack"));
        let last = last.map(|at| publisher[at].replace(" multiple", ""));
        publisher.retain(|line| !line.starts_with("ack"));
        publisher.extend(last);
        let consumers = self.consumers.iter().map(|consumer| {
            let seen = consumer.seen();
            seen.iter()
                .map(|seen| format!("{} {:?} {:?}", seen.text, seen.header, seen.body))
                .collect()
        });
        std::iter::once(publisher).chain(consumers).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn publishes_read_together_are_what_they_are_one_by_one(
        steps in vec(step(), 1..12),
        cuts in vec(1usize..20_000, 1..8),
        confirms in any::<bool>(),
    ) {
        // What a channel owes when it is closed is not told any more.
        let confirms = confirms && !steps.iter().any(|step| matches!(step, Step::Reopen(_)));
        let (together, apart) = (Parties::new(confirms), Parties::new(confirms));
        let mut bytes = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            for piece in step.pieces(&apart.publisher, number * 100) {
                apart.publisher.send(&piece);
                apart.rest();
                bytes.extend(piece);
            }
        }
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            together.publisher.send(piece);
            rest = behind;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(together.seen(), apart.seen());
    }
}
