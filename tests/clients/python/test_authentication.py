"""Who may connect: mechanisms, passwords, and how a refusal reads."""

import struct

import pika
import pytest
from pika import spec

from conftest import parameters
from support.wire import ConnectionClosed, SocketClosed

REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism {}. "
           "For details see the broker logfile.")


def amqplain(user, password):
    """AMQPLAIN's response: a field table without its length, values as long strings."""
    def entry(key, value):
        return bytes([len(key)]) + key.encode() + b"S" + struct.pack(">I", len(value)) + value.encode()
    return (entry("LOGIN", user) + entry("PASSWORD", password)).decode("latin-1")


@pytest.mark.parametrize("user, password", [("guest", "wrong"), ("nobody", "guest"), ("guest", ""), ("", "")])
def test_wrong_credentials_are_refused_with_the_text_that_clients_parse(broker, user, password):
    credentials = pika.PlainCredentials(user, password)
    with pytest.raises(pika.exceptions.ProbableAuthenticationError) as closed:
        pika.BlockingConnection(parameters(broker, credentials=credentials))
    assert f"(403) '{REFUSED.format('PLAIN')}'" in str(closed.value)


def test_wrong_credentials_close_the_socket_when_the_client_did_not_ask_for_a_close_method(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok(response="\0guest\0wrong", capabilities={})
    with pytest.raises(SocketClosed):
        client.read_method()


def test_plain_logs_in(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok("PLAIN", "\0guest\0guest")
    client.read_method(spec.Connection.Tune)


def test_amqplain_logs_in(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok("AMQPLAIN", amqplain("guest", "guest"))
    client.read_method(spec.Connection.Tune)


def test_amqplain_with_a_wrong_password_is_refused(wire):
    client = wire(handshake=False)
    client.start()
    client.start_ok("AMQPLAIN", amqplain("guest", "wrong"))
    with pytest.raises(ConnectionClosed) as closed:
        client.read_method(spec.Connection.Tune)
    assert (closed.value.code, closed.value.text) == (403, REFUSED.format("AMQPLAIN"))


@pytest.mark.parametrize("mechanism", ["ANONYMOUS", "EXTERNAL", "CRAM-MD5", ""])
def test_mechanisms_that_were_not_offered_are_refused(wire, mechanism):
    client = wire(handshake=False)
    client.start()
    client.start_ok(mechanism, "\0guest\0guest")
    with pytest.raises((ConnectionClosed, SocketClosed)):
        client.read_method(spec.Connection.Tune)


@pytest.mark.parametrize("response", ["", "guest", "\0guest", "\0guest\0gu", "\0\0", "\0\0guest\0guest"])
def test_broken_plain_responses_are_refused(wire, response):
    client = wire(handshake=False)
    client.start()
    client.start_ok("PLAIN", response)
    with pytest.raises((ConnectionClosed, SocketClosed)):
        client.read_method(spec.Connection.Tune)


def test_many_refusals_leave_the_broker_well(broker, connect):
    for _ in range(20):
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            pika.BlockingConnection(parameters(broker, credentials=pika.PlainCredentials("guest", "no")))
    assert connect().channel().is_open


def test_update_secret_is_answered(connection, channel):
    connection.update_secret("new secret", "because")
    channel.basic_qos(prefetch_count=1)


def test_update_secret_on_the_wire(wire):
    client = wire()
    client.call(0, spec.Connection.UpdateSecret(new_secret="new", reason="test"))
    client.open_channel(1)
