"""A consumer whose socket does not drain: the others go on, and the broker's memory stays bounded."""

import socket
import threading

import pika
import pytest
from pika import spec

from support.waiting import drive_until
from support.wire import WireClient

MEGABYTE = 2 ** 20
BODY = b"s" * 10_000


def consumer_that_never_reads(own, queue, no_ack=True):
    """A connection that consumes and then leaves everything in the socket."""
    client = WireClient(own.host, own.port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.handshake()
    client.open_channel(1)
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="slow", no_ack=no_ack))
    return client


def publish_confirmed(own, queue, count, properties=None, window=200, numbered=False):
    """Publishes `count` bodies in confirm mode, `window` of them on their way at a time."""
    client = WireClient(own.host, own.port, timeout_s=20).handshake()
    client.open_channel(1)
    client.call(1, spec.Confirm.Select())
    sent = confirmed = 0
    while confirmed < count:
        while sent < count and sent - confirmed < window:
            client.publish(1, "", queue, b"%06d" % sent + BODY[6:] if numbered else BODY, properties)
            sent += 1
        method = client.read_method(spec.Basic.Ack, timeout_s=20)
        confirmed = max(confirmed, method.delivery_tag) if method.multiple else confirmed + 1
    client.close()


def test_publishers_to_its_queue_are_confirmed(broker, channel, scratch):
    """Nobody is held back for ever by a consumer that stands still: 30 MB are taken and confirmed."""
    queue = scratch.queue(channel)
    slow = consumer_that_never_reads(broker, queue)
    publish_confirmed(broker, queue, 3000)
    slow.close()


def test_consumers_of_other_queues_go_on(broker, connection, channel, scratch):
    stuck, lively = scratch.queue(channel), scratch.queue(channel)
    slow = consumer_that_never_reads(broker, stuck)
    publish_confirmed(broker, stuck, 1000)
    received = []
    channel.basic_consume(lively, lambda _c, _m, _p, body: received.append(body), auto_ack=True)
    for _ in range(100):
        channel.basic_publish("", lively, b"x")
    drive_until(connection, lambda: len(received) == 100)
    slow.close()


def test_after_it_is_gone_unacknowledged_messages_go_to_others(broker, connection, channel, scratch):
    queue = scratch.queue(channel)
    slow = consumer_that_never_reads(broker, queue, no_ack=False)
    publish_confirmed(broker, queue, 1000)
    slow.close()
    received = []
    channel.basic_qos(prefetch_count=50)

    def on_message(_c, method, _p, body):
        received.append(len(body))
        channel.basic_ack(method.delivery_tag)
    channel.basic_consume(queue, on_message)
    drive_until(connection, lambda: len(received) == 1000, deadline_s=20)


@pytest.mark.leveret_only("RabbitMQ goes on handing it every second message")
def test_another_consumer_of_the_same_queue_gets_nearly_everything(own_broker, open_connection):
    own = own_broker()
    connection = open_connection(own)
    channel = connection.channel()
    channel.queue_declare("shared")
    slow = consumer_that_never_reads(own, "shared")
    received = [0]

    def on_message(_c, _m, _p, body):
        received[0] += len(body)
    channel.basic_consume("shared", on_message, auto_ack=True)
    publisher = threading.Thread(target=publish_confirmed, args=(own, "shared", 6000))
    publisher.start()
    drive_until(connection, lambda: received[0] >= 6000 * len(BODY) - 12 * MEGABYTE, 30, "60 MB less a bounded rest")
    publisher.join(20)
    slow.close()


@pytest.mark.leveret_only("bounded memory")
@pytest.mark.parametrize("delivery_mode", [1, 2], ids=["transient", "persistent"])
@pytest.mark.parametrize("no_ack", [True, False], ids=["no-ack", "ack"])
def test_memory_stays_bounded(own_broker, open_connection, delivery_mode, no_ack):
    """150 MB are published to a queue whose only consumer does not read."""
    own = own_broker()
    open_connection(own).channel().queue_declare("stuck", durable=True)
    slow = consumer_that_never_reads(own, "stuck", no_ack)
    before = own.resident_bytes()
    publish_confirmed(own, "stuck", 15_000, pika.BasicProperties(delivery_mode=delivery_mode))
    grown = own.resident_bytes() - before
    assert grown < 64 * MEGABYTE, f"{grown / MEGABYTE:.0f} MB"
    slow.close()


@pytest.mark.leveret_only("bounded memory")
def test_a_queue_without_a_consumer_lives_on_disk(own_broker, open_connection):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("deep", durable=True)
    before = own.resident_bytes()
    publish_confirmed(own, "deep", 15_000, pika.BasicProperties(delivery_mode=2), window=2000)
    assert own.resident_bytes() - before < 64 * MEGABYTE
    assert channel.queue_declare("deep", passive=True).method.message_count == 15_000
    channel.basic_qos(prefetch_count=100)
    taken = 0
    for method, _, body in channel.consume("deep", inactivity_timeout=10):
        assert method is not None and body == BODY, taken
        taken += 1
        if taken % 50 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if taken == 15_000:
            break
    assert own.resident_bytes() - before < 64 * MEGABYTE


@pytest.mark.leveret_only("bounded memory")
def test_a_publisher_that_does_not_read_its_confirms(own_broker, open_connection):
    own = own_broker()
    open_connection(own).channel().queue_declare("q")
    client = WireClient(own.host, own.port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.handshake()
    client.open_channel(1)
    client.call(1, spec.Confirm.Select())
    before = own.resident_bytes()
    client.socket.settimeout(1)
    sent = 0
    try:
        while sent < 200_000:  # a mandatory miss is answered with more than was sent
            client.publish(1, "", "nowhere", b"x" * 200, mandatory=True)
            sent += 1
    except TimeoutError:
        pass  # the broker has stopped to read: in order
    assert own.resident_bytes() - before < 64 * MEGABYTE
    client.close()
    assert open_connection(own).channel().is_open


def test_a_consumer_that_reads_late_gets_everything_in_order(broker, channel, scratch):
    queue = scratch.queue(channel)
    client = WireClient(broker.host, broker.port)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    client.handshake()
    client.open_channel(1)
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="late", no_ack=True))
    publish_confirmed(broker, queue, 2000, numbered=True)
    for number in range(2000):
        client.read_method(spec.Basic.Deliver)
        assert int(client.read_content()[1][:6]) == number
    client.close()
