"""Protocol header, connection.start, tune negotiation, connection.open and connection.close."""

import pika
import pytest
from pika import spec

from conftest import parameters
from support.wire import PROTOCOL_HEADER, ConnectionClosed, SocketClosed

CAPABILITIES = {"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
                "direct_reply_to"}


@pytest.mark.parametrize("greeting", [
    b"AMQP\x00\x00\x09\x00", b"AMQP\x00\x00\x08\x01", b"AMQP\x01\x01\x09\x02", b"AMQP\x00\x01\x00\x00",
    b"AMQP\x03\x01\x00\x00", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01",
], ids=["0-9-0", "0-8", "1-1-0-9", "amqp 1.0", "amqp 1.0 sasl", "http", "tls hello"])
def test_any_other_protocol_header_is_answered_with_ours(wire, greeting):
    client = wire(handshake=False)
    client.send_bytes(greeting)
    assert client.read_until_closed() == PROTOCOL_HEADER


def test_header_may_come_byte_by_byte(wire):
    client = wire(handshake=False)
    for byte in PROTOCOL_HEADER:
        client.send_bytes(bytes([byte]))
    start = client.read_method(spec.Connection.Start)
    assert (start.version_major, start.version_minor) == (0, 9)


def test_start_offers_plain_and_amqplain_and_no_anonymous(wire):
    start = wire(handshake=False).start()
    mechanisms = start.mechanisms.decode() if isinstance(start.mechanisms, bytes) else start.mechanisms
    assert {"PLAIN", "AMQPLAIN"} <= set(mechanisms.split(" "))
    assert "ANONYMOUS" not in mechanisms
    assert "EXTERNAL" not in mechanisms  # only where TLS makes it work
    locales = start.locales.decode() if isinstance(start.locales, bytes) else start.locales
    assert "en_US" in locales.split(" ")


def test_server_properties(wire):
    properties = wire(handshake=False).start().server_properties
    assert {"capabilities", "cluster_name", "copyright", "information", "platform", "product",
            "version"} <= set(properties)
    assert properties["product"] == "RabbitMQ"
    major, minor, *_ = (int(part) for part in properties["version"].split("."))
    assert (3, 3) <= (major, minor) < (4, 0)  # kombu reads its meaning of basic.qos off this
    for key, value in properties.items():
        assert isinstance(value, (str, dict)), key


@pytest.mark.leveret_only("its own name")
def test_leveret_says_who_it_is_beside_the_name_that_clients_look_for(wire):
    properties = wire(handshake=False).start().server_properties
    assert properties["version"] == "3.13.7"
    assert "Leveret" in properties["platform"] and "Leveret" in properties["information"]
    assert "Leveret" in str(properties["broker"])


def test_capabilities_are_all_announced(wire):
    capabilities = wire(handshake=False).start().server_properties["capabilities"]
    assert {name for name, value in capabilities.items() if value is True} >= CAPABILITIES


def test_pika_sees_the_capabilities(connection):
    assert connection.publisher_confirms_supported
    assert connection.basic_nack_supported
    assert connection.exchange_exchange_bindings_supported
    assert connection.consumer_cancel_notify_supported


def test_tune_offer(wire):
    tune = wire(handshake=False).tune()
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize("answer", [
    {"channel_max": 1}, {"frame_max": 4096}, {"heartbeat": 0}, {"heartbeat": 1},
    {"heartbeat": 65535}, {"channel_max": 1, "frame_max": 4096, "heartbeat": 7},
], ids=str)
def test_a_client_may_answer_tune_with_less(wire, answer):
    client = wire(handshake=False)
    client.tune()
    client.tune_ok(**answer)
    client.open()
    client.open_channel(1)


@pytest.mark.parametrize("answer", [
    {"channel_max": 2048}, {"channel_max": 65535}, {"channel_max": 0},
    {"frame_max": 131073}, {"frame_max": 4095}, {"frame_max": 1}, {"frame_max": 0},
], ids=str)
def test_a_client_may_not_answer_tune_with_more_or_with_nothing(wire, answer):
    client = wire(handshake=False)
    client.tune()
    client.tune_ok(**answer)
    client.send(0, spec.Connection.Open(virtual_host="/"))
    with pytest.raises((SocketClosed, ConnectionClosed, BrokenPipeError)):
        client.read_method(spec.Connection.OpenOk)


def test_frames_above_4096_bytes_are_refused_before_tune(wire):
    client = wire(handshake=False)
    client.start()
    with pytest.raises((SocketClosed, ConnectionClosed, BrokenPipeError, ConnectionResetError)):
        client.start_ok(properties={"padding": "x" * 8192})
        client.read_method(spec.Connection.Tune)


def test_frames_of_4096_bytes_are_accepted_before_tune(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok(properties={"padding": "x" * 3500})
    client.read_method(spec.Connection.Tune)


def test_unknown_vhost(broker):
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError) as closed:
        pika.BlockingConnection(parameters(broker, virtual_host="no-such-vhost"))
    assert "(530) 'NOT_ALLOWED - vhost no-such-vhost not found'" in str(closed.value)


def test_open_ok_then_close_ok(wire):
    client = wire()
    client.call(0, spec.Connection.Close(200, "Goodbye", 0, 0))
    assert client.is_silent_or_closed()


def test_after_close_nothing_but_close_ok_is_sent(wire, scratch):
    client = wire()
    client.open_channel(1)
    queue = scratch.name()
    client.call(1, spec.Queue.Declare(queue=queue, exclusive=True))
    client.call(1, spec.Basic.Consume(queue=queue, consumer_tag="c", no_ack=True))
    client.send(0, spec.Connection.Close(200, "Goodbye", 0, 0))
    client.read_method(spec.Connection.CloseOk)
    assert client.is_silent_or_closed()


def test_a_client_that_goes_away_in_the_handshake_harms_nobody(wire, connect):
    for step in ("connect", "header", "start-ok", "tune-ok"):
        client = wire(handshake=False)
        if step != "connect":
            client.start()
        if step in ("start-ok", "tune-ok"):
            client.start_ok()
            client.read_method(spec.Connection.Tune)
        if step == "tune-ok":
            client.tune_ok()
        client.close()
    assert connect().channel().is_open


@pytest.mark.parametrize("method", [spec.Channel.Open(), spec.Basic.Get(queue="q")], ids=["channel.open", "basic.get"])
def test_channel_methods_before_the_handshake_is_done_end_the_connection(wire, method):
    client = wire(handshake=False)
    client.start()
    client.send(1, method)
    with pytest.raises((SocketClosed, ConnectionClosed)):
        client.read_method()


def test_handshake_timeout_closes_a_silent_socket(wire):
    client = wire(handshake=False)
    assert client.read_until_closed(timeout_s=20) in (b"", PROTOCOL_HEADER)


def test_handshake_timeout_closes_a_client_that_stops_half_way(wire):
    client = wire(handshake=False)
    client.tune()
    client.read_until_closed(timeout_s=20)


def test_client_properties_of_every_type_are_accepted(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok(properties={"product": "tests", "number": 1, "long": 2 ** 40, "flag": True, "nothing": None,
                                "table": {"a": [1, "two", {"three": 3}]}, "bytes": b"\x00\xff"})
    client.read_method(spec.Connection.Tune)
    client.tune_ok()
    client.open()
