"""Heartbeats both ways."""

import time

import pytest
from pika import frame as frames
from pika import spec

from support.wire import HEARTBEAT, SocketClosed
from support.waiting import drive_until


def test_broker_sends_heartbeats_at_half_the_interval(wire):
    client = wire(heartbeat=4)
    for _ in range(2):
        begin = time.monotonic()
        # The client is silent meanwhile; after two intervals it would be closed.
        assert isinstance(client.read_frame(timeout_s=7), frames.Heartbeat)
        assert time.monotonic() - begin >= 1.5
        client.send_frame(HEARTBEAT, 0, b"")


def test_a_silent_client_is_closed_after_two_intervals(wire):
    client = wire(heartbeat=1)
    begin = time.monotonic()
    with pytest.raises((SocketClosed, ConnectionResetError)):
        while True:
            client.read_frame(timeout_s=30)
    assert time.monotonic() - begin >= 1.5


def test_a_client_that_sends_heartbeats_stays(wire):
    client = wire(heartbeat=1)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        assert isinstance(client.read_frame(timeout_s=3), frames.Heartbeat)
        client.send_frame(HEARTBEAT, 0, b"")
    client.send(1, spec.Channel.Open())
    client.read_method(spec.Channel.OpenOk)


def test_any_traffic_counts_as_life(wire):
    client = wire(heartbeat=1)
    client.open_channel(1)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        client.call(1, spec.Basic.Qos(prefetch_count=1))
        try:
            client.read_frame(timeout_s=0.2)
        except TimeoutError:
            pass
    client.call(1, spec.Basic.Qos(prefetch_count=2))


def silent_for(seconds):
    """A pause that is what is tested: a client with nothing to say."""
    time.sleep(seconds)


def dozing(wire):
    """A client that has said nothing but a heartbeat, which the broker has answered."""
    client = wire(heartbeat=8)
    silent_for(2.1)
    client.send_frame(HEARTBEAT, 0, b"")
    assert isinstance(client.read_frame(timeout_s=10), frames.Heartbeat)
    return client


def heard_at_once(client):
    """The answer comes, and not only with the broker's own heartbeat."""
    answer = client.read_frame(timeout_s=10)
    assert isinstance(answer, frames.Method) and isinstance(answer.method, spec.Channel.OpenOk), answer


def test_an_idle_clients_heartbeats_are_read_when_the_brokers_own_is_due(wire):
    client = dozing(wire)
    silent_for(2.1)
    client.send_frame(HEARTBEAT, 0, b"")
    # It would be answered, had the broker been woken for it.
    with pytest.raises(TimeoutError):
        client.read_frame(timeout_s=0.5)
    assert isinstance(client.read_frame(timeout_s=3), frames.Heartbeat)


def test_an_idle_client_is_heard_at_once_when_it_speaks(wire):
    client = dozing(wire)
    client.send(1, spec.Channel.Open())
    heard_at_once(client)
    client.send_frame(HEARTBEAT, 0, b"")
    silent_for(0.3)
    client.send_frame(HEARTBEAT, 0, b"")
    client.call(1, spec.Basic.Qos(prefetch_count=1))


@pytest.mark.parametrize("first", [1, 7, 8, 9, 12])
def test_an_idle_client_is_heard_at_once_when_its_frame_comes_in_pieces(wire, first):
    client = dozing(wire)
    frame = frames.Method(1, spec.Channel.Open()).marshal()
    client.send_bytes(frame[:first])
    silent_for(0.2)
    client.send_bytes(frame[first:])
    heard_at_once(client)


def test_a_client_that_beats_once_an_interval_stays(wire):
    client = wire(heartbeat=1)
    end = time.monotonic() + 6
    while time.monotonic() < end:
        silent_for(1)
        client.send_frame(HEARTBEAT, 0, b"")
    client.send(1, spec.Channel.Open())
    client.read_method(spec.Channel.OpenOk)


def test_no_heartbeats_when_the_client_said_zero(wire):
    client = wire(heartbeat=0)
    with pytest.raises(TimeoutError):
        client.read_frame(timeout_s=3)
    client.open_channel(1)


def test_pika_with_short_heartbeats_stays_connected(connect):
    connection = connect(heartbeat=1)
    end = time.monotonic() + 4
    drive_until(connection, lambda: time.monotonic() > end, deadline_s=6)
    assert connection.channel().is_open


def test_messages_of_a_client_that_fell_silent_are_requeued(wire, channel, scratch):
    queue = scratch.queue(channel)
    channel.basic_publish("", queue, b"held")
    silent = wire(heartbeat=1)
    silent.open_channel(1)
    silent.call(1, spec.Basic.Get(queue=queue))
    assert channel.basic_get(queue)[0] is None
    end = time.monotonic() + 10
    while time.monotonic() < end:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method:
            assert (body, method.redelivered) == (b"held", True)
            return
        time.sleep(0.05)
    pytest.fail("the silent client kept its message")


@pytest.mark.parametrize("channel_number, payload", [(1, b""), (0, b"x")], ids=["on a channel", "with a payload"])
def test_odd_heartbeat_frames_do_not_hang_the_connection(wire, channel_number, payload):
    """A heartbeat belongs on channel 0 and is empty. Close or ignore: but answer what follows or end."""
    client = wire()
    client.send_frame(HEARTBEAT, channel_number, payload)
    client.send(1, spec.Channel.Open())
    try:
        assert isinstance(client.read_method(), spec.Channel.OpenOk)
    except Exception as error:  # noqa: BLE001 - only a timeout is wrong
        assert not isinstance(error, TimeoutError)
