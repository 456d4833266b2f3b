"""Policies, limits and what else a definitions file asks for: --definitions, read at start and on SIGHUP."""

import base64
import hashlib
import json
import signal
import subprocess
import time

import pika
import pytest

from conftest import parameters
from support.queues import bodies, count

pytestmark = pytest.mark.leveret_only("its own options")


class Defined:
    """A broker with a definitions file that can be rewritten."""

    def __init__(self, own_broker, path, definitions):
        self.path = path
        self.write(definitions)
        self.broker = own_broker("--definitions", str(path))

    def write(self, definitions):
        text = definitions if isinstance(definitions, str) else json.dumps(definitions)
        self.path.write_text(text)

    def reload(self, definitions, logged="definitions imported"):
        """Rewrites the file, sends SIGHUP and waits until the log says what became of it."""
        before = self.broker.log.read_text().count(logged)
        self.write(definitions)
        self.broker.process.send_signal(signal.SIGHUP)
        end = time.monotonic() + 10
        while self.broker.log.read_text().count(logged) == before:
            assert time.monotonic() < end, f"not seen: {logged}"
            time.sleep(0.01)


@pytest.fixture
def defined(own_broker, tmp_path):
    return lambda definitions: Defined(own_broker, tmp_path / "definitions.json", definitions)


def policy(definition, name="policy", pattern="^p", **fields):
    return {"vhost": "/", "name": name, "pattern": pattern, "apply-to": "all", "priority": 0,
            "definition": definition, **fields}


def test_what_the_file_names_is_there(defined, open_connection):
    salt = b"salt"
    password_hash = base64.b64encode(salt + hashlib.sha256(salt + b"hashed").digest()).decode()
    definitions = {
        "rabbit_version": "4.1.0",
        "users": [
            {"name": "ann", "password_hash": password_hash, "tags": ["management"],
             "hashing_algorithm": "rabbit_password_hashing_sha256", "limits": {}},
            {"name": "bob", "password": "plain", "tags": "monitoring,management"},
        ],
        "vhosts": [{"name": "/"}, {"name": "shop"}],
        "permissions": [
            {"user": "ann", "vhost": "shop", "configure": r"^(?!amq\.).*", "write": ".*", "read": ".*"},
            {"user": "bob", "vhost": "shop", "configure": "^$", "write": "^$", "read": "orders"},
        ],
        "exchanges": [{"name": "events", "vhost": "shop", "type": "topic", "durable": True, "auto_delete": False,
                       "internal": False, "arguments": {}}],
        "queues": [{"name": "orders", "vhost": "shop", "type": "quorum", "durable": True, "auto_delete": False,
                    "arguments": {"x-queue-type": "quorum", "x-max-length": 2}}],
        "bindings": [{"source": "events", "vhost": "shop", "destination": "orders", "destination_type": "queue",
                      "routing_key": "order.*", "arguments": {}}],
        "parameters": [{"vhost": "shop", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://"}}],
        "global_parameters": [{"name": "cluster_name", "value": "x"}],
    }
    own = defined(definitions).broker
    as_ann = open_connection(own, virtual_host="shop", credentials=pika.PlainCredentials("ann", "hashed")).channel()
    as_ann.exchange_declare("events", "topic", durable=True)
    as_ann.queue_declare("orders", durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 2})
    as_ann.confirm_delivery()
    for body in (b"1", b"2", b"3"):
        as_ann.basic_publish("events", "order.new", body, mandatory=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        as_ann.exchange_delete("amq.topic")
    assert closed.value.reply_code == 403
    as_bob = open_connection(own, virtual_host="shop", credentials=pika.PlainCredentials("bob", "plain")).channel()
    assert bodies(as_bob, "orders") == [b"2", b"3"]
    open_connection(own)  # the default user


def test_policies_change_on_sighup(defined, open_connection):
    own = defined({"queues": [{"name": "p"}, {"name": "dead"}]})
    channel = open_connection(own.broker).channel()
    for number in range(5):
        channel.basic_publish("", "p", str(number).encode())
    assert count(channel, "p") == 5
    own.reload({"policies": [policy({"max-length": 2, "dead-letter-exchange": "", "dead-letter-routing-key": "dead"})]})
    assert count(channel, "p") == 2
    assert bodies(channel, "dead") == [b"0", b"1", b"2"]
    channel.queue_declare("p-new")
    for number in range(5):
        channel.basic_publish("", "p-new", str(number).encode())
    assert bodies(channel, "p-new") == [b"3", b"4"]
    own.reload({"policies": [policy({"max-length": 4}), policy({"max-length": 3}, name="first", priority=1)]})
    for number in range(5, 10):
        channel.basic_publish("", "p", str(number).encode())
    assert count(channel, "p") == 3


def test_an_operator_policy_lowers_the_limit(defined, open_connection):
    value = {key: field for key, field in policy({"max-length": 1}).items() if key not in ("name", "vhost")}
    own = defined({
        "policies": [policy({"max-length": 5})],
        "parameters": [{"vhost": "/", "component": "operator_policy", "name": "limit",
                        "value": {**value, "apply-to": "queues"}}],
    })
    channel = open_connection(own.broker).channel()
    channel.queue_declare("p", arguments={"x-max-length": 3})
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", "p", body)
    assert bodies(channel, "p") == [b"3"]


def test_policies_outlive_kill_and_the_file(defined, open_connection):
    own = defined({"queues": [{"name": "p"}], "policies": [policy({"max-length": 1})]})
    own.broker.kill()
    own.broker.arguments = []
    own.broker.start()
    channel = open_connection(own.broker).channel()
    for body in (b"1", b"2"):
        channel.basic_publish("", "p", body)
    assert bodies(channel, "p") == [b"2"]


def test_a_policy_expires_messages_and_queues(defined, open_connection):
    own = defined({"queues": [{"name": "p-messages"}]})
    channel = open_connection(own.broker).channel()
    channel.queue_declare("p-unused")
    own.reload({"policies": [policy({"message-ttl": 50}, pattern="^p-messages"),
                             policy({"expires": 50}, name="expires", pattern="^p-unused")]})
    channel.basic_publish("", "p-messages", b"soon gone")
    end = time.monotonic() + 5
    while count(channel, "p-messages"):
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        while time.monotonic() < end:
            time.sleep(0.2)
            channel.queue_declare("p-unused", passive=True)
    assert closed.value.reply_code == 404


def test_a_policys_alternate_exchange_catches_what_is_unroutable(defined, open_connection):
    own = defined({"exchanges": [{"name": "px", "type": "direct"}, {"name": "rest", "type": "fanout"}],
                   "queues": [{"name": "caught"}],
                   "bindings": [{"source": "rest", "destination": "caught", "destination_type": "queue"}],
                   "policies": [policy({"alternate-exchange": "rest"})]})
    channel = open_connection(own.broker).channel()
    channel.confirm_delivery()
    channel.basic_publish("px", "nowhere", b"kept", mandatory=True)
    assert bodies(channel, "caught") == [b"kept"]


def refusal(broker, **options):
    with pytest.raises(pika.exceptions.AMQPConnectionError) as refused:
        pika.BlockingConnection(parameters(broker, **options))
    return str(refused.value) + repr(refused.value.args)


def test_limits_of_virtual_hosts_and_users(defined, open_connection):
    own = defined({
        "users": [{"name": "ann", "password": "pw", "limits": {"max-connections": 1, "max-channels": 2}}],
        "permissions": [{"user": "ann", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "parameters": [{"vhost": "/", "component": "vhost-limits", "name": "limits",
                        "value": {"max-connections": 2, "max-queues": 1}}],
    })
    credentials = pika.PlainCredentials("ann", "pw")
    connection = open_connection(own.broker, credentials=credentials)
    assert "connection refused for user 'ann': user connection limit (1) is reached" in refusal(
        own.broker, credentials=credentials)
    open_connection(own.broker)
    assert "access to vhost '/' refused for user 'guest': connection limit (2) is reached" in refusal(own.broker)

    channel = connection.channel()
    channel.queue_declare("one")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare("two")
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406, "PRECONDITION_FAILED - cannot declare queue 'two': queue limit in vhost '/' (1) is reached")
    connection.channel()
    connection.channel()
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        connection.channel()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        530, "NOT_ALLOWED - number of channels opened for user 'ann' has reached the maximum allowed user limit of (2)")


def test_topic_permissions(defined, open_connection):
    own = defined({
        "users": [{"name": "ann", "password": "pw"}],
        "permissions": [{"user": "ann", "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}],
        "topic_permissions": [{"user": "ann", "vhost": "/", "exchange": "amq.topic", "write": r"^{username}\.",
                               "read": "^news"}],
    })
    connection = open_connection(own.broker, credentials=pika.PlainCredentials("ann", "pw"))
    channel = connection.channel()
    channel.queue_declare("q")
    channel.queue_bind("q", "amq.topic", "news.#")
    channel.confirm_delivery()
    channel.basic_publish("amq.topic", "ann.post", b"")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("amq.topic", "bob.post", b"")
    refused = "access to topic '{}' in exchange topic 'amq.topic' in vhost '/' refused for user 'ann'"
    assert closed.value.reply_text == "ACCESS_REFUSED - write " + refused.format("bob.post")
    channel = connection.channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_bind("q", "amq.topic", "#")
    assert closed.value.reply_text == "ACCESS_REFUSED - read " + refused.format("#")


def test_a_bad_file_stops_the_start_with_one_line(binary, tmp_path):
    path = tmp_path / "definitions.json"
    cases = [
        ('{"queues": [}', ["line 1, column 13", "not JSON"]),
        ('{"queues": [{"name": "q", "arguments": {"x-message-ttl": "1"}}]}', ["queues[0]", "x-message-ttl"]),
        ('{"policies": [{"name": "p", "pattern": ".*", "definition": {"ttl": 1}}]}',
         ["policies[0]", "not recognised policy settings"]),
    ]
    for text, expected in cases:
        path.write_text(text)
        run = subprocess.run([binary, "--in-memory", "--listen", "127.0.0.1:0", "--definitions", path],
                             capture_output=True, text=True, timeout=20, check=False)
        assert run.returncode == 1
        (line,) = [line for line in run.stderr.splitlines() if line.startswith("leveret: ")]
        for part in [str(path), "correct the file", *expected]:
            assert part in line


def test_a_bad_file_changes_nothing_on_sighup(defined, open_connection):
    own = defined({"queues": [{"name": "p"}]})
    own.reload({"queues": [{"name": "new"}], "bindings": [{"source": "amq.headers", "destination": "new",
                                                           "arguments": {"x-match": "sometimes"}}]},
               logged="definitions not imported")
    channel = open_connection(own.broker).channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.queue_declare("new", passive=True)
    assert closed.value.reply_code == 404
    own.reload({"queues": [{"name": "new"}]})
    assert count(open_connection(own.broker).channel(), "new") == 0


def test_sighup_without_a_file_changes_nothing(own_broker, open_connection):
    own = own_broker()
    own.process.send_signal(signal.SIGHUP)
    end = time.monotonic() + 10
    while "there is no definitions file" not in own.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)
    open_connection(own)
