"""Streams over AMQP 0-9-1: read by many, from anywhere; durable; kept as long as retention says."""

import datetime
import time

import pika
import pytest
from pika import spec

from support.waiting import drive_until, eventually
from support.wire import WireClient

STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def stream(channel, scratch):
    """Declares a stream and returns its name."""
    return lambda **arguments: scratch.queue(channel, durable=True, arguments={**STREAM, **{
        name.replace("_", "-"): value for name, value in arguments.items()}})


class Reader:
    """A consumer of a stream on a connection of its own; collects (offset, body)."""

    def __init__(self, connection, queue, offset=None, prefetch=100, ack=True, **arguments):
        self.connection = connection
        self.channel = connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        self.ack = ack
        self.got = []
        self.tags = []
        arguments = {name.replace("_", "-"): value for name, value in arguments.items()}
        if offset is not None:
            arguments["x-stream-offset"] = offset
        self.tag = self.channel.basic_consume(queue, self.take, arguments=arguments)

    def take(self, channel, method, properties, body):
        assert not method.redelivered
        self.got.append((properties.headers["x-stream-offset"], body))
        self.tags.append(method.delivery_tag)
        if self.ack:
            channel.basic_ack(method.delivery_tag)

    def until(self, count):
        drive_until(self.connection, lambda: len(self.got) >= count, what=f"{count} messages")
        return self.got

    def settled(self, seconds=0.2):
        """What there is once nothing more comes."""
        before, since = -1, 0
        # It may return at once, having sent acknowledgements alone.
        while len(self.got) > before or time.monotonic() < since + seconds:
            if len(self.got) > before:
                before, since = len(self.got), time.monotonic()
            self.connection.process_data_events(time_limit=seconds)
        return self.got


def publish(channel, queue, bodies, **properties):
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(**properties))


def numbered(start, stop):
    return [(number, str(number).encode()) for number in range(start, stop)]


def confirmed(connection, queue, start, stop, **properties):
    """Publishes numbers and waits until all are confirmed."""
    channel = connection.channel()
    channel.confirm_delivery()
    publish(channel, queue, [str(number).encode() for number in range(start, stop)], **properties)
    channel.close()


def count(connection, queue):
    channel = connection.channel()
    found = channel.queue_declare(queue, passive=True).method.message_count
    channel.close()
    return found


def test_every_consumer_reads_everything_and_acks_remove_nothing(connect, stream):
    name = stream()
    confirmed(connect(), name, 0, 300)
    for prefetch in (1, 10, 300):
        reader = Reader(connect(), name, "first", prefetch)
        assert reader.until(300) == numbered(0, 300)
    assert eventually(lambda: count(connect(), name) == 300)


def test_offsets(connect, stream):
    name = stream()
    confirmed(connect(), name, 0, 100)
    for offset, start in [("first", 0), ("last", 99), (0, 0), (42, 42), (99, 99)]:
        assert Reader(connect(), name, offset).until(100 - start) == numbered(start, 100)
    waiting = [Reader(connect(), name, offset) for offset in ("next", None, 100)]
    confirmed(connect(), name, 100, 103)
    for reader in waiting:
        assert reader.until(3) == numbered(100, 103)


@pytest.mark.leveret_only  # RabbitMQ attaches at the chunk that holds the moment
def test_timestamps_and_intervals(connect, stream):
    name = stream()
    confirmed(connect(), name, 0, 20)
    time.sleep(6)
    between = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    time.sleep(1.1)
    confirmed(connect(), name, 20, 30)
    later = between + datetime.timedelta(seconds=1)
    assert Reader(connect(), name, later).until(10) == numbered(20, 30)
    assert Reader(connect(), name, "6s").until(10) == numbered(20, 30)
    assert Reader(connect(), name, "1h").until(30) == numbered(0, 30)
    assert Reader(connect(), name, datetime.datetime(2001, 1, 1)).until(30) == numbered(0, 30)


def test_the_offset_joins_the_publishers_headers(connect, channel, stream):
    name = stream()
    channel.basic_publish("", name, b"x", pika.BasicProperties(headers={"mine": 1}, message_id="m", delivery_mode=1))
    connection = connect()
    other = connection.channel()
    other.basic_qos(prefetch_count=1)
    seen = []
    other.basic_consume(name, lambda *delivery: seen.append(delivery), arguments={"x-stream-offset": "first"})
    drive_until(connection, lambda: seen)
    _, method, properties, body = seen[0]
    assert (body, method.routing_key, properties.message_id) == (b"x", name, "m")
    assert properties.headers == {"mine": 1, "x-stream-offset": 0}


@pytest.mark.parametrize("ask, code", [
    (lambda channel, name: channel.basic_consume(name, print), 406),
    (lambda channel, name: (channel.basic_qos(prefetch_count=1), channel.basic_consume(name, print, auto_ack=True)), 540),
    (lambda channel, name: channel.basic_get(name), 540),
    (lambda channel, name: channel.queue_purge(name), 540),
    (lambda channel, name: (channel.basic_qos(prefetch_count=1), channel.basic_consume(
        name, print, arguments={"x-stream-offset": "3"})), 406),
], ids=["no prefetch", "no-ack", "get", "purge", "bad offset"])
def test_what_streams_refuse(connect, stream, ask, code):
    name = stream()
    with pytest.raises(pika.exceptions.AMQPError) as caught:
        ask(connect().channel(), name)
    assert caught.value.reply_code == code


@pytest.mark.parametrize("options", [dict(durable=False), dict(auto_delete=True), dict(exclusive=True)])
def test_streams_are_durable_and_shared(channel, scratch, options):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        channel.queue_declare(scratch.name(), arguments=STREAM, **{"durable": True, **options})
    assert caught.value.reply_code == 406


def test_credit_comes_back_with_every_kind_of_settlement(connect, stream):
    name = stream()
    confirmed(connect(), name, 0, 50)
    reader = Reader(connect(), name, "first", prefetch=2, ack=False)
    assert reader.until(2) == numbered(0, 2)
    assert reader.settled() == numbered(0, 2)
    reader.channel.basic_nack(reader.tags[0], requeue=True)
    reader.channel.basic_reject(reader.tags[1], requeue=False)
    assert reader.until(4) == numbered(0, 4)
    reader.channel.basic_ack(reader.tags[3], multiple=True)
    assert reader.until(6) == numbered(0, 6)
    assert count(connect(), name) == 50


def test_consumers_that_keep_up_and_one_that_does_not(connect, stream):
    name = stream()
    readers = [Reader(connect(), name, "first") for _ in range(3)]
    late = Reader(connect(), name, "first", prefetch=5, ack=False)
    body = b"x" * 5000
    publisher = connect().channel()
    publisher.confirm_delivery()
    for start in range(0, 600, 100):
        publish(publisher, name, [body] * 100)
        for reader in readers:
            reader.until(start + 100)
    assert len(late.settled()) == 5
    late.ack = True
    late.channel.basic_ack(late.tags[-1], multiple=True)
    late.until(600)
    for reader in (*readers, late):
        assert [offset for offset, _ in reader.got] == list(range(600))


def test_max_length_bytes_lets_the_oldest_go(connect, stream):
    name = stream(x_max_length_bytes=100_000, x_stream_max_segment_size_bytes=10_000)
    channel = connect().channel()
    channel.confirm_delivery()
    publish(channel, name, [b"%06d" % number + b"x" * 494 for number in range(1000)])
    reader = Reader(connect(), name, "first", prefetch=1000)
    got = reader.settled()
    first = got[0][0]
    assert 780 <= first <= 850
    assert [offset for offset, _ in got] == list(range(first, 1000))
    assert [int(body[:6]) for _, body in got] == list(range(first, 1000))


@pytest.mark.leveret_only  # RabbitMQ removes files, and looks when one is full
def test_max_age_lets_the_oldest_go_by_time(connect, stream):
    name = stream(x_max_age="2s")
    confirmed(connect(), name, 0, 10)
    time.sleep(0.5)
    confirmed(connect(), name, 10, 20)
    first_offset = lambda: Reader(connect(), name, "first").until(1)[0][0]  # noqa: E731
    eventually(lambda: first_offset() >= 10, 30)
    # The younger ones go later, in steps; the newest step stays.
    got = Reader(connect(), name, "first").settled()
    assert got and got == numbered(got[0][0], 20)


def test_filters(connect, channel, stream):
    name = stream()
    for number in range(90):
        value = {0: {"x-stream-filter-value": "a"}, 1: {"x-stream-filter-value": "b"}, 2: None}[number % 3]
        channel.basic_publish("", name, str(number), pika.BasicProperties(headers=value))

    def read(expected, **arguments):
        got = Reader(connect(), name, "first", **arguments).until(len(expected))
        return {offset for offset, _ in got}

    of = lambda *rests: {number for number in range(90) if number % 3 in rests}  # noqa: E731
    # RabbitMQ may send more than was asked for, never less: it filters chunks.
    assert of(0) <= read(of(0), x_stream_filter="a")
    assert of(0, 1) <= read(of(0, 1), x_stream_filter=["a", "b"])
    assert of(1, 2) <= read(of(1, 2), x_stream_filter="b", x_stream_match_unfiltered=True)


@pytest.mark.leveret_only  # RabbitMQ has single active consumers of streams on its stream protocol alone
def test_a_single_active_consumer_and_its_successor(connect, stream):
    name = stream(x_single_active_consumer=True)
    confirmed(connect(), name, 0, 20)
    first = Reader(connect(), name, "first", prefetch=5, ack=False)
    second = Reader(connect(), name, "first", prefetch=100)
    assert first.until(5) == numbered(0, 5)
    assert second.settled() == []
    first.channel.basic_ack(first.tags[1], multiple=True)
    assert first.until(7) == numbered(0, 7)
    first.connection.close()
    assert second.until(18) == numbered(2, 20)


def test_deleting_a_stream_cancels_its_consumers(connect, channel, stream):
    name = stream()
    confirmed(connect(), name, 0, 10)
    reader = Reader(connect(), name, "first")
    reader.until(10)
    cancelled = []
    reader.channel.add_on_cancel_callback(cancelled.append)
    assert channel.queue_delete(name).method.message_count == 0
    drive_until(reader.connection, lambda: cancelled)
    channel.queue_declare(name, durable=True, arguments=STREAM)
    assert Reader(connect(), name, "first").settled() == []


def test_transactions(connect, stream):
    name = stream()
    reader = Reader(connect(), name, "first")
    channel = connect().channel()
    channel.tx_select()
    publish(channel, name, [b"0", b"1", b"2"])
    assert reader.settled() == []
    channel.tx_commit()
    assert reader.until(3) == numbered(0, 3)


@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_a_stream_survives_kill_9_with_its_offsets(own_broker, open_connection, delivery_mode):
    own = own_broker()
    connection = open_connection(own)
    connection.channel().queue_declare("kept", durable=True, arguments=STREAM)
    confirmed(connection, "kept", 0, 500, delivery_mode=delivery_mode)
    own.restart_after_kill()
    connection = open_connection(own)
    assert count(connection, "kept") == 500
    confirmed(connection, "kept", 500, 600, delivery_mode=delivery_mode)
    assert Reader(open_connection(own), "kept", "first", 600).until(600) == numbered(0, 600)
    assert Reader(open_connection(own), "kept", 499).until(101) == numbered(499, 600)
    assert Reader(open_connection(own), "kept", "last").until(1) == numbered(599, 600)
    assert Reader(open_connection(own), "kept", "1h", 600).until(600) == numbered(0, 600)


def test_kill_9_in_the_middle_loses_nothing_confirmed_and_nothing_that_was_read(own_broker, open_connection):
    """What was confirmed, and what any consumer saw, is there afterwards under the same offset."""
    own = own_broker()
    open_connection(own).channel().queue_declare("kept", durable=True, arguments=STREAM)
    reader = Reader(open_connection(own), "kept", "first", prefetch=1000)
    client = WireClient(own.host, own.port).handshake()
    client.open_channel(1)
    client.call(1, spec.Confirm.Select())
    confirmed_tags = 0
    for number in range(3000):
        client.publish(1, "", "kept", b"%08d" % number + b"x" * 500, pika.BasicProperties())
    while confirmed_tags < 1000:
        method = client.read_method(spec.Basic.Ack)
        confirmed_tags = max(confirmed_tags, method.delivery_tag) if method.multiple else confirmed_tags + 1
    reader.until(500)
    own.kill()
    client.close()
    own.start()
    after = Reader(open_connection(own), "kept", "first", prefetch=1000)
    after.until(confirmed_tags)
    got = after.settled()
    assert [offset for offset, _ in got] == list(range(len(got)))
    assert [int(body[:8]) for _, body in got] == list(range(len(got)))
    assert reader.got == got[:len(reader.got)]
    next_number = len(got)
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.basic_publish("", "kept", b"next")
    assert after.until(next_number + 1)[-1] == (next_number, b"next")


def test_retention_goes_on_after_a_restart(own_broker, open_connection):
    own = own_broker()
    arguments = {**STREAM, "x-max-length-bytes": 50_000, "x-stream-max-segment-size-bytes": 5_000}
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True, arguments=arguments)
    channel.confirm_delivery()
    publish(channel, "kept", [b"x" * 500] * 300)
    own.restart_after_kill()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    publish(channel, "kept", [b"y" * 500] * 60)
    got = Reader(open_connection(own), "kept", "first", prefetch=1000).settled()
    offsets = [offset for offset, _ in got]
    assert offsets == list(range(offsets[0], 360))
    assert 250 <= offsets[0] <= 290


def test_a_stream_without_a_disk(own_broker, open_connection):
    own = own_broker("--in-memory")
    open_connection(own).channel().queue_declare("kept", durable=True, arguments=STREAM)
    confirmed(open_connection(own), "kept", 0, 200)
    for offset, start in [("first", 0), (150, 150), ("last", 199), ("1h", 0)]:
        assert Reader(open_connection(own), "kept", offset, 300).until(200 - start) == numbered(start, 200)
