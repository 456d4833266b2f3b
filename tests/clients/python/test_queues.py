"""queue.declare, bind, unbind, purge and delete."""

import re

import pika
import pytest
from pika import spec

from support.waiting import eventually


def test_server_named_queue(channel):
    names = {channel.queue_declare("", exclusive=True).method.queue for _ in range(50)}
    assert len(names) == 50
    for name in names:
        assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", name), name


def test_declare_ok_counts_messages_and_consumers(channel, scratch):
    channel.confirm_delivery()  # the counts include what is confirmed
    queue = scratch.queue(channel)
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    again = channel.queue_declare(queue)
    assert (again.method.queue, again.method.message_count, again.method.consumer_count) == (queue, 3, 0)
    channel.basic_qos(prefetch_count=1)
    channel.basic_consume(queue, lambda *_: None)
    passive = channel.queue_declare(queue, passive=True)
    assert passive.method.consumer_count == 1
    assert passive.method.message_count == 2  # one is with the consumer


def test_redeclaring_with_the_same_properties_is_no_error(channel, scratch):
    queue = scratch.name()
    options = {"durable": True, "arguments": {"x-message-ttl": 60000, "x-max-length": 10}}
    for _ in range(3):
        channel.queue_declare(queue, **options)


def test_integers_of_other_width_are_the_same_argument(wire, scratch):
    """The argument as an int8, int16, int32 and int64: RabbitMQ compares values."""
    client = wire()
    client.open_channel(1)
    queue = scratch.name().encode()
    for encoded in (b"I\x00\x00\x00\x64", b"b\x64", b"s\x00\x64", b"l" + (100).to_bytes(8, "big")):
        table = b"\x0dx-message-ttl" + encoded
        payload = (b"\x00\x32\x00\x0a\x00\x00" + bytes([len(queue)]) + queue + b"\x00"
                   + len(table).to_bytes(4, "big") + table)
        client.send_frame(1, 1, payload)
        client.read_method(spec.Queue.DeclareOk)


def test_passive_declare_ignores_every_other_flag(channel, scratch):
    queue = scratch.queue(channel, durable=True)
    assert channel.queue_declare(queue, passive=True, durable=False, auto_delete=True,
                                 arguments={"x-max-length": 3}).method.queue == queue


def test_empty_name_means_the_channels_last_queue(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind("", "amq.direct", "a key of its own")
    channel.basic_publish("amq.direct", "a key of its own", b"x")
    assert channel.queue_purge("").method.message_count == 1
    channel.basic_publish("", queue, b"y")
    assert channel.basic_get("", auto_ack=True)[2] == b"y"
    channel.queue_unbind("", "amq.direct", "a key of its own")
    channel.queue_delete("")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare(queue, passive=True)
    assert closed.value.reply_code == 404


def test_passive_declare_of_the_empty_name_looks_for_just_that(channel):
    channel.queue_declare("", exclusive=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare("", passive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (404, "NOT_FOUND - no queue '' in vhost '/'")


def test_bind_without_queue_and_key_takes_the_queues_name_as_key(wire):
    """AMQP: queue and routing key both empty: the last declared queue, and its name as the key."""
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.call(1, spec.Queue.Bind(queue="", exchange="amq.direct", routing_key=""))
    client.publish(1, "amq.direct", queue, b"x")
    assert isinstance(client.call(1, spec.Basic.Get(queue=queue, no_ack=True)), spec.Basic.GetOk)


@pytest.mark.parametrize("length", [1, 127, 255])
def test_queue_names_up_to_255_bytes(channel, length):
    name = ("n" * length)
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish("", name, b"x")
    assert channel.basic_get(name, auto_ack=True)[2] == b"x"


def test_queue_names_in_other_scripts(channel):
    name = "tärn-鹿-🐇"
    assert channel.queue_declare(name, exclusive=True).method.queue == name
    channel.basic_publish("", name, b"x")
    assert channel.basic_get(name, auto_ack=True)[0].routing_key == name


def test_purge_counts_and_leaves_what_is_unacknowledged(channel, scratch):
    queue = scratch.queue(channel)
    for number in range(5):
        channel.basic_publish("", queue, str(number))
    method, _, _ = channel.basic_get(queue)
    assert channel.queue_purge(queue).method.message_count == 4
    assert channel.queue_purge(queue).method.message_count == 0
    channel.basic_nack(method.delivery_tag, requeue=True)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"0"


def test_delete_counts_messages(channel, scratch):
    queue = scratch.queue(channel)
    for _ in range(4):
        channel.basic_publish("", queue, b"x")
    assert channel.queue_delete(queue).method.message_count == 4
    assert channel.queue_delete(queue).method.message_count == 0


def test_delete_if_unused_and_if_empty_when_both_hold(channel, scratch):
    queue = scratch.queue(channel)
    channel.queue_delete(queue, if_unused=True, if_empty=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.queue_declare(queue, passive=True)


def test_a_deleted_queue_loses_its_bindings(channel, scratch):
    queue = scratch.queue(channel)
    exchange = scratch.exchange(channel, "fanout")
    channel.queue_bind(queue, exchange)
    channel.queue_delete(queue)
    channel.queue_declare(queue)
    channel.basic_publish(exchange, "", b"lost")
    assert channel.queue_declare(queue, passive=True).method.message_count == 0


def test_binding_twice_is_one_binding(channel, scratch):
    channel.confirm_delivery()
    queue = scratch.queue(channel)
    exchange = scratch.exchange(channel)
    for _ in range(2):
        channel.queue_bind(queue, exchange, "k")
    channel.basic_publish(exchange, "k", b"once")
    assert channel.queue_declare(queue, passive=True).method.message_count == 1
    channel.queue_unbind(queue, exchange, "k")
    channel.basic_publish(exchange, "k", b"never")
    assert channel.queue_declare(queue, passive=True).method.message_count == 1


def test_nowait_declares_binds_and_deletes_are_not_answered(wire, scratch):
    client = wire()
    client.open_channel(1)
    queue, exchange = scratch.name(), scratch.name()
    client.send(1, spec.Exchange.Declare(exchange=exchange, type="direct", nowait=True))
    client.send(1, spec.Queue.Declare(queue=queue, nowait=True))
    client.send(1, spec.Queue.Bind(queue=queue, exchange=exchange, routing_key="k", nowait=True))
    client.publish(1, exchange, "k", b"x")
    client.publish(1, exchange, "k", b"y")
    client.send(1, spec.Queue.Purge(queue=queue, nowait=True))
    client.publish(1, exchange, "k", b"z")
    assert client.call(1, spec.Queue.Purge(queue=queue)).message_count == 1
    client.send(1, spec.Queue.Delete(queue=queue, nowait=True))
    client.send(1, spec.Exchange.Delete(exchange=exchange, nowait=True))
    client.send(1, spec.Confirm.Select(nowait=True))
    client.publish(1, "", "nowhere")
    assert client.read_method(spec.Basic.Ack).delivery_tag == 1
    client.send(1, spec.Queue.Declare(queue=queue, passive=True))
    assert client.read_method(spec.Channel.Close).reply_code == 404


def test_exclusive_queue_dies_with_its_connection(connect, channel):
    owner = connect()
    queue = owner.channel().queue_declare("", exclusive=True).method.queue
    owner.close()

    def gone():
        other = channel.connection.channel()
        try:
            other.queue_declare(queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as closed:
            return closed.reply_code == 404
        return False
    eventually(gone)


def test_exclusive_queue_is_free_again_at_once_after_close_ok(connect, scratch):
    """Many clients reconnect and declare the same exclusive queue again."""
    queue = scratch.name()
    for _ in range(20):
        connection = connect()
        connection.channel().queue_declare(queue, exclusive=True)
        connection.close()


def test_exclusive_queue_outlives_the_channel(connection):
    first = connection.channel()
    queue = first.queue_declare("", exclusive=True).method.queue
    first.close()
    assert connection.channel().queue_declare(queue, passive=True).method.queue == queue


def test_exclusive_queue_goes_when_the_socket_just_breaks(wire, channel):
    client = wire()
    client.open_channel(1)
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.close()

    def gone():
        other = channel.connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            other.queue_declare(queue, passive=True)
        return closed.value.reply_code == 404
    eventually(gone)


def exists(connection, queue):
    """Whether a passive declare finds the queue."""
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return False
    channel.close()
    return True


def test_auto_delete_queue_goes_with_its_last_consumer(connection, channel, scratch):
    queue = scratch.queue(channel, auto_delete=True)
    first = channel.basic_consume(queue, lambda *_: None)
    second = channel.basic_consume(queue, lambda *_: None)
    channel.basic_cancel(first)
    assert exists(connection, queue)
    channel.basic_cancel(second)
    assert not exists(connection, queue)


def test_auto_delete_queue_that_never_had_a_consumer_stays(connection, channel, scratch):
    queue = scratch.queue(channel, auto_delete=True)
    channel.basic_publish("", queue, b"x")
    channel.basic_get(queue, auto_ack=True)
    assert exists(connection, queue)


def test_auto_delete_queue_goes_with_the_channel_of_its_consumer(connection, channel, scratch):
    queue = scratch.queue(channel, auto_delete=True)
    other = connection.channel()
    other.basic_consume(queue, lambda *_: None)
    other.close()
    assert not exists(connection, queue)


def test_auto_delete_queue_goes_with_the_connection_of_its_consumer(connect, connection, channel, scratch):
    queue = scratch.queue(channel, auto_delete=True)
    other = connect()
    other.channel().basic_consume(queue, lambda *_: None)
    other.close()
    eventually(lambda: not exists(connection, queue))


def test_many_queues_in_a_row(channel, scratch):
    base = scratch.name()
    for number in range(300):
        channel.queue_declare(f"{base}-{number}", exclusive=True)
    for number in range(300):
        channel.basic_publish("", f"{base}-{number}", str(number))
    for number in range(300):
        assert channel.queue_delete(f"{base}-{number}").method.message_count == 1
