"""What is declared durably comes back, whatever its arguments; and what definitions files ask for, however they write it."""

import base64
import hashlib
import http.client
import json
import struct
import subprocess

import pika
import pytest
from pika import spec

from conftest import parameters
from support.management import Management
from support.waiting import eventually
from support.wire import ConnectionClosed, WireClient

pytestmark = pytest.mark.leveret_only("kills it, and has definitions files")

DEPTH_MAX = 64
DOUBLE_NAN = b"d\x7f\xf8" + bytes(6)
NOT_FINITE = [DOUBLE_NAN, b"d\x7f\xf0" + bytes(6), b"f\x7f\xc0\0\0", b"f\xff\x80\0\0"]
# Every type octet, the ends of their ranges, and bytes that are no text.
VALUES = [b"t\1", b"b\x80", b"B\xff", b"s\x80\0", b"U\x7f\xff", b"u\xff\xff", b"I\x80\0\0\0", b"i\xff\xff\xff\xff",
          b"l\x80" + bytes(7), b"L\x7f" + b"\xff" * 7, b"f\x80\0\0\0", b"d\0\0\0\0\0\0\0\1", b"D\xff\xff\xff\xff\xff",
          b"S\0\0\0\2\xff\xfe", b"S\0\0\0\3a\0b", b"x\0\0\0\2\0\xff", b"A\0\0\0\0", b"F\0\0\0\0", b"T" + b"\xff" * 8, b"V"]


def table(*fields):
    """A field table with its length, of names and values as bytes."""
    inside = b"".join(bytes([len(name)]) + name + value for name, value in fields)
    return struct.pack(">I", len(inside)) + inside


def nested(value, depth):
    for _ in range(depth):
        value = b"A" + struct.pack(">I", len(value)) + value
    return value


def short(text):
    return bytes([len(text)]) + text.encode()


def declare(queue, arguments):
    return struct.pack(">HHH", 50, 10, 0) + short(queue) + b"\2" + arguments


def declare_exchange(exchange, arguments):
    return struct.pack(">HHH", 40, 10, 0) + short(exchange) + short("headers") + b"\2" + arguments


def bind(queue, exchange, arguments):
    return struct.pack(">HHH", 50, 20, 0) + short(queue) + short(exchange) + short("k") + b"\0" + arguments


def opened(own):
    client = WireClient(own.host, own.port)
    client.handshake()
    client.send(1, spec.Channel.Open())
    client.read_method(spec.Channel.OpenOk)
    return client


def call(own, *payloads):
    client = opened(own)
    try:
        for payload, answer in payloads:
            client.send_frame(1, 1, payload)
            client.read_method(answer)
    finally:
        client.close()


def shown(own):
    api = Management(own.management())
    return ([(it["name"], it["arguments"]) for it in api.get("queues")],
            [(it["name"], it["arguments"]) for it in api.get("exchanges")])


def verify(binary, own):
    return subprocess.run([binary, "store", "verify", str(own.data_dir)], capture_output=True, text=True, timeout=60)


def test_arguments_of_every_kind_outlive_a_kill(binary, own_broker, open_connection):
    own = own_broker("--management-listen", "127.0.0.1:0")
    tables = [table((b"", value), (b"x" * 255, value), (b"n\0", nested(value, DEPTH_MAX - 2))) for value in VALUES]
    for number, arguments in enumerate(tables):
        queue, exchange = f"q{number}", f"x{number}"
        call(own, (declare(queue, arguments), spec.Queue.DeclareOk),
             (declare_exchange(exchange, arguments), spec.Exchange.DeclareOk),
             (bind(queue, exchange, table((b"x-match", b"S\0\0\0\3any"), (b"k", VALUES[number]))), spec.Queue.BindOk))
    before = shown(own)
    own.restart_after_kill()
    assert shown(own) == before
    for number, arguments in enumerate(tables):
        # The same again is the same, and the binding is there.
        call(own, (declare(f"q{number}", arguments), spec.Queue.DeclareOk))
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.basic_publish("x0", "", b"", pika.BasicProperties(headers={"k": True}), mandatory=True)
    own.kill()
    assert verify(binary, own).returncode == 0


def test_arguments_as_long_as_a_frame_outlive_a_kill(own_broker):
    own = own_broker("--management-listen", "127.0.0.1:0")
    arguments = table((b"long", b"S" + struct.pack(">I", 130_000) + b"x" * 130_000))
    call(own, (declare("q", arguments), spec.Queue.DeclareOk), (declare_exchange("x", arguments), spec.Exchange.DeclareOk),
         (bind("q", "x", arguments), spec.Queue.BindOk))
    own.restart_after_kill()
    queues, exchanges = shown(own)
    assert queues[0][1] == dict(exchanges)["x"] == {"long": "x" * 130_000}
    # Taking the binding away takes it away for good.
    unbind = struct.pack(">HHH", 50, 50, 0) + short("q") + short("x") + short("k") + arguments
    call(own, (unbind, spec.Queue.UnbindOk))
    own.restart_after_kill()
    delete_if_unused = struct.pack(">HHH", 40, 20, 0) + short("x") + b"\1"
    call(own, (delete_if_unused, spec.Exchange.DeleteOk))


@pytest.mark.parametrize("value", NOT_FINITE)
def test_numbers_that_are_none_are_refused_and_a_start_finds_nothing_of_them(own_broker, open_connection, value):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("q", durable=True)
    for depth in (0, 5):
        arguments = table((b"k", nested(value, depth)))
        for payload in (declare("bad", arguments), declare_exchange("bad", arguments), bind("q", "amq.headers", arguments)):
            with pytest.raises(ConnectionClosed) as closed:
                call(own, (payload, spec.Queue.DeclareOk))
            assert closed.value.code == 541
    # The header of a message is the message's own.
    client = opened(own)
    encoded = b"\x20\0" + table((b"nan", DOUBLE_NAN), (b"inf", NOT_FINITE[1]))
    client.send(1, spec.Basic.Publish(routing_key="q"))
    client.send_frame(2, 1, struct.pack(">HHQ", 60, 0, 0) + encoded)
    client.close()
    own.restart_after_kill()
    channel = open_connection(own).channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare("bad", passive=True)
    assert closed.value.reply_code == 404


def with_file(own_broker, definitions, *arguments):
    own = own_broker(start=False)
    path = own.directory / "definitions.json"
    path.write_bytes(definitions if isinstance(definitions, bytes) else json.dumps(definitions).encode())
    own.arguments += ["--definitions", str(path), *arguments]
    return own.start()


def logs_in(own, user, password):
    credentials = pika.PlainCredentials(user, password)
    try:
        pika.BlockingConnection(parameters(own, credentials=credentials)).close()
    except (pika.exceptions.ProbableAuthenticationError, pika.exceptions.AuthenticationError):
        return False
    return True


def logs_in_by_http(own, user, password):
    host, port = own.management()
    connection = http.client.HTTPConnection(host, port, timeout=10)
    token = base64.b64encode(f"{user}:{password}".encode()).decode()
    connection.request("GET", "/api/overview", headers={"Authorization": f"Basic {token}"})
    status = connection.getresponse().status
    connection.close()
    return status == 200


def logs_in_by_amqplain(own, user, password):
    client = WireClient(own.host, own.port)
    try:
        client.start()
        response = table((b"LOGIN", b"S" + struct.pack(">I", len(user)) + user.encode()),
                         (b"PASSWORD", b"S" + struct.pack(">I", len(password)) + password.encode()))[4:]
        client.start_ok("AMQPLAIN", response.decode("latin-1"))
        client.read_method(spec.Connection.Tune)
    except ConnectionClosed:
        return False
    finally:
        client.close()
    return True


def salted(algorithm, password, salt=b"\1\2\3\4"):
    return base64.b64encode(salt + hashlib.new(algorithm, salt + password.encode()).digest()).decode()


def permissions(*users):
    return [{"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"} for user in users]


def test_a_blank_password_opens_no_door(own_broker):
    users = [{"name": "text", "password": ""}, {"name": "none", "password_hash": ""},
             {"name": "hash", "password_hash": salted("sha256", "")},
             {"name": "good", "password": "p"}]
    users = [user | {"tags": "administrator"} for user in users]
    own = with_file(own_broker, {"users": users, "permissions": permissions("text", "none", "hash", "good")},
                    "--default-password", "", "--management-listen", "127.0.0.1:0")
    for enter in (logs_in, logs_in_by_http, logs_in_by_amqplain):
        assert enter(own, "good", "p")
        for user in ("text", "none", "hash", "guest", "good"):
            assert not enter(own, user, ""), (enter, user)


def test_users_of_old_exports_keep_their_passwords(own_broker):
    md5, sha256 = salted("md5", "secret"), salted("sha256", "secret")
    users = [{"name": "old", "password_hash": md5},
             {"name": "named", "password_hash": sha256, "hashing_algorithm": "rabbit_password_hashing_sha256"},
             {"name": "spaced", "password_hash": f" {md5[:7]}\n{md5[7:]}\n"},
             {"name": "unknown", "password_hash": sha256, "hashing_algorithm": "rabbit_password_hashing_other"}]
    definitions = {"rabbit_version": "3.5.6", "users": [user | {"tags": ""} for user in users],
                   "permissions": permissions("old", "named", "spaced", "unknown")}
    own = with_file(own_broker, b"\xef\xbb\xbf" + json.dumps(definitions).encode())
    own.restart_after_kill()
    assert all(logs_in(own, user, "secret") for user in ("old", "named", "spaced"))
    assert not any(logs_in(own, user, "other") for user in ("old", "named", "spaced"))
    assert not logs_in(own, "unknown", "secret")


def test_a_virtual_hosts_default_queue_type_is_obeyed(own_broker, open_connection):
    own = with_file(own_broker, {"vhosts": [{"name": "/", "metadata": {"default_queue_type": "quorum"}}],
                                 "queues": [{"name": "imported", "vhost": "/", "durable": True, "arguments": {}}]},
                    "--management-listen", "127.0.0.1:0")
    own.restart_after_kill()
    channel = open_connection(own).channel()
    channel.queue_declare("made", durable=True)
    channel.queue_declare("made", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare("classic", durable=True, arguments={"x-queue-type": "classic"})
    channel.queue_declare("passing")
    channel.queue_declare("auto", durable=True, auto_delete=True)
    channel.queue_declare("mine", durable=True, exclusive=True)
    channel.queue_declare("", exclusive=True)
    api = Management(own.management())
    kinds = {it["name"]: it["type"] for it in api.get("queues") if not it["name"].startswith("amq.")}
    assert kinds == {"imported": "quorum", "made": "quorum", "classic": "classic", "passing": "classic",
                     "auto": "classic", "mine": "classic"}


def test_a_comma_too_many_is_pointed_at(own_broker):
    with pytest.raises(AssertionError, match=r"line 2, column 20: not JSON: this comma is one too many"):
        with_file(own_broker, b'{"queues": [\n  {"name": "quasi"},\n]}')


def is_there(own, open_connection, exchange):
    connection = open_connection(own)
    try:
        connection.channel().exchange_declare(exchange, passive=True)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return False
    finally:
        connection.close()
    return True


def test_an_exchange_that_went_with_a_passing_queue_stays_away(own_broker, open_connection):
    own = own_broker()
    connection = open_connection(own)
    channel = connection.channel()
    names = ("transient", "exclusive", "auto")
    for name, options in zip(names, ({}, {"exclusive": True}, {"auto_delete": True})):
        channel.queue_declare(name, **options)
        channel.exchange_declare(name, "topic", durable=True, auto_delete=True)
        channel.queue_bind(name, name, "#")
    channel.queue_delete("transient")
    channel.basic_consume("auto", lambda *_: None, consumer_tag="c")
    channel.basic_cancel("c")
    connection.close()
    eventually(lambda: not any(is_there(own, open_connection, name) for name in names))
    # Nobody was told of the last two; what is told after them covers them.
    open_connection(own).channel().queue_declare("after", durable=True)
    own.restart_after_kill()
    assert not any(is_there(own, open_connection, name) for name in names)
