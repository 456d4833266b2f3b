"""The event exchange: amq.rabbitmq.event is told what happens in the broker, as by RabbitMQ's plugin."""

import json
import os
import signal
import subprocess
import time

import pika
import pytest

from conftest import parameters
from support.waiting import eventually, exists

pytestmark = pytest.mark.leveret_only("a plugin there, which must be enabled")

EVENTS = "amq.rabbitmq.event"
GUEST = {"user_who_performed_action": "guest"}
BROKER = {"user_who_performed_action": "rmq-internal"}


class Listener:
    """A connection with a queue bound to the event exchange; an event is (routing key, properties)."""

    def __init__(self, connection, key="#", queue=""):
        self.channel = connection.channel()
        options = {"durable": True} if queue else {"exclusive": True}
        self.queue = self.channel.queue_declare(queue, **options).method.queue
        self.channel.queue_bind(self.queue, EVENTS, key)
        if key in ("#", "binding.#"):
            assert self.next()[0] == "binding.created"

    def get(self):
        method, properties, body = self.channel.basic_get(self.queue, auto_ack=True)
        if method is None:
            return None
        assert body == b""
        return method.routing_key, properties

    def next(self):
        return eventually(self.get, what="an event")

    def expect(self, key, **headers):
        """The next event; returns its headers."""
        got, properties = self.next()
        assert got == key, properties.headers
        assert {name: properties.headers.get(name) for name in headers} == headers
        return properties.headers

    def take(self, count):
        """{routing key: [headers]} of the next `count` events."""
        found = {}
        for _ in range(count):
            key, properties = self.next()
            found.setdefault(key, []).append(properties.headers)
        return found

    def expect_nothing(self):
        """Whatever was told before is here."""
        self.channel.exchange_declare("marker", auto_delete=True)
        self.expect("exchange.created", name="marker")
        self.channel.exchange_delete("marker")
        self.expect("exchange.deleted", name="marker")


@pytest.fixture
def own(own_broker, tmp_path):
    """A broker with a definitions file."""
    path = tmp_path / "definitions.json"
    path.write_text("{}")
    broker = own_broker("--definitions", str(path))
    broker.definitions = path
    return broker


def reload(broker, definitions):
    broker.definitions.write_text(json.dumps(definitions))
    broker.process.send_signal(signal.SIGHUP)


@pytest.fixture
def listen(own, open_connection):
    return lambda key="#", **options: Listener(open_connection(own), key, **options)


def test_the_exchange_is_there(connect):
    channel = connect().channel()
    channel.exchange_declare(EVENTS, "topic", durable=True, internal=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_delete(EVENTS)
    assert closed.value.reply_code == 403
    channel = connect().channel()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish(EVENTS, "queue.created", b"x")
        channel.queue_declare("", exclusive=True)
    assert closed.value.reply_code == 403


def test_what_an_event_looks_like(listen, own, open_connection):
    listener = listen("queue.*")
    began = time.time()
    open_connection(own).channel().queue_declare("orders", durable=True, arguments={"x-max-length": 5})
    key, properties = listener.next()
    assert key == "queue.created"
    assert properties.delivery_mode == 2
    headers = properties.headers
    milliseconds = headers.pop("timestamp_in_ms")
    assert properties.timestamp == milliseconds // 1000
    assert began - 5 < milliseconds / 1000 < time.time() + 5
    node = headers["leader"]
    assert node
    assert headers == {
        "name": "orders", "vhost": "/", "type": "rabbit_classic_queue", "durable": True, "auto_delete": False,
        "exclusive": False, "owner_pid": "", "arguments": ['{<<"x-max-length">>,signedint,5}'], "leader": node,
        "members": [node], **GUEST,
    }


def test_queues(listen, own, open_connection):
    listener = listen("queue.*")
    other = open_connection(own)
    channel = other.channel()
    channel.queue_declare("mine", exclusive=True)
    owner = listener.expect("queue.created", name="mine", exclusive=True)["owner_pid"]
    assert owner.startswith("<")
    channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
    listener.expect("queue.created", name="stream", type="rabbit_stream_queue")
    channel.queue_delete("stream")
    assert set(listener.expect("queue.deleted", name="stream", vhost="/", **GUEST)) == {
        "name", "vhost", "user_who_performed_action", "timestamp_in_ms"}
    channel.queue_declare("expiring", arguments={"x-expires": 50})
    listener.expect("queue.created", name="expiring")
    listener.expect("queue.deleted", name="expiring", **BROKER)
    other.close()
    listener.expect("queue.deleted", name="mine", **BROKER)


def test_exchanges_and_bindings(listen, own, open_connection):
    listener = listen()
    channel = listener.channel
    channel.exchange_declare("x", "topic", auto_delete=True)
    assert set(listener.expect("exchange.created", name="x", vhost="/", type="topic", durable=False, auto_delete=True,
                               internal=False, arguments=[], policy="", **GUEST)) == {
        "name", "vhost", "type", "durable", "auto_delete", "internal", "arguments", "policy",
        "user_who_performed_action", "timestamp_in_ms"}
    channel.queue_declare("q")
    listener.expect("queue.created")
    ends = {"source_name": "x", "source_kind": "exchange", "destination_name": "q", "destination_kind": "queue",
            "routing_key": "a.*", "arguments": [], "vhost": "/", **GUEST}
    channel.queue_bind("q", "x", "a.*")
    assert set(listener.expect("binding.created", **ends)) == {*ends, "timestamp_in_ms"}
    channel.exchange_bind("amq.fanout", "x", "#", arguments={"a": "b"})
    listener.expect("binding.created", destination_name="amq.fanout", destination_kind="exchange",
                    arguments=['{<<"a">>,longstr,<<"b">>}'])
    channel.queue_unbind("q", "x", "a.*")
    listener.expect("binding.deleted", **ends)
    channel.exchange_unbind("amq.fanout", "x", "#", arguments={"a": "b"})
    gone = listener.take(2)
    assert gone["exchange.deleted"][0]["name"] == "x"
    assert gone["binding.deleted"][0]["destination_name"] == "amq.fanout"
    channel.queue_bind("q", "amq.fanout")
    listener.expect("binding.created")
    channel.queue_delete("q")
    listener.expect("binding.deleted", source_name="amq.fanout", destination_name="q", **BROKER)
    listener.expect("queue.deleted", **GUEST)


def test_connections_channels_and_consumers(listen, own):
    listener = listen()
    client = pika.BlockingConnection(parameters(
        own, heartbeat=40, channel_max=100, client_properties={"connection_name": "my name"}))
    ends = {"host": "{127,0,0,1}", "peer_host": "{127,0,0,1}", "protocol": "{0,9,1}", "ssl": False,
            "auth_mechanism": "PLAIN"}
    login = listener.expect("user.authentication.success", name="guest", connection_type="network", **ends)
    created = listener.expect("connection.created", user="guest", vhost="/", timeout=40, channel_max=100,
                              port=own.port, user_provided_name="my name", peer_port=login["peer_port"],
                              name=login["connection_name"], **ends, **GUEST)
    assert created["name"] == f"127.0.0.1:{login['peer_port']} -> 127.0.0.1:{own.port}"
    assert '{<<"connection_name">>,longstr,<<"my name">>}' in created["client_properties"]
    assert abs(created["connected_at"] - created["timestamp_in_ms"]) < 5000
    assert {"pid", "node", "frame_max", "peer_cert_subject", "ssl_cipher"} <= set(created)

    channel = client.channel()
    opened = listener.expect("channel.created", number=1, connection=created["pid"], user="guest", vhost="/",
                             name=f"{created['name']} (1)", **GUEST)
    assert opened["pid"] != created["pid"]
    queue = channel.queue_declare("q").method.queue
    listener.expect("queue.created")
    channel.basic_qos(prefetch_count=7)
    tag = channel.basic_consume(queue, lambda *_: None, exclusive=True)
    consumer = {"consumer_tag": tag, "channel": opened["pid"], "queue": "q", "vhost": "/", **GUEST}
    assert set(listener.expect("consumer.created", exclusive=True, ack_required=True, prefetch_count=7, arguments=[],
                               **consumer)) == {*consumer, "exclusive", "ack_required", "prefetch_count", "arguments",
                                                "timestamp_in_ms"}
    channel.basic_cancel(tag)
    assert set(listener.expect("consumer.deleted", **consumer)) == {*consumer, "timestamp_in_ms"}
    channel.basic_consume(queue, lambda *_: None)
    listener.expect("consumer.created")
    channel.close()
    listener.expect("consumer.deleted")
    # pika cancels its consumers before it closes
    listener.expect("channel.closed", pid=opened["pid"], consumer_count=0, **GUEST)
    again = client.channel(1)
    assert listener.expect("channel.created", number=1)["pid"] != opened["pid"]
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        again.queue_declare("nowhere", passive=True)
    listener.expect("channel.closed", consumer_count=0)
    client.close()
    closed = listener.expect("connection.closed", pid=created["pid"], name=created["name"], node=created["node"],
                             user_provided_name="my name")
    assert closed["client_properties"] == created["client_properties"]
    assert "user_who_performed_action" not in closed
    listener.expect_nothing()


def test_a_connection_that_is_cut(listen, own):
    listener = listen("*.closed")
    client = pika.BlockingConnection(parameters(own))
    client.channel()
    client._impl._transport._sock.close()
    listener.expect("channel.closed")
    listener.expect("connection.closed")


def test_failed_logins(listen, own):
    listener = listen("user.authentication.failure")
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        pika.BlockingConnection(parameters(own, credentials=pika.PlainCredentials("ann", "wrong")))
    failed = listener.expect("user.authentication.failure", name="ann", error="user 'ann' - invalid credentials",
                             auth_mechanism="PLAIN", peer_host="{127,0,0,1}", ssl=False)
    assert "user_who_performed_action" not in failed


def test_definitions(listen, own):
    listener = listen()
    reload(own, {
        "vhosts": [{"name": "shop"}],
        "users": [{"name": "ann", "password": "secret", "tags": ["management"], "limits": {"max-channels": 9}}],
        "permissions": [{"user": "ann", "vhost": "shop", "configure": "c", "write": "w", "read": "r"}],
        "topic_permissions": [{"user": "ann", "vhost": "shop", "exchange": "amq.topic", "write": "a", "read": "b"}],
        "parameters": [
            {"vhost": "shop", "component": "shovel", "name": "s", "value": {"src-uri": "amqp://"}},
            {"vhost": "shop", "component": "vhost-limits", "name": "limits", "value": {"max-queues": 3}},
        ],
        "global_parameters": [{"name": "cluster_name", "value": "x"}],
        "policies": [{"vhost": "shop", "name": "p", "pattern": "^q", "apply-to": "queues", "priority": 4,
                      "definition": {"max-length": 5, "overflow": "drop-head"}}],
    })
    told = listener.take(11)
    assert all(headers.items() >= BROKER.items() for found in told.values() for headers in found)
    parameters_set = {headers["component"]: headers for headers in told.pop("parameter.set")}
    assert set(parameters_set) == {"shovel", "vhost-limits", "global"}
    assert parameters_set["shovel"]["value"] == {"src-uri": "amqp://"}
    assert (parameters_set["global"]["name"], parameters_set["global"].get("vhost")) == ("cluster_name", None)

    def has(key, **headers):
        [found] = told.pop(key)
        assert {name: found.get(name) for name in headers} == headers

    has("vhost.created", name="shop", description="", tags=[], tracing=False)
    has("user.created", name="ann")
    has("user.tags.set", name="ann", tags=["management"])
    has("user.limits.set", name="limits", username="ann", **{"max-channels": 9})
    has("permission.created", user="ann", vhost="shop", configure="c", write="w", read="r")
    has("topic.permission.created", user="ann", vhost="shop", exchange="amq.topic", write="a", read="b")
    has("vhost.limits.set", name="limits", **{"max-queues": 3})
    has("policy.set", name="p", vhost="shop", pattern="^q", priority=4, definition={"max-length": 5,
                                                                                     "overflow": "drop-head"},
        **{"apply-to": "queues"})
    assert told == {}


def test_changed_users_and_limits(listen, own):
    listener = listen()

    def user(**fields):
        reload(own, {"users": [{"name": "ann", "tags": [], **fields}]})

    user(password="one")
    listener.expect("user.created", name="ann")
    user(password="two")
    listener.expect("user.password.changed", name="ann")
    user(password_hash="")
    listener.expect("user.password.cleared", name="ann")
    user(password_hash="", limits={"max-connections": 1})
    listener.expect("user.limits.set", username="ann")
    user(password_hash="", limits={})
    listener.expect("user.limits.cleared", username="ann")

    def limits(**value):
        reload(own, {"parameters": [{"vhost": "/", "component": "vhost-limits", "name": "limits", "value": value}]})

    limits(**{"max-queues": 30})
    listener.expect("parameter.set", component="vhost-limits", value={"max-queues": 30})
    listener.expect("vhost.limits.set", **{"max-queues": 30})
    limits()
    listener.expect("parameter.cleared", component="vhost-limits")
    listener.expect("vhost.limits.cleared", name="limits")
    listener.expect_nothing()


def test_a_listener_that_a_definitions_file_makes(own_broker, open_connection, tmp_path):
    """It hears of what the file makes after it, and of the first client."""
    path = tmp_path / "definitions.json"
    path.write_text(json.dumps({
        "queues": [{"name": "audit", "vhost": "/", "durable": True, "auto_delete": False, "arguments": {}}],
        "bindings": [{"source": EVENTS, "vhost": "/", "destination": "audit", "destination_type": "queue",
                      "routing_key": key, "arguments": {}} for key in ("binding.created", "connection.created")],
    }))
    channel = open_connection(own_broker("--definitions", str(path))).channel()
    found = []

    def take():
        method, properties, _ = channel.basic_get("audit", auto_ack=True)
        if method is not None:
            found.append((method.routing_key, properties.headers["user_who_performed_action"]))
        return len(found) == 3

    eventually(take, what="three events")
    assert found == [("binding.created", "rmq-internal")] * 2 + [("connection.created", "guest")]


def test_events_wait_in_durable_queues_over_a_crash(own, open_connection):
    listener = Listener(open_connection(own), "queue.*", queue="audit")
    listener.channel.confirm_delivery()
    listener.channel.queue_declare("before", durable=True)
    eventually(lambda: listener.channel.queue_declare("audit", passive=True).method.message_count == 1)
    # Confirmed, and so is all that was stored before it.
    listener.channel.basic_publish("", "before", b"x", pika.BasicProperties(delivery_mode=2))
    own.kill()
    own.start()
    assert exists(own, open_connection, "before")
    channel = open_connection(own).channel()
    channel.queue_declare("after", durable=True)
    eventually(lambda: channel.queue_declare("audit", passive=True).method.message_count == 2)
    names = [channel.basic_get("audit", auto_ack=True)[1].headers["name"] for _ in range(2)]
    assert names == ["before", "after"]


def test_the_alarm_of_the_disk(own_broker, binary, open_connection, tmp_path):
    """On a disk of its own in memory, which is nearly full for a while."""
    mount = "mount -t tmpfs -o size=400m tmpfs {data} && exec {binary} \"$@\""
    if subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True).returncode:
        pytest.skip("no namespace to mount a disk in")
    own = own_broker("--disk-reserve", "256MiB", start=False)
    own.data_dir.mkdir()
    wrapper = tmp_path / "wrapper"
    command = mount.format(data=own.data_dir, binary=binary)
    wrapper.write_text(f"#!/bin/sh\nexec unshare -rm sh -c '{command}' sh \"$@\"\n")
    wrapper.chmod(0o755)
    own.binary = str(wrapper)
    connection = open_connection(own.start())
    listener, working = Listener(connection, "alarm.*"), connection.channel()

    def expect(key):
        """The disk is looked at when something is written."""
        def work():
            working.queue_declare("work", durable=True)
            working.queue_delete("work")
            return listener.get()
        got, properties = eventually(work, 30, key)
        assert (got, properties.headers["source"]) == (key, "disk")
        return properties.headers["node"]

    filler = f"/proc/{own.pid}/root{own.data_dir}/filler"
    with open(filler, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 200 << 20)
    node = expect("alarm.set")
    os.unlink(filler)
    assert expect("alarm.cleared") == node


def test_many_events_keep_their_order(listen, own, open_connection):
    listener = listen("queue.created")
    seen = []
    consumer = listener.channel.connection
    listener.channel.basic_consume(listener.queue, lambda _c, _m, properties, _b: seen.append(
        properties.headers["name"]), auto_ack=True)
    channel = open_connection(own).channel()
    names = [f"q{number}" for number in range(300)]
    for name in names:
        channel.queue_declare(name)
    eventually(lambda: consumer.process_data_events(0.02) or len(seen) >= len(names), what="all events")
    assert seen == names
