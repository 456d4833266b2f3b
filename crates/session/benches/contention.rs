//! What threads gain from each other's company: pairs of a publisher and a consumer, a thread each, on queues of their
//! own and all on one queue. No sockets, no disk: what is left to stand in the way is the broker's locks, the
//! allocator and the caches. As many threads as the machine has cores, in steps of two.
//!
//! `cargo bench -p leveret-session --bench contention`

#![allow(
    missing_docs,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::disallowed_methods,
    reason = "a benchmark may stop, measures time, and says what it measured"
)]

mod wired;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use leveret_broker::Broker;
use leveret_codec::{AMQPProperties, ChannelNumber, encode_header, write_body, write_header};
use wired::{Wired, broker, method};

/// Messages a publisher's one read holds.
const BATCH: usize = 64;
const BODY: usize = 16;
const LASTING: Duration = Duration::from_secs(2);
/// An empty table.
const EMPTY: [u8; 4] = [0; 4];

/// A publisher and a consumer of the queue with this number.
struct Pair {
    publisher: Wired,
    consumer: Wired,
    read: Vec<u8>,
    /// Bytes of one delivery.
    delivery: usize,
}

impl Pair {
    fn open(broker: &Arc<Broker>, queue: usize) -> Pair {
        let (mut publisher, mut consumer) = (Wired::open(broker), Wired::open(broker));
        let name = [1, b'a' + u8::try_from(queue).expect("few queues")];
        publisher.send(&method(1, 50, 10, &[&[0, 0], &name, &[0], &EMPTY]));
        let mut one = method(1, 60, 40, &[&[0, 0], b"\0", &name, &[0]]);
        let header = encode_header(BODY as u64, &AMQPProperties::default());
        write_header(&mut one, ChannelNumber(1), &header);
        write_body(&mut one, ChannelNumber(1), 131_072, &[b'x'; BODY]);
        publisher.send(&one);
        let no_ack = [2];
        consumer.send(&method(
            1,
            60,
            20,
            &[&[0, 0], &name, b"\x01c", &no_ack, &EMPTY],
        ));
        let frames = [
            7 + 4 + 2 + 8 + 1 + 1 + 2 + 1,
            7 + header.len() + 1,
            7 + BODY + 1,
        ];
        Pair {
            publisher,
            consumer,
            read: one.repeat(BATCH),
            delivery: frames.iter().sum(),
        }
    }

    /// Publishes and consumes until it is told to stop; answers how many messages came.
    fn run(mut self, stop: &AtomicBool) -> usize {
        let mut bytes = 0;
        while !stop.load(Ordering::Relaxed) {
            self.publisher.send(&self.read);
            bytes += self.consumer.pump();
        }
        bytes / self.delivery
    }
}

/// Messages a second of so many threads on so many queues.
fn rate(threads: usize, queues: usize) -> f64 {
    let broker = broker();
    let open = |number| Pair::open(&broker, number % queues);
    let pairs: Vec<Pair> = (0..threads).map(open).collect();
    let stop = AtomicBool::new(false);
    let begun = Instant::now();
    let came: usize = thread::scope(|scope| {
        let run = |pair: Pair| scope.spawn(|| pair.run(&stop));
        let running: Vec<_> = pairs.into_iter().map(run).collect();
        thread::sleep(LASTING);
        stop.store(true, Ordering::Relaxed);
        let ended = running
            .into_iter()
            .map(|thread| thread.join().expect("it ran"));
        ended.sum()
    });
    came as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    // `cargo test` runs every bench without this.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let cores = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(16);
    let alone = rate(1, 1);
    println!("1 thread: {:.2} M messages/s", alone / 1e6);
    for threads in [2, 4, 8, 16]
        .into_iter()
        .filter(|threads| *threads <= cores)
    {
        for (queues, what) in [(threads, "a queue each"), (1, "one queue")] {
            let rate = rate(threads, queues);
            println!(
                "{threads} threads, {what}: {:.2} M messages/s, {:.2}x of one thread",
                rate / 1e6,
                rate / alone
            );
        }
    }
}
