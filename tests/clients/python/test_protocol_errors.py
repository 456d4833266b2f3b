"""Frames that no library sends: what the broker answers, and that it stays well."""

import json
import struct
from pathlib import Path

import pytest
from pika import spec

from support.wire import (BODY, HEADER, HEARTBEAT, METHOD, PROTOCOL_HEADER, ConnectionClosed, SocketClosed)

REPLIES = json.loads((Path(__file__).parent.parent / "rabbitmq-replies.json").read_text())


def reply(client):
    """How the connection ended, in the form of rabbitmq-replies.json."""
    try:
        while True:
            client.read_method()
    except ConnectionClosed as closed:
        client.send(0, spec.Connection.CloseOk())
        return ["connection", closed.code, closed.text]
    except (SocketClosed, ConnectionResetError):
        return ["socket closed", 0, ""]


def publish_method(client, channel=1):
    client.send(channel, spec.Basic.Publish(exchange="", routing_key="nowhere"))


def content_header(class_id=60, weight=0, size=3):
    return struct.pack(">HHQH", class_id, weight, size, 0)


# Each: what is sent on a connection that has channel 1 open.
ROWS = {
    "raw: bad frame end": lambda c: c.send_frame(METHOD, 1, bytes([0, 20, 0, 10, 0]), end=0),
    "raw: body frame with no method": lambda c: c.send_body(1, b"x"),
    "raw: header frame with no method": lambda c: c.send_header(1, 3),
    "raw: channel opened twice": lambda c: c.send(1, spec.Channel.Open()),
    "raw: frame larger than frame_max": lambda c: c.send_bytes(
        struct.pack(">BHI", BODY, 1, 131073) + b"x" * 131073 + b"\xce"),
    "raw: method between publish and header": lambda c: (publish_method(c), c.send(1, spec.Basic.Qos())),
    "raw: method on channel 0 that needs a channel": lambda c: c.send(0, spec.Basic.Qos()),
    "raw: method on channel never opened": lambda c: c.send(7, spec.Basic.Qos()),
    "raw: truncated method arguments": lambda c: c.send_frame(METHOD, 1, bytes([0, 50, 0, 10, 0, 0])),
    "raw: unknown class": lambda c: c.send_frame(METHOD, 1, struct.pack(">HH", 99, 10)),
    "raw: unknown method": lambda c: c.send_frame(METHOD, 1, struct.pack(">HH", 60, 999)),
    "raw: unknown frame type": lambda c: c.send_frame(9, 1, b"x"),
}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_reply(wire, connect, name):
    client = wire()
    client.open_channel(1)
    try:
        ROWS[name](client)
    except (BrokenPipeError, ConnectionResetError):
        pass  # refused before all of it was sent
    assert reply(client) == REPLIES[name]
    assert connect().channel().is_open


@pytest.mark.parametrize("name, answer", [
    ("raw: tune-ok channel_max above the server's", {"channel_max": 2048}),
    ("raw: tune-ok frame_max above the server's", {"frame_max": 131073}),
    ("raw: tune-ok frame_max too small", {"frame_max": 4095}),
])
def test_tune_ok_that_is_refused(wire, name, answer):
    client = wire(handshake=False)
    client.tune()
    client.tune_ok(**answer)
    assert reply(client) == REPLIES[name]


@pytest.mark.parametrize("name, greeting", [
    ("raw: wrong protocol header", b"AMQP\x00\x00\x08\x00"),
    ("raw: http request instead of a header", b"GET / HTTP/1.1\r\n\r\n"),
])
def test_greeting_that_is_refused(wire, name, greeting):
    client = wire(handshake=False)
    client.send_bytes(greeting)
    assert client.read_until_closed() == PROTOCOL_HEADER
    assert repr(PROTOCOL_HEADER) in REPLIES[name][2]


def test_access_request(wire):
    """"raw: access.request": a relic of AMQP 0-8. RabbitMQ answers it with ticket 1, though pika, which the file
    was made with, cannot read the answer."""
    client = wire()
    client.open_channel(1)
    client.send_frame(METHOD, 1, struct.pack(">HH", 30, 10) + b"\x01/\x1f")
    _, number, payload = client.read_raw_frame()
    assert (number, payload) == (1, struct.pack(">HHH", 30, 11, 1))


def test_offer_of_tune(wire):
    tune = wire(handshake=False).tune()
    offer = f"channel_max {tune.channel_max} frame_max {tune.frame_max} heartbeat {tune.heartbeat}"
    assert offer == REPLIES["raw: tune offered"][2]


def test_body_longer_than_announced(wire):
    """"raw: body longer than announced": RabbitMQ waits for the next frame before it complains."""
    client = wire()
    client.open_channel(1)
    publish_method(client)
    client.send_header(1, 3)
    client.send_body(1, b"longer")
    client.send(1, spec.Basic.Qos())
    scope, code, _ = reply(client)
    assert scope == "connection" and code in (501, 505)


def test_one_channel_more_than_channel_max(wire):
    """"raw: channel above channel_max": RabbitMQ counts channels and does not look at their numbers."""
    client = wire(channel_max=2)
    client.open_channel(1)
    client.open_channel(2)
    client.send(3, spec.Channel.Open())
    assert reply(client) == ["connection", 530, "NOT_ALLOWED - number of channels opened (2) "
                             "has reached the negotiated channel_max (2)"]


# Beyond the file: scope and code as observed on RabbitMQ.
FURTHER = {
    "header of another class, no method": (lambda c: c.send_frame(HEADER, 1, content_header(50)), 505),
    "header of another class": (lambda c: (publish_method(c), c.send_frame(HEADER, 1, content_header(50))), 505),
    "body instead of a header": (lambda c: (publish_method(c), c.send_body(1, b"x")), 505),
    "heartbeat on a channel": (lambda c: c.send_frame(HEARTBEAT, 1, b""), 505),
    "heartbeat with a payload": (lambda c: c.send_frame(HEARTBEAT, 0, b"x"), 501),
    "method frame of three bytes": (lambda c: c.send_frame(METHOD, 1, b"\0\x3c\0"), 501),
    "empty method frame": (lambda c: c.send_frame(METHOD, 1, b""), 501),
    "channel.open on channel 0": (lambda c: c.send(0, spec.Channel.Open()), 504),
    "connection.close on a channel": (lambda c: c.send(1, spec.Connection.Close(200, "x", 0, 0)), 503),
    "channel.close-ok that nobody asked for": (lambda c: c.send(1, spec.Channel.CloseOk()), 503),
    "channel.flow off": (lambda c: c.send(1, spec.Channel.Flow(False)), 540),
    "recover-async without requeue": (lambda c: c.send_frame(METHOD, 1, struct.pack(">HHB", 60, 100, 0)), 540),
}


@pytest.mark.parametrize("name", sorted(FURTHER))
def test_further_errors_close_the_connection(wire, connect, name):
    steps, code = FURTHER[name]
    client = wire()
    client.open_channel(1)
    steps(client)
    scope, seen, text = reply(client)
    assert (scope, seen) == ("connection", code), text
    assert connect().channel().is_open


def test_a_method_after_channel_close_is_a_channel_error(wire):
    client = wire()
    client.open_channel(1)
    client.call(1, spec.Channel.Close(200, "done", 0, 0))
    client.send(1, spec.Basic.Qos())
    assert reply(client) == ["connection", 504, "CHANNEL_ERROR - expected 'channel.open'"]


def test_connection_close_names_the_method_that_failed(wire):
    client = wire()
    client.open_channel(1)
    client.send(1, spec.Basic.Qos(prefetch_size=1))
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method()
    assert (closed.value.class_id, closed.value.method_id) == (60, 10)


def test_after_an_error_the_broker_waits_for_close_ok_and_then_closes(wire):
    client = wire()
    client.open_channel(1)
    client.send(1, spec.Channel.Open())
    with pytest.raises(ConnectionClosed):
        client.read_method()
    client.send(1, spec.Basic.Qos())  # ignored: the connection is closing
    client.send(0, spec.Connection.CloseOk())
    assert client.read_until_closed() == b""


def test_every_frame_may_arrive_byte_by_byte(wire, scratch):
    client = wire()
    client.open_channel(1)
    queue = scratch.name()
    client.call(1, spec.Queue.Declare(queue=queue, exclusive=True))
    sent = []
    client.socket_send, client.send_bytes = client.send_bytes, sent.append
    client.publish(1, "", queue, b"drip")
    client.send_bytes = client.socket_send
    for byte in b"".join(sent):
        client.send_bytes(bytes([byte]))
    client.call(1, spec.Basic.Get(queue=queue, no_ack=True))
    assert client.read_content()[1] == b"drip"


def nested_table(depth):
    """A field table in a field table, `depth` times."""
    table = b""
    for _ in range(depth):
        table = b"\x01tF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


def test_a_very_deep_table_does_not_end_the_broker(wire, connect, scratch):
    client = wire()
    client.open_channel(1)
    queue = scratch.name().encode()
    arguments = struct.pack(">HHH", 50, 10, 0) + bytes([len(queue)]) + queue + bytes([0b1000])
    client.send_frame(METHOD, 1, arguments + nested_table(15000))
    try:
        client.read_method()
    except (ConnectionClosed, SocketClosed):
        pass
    assert connect().channel().is_open


@pytest.mark.parametrize("seed", range(8))
def test_noise_does_not_end_the_broker(wire, connect, seed):
    import random
    noise = random.Random(seed)
    client = wire(handshake=seed % 2 == 0)
    if seed % 2:
        client.send_bytes(PROTOCOL_HEADER)
    try:
        for _ in range(20):
            client.send_frame(noise.choice([1, 2, 3, 8]), noise.choice([0, 1]), noise.randbytes(noise.randrange(200)))
        client.send_bytes(noise.randbytes(500))
        client.socket.shutdown(1)
    except OSError:
        pass  # closed by the broker meanwhile
    client.read_until_closed()
    assert connect().channel().is_open


def in_content(*frames):
    """Sends these after a publish method."""
    def send(client):
        publish_method(client)
        for frame in frames:
            frame(client)
    return send


def header_frame(**options):
    return lambda client: client.send_frame(HEADER, 1, content_header(**options))


# What is sent on a connection with channel 1 open; what the close says, and which class and method it names.
CAUSES = {
    "no header": (in_content(lambda c: c.send_body(1, b"x")),
                  "expected content header for class 60, got non content header frame instead", (60, 40)),
    "two headers": (in_content(header_frame(), header_frame()),
                    "expected content body, got non content body frame instead", (60, 40)),
    "method for a header": (in_content(lambda c: c.send(1, spec.Basic.Qos())),
                            "expected content header for class 60, got non content header frame instead", (60, 40)),
    "method for a body": (in_content(header_frame(), lambda c: c.send(1, spec.Basic.Qos())),
                          "expected content body, got non content body frame instead", (60, 40)),
    "header with a weight": (in_content(header_frame(weight=1)),
                             "expected content header for class 60, got non content header frame instead", (60, 40)),
    "header of another class": (in_content(header_frame(class_id=50)),
                                "expected content header for class 60, got one for class 50 instead", (60, 40)),
    "body out of the blue": (lambda c: c.send_body(1, b"x"),
                             "expected method frame, got non method frame instead", (0, 0)),
    "body on channel 0": (lambda c: c.send_frame(BODY, 0, b"x"), 'type 3, all octets = <<"x">>', (0, 0)),
    "heartbeat on a channel": (lambda c: c.send_frame(HEARTBEAT, 1, b""), "type 8, all octets = <<>>", (0, 0)),
    "channel never opened": (lambda c: c.send(7, spec.Channel.Close(200, "", 0, 0)),
                             "expected 'channel.open'", (20, 40)),
    "flow-ok that nobody asked for": (lambda c: c.send(1, spec.Channel.FlowOk(True)),
                                      "unimplemented method", (20, 21)),
}


@pytest.mark.parametrize("name", sorted(CAUSES))
def test_text_and_cause(wire, name):
    send, text, cause = CAUSES[name]
    client = wire()
    client.open_channel(1)
    send(client)
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method()
    assert closed.value.text.endswith(f" - {text}")
    assert (closed.value.class_id, closed.value.method_id) == cause


def test_a_channel_too_many_is_no_methods_fault(wire):
    client = wire(channel_max=1)
    client.open_channel(1)
    client.send(2, spec.Channel.Open())
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method()
    assert (closed.value.code, closed.value.class_id, closed.value.method_id) == (530, 0, 0)


def test_a_failed_login_is_no_methods_fault(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok(response="\0guest\0wrong")
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method()
    assert (closed.value.code, closed.value.class_id, closed.value.method_id) == (403, 0, 0)


def test_a_payload_may_be_as_large_as_a_frame(wire):
    """RabbitMQ takes it, because there are clients that count so."""
    client = wire()
    client.open_channel(1)
    publish_method(client)
    client.send_frame(HEADER, 1, content_header(size=131072))
    client.send_frame(BODY, 1, b"x" * 131072)
    client.call(1, spec.Basic.Qos())
