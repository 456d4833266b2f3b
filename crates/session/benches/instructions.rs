//! One case of the whole data path, bytes in and bytes out, to be counted under callgrind:
//! `tests/bench.sh instructions`. A count does not move with the load of the machine.

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark may stop, and says what it counted"
)]

mod wired;

use std::hint::black_box;

use leveret_codec::{AMQPProperties, ChannelNumber, encode_header, write_body, write_header};
use wired::{Wired, broker, method};

/// Messages of one read of the publisher.
const BATCH: usize = 256;
/// Reads before anything is counted: buffers have grown and routes are known then.
const WARM: usize = 8;
const ROUNDS: usize = 32;
/// An empty table.
const EMPTY: [u8; 4] = [0; 4];

struct Case {
    body: usize,
    acknowledges: bool,
    confirms: bool,
    /// Bindings of a topic exchange that are used in turn; 0 is the default exchange.
    bindings: usize,
    /// `basic.qos` for the whole channel; as many are acknowledged together.
    prefetch: Option<u8>,
    /// They take turns.
    consumers: u8,
}

impl Case {
    fn named(name: &str) -> Option<Case> {
        let (mut prefetch, mut consumers) = (None, 1);
        let (body, acknowledges, confirms, bindings) = match name {
            "no ack, 16 B" => (16, false, false, 0),
            "no ack, 1024 B" => (1024, false, false, 0),
            "ack, 16 B" => (16, true, false, 0),
            "ack, 1024 B" => (1024, true, false, 0),
            "confirm and ack, 16 B" => (16, true, true, 0),
            "topic of 1000, 16 B" => (16, false, false, 1000),
            "4 consumers, 16 B" => {
                consumers = 4;
                (16, false, false, 0)
            }
            "global prefetch, 16 B" => {
                prefetch = Some(16);
                (16, true, false, 0)
            }
            _ => return None,
        };
        Some(Case {
            body,
            acknowledges,
            confirms,
            bindings,
            prefetch,
            consumers,
        })
    }

    /// One read full of publishes, for each time round.
    fn reads(&self) -> Vec<Vec<u8>> {
        let mut number = 0;
        let mut read = || {
            let mut bytes = Vec::new();
            for _ in 0..BATCH {
                self.publish(number, &mut bytes);
                number += 1;
            }
            bytes
        };
        (0..WARM + ROUNDS).map(|_| read()).collect()
    }

    fn publish(&self, number: usize, out: &mut Vec<u8>) {
        let (exchange, key) = if self.bindings == 0 {
            ("", "q".to_owned())
        } else {
            ("t", format!("k{}.leaf", number % self.bindings))
        };
        let names = [short(exchange), short(&key)].concat();
        out.extend(method(1, 60, 40, &[&[0, 0], &names, &[0]]));
        write_header(
            out,
            ChannelNumber(1),
            &encode_header(self.body as u64, &AMQPProperties::default()),
        );
        write_body(out, ChannelNumber(1), 131_072, &vec![b'x'; self.body]);
    }

    fn declare(&self, [publisher, consumer]: &mut [Wired; 2]) {
        publisher.send(&method(1, 50, 10, &[&[0, 0], b"\x01q", &[0], &EMPTY]));
        if self.bindings > 0 {
            let exchange = [short("t"), short("topic")].concat();
            publisher.send(&method(1, 40, 10, &[&[0, 0], &exchange, &[0], &EMPTY]));
        }
        for number in 0..self.bindings {
            let names = [short("q"), short("t"), short(&format!("k{number}.*"))].concat();
            publisher.send(&method(1, 50, 20, &[&[0, 0], &names, &[0], &EMPTY]));
        }
        if self.confirms {
            publisher.send(&method(1, 85, 10, &[&[0]]));
        }
        if let Some(prefetch) = self.prefetch {
            consumer.send(&method(1, 60, 10, &[&[0; 4], &[0, prefetch], &[1]]));
        }
        let bits = [u8::from(!self.acknowledges) << 1];
        for tag in 0..self.consumers {
            let arguments: [&[u8]; 5] = [&[0, 0], b"\x01q", &[1, b'a' + tag], &bits, &EMPTY];
            consumer.send(&method(1, 60, 20, &arguments));
        }
    }
}

fn short(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short string");
    [&[length], text.as_bytes()].concat()
}

/// Publishes each read, delivers it, and acknowledges it; answers the latest delivery tag.
fn rounds(case: &Case, ends: &mut [Wired; 2], reads: &[Vec<u8>], mut tag: u64) -> u64 {
    let [publisher, consumer] = ends;
    for read in reads {
        publisher.send(read);
        consumer.pump();
        let together = case.prefetch.map_or(BATCH, usize::from);
        for _ in 0..BATCH / together {
            let is_all = consumer.output.len() > together * case.body;
            assert!(is_all, "all were delivered");
            black_box(&consumer.output);
            tag += together as u64;
            if case.acknowledges {
                consumer.send(&method(1, 60, 80, &[&tag.to_be_bytes(), &[1]]));
            }
        }
    }
    tag
}

/// What callgrind counts: it looks for this name.
#[inline(never)]
fn measured(case: &Case, ends: &mut [Wired; 2], reads: &[Vec<u8>], tag: u64) {
    black_box(rounds(case, ends, reads, tag));
}

/// Those named by further arguments are not taken.
#[cfg(feature = "shortcuts")]
fn close_shortcuts() {
    use leveret_queue::shortcuts::Shortcut;
    let names: Vec<String> = std::env::args().skip(2).collect();
    let named = |it: &Shortcut| names.contains(&format!("{it:?}"));
    Shortcut::close(&Shortcut::ALL.into_iter().filter(named).collect::<Vec<_>>());
}

fn main() {
    let name = std::env::args().nth(1).unwrap_or_default();
    // `cargo test` and `cargo bench` run every bench with arguments of their own.
    let Some(case) = Case::named(&name) else {
        println!("usage: tests/bench.sh instructions");
        return;
    };
    #[cfg(feature = "shortcuts")]
    close_shortcuts();
    let broker = broker();
    let mut ends = [Wired::open(&broker), Wired::open(&broker)];
    case.declare(&mut ends);
    let reads = case.reads();
    let (warm, counted) = reads.split_at(WARM);
    let tag = rounds(&case, &mut ends, warm, 0);
    measured(&case, &mut ends, counted, tag);
    println!("messages: {}", ROUNDS * BATCH);
}
