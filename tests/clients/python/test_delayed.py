"""x-delayed-message: declaring it, what counts as a delay, order, and that nothing of it is lost or doubled.

Written against what RabbitMQ's delayed message plugin documents and does."""

import time

import pika
import pytest

from support.management import Management, path
from support.waiting import drive_until, eventually

pytestmark = pytest.mark.leveret_only("a plugin in RabbitMQ")

PERSISTENT = 2
BAD_TYPE = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type"
# A moment that nothing takes even on a busy machine, against which "at once" is told from "later".
LONG_MS = 600_000


@pytest.fixture
def later(channel, scratch):
    """Names of a delayed exchange and of a queue bound to it by k."""
    return delayed_exchange(channel, scratch)


def delayed_exchange(channel, scratch, kind="direct", key="k", queue=None, **options):
    exchange = scratch.name("later")
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": kind}, **options)
    queue = queue or scratch.queue(channel, durable=True)
    channel.queue_bind(queue, exchange, key)
    return exchange, queue


def publish(channel, exchange, delay=None, body=b"", key="k", headers=None, mandatory=False, **properties):
    headers = dict(headers or {})
    if delay is not None:
        headers["x-delay"] = delay
    channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers, **properties), mandatory)


def count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def take(channel, queue, number, deadline_s=20):
    """Takes so many messages, as they come: (properties, body) of each."""
    taken = []

    def take_what_is_there():
        while len(taken) < number:
            method, properties, body = channel.basic_get(queue, auto_ack=True)
            if method is None:
                return False
            taken.append((properties, body))
        return True
    eventually(take_what_is_there, deadline_s, f"{number} messages")
    return taken


def bodies(channel, queue, number):
    return [body for _, body in take(channel, queue, number)]


# Declaring

@pytest.mark.parametrize("arguments", [
    None, {}, {"x-delayed-type": "zz"}, {"x-delayed-type": ""}, {"x-delayed-type": 1},
    {"x-delayed-type": "x-delayed-message"},
], ids=str)
def test_the_delayed_type_must_be_a_type(connection, scratch, arguments):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        connection.channel().exchange_declare(scratch.name(), "x-delayed-message", arguments=arguments)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, BAD_TYPE)


def test_redeclaring_compares_what_rabbitmq_compares(channel, scratch):
    """Type and flags count, and of the arguments alternate-exchange alone."""
    exchange = scratch.name()
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "fanout"})
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.exchange_declare(exchange, passive=True)
    queue = scratch.queue(channel)
    channel.queue_bind(queue, exchange, "")
    publish(channel, exchange, 1, b"a", "any")
    assert bodies(channel, queue, 1) == [b"a"], "it stays what it was first"
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare(exchange, "direct")
    assert closed.value.reply_code == 406 and "inequivalent arg 'type'" in closed.value.reply_text


@pytest.mark.parametrize(("kind", "binding", "key", "other"), [
    ("direct", "k", "k", "kk"), ("topic", "a.#", "a.b", "b.a"), ("fanout", "", "any", None),
])
def test_it_routes_as_its_delayed_type(channel, scratch, kind, binding, key, other):
    exchange, queue = delayed_exchange(channel, scratch, kind, binding)
    if other is not None:
        publish(channel, exchange, 1, b"other", other)
    publish(channel, exchange, 100, b"routed", key)
    assert bodies(channel, queue, 1) == [b"routed"]
    assert count(channel, queue) == 0


def test_it_routes_by_headers(channel, scratch):
    exchange, queue = delayed_exchange(channel, scratch, "headers")
    channel.queue_unbind(queue, exchange, "k")
    channel.queue_bind(queue, exchange, "", {"x-match": "all", "kind": "a"})
    publish(channel, exchange, 1, b"b", headers={"kind": "b"})
    publish(channel, exchange, 50, b"a", headers={"kind": "a"})
    assert bodies(channel, queue, 1) == [b"a"]


# What is a delay

@pytest.mark.parametrize("delay", [
    None, 0, -1, -LONG_MS, 2 ** 32, 2 ** 40, "", "soon", "-5", "1.5", True, [LONG_MS], {"ms": LONG_MS},
], ids=str)
def test_what_is_no_delay_goes_on_at_once(channel, later, delay):
    exchange, queue = later
    channel.confirm_delivery()
    publish(channel, exchange, delay, b"now")
    # The confirm says that it is in the queue.
    assert count(channel, queue) == 1


@pytest.mark.parametrize("delay", [LONG_MS, 2 ** 32 - 1, str(LONG_MS)], ids=str)
def test_what_is_a_delay_waits(channel, later, delay):
    exchange, queue = later
    channel.confirm_delivery()
    publish(channel, exchange, delay, b"later")
    assert count(channel, queue) == 0


def test_the_header_arrives_negated(channel, later):
    exchange, queue = later
    publish(channel, exchange, 30, b"a", headers={"kept": "yes"}, content_type="text/plain", message_id="m")
    publish(channel, exchange, 0, b"b")
    found = {body: properties for properties, body in take(channel, queue, 2)}
    assert found[b"a"].headers == {"x-delay": -30, "kept": "yes"}
    assert (found[b"a"].content_type, found[b"a"].message_id) == ("text/plain", "m")
    assert found[b"b"].headers == {"x-delay": 0}


def test_a_delay_is_not_shorter_than_asked_for(channel, later):
    exchange, queue = later
    for delay in (1, 20, 150, 400):
        begun = time.monotonic()
        publish(channel, exchange, delay)
        take(channel, queue, 1)
        # The broker's clock counts whole milliseconds.
        assert (time.monotonic() - begun) * 1000 > delay - 1


# Order

def test_messages_go_on_in_the_order_of_their_times(channel, later):
    exchange, queue = later
    channel.confirm_delivery()
    for delay in (900, 700, 1_100, 800):
        publish(channel, exchange, delay, str(delay).encode())
    assert bodies(channel, queue, 4) == [b"700", b"800", b"900", b"1100"]


def test_equal_delays_keep_the_order_of_publishing(channel, later):
    exchange, queue = later
    for number in range(2_000):
        publish(channel, exchange, 300, str(number).encode())
    assert bodies(channel, queue, 2_000) == [str(number).encode() for number in range(2_000)]


def test_a_consumer_gets_them_as_they_become_due(connection, channel, later):
    exchange, queue = later
    got = []
    channel.basic_consume(queue, lambda _channel, _method, _properties, body: got.append(body), auto_ack=True)
    publish(channel, exchange, 200, b"second")
    publish(channel, exchange, 0, b"first")
    drive_until(connection, lambda: len(got) == 2)
    assert got == [b"first", b"second"]


# What becomes of them

def test_nothing_bound_when_published_is_found_when_due(channel, scratch):
    """Routing is done when the time has come."""
    exchange = scratch.name("later")
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.confirm_delivery()
    publish(channel, exchange, 400, b"a", "late")
    queue = scratch.queue(channel)
    channel.queue_bind(queue, exchange, "late")
    assert bodies(channel, queue, 1) == [b"a"]


def test_mandatory_is_about_where_it_would_go_now(channel, later):
    """RabbitMQ's plugin returns nothing that is delayed; here a message without a queue at the time of publishing is
    returned instead of being held back."""
    exchange, queue = later
    channel.confirm_delivery()
    for delay in (0, 50):
        with pytest.raises(pika.exceptions.UnroutableError) as returned:
            publish(channel, exchange, delay, b"a", "nowhere", mandatory=True)
        assert [(it.method.reply_code, it.body) for it in returned.value.messages] == [(312, b"a")]
    publish(channel, exchange, 50, b"routed", mandatory=True)
    assert bodies(channel, queue, 1) == [b"routed"]


def test_the_alternate_exchange_takes_what_finds_no_queue(channel, scratch):
    queue = scratch.queue(channel)
    alternate = scratch.exchange(channel, "fanout")
    channel.queue_bind(queue, alternate, "")
    exchange = scratch.name("later")
    channel.exchange_declare(exchange, "x-delayed-message",
                             arguments={"x-delayed-type": "direct", "alternate-exchange": alternate})
    channel.confirm_delivery()
    publish(channel, exchange, 200, b"delayed", "nowhere")
    assert count(channel, queue) == 0
    publish(channel, exchange, 0, b"at once", "nowhere")
    assert bodies(channel, queue, 2) == [b"at once", b"delayed"]


def test_as_a_dead_letter_exchange_it_delays_dead_letters(channel, scratch):
    exchange, end = delayed_exchange(channel, scratch)
    source = scratch.queue(channel, arguments={"x-dead-letter-exchange": exchange, "x-dead-letter-routing-key": "k"})
    publish(channel, "", 100, b"dead", source)
    method, _, _ = channel.basic_get(source)
    channel.basic_reject(method.delivery_tag, requeue=False)
    properties, body = take(channel, end, 1)[0]
    assert body == b"dead" and properties.headers["x-delay"] == -100
    assert properties.headers["x-death"][0]["reason"] == "rejected"


def test_bound_to_another_exchange(channel, scratch):
    """A message reaches a delayed exchange through a binding between exchanges, and is held back there."""
    exchange, queue = delayed_exchange(channel, scratch, "fanout", "")
    first = scratch.exchange(channel, "fanout")
    channel.exchange_bind(exchange, first)
    channel.confirm_delivery()
    publish(channel, first, 300, b"a")
    assert count(channel, queue) == 0
    assert bodies(channel, queue, 1) == [b"a"]


def test_deleting_the_exchange_drops_what_it_holds(channel, later):
    exchange, queue = later
    channel.confirm_delivery()
    publish(channel, exchange, 200, b"dropped")
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.queue_bind(queue, exchange, "k")
    publish(channel, exchange, 500, b"after it")
    assert bodies(channel, queue, 1) == [b"after it"]


def test_many_at_the_same_time(channel, later):
    exchange, queue = later
    channel.confirm_delivery()
    body = bytes(200)
    for _ in range(3_000):
        publish(channel, exchange, 1_500, body)
    eventually(lambda: count(channel, queue) == 3_000, 30)


# Durability

@pytest.fixture
def own(own_broker, open_connection):
    """A broker of the test's own with a durable delayed exchange `later` and a durable queue `due`."""
    broker = own_broker("--management-listen", "127.0.0.1:0")
    channel = open_connection(broker).channel()
    channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_declare("due", durable=True)
    channel.queue_bind("due", "later", "k")
    channel.confirm_delivery()
    return broker, channel


def test_confirmed_delayed_messages_survive_kill_9(own, open_connection):
    broker, channel = own
    for number in range(500):
        # Some become due before the kill, some while the broker is down, some after it is back.
        publish(channel, "later", 20 + number * 8, str(number).encode(), delivery_mode=PERSISTENT)
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    eventually(lambda: count(channel, "due") == 500, 30)
    assert bodies(channel, "due", 500) == [str(number).encode() for number in range(500)]


def test_they_wait_no_longer_for_a_restart(own, open_connection):
    broker, channel = own
    begun = time.monotonic()
    publish(channel, "later", 5_000, b"a", delivery_mode=PERSISTENT)
    broker.restart_after_sigterm()
    channel = open_connection(broker).channel()
    assert count(channel, "due") == 0
    take(channel, "due", 1)
    assert 4.99 < time.monotonic() - begun < 9


def test_kill_9_again_and_again_neither_loses_nor_doubles(own, open_connection):
    broker, channel = own
    for number in range(600):
        publish(channel, "later", 300 + number * 5, str(number).encode(), delivery_mode=PERSISTENT)
    for _ in range(5):
        time_of_life = time.monotonic() + 0.3  # long enough for some to go on, the kill meets the others
        channel = open_connection(broker).channel()
        eventually(lambda: time.monotonic() > time_of_life)
        broker.restart_after_kill()
    channel = open_connection(broker).channel()
    eventually(lambda: count(channel, "due") == 600, 30)
    assert sorted(int(body) for body in bodies(channel, "due", 600)) == list(range(600))


def test_a_transient_exchange_takes_its_messages_with_it(own_broker, open_connection):
    broker = own_broker()
    channel = open_connection(broker).channel()
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.queue_declare("due", durable=True)
    channel.queue_bind("due", "later", "k")
    channel.confirm_delivery()
    publish(channel, "later", 100, b"lost", delivery_mode=PERSISTENT)
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    channel.exchange_declare("later", "x-delayed-message", arguments={"x-delayed-type": "direct"})
    channel.queue_bind("due", "later", "k")
    publish(channel, "later", 300, b"new", delivery_mode=PERSISTENT)
    assert bodies(channel, "due", 1) == [b"new"]


# Seen and cancelled from outside

def test_a_thousand_are_listed_and_every_other_one_is_cancelled(own):
    broker, channel = own
    for number in range(1_000):
        publish(channel, "later", LONG_MS + (number * 7_919) % 5_000, delivery_mode=PERSISTENT)
    api = Management(broker.management())

    def listed():
        found, after = [], ""
        while after is not None:
            page = api.get("exchanges", "/", "later", "delayed", limit=300, after=after)
            found += page["messages"]
            after = page["next"]
        return found
    messages = listed()
    assert len({it["id"] for it in messages}) == 1_000
    times = [it["due_at"] for it in messages]
    assert times == sorted(times)
    for message in messages[::2]:
        assert api.request("DELETE", path("exchanges", "/", "later", "delayed", message["id"])).status == 204
    left = [it["id"] for it in messages[1::2]]
    assert [it["id"] for it in listed()] == left
    broker.restart_after_kill()
    api = Management(broker.management())
    assert [it["id"] for it in listed()] == left
