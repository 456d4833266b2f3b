"""ack, nack, reject, recover; what comes back, where, and how it is marked."""

import pika
import pytest
from pika import spec

from support.waiting import drive_until, eventually


@pytest.fixture
def queue(channel):
    """A queue with the messages 0 to 9."""
    name = channel.queue_declare("", exclusive=True).method.queue
    for number in range(10):
        channel.basic_publish("", name, str(number))
    return name


def take(channel, queue, count):
    """Gets `count` messages unacknowledged; their delivery tags."""
    return [channel.basic_get(queue)[0].delivery_tag for _ in range(count)]


def rest(channel, queue):
    """Takes all that is ready: [(body, redelivered)]."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append((int(body), method.redelivered))


def fresh(*bodies):
    return [(body, False) for body in bodies]


def again(*bodies):
    return [(body, True) for body in bodies]


def test_acknowledged_messages_are_gone(channel, connection, queue):
    tags = take(channel, queue, 3)
    channel.basic_ack(tags[1])
    channel.basic_ack(tags[0])
    channel.close()
    assert rest(connection.channel(), queue) == again(2) + fresh(*range(3, 10))


def test_ack_multiple(channel, connection, queue):
    tags = take(channel, queue, 5)
    channel.basic_ack(tags[3], multiple=True)
    channel.close()
    assert rest(connection.channel(), queue) == again(4) + fresh(*range(5, 10))


def test_ack_multiple_with_tag_0_means_all(channel, connection, queue):
    take(channel, queue, 5)
    channel.basic_ack(0, multiple=True)
    channel.close()
    assert rest(connection.channel(), queue) == fresh(*range(5, 10))


def test_ack_multiple_again_with_a_settled_tag(channel, queue):
    tags = take(channel, queue, 3)
    channel.basic_ack(tags[2], multiple=True)
    channel.basic_ack(tags[1], multiple=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_qos()
    assert closed.value.reply_text == f"PRECONDITION_FAILED - unknown delivery tag {tags[1]}"


@pytest.mark.parametrize("settle", ["nack", "reject"])
def test_requeued_messages_keep_their_place(channel, queue, settle):
    tags = take(channel, queue, 5)
    for tag in (tags[3], tags[0], tags[2]):
        getattr(channel, f"basic_{settle}")(tag, requeue=True)
    assert rest(channel, queue) == again(0, 2, 3) + fresh(*range(5, 10))


@pytest.mark.parametrize("settle", ["nack", "reject"])
def test_without_requeue_they_are_gone(channel, queue, settle):
    tags = take(channel, queue, 2)
    getattr(channel, f"basic_{settle}")(tags[0], requeue=False)
    channel.basic_ack(tags[1])
    assert rest(channel, queue) == fresh(*range(2, 10))


def test_nack_multiple(channel, queue):
    tags = take(channel, queue, 6)
    channel.basic_ack(tags[1])
    channel.basic_nack(tags[3], multiple=True, requeue=True)
    assert rest(channel, queue) == again(0, 2, 3) + fresh(*range(6, 10))


def test_nack_multiple_with_tag_0_means_all(channel, queue):
    take(channel, queue, 6)
    channel.basic_nack(0, multiple=True, requeue=True)
    assert rest(channel, queue) == again(*range(6)) + fresh(*range(6, 10))


def test_closing_the_channel_requeues_in_order(channel, connection, queue):
    take(channel, queue, 4)
    channel.close()
    assert rest(connection.channel(), queue) == again(*range(4)) + fresh(*range(4, 10))


def test_a_channel_error_requeues(connection, queue):
    other = connection.channel()
    take(other, queue, 2)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        other.queue_declare("no such queue", passive=True)
    assert rest(connection.channel(), queue) == again(0, 1) + fresh(*range(2, 10))


@pytest.mark.parametrize("end", ["close", "break"])
def test_the_end_of_the_connection_requeues(wire, channel, scratch, end):
    queue = scratch.queue(channel)
    channel.confirm_delivery()
    for number in range(5):
        channel.basic_publish("", queue, str(number))
    client = wire()
    client.open_channel(1)
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c"))
    for _ in range(5):
        client.read_method(spec.Basic.Deliver)
        client.read_content()
    if end == "close":
        client.call(0, spec.Connection.Close(200, "", 0, 0))
    client.close()
    eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 5)
    assert rest(channel, queue) == again(*range(5))


def test_recover_requeues_all_of_the_channel(channel, queue):
    take(channel, queue, 3)
    channel.basic_recover(requeue=True)
    assert rest(channel, queue) == again(0, 1, 2) + fresh(*range(3, 10))


def test_recover_leaves_other_channels_alone(channel, connection, queue):
    other = connection.channel()
    take(other, queue, 2)
    channel.basic_recover(requeue=True)
    assert rest(channel, queue) == fresh(*range(2, 10))


def test_recover_async_is_not_answered(wire):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.publish(1, "", queue, b"x")
    client.call(1, spec.Basic.Get(queue=queue))
    client.read_content()
    client.send_frame(1, 1, bytes([0, 60, 0, 100, 1]))
    got = client.call(1, spec.Basic.Get(queue=queue))
    assert (got.redelivered, got.delivery_tag) == (True, 2)


def test_a_consumer_gets_its_own_rejected_message_again(channel, connection):
    queue = channel.queue_declare("", exclusive=True).method.queue
    seen = []

    def on_message(_, method, _properties, body):
        seen.append((body, method.redelivered))
        if method.redelivered:
            channel.basic_ack(method.delivery_tag)
        else:
            channel.basic_reject(method.delivery_tag, requeue=True)
    channel.basic_consume(queue, on_message)
    channel.basic_publish("", queue, b"bounce")
    drive_until(connection, lambda: len(seen) == 2)
    assert seen == [(b"bounce", False), (b"bounce", True)]


def test_tags_of_another_channel_are_unknown(channel, connection, queue):
    tag = take(channel, queue, 3)[-1]
    other = connection.channel()
    other.basic_ack(tag)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        other.basic_qos()
    assert closed.value.reply_text == f"PRECONDITION_FAILED - unknown delivery tag {tag}"


def test_tags_of_auto_acknowledged_messages_are_unknown(channel, queue):
    channel.basic_get(queue, auto_ack=True)
    channel.basic_ack(1)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_qos()
    assert closed.value.reply_code == 406


def test_acks_mixed_in_any_order_leave_nothing(channel, connection):
    """1,000 messages settled backwards, forwards and in groups, over two queues."""
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    tags = []
    for queue in queues:
        channel.basic_consume(queue, lambda _c, method, _p, _b: tags.append(method.delivery_tag))
    for number in range(1000):
        channel.basic_publish("", queues[number % 2], b"x")
    drive_until(connection, lambda: len(tags) == 1000)
    for tag in reversed(tags[:250]):
        channel.basic_ack(tag)
    channel.basic_ack(tags[499], multiple=True)
    for tag in tags[500:750:2]:
        channel.basic_ack(tag)
    channel.basic_ack(0, multiple=True)
    channel.basic_qos()
    channel.close()
    other = connection.channel()
    assert [rest(other, queue) for queue in queues] == [[], []]


def test_requeue_between_queues_keeps_each_order(channel):
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(2)]
    for number in range(6):
        channel.basic_publish("", queues[number % 2], str(number))
    for queue in queues:
        take(channel, queue, 3)
    channel.basic_nack(0, multiple=True, requeue=True)
    assert [rest(channel, queue) for queue in queues] == [again(0, 2, 4), again(1, 3, 5)]
