//! What one message costs in the codec: its three frames in, its three frames out, its ack.
#![allow(missing_docs, reason = "criterion's macros define a public function")]
#![allow(clippy::unwrap_used, reason = "the input is this file's own")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use leveret_codec::protocol::{AMQPClass, basic};
use leveret_codec::{
    AMQPProperties, AMQPValue, ChannelNumber, ConsumerTag, DeliveryTag, FieldTable, Frame, Method,
    RawTable, decode_header, decode_method, encode_header, encode_table, read_frame, write_ack,
    write_body, write_deliver, write_header, write_method, write_names,
};

const FRAME_MAX: u32 = 131_072;
const BODY: [u8; 100] = [b'x'; 100];

fn header_table() -> FieldTable {
    let mut table = FieldTable::default();
    table.insert(
        "trace".into(),
        AMQPValue::LongString("00-4bf92f3577b34da6-01".into()),
    );
    table.insert("attempt".into(), AMQPValue::LongInt(3));
    table.insert("urgent".into(), AMQPValue::Boolean(true));
    table
}

fn properties() -> AMQPProperties {
    AMQPProperties::default()
        .with_content_type("text/plain".into())
        .with_delivery_mode(2)
}

fn publish_bytes(properties: &AMQPProperties) -> Vec<u8> {
    let mut out = Vec::new();
    let publish = basic::Publish {
        exchange: "orders".into(),
        routing_key: "eu.de.new".into(),
        ..Default::default()
    };
    write_method(
        &mut out,
        ChannelNumber(1),
        &AMQPClass::Basic(basic::AMQPMethod::Publish(publish)),
    );
    write_header(
        &mut out,
        ChannelNumber(1),
        &encode_header(BODY.len() as u64, properties),
    );
    write_body(&mut out, ChannelNumber(1), FRAME_MAX, &BODY);
    out
}

fn take<'a>(input: &mut &'a [u8]) -> Frame<'a> {
    let frame = read_frame(input, FRAME_MAX).unwrap().unwrap();
    *input = &input[frame.wire_length()..];
    frame
}

fn read_publish(mut input: &[u8]) -> usize {
    let method = take(&mut input);
    let Ok(Method::Publish(publish)) = decode_method(method.payload) else {
        return 0;
    };
    black_box(publish);
    let header = take(&mut input);
    black_box(decode_header(header.payload).unwrap());
    take(&mut input).payload.len()
}

fn incoming(criterion: &mut Criterion) {
    let plain = publish_bytes(&properties());
    criterion.bench_function("publish in: 3 frames", |b| {
        b.iter(|| read_publish(black_box(&plain)));
    });
    let with_table = publish_bytes(&properties().with_headers(header_table()));
    criterion.bench_function("publish in: 3 frames, 3 headers", |b| {
        b.iter(|| read_publish(black_box(&with_table)));
    });
    let mut ack = Vec::new();
    write_ack(&mut ack, ChannelNumber(1), DeliveryTag(12_345), false);
    criterion.bench_function("ack in", |b| {
        b.iter(|| {
            let mut input = black_box(&ack[..]);
            match decode_method(take(&mut input).payload) {
                Ok(Method::Ack { delivery_tag, .. }) => delivery_tag,
                _ => DeliveryTag::NONE,
            }
        });
    });
    let table = encode_table(&header_table());
    criterion.bench_function("header lookup, last of 3", |b| {
        b.iter(|| black_box(RawTable::from_encoded(black_box(&table)).get(b"urgent")));
    });
}

fn outgoing(criterion: &mut Criterion) {
    let mut names = Vec::new();
    write_names(&mut names, b"orders", b"eu.de.new");
    let header = encode_header(BODY.len() as u64, &properties());
    let mut out = Vec::with_capacity(1024);
    criterion.bench_function("deliver out: 3 frames", |b| {
        b.iter(|| {
            out.clear();
            write_deliver(
                &mut out,
                ChannelNumber(1),
                black_box(ConsumerTag(b"ctag1.0")),
                DeliveryTag(12_345),
                false,
                black_box(&names),
            );
            write_header(&mut out, ChannelNumber(1), black_box(&header));
            write_body(&mut out, ChannelNumber(1), FRAME_MAX, black_box(&BODY));
            black_box(out.len())
        });
    });
    criterion.bench_function("ack out", |b| {
        b.iter(|| {
            out.clear();
            write_ack(
                &mut out,
                ChannelNumber(1),
                black_box(DeliveryTag(12_345)),
                true,
            );
            black_box(out.len())
        });
    });
}

criterion_group!(benches, incoming, outgoing);
criterion_main!(benches);
