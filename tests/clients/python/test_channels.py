"""channel.open, close, flow; many channels; errors that stay in their channel; connection-wide notices."""

import pika
import pytest
from pika import spec

from support.wire import ChannelClosed, ConnectionClosed


def test_all_2047_channels(wire):
    client = wire()
    for number in range(1, 2048):
        client.send(number, spec.Channel.Open())
    opened = [client.read_frame() for _ in range(2047)]
    assert sorted(frame.channel_number for frame in opened) == list(range(1, 2048))
    assert {type(frame.method) for frame in opened} == {spec.Channel.OpenOk}
    client.call(2047, spec.Basic.Qos())
    client.send(2048, spec.Channel.Open())
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method()
    assert closed.value.code == 530


def test_channel_max_1(connect):
    connection = connect(channel_max=1)
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x"
    channel.close()
    connection.channel().basic_qos()


def test_channel_numbers_are_used_again(connection):
    for _ in range(100):
        channel = connection.channel(7)
        channel.basic_qos()
        channel.close()


def test_channel_flow_on_is_answered(channel):
    assert channel.flow(True) is True


def test_an_error_closes_its_channel_only(connection):
    good, bad = connection.channel(), connection.channel()
    queue = good.queue_declare("", exclusive=True).method.queue
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        bad.queue_declare("no such queue", passive=True)
    good.basic_publish("", queue, b"x")
    assert good.basic_get(queue, auto_ack=True)[2] == b"x"


def test_channel_close_names_the_method_that_failed(wire):
    client = wire()
    client.open_channel(1)
    with pytest.raises(ChannelClosed) as closed:
        client.call(1, spec.Queue.Delete(queue="amq.gen-none", if_empty=True) and spec.Queue.Purge(queue="none here"))
    assert (closed.value.class_id, closed.value.method_id) == (50, 30)


def test_until_close_ok_everything_else_is_ignored(wire):
    client = wire()
    client.open_channel(1)
    with pytest.raises(ChannelClosed):
        client.call(1, spec.Queue.Declare(queue="none here", passive=True))
    client.send(1, spec.Basic.Qos())
    client.publish(1, "no such exchange", "k", b"body")
    client.send(1, spec.Queue.Declare(queue="none either", passive=True))
    client.send(1, spec.Channel.CloseOk())
    client.open_channel(1)
    client.call(1, spec.Basic.Qos())


def test_close_of_both_sides_crossing(wire):
    """The client's channel.close is answered although the broker has closed already."""
    client = wire()
    client.open_channel(1)
    with pytest.raises(ChannelClosed):
        client.call(1, spec.Queue.Declare(queue="none here", passive=True))
    client.send(1, spec.Channel.Close(200, "", 0, 0))
    client.read_method(spec.Channel.CloseOk)
    client.send(1, spec.Channel.CloseOk())
    client.open_channel(1)


def test_pipelined_methods_are_answered_in_order(wire):
    client = wire()
    client.open_channel(1)
    for _ in range(200):
        client.send(1, spec.Queue.Declare(queue="", exclusive=True))
        client.send(1, spec.Basic.Qos())
    for _ in range(200):
        client.read_method(spec.Queue.DeclareOk)
        client.read_method(spec.Basic.QosOk)


def test_a_publish_before_the_error_counts(wire, channel, scratch):
    """What came before the method that failed has been carried out."""
    queue = scratch.queue(channel)
    client = wire()
    client.open_channel(1)
    for number in range(10):
        client.publish(1, "", queue, str(number).encode())
    with pytest.raises(ChannelClosed):
        client.call(1, spec.Queue.Declare(queue="none here", passive=True))
    bodies = [channel.basic_get(queue, auto_ack=True)[2] for _ in range(10)]
    assert bodies == [str(number).encode() for number in range(10)]


def test_connection_blocked_listeners_do_not_disturb(connect):
    connection = connect()
    connection.add_on_connection_blocked_callback(lambda *_: pytest.fail("blocked without a reason"))
    connection.add_on_connection_unblocked_callback(lambda *_: pytest.fail("unblocked without a reason"))
    channel = connection.channel()
    channel.confirm_delivery()
    for _ in range(100):
        channel.basic_publish("", "nowhere", b"x")


def test_many_connections_at_once(connect):
    connections = [connect() for _ in range(100)]
    queues = [connection.channel().queue_declare("", exclusive=True).method.queue for connection in connections]
    assert len(set(queues)) == 100


def test_connections_that_come_and_go(connect):
    for _ in range(100):
        connection = connect()
        connection.channel()
        connection.close()
