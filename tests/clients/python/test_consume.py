"""basic.consume, deliver, cancel, get; who gets what."""

import re

import pika
import pytest
from pika import spec

from support.waiting import drive_until, eventually


def collect(channel, queue, into, **options):
    """Consumes into a list of bodies; returns the consumer tag."""
    return channel.basic_consume(queue, lambda _c, _m, _p, body: into.append(body), **options)


def publish_numbers(channel, queue, count, start=0):
    for number in range(start, start + count):
        channel.basic_publish("", queue, str(number))


def numbers(start, stop):
    return [str(number).encode() for number in range(start, stop)]


def test_generated_consumer_tag(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    tags = {client.call(1, spec.Basic.Consume(queue=queue)).consumer_tag for _ in range(20)}
    assert len(tags) == 20
    for tag in tags:
        assert re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag), tag


def test_messages_arrive_in_order_before_and_after_consuming(connection, channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    publish_numbers(channel, queue, 500)
    received = []
    collect(channel, queue, received, auto_ack=True)
    publish_numbers(channel, queue, 500, 500)
    drive_until(connection, lambda: len(received) == 1000)
    assert received == numbers(0, 1000)


def test_deliver_carries_tag_exchange_key_and_count(connection, channel, scratch):
    exchange = scratch.exchange(channel, "topic")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "a.#")
    delivered = []
    channel.basic_consume(queue, lambda _c, method, _p, _b: delivered.append(method), consumer_tag="mine")
    for key in ("a", "a.b"):
        channel.basic_publish(exchange, key, b"x")
    drive_until(connection, lambda: len(delivered) == 2)
    assert [(m.consumer_tag, m.delivery_tag, m.exchange, m.routing_key, m.redelivered) for m in delivered] == [
        ("mine", 1, exchange, "a", False), ("mine", 2, exchange, "a.b", False)]


def test_delivery_tags_count_over_all_consumers_of_a_channel(connection, channel):
    tags = []
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(3)]
    for queue in queues:
        channel.basic_consume(queue, lambda _c, method, _p, _b: tags.append(method.delivery_tag), auto_ack=True)
    for _ in range(5):
        for queue in queues:
            channel.basic_publish("", queue, b"x")
    drive_until(connection, lambda: len(tags) == 15)
    assert tags == list(range(1, 16))


def test_get_ok_and_get_empty(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    assert channel.basic_get(queue) == (None, None, None)
    channel.confirm_delivery()
    publish_numbers(channel, queue, 3)
    seen = []
    for _ in range(3):
        method, _, body = channel.basic_get(queue, auto_ack=True)
        seen.append((body, method.message_count, method.redelivered, method.exchange, method.routing_key))
    assert seen == [(b"0", 2, False, "", queue), (b"1", 1, False, "", queue), (b"2", 0, False, "", queue)]
    assert channel.basic_get(queue) == (None, None, None)


def test_round_robin(connection, channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    received = [[] for _ in range(3)]
    for into in received:
        other = connection.channel()
        collect(other, queue, into, auto_ack=True)
    publish_numbers(channel, queue, 30)
    drive_until(connection, lambda: sum(map(len, received)) == 30)
    assert [len(into) for into in received] == [10, 10, 10]
    assert received[0] == [str(number).encode() for number in range(0, 30, 3)]


def test_round_robin_over_connections(connect, channel, scratch):
    queue = scratch.queue(channel)
    received, connections = [[] for _ in range(4)], [connect() for _ in range(4)]
    for connection, into in zip(connections, received):
        other = connection.channel()
        other.basic_qos(prefetch_count=1000)
        collect(other, queue, into, auto_ack=False)
    publish_numbers(channel, queue, 400)

    def step():
        for connection in connections:
            connection.process_data_events(time_limit=0.01)
        return sum(map(len, received)) == 400
    eventually(step)
    assert [len(into) for into in received] == [100] * 4


def test_a_consumer_with_room_takes_what_a_full_one_cannot(connection, channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    slow, fast = [], []
    first = connection.channel()
    first.basic_qos(prefetch_count=1)
    collect(first, queue, slow)
    second = connection.channel()
    collect(second, queue, fast, auto_ack=True)
    publish_numbers(channel, queue, 20)
    drive_until(connection, lambda: len(slow) + len(fast) == 20)
    assert len(slow) == 1


def test_cancel_stops_deliveries_and_keeps_what_is_unacknowledged(connection, channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    tags = []
    consumer = channel.basic_consume(queue, lambda _c, method, _p, _b: tags.append(method.delivery_tag))
    publish_numbers(channel, queue, 2)
    drive_until(connection, lambda: len(tags) == 2)
    channel.basic_cancel(consumer)
    publish_numbers(channel, queue, 1, 2)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"2"
    assert channel.basic_get(queue, auto_ack=True)[0] is None  # 0 and 1 are still with the channel
    for tag in tags:
        channel.basic_ack(tag)  # acknowledging after the cancel is in order
    channel.basic_qos()


def test_consumer_is_told_when_its_queue_is_deleted(connection, channel, connect, scratch):
    queue = scratch.queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(lambda method: cancelled.append(method.method.consumer_tag))
    collect(channel, queue, [], consumer_tag="told")
    connect().channel().queue_delete(queue)
    drive_until(connection, lambda: cancelled)
    assert cancelled == ["told"]
    assert channel.is_open


def test_cancel_notify_on_the_wire_needs_no_answer(wire, channel, scratch):
    queue = scratch.queue(channel)
    client = wire()
    client.open_channel(1)
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c"))
    channel.queue_delete(queue)
    cancel = client.read_method(spec.Basic.Cancel)
    assert (cancel.consumer_tag, cancel.nowait) == ("c", True)
    client.call(1, spec.Basic.Qos())


def test_a_client_without_the_capability_is_not_told(wire, channel, scratch):
    queue = scratch.queue(channel)
    client = wire(capabilities={})
    client.open_channel(1)
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c"))
    channel.queue_delete(queue)
    client.call(1, spec.Basic.Qos())  # fails if a basic.cancel came instead
    assert client.is_silent_or_closed()


def test_consumer_of_an_own_deleted_queue_is_told_too(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c"))
    client.send(1, spec.Queue.Delete(queue=queue))
    got = {type(client.read_method(spec.Basic.Cancel, spec.Queue.DeleteOk)) for _ in range(2)}
    assert got == {spec.Basic.Cancel, spec.Queue.DeleteOk}


def test_a_consumer_tag_may_be_used_again_after_cancel_and_on_another_channel(channel, connection):
    queue = channel.queue_declare("", exclusive=True).method.queue
    for _ in range(3):
        channel.basic_cancel(collect(channel, queue, [], consumer_tag="again"))
    collect(channel, queue, [], consumer_tag="again")
    collect(connection.channel(), queue, [], consumer_tag="again")


def test_exclusive_consumer_leaves_the_queue_free_after_cancel(channel, connection):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_cancel(collect(channel, queue, [], exclusive=True))
    received = []
    collect(channel, queue, received, auto_ack=True)
    publish_numbers(channel, queue, 1)
    drive_until(connection, lambda: received == [b"0"])


def test_no_local_is_accepted_and_without_effect(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_local=True, no_ack=True))
    client.publish(1, "", queue, b"own")
    client.read_method(spec.Basic.Deliver)
    assert client.read_content()[1] == b"own"


def test_consume_and_cancel_with_nowait(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.send(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True, nowait=True))
    client.publish(1, "", queue, b"one")
    assert client.read_method(spec.Basic.Deliver).consumer_tag == "c"
    client.read_content()
    client.send(1, spec.Basic.Cancel(consumer_tag="c", nowait=True))
    client.publish(1, "", queue, b"two")
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert client.read_content()[1] == b"two"


def test_consume_ok_comes_before_the_first_delivery(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    for _ in range(20):
        client.publish(1, "", queue, b"x")
    client.send(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
    assert isinstance(client.read_method(), spec.Basic.ConsumeOk)
    for _ in range(20):
        client.read_method(spec.Basic.Deliver)
        client.read_content()


def test_nothing_is_delivered_after_cancel_ok(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
    for _ in range(200):
        client.publish(1, "", queue, b"x")
    client.send(1, spec.Basic.Cancel(consumer_tag="c"))
    delivered = 0
    while isinstance(client.read_method(spec.Basic.Deliver, spec.Basic.CancelOk), spec.Basic.Deliver):
        client.read_content()
        delivered += 1
    left = client.call(1, spec.Queue.Purge(queue=queue)).message_count
    assert delivered + left <= 200
    assert client.is_silent_or_closed()


def test_consumer_priority(connection, channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    low, high = [], []
    collect(channel, queue, low, auto_ack=True, arguments={"x-priority": -1})
    preferred = connection.channel()
    preferred.basic_qos(prefetch_count=2)
    collect(preferred, queue, high, arguments={"x-priority": 10})
    publish_numbers(channel, queue, 6)
    drive_until(connection, lambda: len(low) + len(high) == 6)
    assert (high, low) == (numbers(0, 2), numbers(2, 6))


def test_single_active_consumer(connection, channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-single-active-consumer": True}).method.queue
    first, second = [], []
    active = collect(channel, queue, first, auto_ack=True)
    collect(connection.channel(), queue, second, auto_ack=True)
    publish_numbers(channel, queue, 10)
    drive_until(connection, lambda: len(first) == 10)
    channel.basic_cancel(active)
    publish_numbers(channel, queue, 5, 10)
    drive_until(connection, lambda: len(second) == 5)
    assert (first, second) == (numbers(0, 10), numbers(10, 15))


def test_pikas_consume_generator(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    publish_numbers(channel, queue, 10)
    received = []
    for method, _, body in channel.consume(queue, inactivity_timeout=5):
        assert method is not None
        received.append(body)
        channel.basic_ack(method.delivery_tag)
        if len(received) == 4:
            break
    channel.cancel()  # what was delivered and not seen goes back
    assert received == numbers(0, 4)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"4"


def test_consuming_a_queue_declared_by_another_connection(connect, channel, scratch):
    queue = scratch.queue(channel, durable=True)
    other = connect()
    received = []
    collect(other.channel(), queue, received, auto_ack=True)
    publish_numbers(channel, queue, 3)
    drive_until(other, lambda: len(received) == 3)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        other.channel().queue_declare(queue, exclusive=True)
