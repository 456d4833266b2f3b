//! Whatever a client sends, in whatever phase: an answer or the end, and never a panic.

use leveret_codec::PROTOCOL_HEADER;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::harness::calls::Flag;
use crate::harness::client::{Client, Dial};
use crate::harness::wire;
use crate::harness::{Properties, World};

/// How far a connection has come before the garbage starts.
fn brought_to(phase: usize) -> Client {
    let world = World::durable();
    let dial = Dial::default();
    let client = Client::socket(&world, &dial);
    let steps = [
        PROTOCOL_HEADER.to_vec(),
        dial.start_ok(),
        dial.tune_ok(),
        dial.open(),
        wire::method(1, (20, 10), wire::Arguments::new().short("")),
    ];
    for step in steps.iter().take(phase) {
        client.send(step);
    }
    if phase > steps.len() {
        client.declare("q", &[Flag::Durable], &[]);
        client.publish_all("q", "a b c", &Properties::persistent());
        client.consume("q", "c", &[], &[]);
        client.tx(10);
    }
    client
}

/// A frame that is right on the outside.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![6 => 1u8..=3, 1 => Just(8u8), 1 => any::<u8>()];
    (kind, 0u16..4, vec(any::<u8>(), 0..60))
        .prop_map(|(kind, channel, payload)| wire::frame(kind, channel, &payload))
}

/// A method that exists, with any arguments.
fn known_method() -> impl Strategy<Value = Vec<u8>> {
    let ids = prop_oneof![
        (Just(10u16), 10u16..72),
        (Just(20u16), 10u16..42),
        (Just(40u16), 10u16..52),
        (Just(50u16), 10u16..52),
        (Just(60u16), 10u16..121),
        (Just(85u16), 10u16..12),
        (Just(90u16), 10u16..32),
    ];
    let argument = prop_oneof![
        vec(any::<u8>(), 0..12),
        "[a-z.#*]{0,6}".prop_map(|text| {
            let mut short = vec![u8::try_from(text.len()).unwrap_or(0)];
            short.extend(text.as_bytes());
            short
        }),
        Just(vec![0, 0, 0, 0]),
        Just(vec![0, 0, 0, 0, 0, 0, 0, 1]),
        Just(vec![0, 0]),
        Just(vec![1, b'q']),
        any::<u8>().prop_map(|octet| vec![octet & 0x1F]),
    ];
    (0u16..3, ids, vec(argument, 0..7)).prop_map(|(channel, (class, method), arguments)| {
        let mut payload = class.to_be_bytes().to_vec();
        payload.extend(method.to_be_bytes());
        payload.extend(arguments.concat());
        wire::frame(1, channel, &payload)
    })
}

fn garbage() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let piece = prop_oneof![
        1 => vec(any::<u8>(), 0..80),
        3 => framed(),
        6 => known_method(),
    ];
    vec(piece, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_garbage_makes_it_panic(phase in 0usize..=6, pieces in garbage(), together: bool) {
        let client = brought_to(phase);
        for piece in &pieces {
            if together {
                client.write(piece);
            } else {
                client.send(piece);
            }
        }
        client.send(&[]);
        client.vanish();
    }

    #[test]
    fn a_good_stream_with_one_bad_byte(at in 0usize..600, byte: u8) {
        let world = World::durable();
        let client = world.client();
        client.declare("q", &[Flag::Durable], &[]);
        client.consume("q", "c", &[], &[]);
        client.confirms_unseen();
        let mut bytes = Vec::new();
        for body in ["one", "two", "three"] {
            bytes.extend(client.publishing("q", body.as_bytes(), &Properties::persistent()));
        }
        bytes.extend(wire::method(1, (60, 80), wire::Arguments::new().u64(2).bits(&[true])));
        let at = at % bytes.len();
        bytes[at] = byte;
        client.send(&bytes);
        client.vanish();
        // Whatever happened to that one, the broker goes on.
        let other = world.client();
        let (ready, consumers) = other.counts("q");
        prop_assert!(ready <= 3 && consumers == 0);
    }
}

impl Client {
    fn confirms_unseen(&self) {
        self.call((85, 10), wire::Arguments::new().bits(&[false]));
        self.seen();
    }
}
