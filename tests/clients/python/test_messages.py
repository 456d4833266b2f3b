"""What arrives is what was sent: properties, header values of every type, bodies of every size."""

import datetime
import decimal
import hashlib
import struct

import pika
import pytest
from pika import frame as frames
from pika import spec

PROPERTIES = {
    "content_type": "application/json", "content_encoding": "gzip", "delivery_mode": 1, "priority": 9,
    "correlation_id": "c" * 255, "reply_to": "someone", "expiration": "60000", "message_id": "m-1",
    "timestamp": 1700000000, "type": "event", "user_id": "guest", "app_id": "tests", "cluster_id": "old",
    "headers": {"a": 1},
}


def round_trip(channel, body=b"x", **properties):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, body, pika.BasicProperties(**properties))
    method, back, received = channel.basic_get(queue, auto_ack=True)
    channel.queue_delete(queue)
    assert method is not None
    return back, received


@pytest.mark.parametrize("name", sorted(PROPERTIES))
def test_each_property(channel, name):
    back, _ = round_trip(channel, **{name: PROPERTIES[name]})
    assert {key: value for key, value in vars(back).items() if value is not None} == {name: PROPERTIES[name]}


def test_all_properties_together(channel):
    back, _ = round_trip(channel, **PROPERTIES)
    assert vars(back) == vars(pika.BasicProperties(**PROPERTIES))


def test_no_properties(channel):
    back, _ = round_trip(channel)
    assert [value for value in vars(back).values() if value is not None] == []


@pytest.mark.parametrize("value", [
    True, False, 0, 1, -1, 2 ** 31 - 1, -2 ** 31, 2 ** 40, -2 ** 40, "", "text", "ünï-鹿", b"\x00\xff", None,
    decimal.Decimal("12.34"), datetime.datetime(2024, 2, 29, 12, 0, 0, tzinfo=datetime.timezone.utc),
    {}, {"a": {"b": {"c": [1, "two", {"d": None}]}}}, [], [1, "two", True, None, [3, [4]]],
], ids=repr)
def test_header_values_as_pika_sends_them(channel, value):
    back, _ = round_trip(channel, headers={"value": value, "after": "x"})
    assert back.headers == {"value": value, "after": "x"}


def field(tag, payload):
    return tag.encode() + payload


# Every type tag that RabbitMQ knows, encoded by hand.
FIELDS = {
    "bool": field("t", b"\x01"), "int8": field("b", b"\x80"), "uint8": field("B", b"\xff"),
    "int16": field("s", b"\x80\x00"), "uint16": field("u", b"\xff\xff"), "int32": field("I", b"\x80\x00\x00\x00"),
    "uint32": field("i", b"\xff\xff\xff\xff"), "int64": field("l", b"\x80" + b"\x00" * 7),
    "float": field("f", struct.pack(">f", 1.5)), "double": field("d", struct.pack(">d", -2.5e300)),
    "decimal": field("D", b"\x02" + struct.pack(">i", 1234)), "longstr": field("S", b"\x00\x00\x00\x03abc"),
    "bytes": field("x", b"\x00\x00\x00\x02\x00\xff"), "timestamp": field("T", struct.pack(">Q", 1700000000)),
    "void": field("V", b""), "table": field("F", b"\x00\x00\x00\x04\x01kt\x00"),
    "array": field("A", b"\x00\x00\x00\x05t\x01b\x07V"),
}


def headers_payload(table, size):
    """A content header frame's payload with `headers` as its only property."""
    return struct.pack(">HHQH", 60, 0, size, 1 << 13) + struct.pack(">I", len(table)) + table


@pytest.mark.parametrize("kind", [*sorted(FIELDS), "all"])
def test_header_bytes_arrive_unchanged(wire, kind):
    """Byte for byte, through a queue: no value is decoded and encoded again in another type."""
    chosen = FIELDS if kind == "all" else {kind: FIELDS[kind]}
    table = b"".join(bytes([len(key)]) + key.encode() + value for key, value in chosen.items())
    payload = headers_payload(table, 1)
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.send(1, spec.Basic.Publish(exchange="", routing_key=queue))
    client.send_frame(2, 1, payload)
    client.send_body(1, b"x")
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert client.read_raw_frame() == (2, 1, payload)


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 131072 - 9, 131072 - 8, 131072 - 7, 131070, 131071, 131072, 131073,
                                  131074, 2 * 131064, 2 * 131064 + 1, 1_000_003])
def test_bodies_around_frame_borders(channel, size):
    body = bytes(number % 251 for number in range(size))
    assert round_trip(channel, body)[1] == body


def test_a_body_of_10_megabytes(channel):
    body = b"0123456789abcdef" * (10 * 65536)
    _, received = round_trip(channel, body, delivery_mode=2)
    assert len(received) == 10 * 2 ** 20
    assert hashlib.sha256(received).digest() == hashlib.sha256(body).digest()


def test_an_empty_body_has_no_body_frame(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.publish(1, "", queue, b"")
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    header = client.read_frame()
    assert isinstance(header, frames.Header) and header.body_size == 0
    assert isinstance(client.call(1, spec.Basic.Qos()), spec.Basic.QosOk)


def test_a_body_in_many_small_frames_arrives_whole(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    body = bytes(range(256)) * 4
    client.send(1, spec.Basic.Publish(exchange="", routing_key=queue))
    client.send_header(1, len(body))
    for byte in body:
        client.send_frame(3, 1, bytes([byte]))
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert client.read_content()[1] == body


def test_contents_of_two_channels_interleave(wire):
    client = wire()
    for channel in (1, 2):
        client.open_channel(channel)
    queues = {channel: client.call(channel, spec.Queue.Declare(queue="", exclusive=True)).queue for channel in (1, 2)}
    for channel in (1, 2):
        client.send(channel, spec.Basic.Publish(exchange="", routing_key=queues[channel]))
    for channel in (2, 1):
        client.send_header(channel, 6)
    for part in (b"abc", b"def"):
        for channel in (1, 2):
            client.send_frame(3, channel, part + b"" if channel == 1 else part.upper())
    for channel, body in ((1, b"abcdef"), (2, b"ABCDEF")):
        client.call(channel, spec.Basic.Get(queue=queues[channel], no_ack=True))
        assert client.read_content()[1] == body


@pytest.mark.parametrize("frame_max", [4096, 8192, 131072])
def test_no_frame_is_larger_than_negotiated(wire, frame_max):
    client = wire(frame_max=frame_max)
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    body = b"x" * 300_000
    client.publish(1, "", queue, body)
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert isinstance(client.read_frame(), frames.Header)
    sizes = []
    while sum(sizes) < len(body):
        kind, _, payload = client.read_raw_frame()
        assert kind == 3
        sizes.append(len(payload))
    assert sum(sizes) == len(body)
    assert max(sizes) + 8 == frame_max  # full frames, so that few are needed


def test_a_large_message_from_a_large_to_a_small_frame_client(wire, scratch):
    queue = scratch.name()
    large, small = wire(), wire(frame_max=4096)
    for client in (large, small):
        client.open_channel(1)
    large.call(1, spec.Queue.Declare(queue=queue))
    large.call(1, spec.Confirm.Select())
    large.publish(1, "", queue, b"y" * 200_000)
    large.read_method(spec.Basic.Ack)
    small.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert small.read_content()[1] == b"y" * 200_000


@pytest.mark.parametrize("length", [0, 1, 254, 255])
def test_routing_keys_up_to_255_bytes(channel, length):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.fanout")
    try:
        channel.basic_publish("amq.fanout", "k" * length, b"x")
        assert channel.basic_get(queue, auto_ack=True)[0].routing_key == "k" * length
    finally:
        channel.queue_unbind(queue, "amq.fanout")


def test_one_message_in_many_queues(channel):
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(20)]
    exchange = f"fan-{queues[0]}"[:100].replace("amq.", "")
    channel.exchange_declare(exchange, exchange_type="fanout", auto_delete=True)
    for queue in queues:
        channel.queue_bind(queue, exchange)
    body = b"z" * 50_000
    channel.basic_publish(exchange, "", body, pika.BasicProperties(message_id="one"))
    for queue in queues:
        _, properties, received = channel.basic_get(queue, auto_ack=True)
        assert (properties.message_id, received) == ("one", body)


def test_a_header_that_announces_a_monstrous_body_is_refused_or_waits(wire, connect):
    """No memory is set aside for what was merely announced."""
    client = wire()
    client.open_channel(1)
    client.send(1, spec.Basic.Publish(exchange="", routing_key="nowhere"))
    client.send_frame(2, 1, struct.pack(">HHQH", 60, 0, 2 ** 62, 0))
    client.send_body(1, b"x")
    client.close()
    assert connect().channel().is_open


@pytest.mark.parametrize("flags", [0x8000, 0xFFFC, 0x2000], ids=hex)
def test_properties_cut_short(wire, connect, flags):
    """Flags announce what the frame does not hold."""
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.send(1, spec.Basic.Publish(exchange="", routing_key=queue))
    client.send_frame(2, 1, struct.pack(">HHQH", 60, 0, 0, flags))
    client.send(1, spec.Basic.Get(queue=queue, no_ack=True))
    client.is_silent_or_closed()  # RabbitMQ looks at properties only when it must: delivery, error, both may be
    assert connect().channel().is_open
