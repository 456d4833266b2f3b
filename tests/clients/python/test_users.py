"""Who may connect from where, and limits that are set at start: what Leveret's own options change."""

import json
import socket

import pika
import pytest

from conftest import parameters
from support.wire import ConnectionClosed, WireClient

pytestmark = pytest.mark.leveret_only("its own options")

REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
           "For details see the broker logfile.")


def outward_address():
    """An address of this machine that is not loopback; nothing is sent to find it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network address")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has loopback alone")
    return address


def port_at(own, address):
    """The port of the listener at `address`, from the ready file."""
    listeners = json.loads((own.directory / "ready.json").read_text())["listeners"]
    return next(listener["port"] for listener in listeners if listener["address"] == address)


def log_in(host, port, user, password):
    """Goes as far as connection.tune."""
    client = WireClient(host, port)
    try:
        client.start()
        client.start_ok(response=f"\0{user}\0{password}")
        return client.read_method(pika.spec.Connection.Tune)
    finally:
        client.close()


def test_guest_may_connect_from_loopback_only(own_broker):
    address = outward_address()
    own = own_broker("--listen", f"{address}:0")
    log_in(own.host, own.port, "guest", "guest")
    with pytest.raises(ConnectionClosed) as closed:
        log_in(address, port_at(own, address), "guest", "guest")
    assert (closed.value.code, closed.value.text) == (403, REFUSED)


def test_guest_may_connect_from_anywhere_when_told_so(own_broker):
    address = outward_address()
    own = own_broker("--listen", f"{address}:0", "--loopback-users", "none")
    log_in(address, port_at(own, address), "guest", "guest")


def test_default_user_and_password(own_broker):
    own = own_broker("--default-user", "alice", "--default-password", "s3cret ü")
    credentials = pika.PlainCredentials("alice", "s3cret ü")
    for _ in range(2):
        connection = pika.BlockingConnection(parameters(own, credentials=credentials))
        channel = connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="alice"))
        assert channel.basic_get(queue, auto_ack=True)[1].user_id == "alice"
        connection.close()
        with pytest.raises(pika.exceptions.ProbableAuthenticationError):
            pika.BlockingConnection(parameters(own))
        own.restart_after_kill()


def test_password_is_not_in_the_data_directory(own_broker, open_connection):
    own = own_broker("--default-user", "alice", "--default-password", "correct-horse-battery")
    open_connection(own, credentials=pika.PlainCredentials("alice", "correct-horse-battery"))
    own.terminate()
    own.wait(10)
    written = {path: path.read_bytes() for path in own.data_dir.rglob("*") if path.is_file()}
    # What is written of the user would be found.
    assert any(b"alice" in content for content in written.values())
    assert [path for path, content in written.items() if b"correct-horse-battery" in content] == []
    assert "correct-horse-battery" not in own.log.read_text()


def test_messages_above_the_limit_close_the_channel(own_broker, open_connection):
    own = own_broker("--message-size-max", "1000")
    channel = open_connection(own).channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x" * 1000)
    channel.basic_publish("", queue, b"x" * 1001)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_qos()
    assert closed.value.reply_code == 406
    assert "message size 1001 is larger than" in closed.value.reply_text


def test_the_offer_of_tune_can_be_set(own_broker):
    own = own_broker("--channel-max", "5", "--frame-max", "8192", "--heartbeat", "9")
    tune = log_in(own.host, own.port, "guest", "guest")
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (5, 8192, 9)


def test_handshake_timeout_can_be_set(own_broker):
    own = own_broker("--handshake-timeout", "500ms")
    with socket.create_connection((own.host, own.port)) as silent:
        silent.settimeout(5)
        while silent.recv(100):
            pass
