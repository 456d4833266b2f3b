"""Publisher deduplication by a header (as the community plugin) and by message_id: what is a duplicate, what becomes
of it, and that neither a crash nor a transaction makes a difference. Producers' numbers: test_producers."""

import json

import pika
import pytest

from support.deduplication import LONG_MS, ON_DISK, WINDOW, behind, identified, keyed, persistent, straight_to
from support.management import Management
from support.queues import await_message
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("a plugin in RabbitMQ")

PLUGIN = "x-message-deduplication"
SIZE = {"x-cache-size": 1000}
WINDOWED = {WINDOW: LONG_MS}


def ways(channel, name):
    """Each place that may look for duplicates, with a message known to it by a name."""
    return {
        "plugin's exchange": lambda: (behind(channel, name("q"), name("x"), PLUGIN, ON_DISK), keyed),
        "plugin's queue": lambda: (straight_to(channel, name("q"), {PLUGIN: True}), keyed),
        "window of an exchange": lambda: (behind(channel, name("q"), name("x"), "topic", WINDOWED), identified),
        "window of a queue": lambda: (straight_to(channel, name("q"), WINDOWED), identified),
    }


WAYS = list(ways(None, None))


@pytest.fixture(params=WAYS)
def way(request, channel, scratch):
    """(way, properties of a message by its name) on the shared broker."""
    return ways(channel, scratch.name)[request.param]()


@pytest.fixture(params=WAYS)
def own_way(request, own_broker, open_connection):
    """(broker, way, properties of a message by its name), on a broker that may be killed."""
    broker = own_broker()
    channel = open_connection(broker).channel()
    return broker, *ways(channel, str)[request.param]()


# What becomes of a duplicate

def test_duplicates_are_confirmed_and_not_queued(way):
    way, known_by = way
    assert [way.publish(body, known_by(name)) for body, name in
            [("a", "1"), ("again", "1"), ("b", "2"), ("again", "2"), ("again", "1")]] == ["ack"] * 5
    assert way.bodies() == ["a", "b"]


def test_messages_without_a_key_are_not_looked_at(way):
    way, _ = way
    for properties in (persistent(), persistent(headers={"other": "1"}), persistent(correlation_id="1")):
        for _ in range(2):
            assert way.publish("a", properties) == "ack"
    assert way.bodies() == ["a"] * 6


def test_mandatory_duplicates_are_not_returned(way):
    way, known_by = way
    assert way.publish("a", known_by("1"), mandatory=True) == "ack"
    assert way.publish("again", known_by("1"), mandatory=True) == "ack"
    assert way.bodies() == ["a"]


@pytest.mark.parametrize("kind, arguments, known_by", [
    (PLUGIN, SIZE, keyed), ("direct", WINDOWED, identified)], ids=["plugin", "window"])
def test_a_duplicate_with_no_queue_left_is_not_returned(channel, scratch, kind, arguments, known_by):
    way = behind(channel, scratch.name(), scratch.name(), kind, arguments)
    assert way.publish("a", known_by("1"), mandatory=True) == "ack"
    channel.queue_unbind(way.queue, way.exchange, way.key)
    assert way.publish("again", known_by("1"), mandatory=True) == "ack"
    # What went nowhere was not taken: it may come again.
    assert [way.publish("b", known_by("2"), mandatory=True) for _ in range(2)] == ["returned"] * 2
    channel.queue_bind(way.queue, way.exchange, way.key)
    assert way.publish("b", known_by("2"), mandatory=True) == "ack"
    assert way.bodies() == ["a", "b"]


def test_a_duplicate_is_not_refused_by_a_limit(channel, scratch):
    limit = {"x-max-length": 1, "x-overflow": "reject-publish"}
    way = straight_to(channel, scratch.name(), {**WINDOWED, **limit})
    fates = [way.publish(name, identified(name)) for name in ("1", "2", "1")]
    assert fates == ["ack", "nack", "ack"]
    assert way.bodies() == ["1"]
    assert way.publish("2", identified("2")) == "ack", "what was refused may come again"
    assert way.bodies() == ["2"]


# Crashes

def test_keys_survive_kill_9_with_their_messages(own_way, open_connection):
    broker, way, known_by = own_way
    for name in ("1", "2"):
        assert way.publish(name, known_by(name)) == "ack"
    for _ in range(2):
        broker.restart_after_kill()
        way = way.over(open_connection(broker).channel())
        for name in ("1", "2"):
            assert way.publish("again", known_by(name)) == "ack"
    assert way.publish("3", known_by("3")) == "ack"
    assert way.bodies() == ["1", "2", "3"]


def test_what_is_sent_again_after_kill_9_is_there_once(own_way, open_connection):
    """Everything without a confirm is sent again, as a careful publisher does."""
    broker, way, known_by = own_way
    names = [str(number) for number in range(300)]
    way.channel.confirm_delivery()
    unconfirmed = list(names)
    for name in names[:100]:
        assert way.publish(name, known_by(name)) == "ack"
        unconfirmed.remove(name)
    # Published, and killed without waiting for the confirms.
    blind = open_connection(broker).channel()
    for name in names[100:200]:
        way.over(blind).send(name, known_by(name))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    for name in unconfirmed:
        assert way.publish(name, known_by(name)) == "ack"
    assert sorted(way.bodies(), key=int) == names


@pytest.mark.parametrize("kind, arguments, known_by", [
    (PLUGIN, ON_DISK, keyed), ("direct", WINDOWED, identified)], ids=["plugin", "window"])
def test_a_key_does_not_outlive_a_transient_message(own_broker, open_connection, kind, arguments, known_by):
    broker = own_broker()
    way = behind(open_connection(broker).channel(), "q", "x", kind, arguments)
    transient = known_by("1")
    transient.delivery_mode = 1
    assert way.publish("a", transient) == "ack"
    assert way.publish("again", transient) == "ack"
    assert way.count() == 1
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    assert way.publish("sent again", transient) == "ack"
    assert way.bodies() == ["sent again"]


def test_a_cache_in_memory_goes_with_the_broker(own_broker, open_connection):
    broker = own_broker()
    way = behind(open_connection(broker).channel(), "q", "x", PLUGIN, SIZE)
    way.publish("a", keyed("1"))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    way.publish("again", keyed("1"))
    assert way.bodies() == ["a", "again"]


# Transactions

def test_duplicates_in_a_transaction(connection, way):
    way, known_by = way
    looking, way = way, way.over(connection.channel())
    way.channel.tx_select()
    for body, name in (("a", "1"), ("again", "1"), ("b", "2")):
        way.send(body, known_by(name), mandatory=True)
    assert looking.count() == 0
    way.channel.tx_commit()
    way.send("again", known_by("2"))
    way.send("c", known_by("3"))
    way.channel.tx_commit()
    assert looking.publish("again", known_by("3")) == "ack"
    assert looking.bodies() == ["a", "b", "c"]


def test_a_rollback_leaves_the_key_unused(connection, way):
    way, known_by = way
    looking, way = way, way.over(connection.channel())
    way.channel.tx_select()
    way.send("rolled back", known_by("1"))
    way.channel.tx_rollback()
    way.send("lost with its channel", known_by("2"))
    way.channel.close()
    for name in ("1", "2"):
        assert looking.publish(name, known_by(name)) == "ack"
    assert looking.bodies() == ["1", "2"]


def test_keys_of_a_committed_transaction_survive_kill_9(own_way, open_connection):
    broker, way, known_by = own_way
    way.channel.tx_select()
    way.send("a", known_by("1"))
    way.channel.tx_commit()
    way.send("never committed", known_by("2"))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    way.publish("again", known_by("1"))
    way.publish("b", known_by("2"))
    assert way.bodies() == ["a", "b"]


# The plugin's form

@pytest.mark.parametrize("one, other", [
    ("1", "2"), (1, 2), ("1", 1), (True, False), (1, True), ("", " "), (2 ** 40, 2 ** 41)], ids=str)
@pytest.mark.parametrize("on_queue", [False, True], ids=["exchange", "queue"])
def test_header_values_differ_by_type_and_value(channel, scratch, one, other, on_queue):
    way = straight_to(channel, scratch.name(), {PLUGIN: True}) if on_queue else \
        behind(channel, scratch.name(), scratch.name(), PLUGIN, SIZE)
    for body, value in (("one", one), ("again", one), ("other", other), ("again", other)):
        way.publish(body, keyed(value))
    assert way.bodies() == ["one", "other"]


def test_the_plugins_exchange_routes_like_a_fanout(channel, scratch):
    way = behind(channel, scratch.name(), scratch.name(), PLUGIN, SIZE)
    other = scratch.queue(channel)
    channel.queue_bind(other, way.exchange, "another key")
    way.publish("a", keyed("1"))
    assert way.bodies() == ["a"]
    await_message(channel, other)


def test_the_oldest_key_goes_when_the_cache_is_full(channel, scratch):
    way = behind(channel, scratch.name(), scratch.name(), PLUGIN, {"x-cache-size": 2})
    for name in ("1", "2", "3", "3", "2", "1"):
        way.publish(name, keyed(name))
    assert way.bodies() == ["1", "2", "3", "1"]


def published_when(way, properties):
    """Publishes until it is no duplicate any more; answers how many there were before."""
    before = []

    def taken():
        way.publish("later", properties)
        before.append(1)
        return way.count() == 1
    eventually(taken, what="the end of the window")
    return len(before)


@pytest.mark.parametrize("arguments, headers", [
    ({**SIZE, "x-cache-ttl": 300}, {}),
    ({**SIZE, "x-cache-ttl": LONG_MS}, {"x-cache-ttl": 300}),
    (SIZE, {"x-cache-ttl": 300}),
    ({**SIZE, "x-cache-ttl": "300"}, {}),
], ids=["exchange", "message before exchange", "message", "as a string"])
def test_a_key_is_kept_for_its_ttl(channel, scratch, arguments, headers):
    way = behind(channel, scratch.name(), scratch.name(), PLUGIN, arguments)
    way.publish("a", keyed("1", **headers))
    assert way.bodies() == ["a"]
    assert published_when(way, keyed("1", **headers)) > 1


def test_a_messages_ttl_may_be_longer(channel, scratch):
    way = behind(channel, scratch.name(), scratch.name(), PLUGIN, {**SIZE, "x-cache-ttl": 1})
    way.publish("a", keyed("1", **{"x-cache-ttl": LONG_MS}))
    way.publish("b", keyed("2"))
    assert way.bodies() == ["a", "b"]
    published_when(way, keyed("2"))
    way.publish("again", keyed("1"))
    assert way.bodies() == ["later"]


@pytest.mark.parametrize("arguments, complaint", [
    ({}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
    ({"x-cache-size": 0}, "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0"),
    ({**SIZE, "x-cache-ttl": 0}, "Invalid argument, 'x-cache-ttl' must be an integer greater than 0"),
    ({**SIZE, "x-cache-persistence": "tape"},
     "Invalid argument, 'x-cache-persistence' must be either 'disk' or 'memory'"),
], ids=str)
def test_the_plugins_arguments_are_checked(channel, scratch, arguments, complaint):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare(scratch.name(), PLUGIN, arguments=arguments)
    assert (closed.value.reply_code, closed.value.reply_text) == (406, f"PRECONDITION_FAILED - {complaint}")


def test_the_plugins_queue_forgets_what_has_left(channel, scratch):
    way = straight_to(channel, scratch.name(), {PLUGIN: True})
    way.publish("a", keyed("1"))
    tag = await_message(channel, way.queue, auto_ack=False)[0].delivery_tag
    way.publish("unacknowledged", keyed("1"))
    channel.basic_nack(tag, requeue=True)
    way.publish("put back", keyed("1"))
    assert way.bodies() == ["a"]
    way.publish("b", keyed("1"))
    channel.basic_reject(await_message(channel, way.queue, auto_ack=False)[0].delivery_tag, requeue=False)
    way.publish("c", keyed("1"))
    channel.queue_purge(way.queue)
    way.publish("d", keyed("1"))
    assert way.bodies() == ["d"]


# Windows

@pytest.mark.parametrize("on_queue", [False, True], ids=["exchange", "queue"])
def test_a_window_ends(channel, scratch, on_queue):
    way = straight_to(channel, scratch.name(), {WINDOW: 300}) if on_queue else \
        behind(channel, scratch.name(), scratch.name(), "direct", {WINDOW: 300})
    way.publish("a", identified("1"))
    assert way.bodies() == ["a"]
    assert published_when(way, identified("1")) > 1


def test_a_clients_own_x_death_makes_no_difference(way):
    way, known_by = way
    dead = known_by("1")
    dead.headers = {**(dead.headers or {}), "x-death": [{"queue": "elsewhere", "reason": "expired", "count": 1}]}
    for body in ("a", "again"):
        way.publish(body, dead)
    assert way.bodies() == ["a"]


def test_windows_by_policy(own_broker, open_connection, tmp_path):
    """On a queue, an exchange and one of the broker's own; they survive kill -9 and go with the policy."""
    definitions = tmp_path / "definitions.json"

    def define(definition):
        named = {"vhost": "/", "name": "once", "pattern": "^(q|x|amq.direct)$", "apply-to": "all", "priority": 0,
                 "definition": definition}
        definitions.write_text(json.dumps({"policies": [named]}))
    define({WINDOW: LONG_MS})
    broker = own_broker("--definitions", str(definitions))
    channel = open_connection(broker).channel()
    to_all = [straight_to(channel, "q"), behind(channel, "behind x", "x"),
              behind(channel, "behind amq.direct", "amq.direct")]
    for way in to_all:
        assert [way.publish(body, identified("1")) for body in ("a", "again")] == ["ack"] * 2
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    to_all = [way.over(channel) for way in to_all]
    for way in to_all:
        way.publish("again", identified("1"))
        assert way.bodies() == ["a"], way.exchange
    # What was taken is gone for good when something durable that came later is answered.
    channel.queue_declare("later", durable=True)
    define({"max-length": 1000})
    broker.restart_after_kill()
    for way in to_all:
        way = way.over(open_connection(broker).channel())
        way.publish("b", identified("1"))
        assert way.bodies() == ["b"], way.exchange


def test_the_plugins_queue_by_policy(own_broker, open_connection, tmp_path):
    definitions = tmp_path / "definitions.json"
    named = {"vhost": "/", "name": "unique", "pattern": "^q$", "apply-to": "queues", "definition": {PLUGIN: True}}
    definitions.write_text(json.dumps({"policies": [named]}))
    broker = own_broker("--definitions", str(definitions))
    way = straight_to(open_connection(broker).channel(), "q")
    for body in ("a", "again"):
        way.publish(body, keyed("1"))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    way.publish("again", keyed("1"))
    assert way.bodies() == ["a"]
    way.publish("b", keyed("1"))
    assert way.bodies() == ["b"]


# What is counted

@pytest.mark.parametrize("which", WAYS)
def test_duplicates_are_counted(own_broker, open_connection, which):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    way, known_by = ways(open_connection(broker).channel(), str)[which]()
    management = Management(broker.management())
    shown = ("exchanges", "/", "x") if way.exchange else ("queues", "/", "q")

    def counts():
        counted = management.get(*shown)["leveret"]["deduplication"]
        return {name: counted[name] for name in ("duplicates", "gaps", "keys", "producers")}
    for name in ("1", "2", "1", "1"):
        way.publish(name, known_by(name))
    assert counts() == {"duplicates": 2, "gaps": 0, "keys": 2, "producers": 0}
