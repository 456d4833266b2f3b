"""What was promised survives kill -9 and SIGTERM; what was not does not come back.

Each test has a broker of its own. "Promised" is: confirmed, committed, or answered with declare-ok or bind-ok."""

import pika
import pytest
from pika import spec

from support.wire import WireClient

PERSISTENT = pika.BasicProperties(delivery_mode=2)
TRANSIENT = pika.BasicProperties(delivery_mode=1)


@pytest.fixture(params=["kill", "sigterm"])
def restart(request):
    """The two ways to end the broker before it is started again."""
    return lambda own: own.restart_after_kill() if request.param == "kill" else own.restart_after_sigterm()


def drain(channel, queue):
    """[(body, redelivered)] of everything in the queue, acknowledged."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue)
        if method is None:
            break
        found.append((body, method.redelivered))
        channel.basic_ack(method.delivery_tag)
    channel.basic_qos()
    return found


def bodies(channel, queue):
    return [body for body, _ in drain(channel, queue)]


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def missing(connection, declare):
    """Whether a passive declare answers 404."""
    channel = connection.channel()
    try:
        declare(channel)
    except pika.exceptions.ChannelClosedByBroker as closed:
        assert closed.reply_code == 404
        return True
    channel.close()
    return False


def test_confirmed_messages_survive_in_order(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(200):
        channel.basic_publish("", "kept", str(number).encode() * (1 + number % 90), PERSISTENT)
    restart(own)
    channel = open_connection(own).channel()
    assert count(channel, "kept") == 200
    assert bodies(channel, "kept") == [str(number).encode() * (1 + number % 90) for number in range(200)]


def test_pipelined_confirms_promise_each_message_they_cover(own_broker, open_connection):
    """kill -9 in the middle of a stream: all that was confirmed is there, in order, and nothing twice."""
    own = own_broker()
    client = WireClient(own.host, own.port).handshake()
    client.open_channel(1)
    client.call(1, spec.Queue.Declare(queue="kept", durable=True))
    client.call(1, spec.Confirm.Select())
    confirmed = 0
    for number in range(1, 3001):
        client.publish(1, "", "kept", b"%08d" % number + b"x" * 500, PERSISTENT)
    while confirmed < 1000:
        method = client.read_method(spec.Basic.Ack)
        confirmed = max(confirmed, method.delivery_tag) if method.multiple else confirmed + 1
    own.kill()
    try:
        while True:  # what was still on its way
            method = client.read_method(spec.Basic.Ack)
            confirmed = max(confirmed, method.delivery_tag) if method.multiple else confirmed + 1
    except Exception:  # noqa: BLE001 - the socket broke, one way or the other
        client.close()
    own.start()
    numbers = [int(body[:8]) for body in bodies(open_connection(own).channel(), "kept")]
    assert numbers == sorted(set(numbers))
    assert numbers[:confirmed] == list(range(1, confirmed + 1))


def test_delivered_but_unacknowledged_messages_come_back_flagged(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(6):
        channel.basic_publish("", "kept", str(number), PERSISTENT)
    for _ in range(3):
        channel.basic_get("kept")
    restart(own)
    found = drain(open_connection(own).channel(), "kept")
    assert [body for body, _ in found] == [b"0", b"1", b"2", b"3", b"4", b"5"]
    # The messages that were delivered must say so. After a kill a broker may flag more: it cannot know.
    assert [flag for _, flag in found[:3]] == [True, True, True]


def test_acknowledged_messages_do_not_come_back_after_a_clean_stop(own_broker, open_connection):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(100):
        channel.basic_publish("", "kept", str(number), PERSISTENT)
    for _ in range(60):
        channel.basic_ack(channel.basic_get("kept")[0].delivery_tag)
    channel.basic_qos()
    own.restart_after_sigterm()
    assert bodies(open_connection(own).channel(), "kept") == [str(number).encode() for number in range(60, 100)]


def test_acks_before_a_later_confirm_do_not_come_back_after_a_kill(own_broker, open_connection):
    """An ack is not answered; but what was acknowledged before something else was confirmed is settled with it."""
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(20):
        channel.basic_publish("", "kept", str(number), PERSISTENT)
    for _ in range(10):
        channel.basic_ack(channel.basic_get("kept")[0].delivery_tag)
    channel.basic_publish("", "kept", b"last", PERSISTENT)
    own.restart_after_kill()
    found = bodies(open_connection(own).channel(), "kept")
    assert found == [str(number).encode() for number in range(10, 20)] + [b"last"]


def test_transient_things_are_gone_after_a_restart(own_broker, open_connection, restart):
    own = own_broker()
    connection = open_connection(own)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("durable", durable=True)
    channel.queue_declare("transient", durable=False)
    channel.exchange_declare("transient-x", durable=False)
    channel.basic_publish("", "durable", b"transient", TRANSIENT)
    channel.basic_publish("", "durable", b"persistent", PERSISTENT)
    channel.basic_publish("", "durable", b"no delivery mode")
    channel.basic_publish("", "transient", b"persistent in a transient queue", PERSISTENT)
    restart(own)
    connection = open_connection(own)
    assert bodies(connection.channel(), "durable") == [b"persistent"]
    assert missing(connection, lambda channel: channel.queue_declare("transient", passive=True))
    assert missing(connection, lambda channel: channel.exchange_declare("transient-x", passive=True))


def test_durable_exchanges_queues_and_bindings_survive_their_ok(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.exchange_declare("first", "topic", durable=True, arguments={"alternate-exchange": "rest"})
    channel.exchange_declare("rest", "fanout", durable=True)
    channel.exchange_declare("inner", "headers", durable=True, internal=True)
    channel.queue_declare("by-topic", durable=True, arguments={"x-max-length": 5})
    channel.queue_declare("by-headers", durable=True)
    channel.queue_declare("leftovers", durable=True)
    channel.queue_bind("by-topic", "first", "a.*")
    channel.exchange_bind("inner", "first", "b.#")
    channel.queue_bind("by-headers", "inner", "", {"x-match": "any", "n": 1, "s": "t"})
    channel.queue_bind("leftovers", "rest")
    channel.queue_bind("by-topic", "first", "gone")
    channel.queue_unbind("by-topic", "first", "gone")
    restart(own)
    channel = open_connection(own).channel()
    # the same declarations are equivalent to what came back
    channel.exchange_declare("first", "topic", durable=True, arguments={"alternate-exchange": "rest"})
    channel.exchange_declare("inner", "headers", durable=True, internal=True)
    channel.queue_declare("by-topic", durable=True, arguments={"x-max-length": 5})
    channel.confirm_delivery()
    for key, headers in (("a.b", {}), ("b.c", {"n": 1}), ("b", {"s": "u"}), ("gone", {}), ("zz", {})):
        channel.basic_publish("first", key, key, pika.BasicProperties(headers=headers))
    assert bodies(channel, "by-topic") == [b"a.b"]
    assert bodies(channel, "by-headers") == [b"b.c"]
    # what the topic exchange routed to an exchange that then routed nowhere is not a leftover of the topic exchange
    assert bodies(channel, "leftovers") == [b"gone", b"zz"]


def test_deleted_things_do_not_come_back(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.exchange_declare("gone-x", durable=True)
    channel.queue_declare("gone", durable=True)
    channel.queue_bind("gone", "gone-x", "k")
    channel.basic_publish("gone-x", "k", b"old", PERSISTENT)
    channel.queue_delete("gone")
    channel.exchange_delete("gone-x")
    channel.queue_declare("purged", durable=True)
    channel.basic_publish("", "purged", b"x", PERSISTENT)
    channel.queue_purge("purged")
    restart(own)
    connection = open_connection(own)
    assert missing(connection, lambda channel: channel.queue_declare("gone", passive=True))
    assert missing(connection, lambda channel: channel.exchange_declare("gone-x", passive=True))
    channel = connection.channel()
    assert bodies(channel, "purged") == []
    channel.queue_declare("gone", durable=True)
    assert bodies(channel, "gone") == []


def test_committed_transactions_survive_whole(own_broker, open_connection, restart):
    """RabbitMQ may forget the acknowledgement when it is killed: a commit there is not atomic."""
    own = own_broker()
    connection = open_connection(own)
    channel = connection.channel()
    for queue in ("one", "two"):
        channel.queue_declare(queue, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "one", b"moved", PERSISTENT)
    tx = connection.channel()
    tx.tx_select()
    tx.basic_ack(tx.basic_get("one")[0].delivery_tag)
    tx.basic_publish("", "two", b"moved", PERSISTENT)
    tx.tx_commit()
    tx.basic_publish("", "two", b"not committed", PERSISTENT)
    restart(own)
    channel = open_connection(own).channel()
    assert (bodies(channel, "one"), bodies(channel, "two")) == ([], [b"moved"])


def test_properties_and_large_bodies_survive(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    properties = pika.BasicProperties(
        delivery_mode=2, content_type="a/b", headers={"n": 1, "t": {"x": [1, "two", None]}}, priority=4,
        correlation_id="c", message_id="m", timestamp=1700000000, type="t", app_id="a", user_id="guest")
    sizes = [0, 1, 131063, 131064, 131065, 3_000_000]
    for size in sizes:
        channel.basic_publish("", "kept", b"b" * size, properties)
    restart(own)
    channel = open_connection(own).channel()
    for size in sizes:
        method, back, body = channel.basic_get("kept", auto_ack=True)
        assert (method.routing_key, vars(back), len(body)) == ("kept", vars(properties), size)
        assert body == b"b" * size


def test_one_message_in_several_durable_queues_survives_in_each(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.exchange_declare("fan", "fanout", durable=True)
    queues = [f"q{number}" for number in range(5)]
    for queue in queues:
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "fan")
    channel.confirm_delivery()
    channel.basic_publish("fan", "", b"x" * 100_000, PERSISTENT)
    channel.basic_ack(channel.basic_get("q0")[0].delivery_tag)
    channel.basic_publish("fan", "", b"second", PERSISTENT)
    restart(own)
    channel = open_connection(own).channel()
    assert [len(bodies(channel, queue)) for queue in queues] == [1, 2, 2, 2, 2]


def test_exclusive_and_durable_queues_of_a_dead_connection_are_gone(own_broker, open_connection, restart):
    own = own_broker()
    connection = open_connection(own)
    connection.channel().queue_declare("mine", durable=True, exclusive=True)
    restart(own)
    assert missing(open_connection(own), lambda channel: channel.queue_declare("mine", passive=True))
    open_connection(own).channel().queue_declare("mine", durable=True)  # the name is free


@pytest.mark.leveret_only("RabbitMQ keeps the place only within a process")
def test_a_requeued_message_keeps_its_place_over_a_restart(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    for number in range(5):
        channel.basic_publish("", "kept", str(number), PERSISTENT)
    tags = [channel.basic_get("kept")[0].delivery_tag for _ in range(5)]
    channel.basic_ack(tags[2])
    channel.basic_nack(tags[1], requeue=True)
    channel.basic_publish("", "kept", b"5", PERSISTENT)
    restart(own)
    assert bodies(open_connection(own).channel(), "kept") == [b"0", b"1", b"3", b"4", b"5"]
