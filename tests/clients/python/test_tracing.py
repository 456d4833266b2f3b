"""The firehose: amq.rabbitmq.trace gets a copy of each message that is published or delivered."""

import json

import pika
import pytest

from conftest import parameters
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("RabbitMQ switches it with rabbitmqctl")


def take(channel, queue, count):
    """[(routing key, properties, body)] of `count` messages, which are all."""
    found = []

    def one():
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            found.append((method.routing_key, properties, body))
        return len(found) >= count

    eventually(one, what=f"{count} messages")
    assert channel.basic_get(queue)[0] is None
    return found


def traces(channel, key="#"):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, "amq.rabbitmq.trace", key)
    return queue


@pytest.fixture
def traced(own_broker, open_connection):
    """A connection to a broker whose virtual host / is traced."""
    return open_connection(own_broker("--trace-vhost", "/"))


def test_publishes_and_deliveries(traced):
    channel = traced.channel()
    channel.confirm_delivery()
    queue = traces(channel)
    channel.queue_declare("orders")
    channel.queue_bind("orders", "amq.direct", "key")
    sent = pika.BasicProperties(content_type="text/plain", delivery_mode=2, headers={"a": 1}, message_id="m")
    channel.basic_publish("amq.direct", "key", b"body", sent)
    channel.basic_get("orders", auto_ack=True)

    (published, into, first), (delivered, out_of, second) = take(channel, queue, 2)
    assert (published, delivered) == ("publish.amq.direct", "deliver.orders")
    assert first == second == b"body"
    shared = {
        "exchange_name": "amq.direct",
        "routing_keys": ["key"],
        "properties": {"content_type": "text/plain", "delivery_mode": 2, "headers": {"a": 1}, "message_id": "m"},
        "vhost": "/",
        "channel": 1,
        "user": "guest",
    }
    for headers in (into.headers, out_of.headers):
        assert {name: headers[name] for name in shared} == shared
        assert " -> 127.0.0.1:" in headers["connection"]
        assert headers["node"]
    assert set(into.headers) == {*shared, "node", "connection", "routed_queues"}
    assert into.headers["routed_queues"] == ["orders"]
    assert set(out_of.headers) == {*shared, "node", "connection", "redelivered"}
    assert out_of.headers["redelivered"] == 0


def test_the_default_exchange_and_what_reaches_nobody(traced):
    channel = traced.channel()
    queue = traces(channel, "publish.")
    channel.basic_publish("", "nowhere", b"x")
    [(_, properties, body)] = take(channel, queue, 1)
    assert (body, properties.headers["exchange_name"], properties.headers["routed_queues"]) == (b"x", "", [])
    assert properties.headers["routing_keys"] == ["nowhere"]


def test_traces_are_not_traced(traced):
    channel = traced.channel()
    queue = traces(channel)
    seen = []
    channel.basic_consume(queue, lambda _c, method, _p, _b: seen.append(method.routing_key), auto_ack=True)
    for _ in range(3):
        channel.basic_publish("amq.fanout", "", b"x")
    eventually(lambda: traced.process_data_events(0.02) or len(seen) >= 3)
    channel.queue_declare("", exclusive=True)
    traced.process_data_events(0.05)
    assert seen == ["publish.amq.fanout"] * 3


def test_clients_cannot_publish_to_it(channel):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("amq.rabbitmq.trace", "publish.x", b"x")
        channel.queue_declare("", exclusive=True)
    assert closed.value.reply_code == 403


def test_off_unless_asked_for(channel):
    queue = traces(channel)
    channel.confirm_delivery()
    channel.basic_publish("amq.fanout", "", b"x")
    assert channel.basic_get(queue)[0] is None


def test_definitions_switch_it_while_the_broker_runs(own_broker, tmp_path):
    path = tmp_path / "definitions.json"

    def write(on):
        path.write_text(json.dumps({"vhosts": [{"name": "/", "tracing": on}]}))

    write(False)
    own = own_broker("--definitions", str(path))
    connection = pika.BlockingConnection(parameters(own))
    channel = connection.channel()
    channel.confirm_delivery()
    queue = traces(channel)

    def is_traced():
        channel.basic_publish("amq.fanout", "", b"x")
        return channel.basic_get(queue, auto_ack=True)[0] is not None

    assert not is_traced()
    write(True)
    own.process.send_signal(1)
    eventually(is_traced)
    channel.queue_purge(queue)
    write(False)
    own.process.send_signal(1)
    eventually(lambda: not is_traced())
    connection.close()
