"""Exchanges beside the four of AMQP: hashing and random ones, and all kinds bound to each other."""

import collections

import pika
import pytest

from support.queues import bodies, count


def refusal(step):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        step()
    return closed.value.reply_code, closed.value.reply_text


@pytest.fixture
def bound(channel, scratch):
    """Declares an exchange and binds `keys` to a queue each: (exchange, queues)."""
    channel.confirm_delivery()

    def make(kind, keys, **arguments):
        exchange = scratch.exchange(channel, kind, arguments={
            key.replace("_", "-"): value for key, value in arguments.items()})
        queues = [scratch.queue(channel) for _ in keys]
        for queue, key in zip(queues, keys):
            channel.queue_bind(queue, exchange, key)
        return exchange, queues
    return make


def owners(channel, queues):
    """{body: place of its queue} of everything in the queues."""
    return {body: place for place, queue in enumerate(queues) for body in bodies(channel, queue)}


def test_consistent_hash_shares_by_weight_and_keeps_keys_together(channel, bound):
    exchange, queues = bound("x-consistent-hash", ["1", "3"])
    for round in range(2):
        for key in range(400):
            channel.basic_publish(exchange, f"key-{key}", str(key), mandatory=True)
        found = owners(channel, queues)
        if round == 0:
            first = found
    assert len(first) == 400 and first == found
    shares = collections.Counter(first.values())
    assert 40 < shares[0] < 170, shares


def test_consistent_hash_moves_only_the_keys_of_the_queue_that_left(channel, bound):
    exchange, queues = bound("x-consistent-hash", ["10", "10", "10"])

    def publish_all():
        for key in range(300):
            channel.basic_publish(exchange, str(key), str(key))
        return owners(channel, queues)
    before = publish_all()
    channel.queue_delete(queues[2])
    left = queues.pop()
    after = publish_all()
    assert len(after) == 300 and left
    assert all(after[key] == owner for key, owner in before.items() if owner != 2)


def test_consistent_hash_by_header_and_by_property(channel, bound):
    by_header, header_queues = bound("x-consistent-hash", ["1"] * 5, hash_header="customer")
    by_property, property_queues = bound("x-consistent-hash", ["1"] * 5, hash_property="message_id")
    for number in range(40):
        key = f"key-{number}"
        channel.basic_publish(by_header, key, b"h", pika.BasicProperties(headers={"customer": "one"}))
        channel.basic_publish(by_property, key, b"p", pika.BasicProperties(message_id="same"))
    for queues in (header_queues, property_queues):
        assert sorted(count(channel, queue) for queue in queues) == [0, 0, 0, 0, 40]


@pytest.mark.parametrize("arguments, text", [
    ({"hash-header": "a", "hash-property": "message_id"}, "hash-header and hash-property are mutually exclusive"),
    ({"hash-property": "app_id"}, "Unsupported property: app_id")])
def test_consistent_hash_refuses_bad_arguments(connection, scratch, arguments, text):
    name = scratch.name()
    assert refusal(lambda: connection.channel().exchange_declare(name, "x-consistent-hash", arguments=arguments)) == (
        406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize("key, text", [
    ("0", "The binding key must be greater than 0"), ("-2", "The binding key must be greater than 0"),
    ("heavy", 'The binding key must be an integer: <<"heavy">>'), ("", "The binding key must be an integer: <<>>")])
def test_consistent_hash_weights_are_positive_numbers(connection, channel, scratch, key, text):
    exchange, queue = scratch.exchange(channel, "x-consistent-hash"), scratch.queue(channel)
    assert refusal(lambda: connection.channel().queue_bind(queue, exchange, key)) == (
        406, f"PRECONDITION_FAILED - {text}")


@pytest.mark.parametrize("kind", ["x-random", "x-local-random"])
def test_random_exchanges_choose_one_queue_each_time(channel, bound, kind):
    exchange, queues = bound(kind, ["", "", ""])
    for _ in range(120):
        channel.basic_publish(exchange, "ignored", b"x", mandatory=True)
    counts = [count(channel, queue) for queue in queues]
    assert sum(counts) == 120 and min(counts) > 10, counts


def test_modulus_hash_keeps_keys_together(channel, bound):
    exchange, queues = bound("x-modulus-hash", ["ignored"] * 4)
    for _ in range(2):
        for key in range(100):
            channel.basic_publish(exchange, str(key), str(key), mandatory=True)
    found = [bodies(channel, queue) for queue in queues]
    assert sum(map(len, found)) == 200 and all(found)
    assert all(len(set(some)) * 2 == len(some) for some in found)


def test_a_hash_exchange_without_bindings_routes_nowhere(channel, scratch):
    channel.confirm_delivery()
    for kind in ("x-consistent-hash", "x-modulus-hash", "x-random", "x-local-random"):
        exchange = scratch.exchange(channel, kind)
        with pytest.raises(pika.exceptions.UnroutableError):
            channel.basic_publish(exchange, "key", b"x", mandatory=True)


def test_a_hash_exchange_between_others(channel, bound, scratch):
    """A topic exchange shares its messages out over two queues through a hash exchange, with an alternate."""
    hashing, queues = bound("x-consistent-hash", ["1", "1"])
    spare, (lost,) = bound("fanout", [""])
    front = scratch.exchange(channel, "topic", arguments={"alternate-exchange": spare})
    channel.exchange_bind(hashing, front, "order.#")
    for number in range(50):
        channel.basic_publish(front, f"order.{number}", str(number), mandatory=True)
    channel.basic_publish(front, "invoice.1", b"lost", mandatory=True)
    assert sum(len(bodies(channel, queue)) for queue in queues) == 50
    assert bodies(channel, lost) == [b"lost"]


def test_a_hash_exchange_shares_out_over_exchanges(channel, bound, scratch):
    hashing = scratch.exchange(channel, "x-consistent-hash")
    behind = [bound("fanout", [""]) for _ in range(3)]
    for exchange, _ in behind:
        channel.exchange_bind(exchange, hashing, "1")
    for number in range(90):
        channel.basic_publish(hashing, str(number), str(number), mandatory=True)
    counts = [count(channel, queue) for _, (queue,) in behind]
    assert sum(counts) == 90 and min(counts) > 0


def test_bindings_and_exchanges_of_every_kind_survive_kill_9(own_broker, open_connection):
    broker = own_broker()
    channel = open_connection(broker).channel()
    for kind in ("x-consistent-hash", "x-random", "x-local-random", "x-modulus-hash"):
        channel.exchange_declare(kind, kind, durable=True)
        channel.queue_declare(f"of-{kind}", durable=True)
        channel.queue_bind(f"of-{kind}", kind, "1" if kind == "x-consistent-hash" else "")
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    channel.confirm_delivery()
    for kind in ("x-consistent-hash", "x-random", "x-local-random", "x-modulus-hash"):
        channel.basic_publish(kind, "", kind, mandatory=True)
        assert bodies(channel, f"of-{kind}") == [kind.encode()]


def test_an_internal_exchange_takes_no_publishes_but_routes(connection, channel, scratch):
    inner, outer = scratch.exchange(channel, "fanout", internal=True), scratch.exchange(channel, "fanout")
    queue = scratch.queue(channel)
    channel.queue_bind(queue, inner)
    channel.exchange_bind(inner, outer)
    channel.confirm_delivery()
    channel.basic_publish(outer, "", b"through", mandatory=True)
    assert bodies(channel, queue) == [b"through"]
    other = connection.channel()
    other.confirm_delivery()
    assert refusal(lambda: other.basic_publish(inner, "", b"x")) == (
        403, f"ACCESS_REFUSED - cannot publish to internal exchange '{inner}' in vhost '/'")


def test_auto_delete_exchanges_go_with_their_last_binding_as_a_source(connection, channel, scratch):
    source, target = scratch.exchange(channel, "fanout", auto_delete=True), scratch.exchange(channel, "fanout")
    channel.exchange_bind(target, source)
    channel.exchange_unbind(target, source)
    code, _ = refusal(lambda: connection.channel().exchange_declare(source, passive=True))
    assert code == 404
    channel.exchange_declare(target, passive=True)  # what was bound to it stays
