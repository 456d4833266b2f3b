//! What a message costs inside the broker: through a queue alone, and from the publisher's bytes to
//! the consumer's bytes, without sockets and without a disk.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may stop, and criterion's macro writes a public function"
)]

mod wired;

use std::hint::black_box;
use std::sync::Arc;
use std::task::Waker;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use leveret_broker::declare::QueueDeclaration;
use leveret_codec::{
    AMQPProperties, ChannelNumber, FieldTable, decode_header, encode_header, write_body,
    write_header, write_names,
};
use leveret_message::{Body, Message, MessageScratch};
use leveret_queue::credit::ChannelCredit;
use leveret_queue::mailbox::{ConsumerSlot, Mail, Mailbox};
use leveret_queue::queue::consumers::ConsumerSpec;
use leveret_queue::queue::identity::SessionId;
use leveret_queue::queue::reference::Outstanding;
use leveret_queue::queue::settle::{Outcome, QueueSettlement};
use wired::{NOW, Wired, broker, method};

/// Messages a publisher's one read holds.
const BATCH: usize = 256;
const BODIES: [usize; 2] = [16, 1024];

fn message(length: usize) -> Message {
    let mut names = Vec::new();
    write_names(&mut names, b"", b"q");
    let header = encode_header(length as u64, &AMQPProperties::default());
    let header = decode_header(&header).expect("a header");
    let body = vec![b'x'; length];
    Message::compose(
        &mut MessageScratch::default(),
        &names,
        &header,
        Body::Borrowed(&body),
    )
}

/// Publish, dispatch, take the mailbox, acknowledge: one batch through one queue.
fn queue(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue: publish, deliver, ack");
    group.throughput(Throughput::Elements(BATCH as u64));
    for length in BODIES {
        let broker = broker();
        let vhost = broker.vhost("/").expect("the default virtual host");
        let declaration = QueueDeclaration {
            name: "q".to_owned(),
            durable: false,
            exclusive: false,
            auto_delete: false,
            arguments: FieldTable::default(),
        };
        let queue = vhost
            .declare_queue(declaration, SessionId(0), "guest", NOW, |_| Ok(()))
            .expect("a queue")
            .queue;
        let mailbox = Mailbox::new(Waker::noop().clone(), 1 << 20);
        let spec = ConsumerSpec {
            queue: queue.id(),
            mailbox: Arc::clone(&mailbox),
            slot: ConsumerSlot {
                index: 0,
                generation: 0,
            },
            no_ack: false,
            exclusive: false,
            priority: 0,
            prefetch: 0,
            channel_credit: Arc::new(ChannelCredit::default()),
        };
        let consumer = queue.consume(spec, NOW).0.expect("a consumer");
        let message = message(length);
        let (mut mail, mut settlements) = (Mail::default(), Vec::new());
        let mut rejected = Vec::new();
        group.bench_function(format!("{length} B"), |bencher| {
            bencher.iter(|| {
                let messages = std::iter::repeat_with(|| message.clone()).take(BATCH);
                let gate = queue.open_gate(Waker::noop()).expect("nobody shuts it");
                queue.publish(&gate, messages, NOW, &mut rejected);
                mailbox.take(&mut mail);
                settlements.extend(mail.deliveries.drain(..).map(|delivery| QueueSettlement {
                    delivery: Outstanding::Message(delivery.in_flight),
                    consumer: Some(consumer),
                    outcome: Outcome::Acknowledged,
                    delivered_at: NOW,
                }));
                assert_eq!(settlements.len(), BATCH);
                queue.settle(&settlements, NOW);
                settlements.clear();
            });
        });
    }
    group.finish();
}

fn publishes(length: usize) -> Vec<u8> {
    let header = encode_header(length as u64, &AMQPProperties::default());
    let body = vec![b'x'; length];
    let mut bytes = Vec::new();
    for _ in 0..BATCH {
        bytes.extend(method(1, 60, 40, &[&[0, 0], b"\0", b"\x01q", &[0]]));
        write_header(&mut bytes, ChannelNumber(1), &header);
        write_body(&mut bytes, ChannelNumber(1), 131_072, &body);
    }
    bytes
}

/// The whole data path: one read of a publisher, the deliveries of it to a consumer, and its
/// acknowledgement of the last of them.
fn data_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("data path: bytes in, bytes out");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (no_ack, how) in [(true, "no ack"), (false, "ack")] {
        for length in BODIES {
            let broker = broker();
            let (mut publisher, mut consumer) = (Wired::open(&broker), Wired::open(&broker));
            let empty = [0, 0, 0, 0];
            publisher.send(&method(1, 50, 10, &[&[0, 0], b"\x01q", &[0], &empty]));
            let bits = [u8::from(no_ack) << 1];
            consumer.send(&method(
                1,
                60,
                20,
                &[&[0, 0], b"\x01q", b"\x01c", &bits, &empty],
            ));
            let bytes = publishes(length);
            let mut tag = 0u64;
            group.bench_function(format!("{how}, {length} B"), |bencher| {
                bencher.iter(|| {
                    publisher.send(&bytes);
                    let written = consumer.pump();
                    assert!(written > BATCH * length);
                    black_box(&consumer.output);
                    tag += BATCH as u64;
                    if !no_ack {
                        consumer.send(&method(1, 60, 80, &[&tag.to_be_bytes(), &[1]]));
                    }
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, queue, data_path);
criterion_main!(benches);
