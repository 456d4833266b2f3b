"""Every key of policies that is in force, put on and taken off again while the broker runs, and which policy applies."""

import pika
import pytest

from support.queues import bodies, count
from support.waiting import eventually
from test_policies import Defined, policy

pytestmark = pytest.mark.leveret_only("its own options")

DEAD = {"dead-letter-exchange": "", "dead-letter-routing-key": "dead"}
QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


@pytest.fixture
def own(own_broker, tmp_path):
    return Defined(own_broker, tmp_path / "definitions.json", {"queues": [{"name": "dead"}]})


@pytest.fixture
def channel(own, open_connection):
    return open_connection(own.broker).channel()


def put(own, definition, **fields):
    own.reload({"policies": [policy(definition, **fields)]})


def take_off(own, definition):
    """A file deletes nothing: the policy now matches nothing."""
    put(own, definition, pattern="^nothing$")


def publish(channel, *numbers, queue="p", exchange=""):
    for number in numbers:
        channel.basic_publish(exchange, queue, str(number).encode(), pika.BasicProperties(delivery_mode=2))


def test_message_ttl(own, channel):
    channel.queue_declare("p")
    put(own, {"message-ttl": 0})
    publish(channel, 1)
    assert count(channel, "p") == 0
    take_off(own, {"message-ttl": 0})
    publish(channel, 2)
    assert bodies(channel, "p") == [b"2"]


def test_expires(own, open_connection, channel):
    channel.queue_declare("p-kept")
    put(own, {"expires": 60000})
    take_off(own, {"expires": 60000})
    channel.queue_declare("p-gone")
    own.reload({"policies": [policy({"expires": 1}, pattern="^p-gone")]})

    def is_gone():
        try:
            open_connection(own.broker).channel().queue_declare("p-gone", passive=True)
        except pika.exceptions.ChannelClosedByBroker as closed:
            return closed.reply_code == 404
        return False

    eventually(is_gone)
    assert count(channel, "p-kept") == 0


@pytest.mark.parametrize("arguments", [None, QUORUM], ids=["classic", "quorum"])
@pytest.mark.parametrize("definition", [{"max-length": 2}, {"max-length-bytes": 2}], ids=str)
def test_max_length(own, channel, definition, arguments):
    channel.queue_declare("p", durable=True, arguments=arguments)
    put(own, definition)
    publish(channel, 1, 2, 3)
    assert count(channel, "p") == 2
    take_off(own, definition)
    publish(channel, 4, 5)
    assert bodies(channel, "p") == [b"2", b"3", b"4", b"5"]


@pytest.mark.parametrize("overflow", ["reject-publish", "reject-publish-dlx"])
def test_overflow(own, channel, overflow):
    channel.queue_declare("p")
    definition = {"max-length": 1, "overflow": overflow, **DEAD}
    put(own, definition)
    channel.confirm_delivery()
    publish(channel, 1)
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, 2)
    assert bodies(channel, "dead") == ([b"2"] if overflow.endswith("dlx") else [])
    put(own, {**definition, "overflow": "drop-head"})
    publish(channel, 3)
    assert (bodies(channel, "p"), bodies(channel, "dead")) == ([b"3"], [b"1"])
    take_off(own, definition)
    publish(channel, 4, 5)
    assert bodies(channel, "p") == [b"4", b"5"]


def reject(channel, queue="p"):
    method, _, _ = channel.basic_get(queue)
    channel.basic_reject(method.delivery_tag, requeue=False)


def test_dead_letters(own, channel):
    channel.queue_declare("p")
    for number, definition, expected in [
        (1, DEAD, [b"1"]),
        (2, {"dead-letter-exchange": "amq.fanout"}, []),
    ]:
        put(own, definition)
        publish(channel, number)
        reject(channel)
        assert bodies(channel, "dead") == expected
    take_off(own, DEAD)
    publish(channel, 3)
    reject(channel)
    assert bodies(channel, "dead") == []


def test_arguments_of_dead_letters_go_before_the_policy(own, channel):
    channel.queue_declare("p", arguments={f"x-{key}": value for key, value in DEAD.items()})
    put(own, {"dead-letter-exchange": "amq.direct", "dead-letter-routing-key": "elsewhere"})
    publish(channel, 1)
    reject(channel)
    assert bodies(channel, "dead") == [b"1"]


def returns(channel, queue="p"):
    """How often the queue's only message is delivered until it is gone, at most 30 times."""
    times = 0
    while times < 30:
        method, _, _ = channel.basic_get(queue)
        if method is None:
            break
        times += 1
        channel.basic_reject(method.delivery_tag, requeue=True)
    return times


def test_delivery_limit(own, channel):
    channel.queue_declare("p", durable=True, arguments=QUORUM)
    put(own, {"delivery-limit": 1})
    publish(channel, 1)
    assert returns(channel) == 2
    put(own, {"delivery-limit": -1})
    publish(channel, 2)
    assert returns(channel) == 30
    channel.queue_purge("p")
    take_off(own, {"delivery-limit": 1})
    publish(channel, 3)
    assert returns(channel) == 21


def test_consumer_timeout(own, open_connection):
    connection = open_connection(own.broker)
    channel = connection.channel()
    channel.queue_declare("p")
    put(own, {"consumer-timeout": 50})
    publish(channel, 1)
    channel.basic_consume("p", lambda *_: None)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.start_consuming()
    assert closed.value.reply_code == 406
    assert "Timeout value used: 50 ms" in closed.value.reply_text
    take_off(own, {"consumer-timeout": 50})
    channel = connection.channel()
    channel.basic_consume("p", lambda *_: None)
    connection.process_data_events(0.3)
    assert channel.is_open


def test_alternate_exchange(own, channel):
    channel.exchange_declare("px")
    channel.exchange_declare("py", arguments={"alternate-exchange": "amq.fanout"})
    channel.queue_declare("caught")
    channel.queue_bind("caught", "amq.topic", "#")
    put(own, {"alternate-exchange": "amq.topic"}, **{"apply-to": "exchanges"})
    publish(channel, 1, exchange="px")
    publish(channel, 2, exchange="py")  # the argument goes before the policy
    take_off(own, {"alternate-exchange": "amq.topic"})
    publish(channel, 3, exchange="px")
    assert bodies(channel, "caught") == [b"1"]


def test_streams(own, channel):
    channel.queue_declare("p", durable=True, arguments=STREAM)
    body = b"x" * 1000
    for _ in range(100):
        channel.basic_publish("", "p", body)
    assert count(channel, "p") == 100
    put(own, {"max-length-bytes": 30000, "stream-max-segment-size-bytes": 5000})
    eventually(lambda: count(channel, "p") <= 31)
    take_off(own, {"max-length-bytes": 30000})
    for _ in range(100):
        channel.basic_publish("", "p", body)
    assert count(channel, "p") > 100
    put(own, {"max-age": "1s", "stream-max-segment-size-bytes": 1000})

    def is_young():
        channel.basic_publish("", "p", body)
        return count(channel, "p") < 100

    eventually(is_young)


@pytest.mark.parametrize("definition", [
    {"queue-mode": "lazy"}, {"queue-version": 2}, {"queue-leader-locator": "balanced"}, {"ha-mode": "all"},
    {"max-in-memory-length": 5}, {"dead-letter-strategy": "at-least-once"}, {"target-group-size": 3},
    {"federation-upstream-set": "all"}, {"initial-cluster-size": 1}, {"stream-filter-size-bytes": 16},
], ids=str)
def test_keys_without_meaning_here_are_accepted(own, channel, definition):
    channel.queue_declare("p")
    put(own, definition)
    publish(channel, 1)
    assert bodies(channel, "p") == [b"1"]


@pytest.mark.parametrize("definition", [
    {"max-length": -1}, {"max-length": "1"}, {"message-ttl": -1}, {"expires": 0}, {"overflow": "drop"},
    {"max-age": "1"}, {"delivery-limit": "1"}, {"no-such-key": 1}, {},
], ids=str)
def test_bad_values_are_refused(own, channel, definition):
    channel.queue_declare("p")
    own.reload({"policies": [policy(definition)]}, logged="definitions not imported")
    publish(channel, 1)
    assert bodies(channel, "p") == [b"1"]


@pytest.mark.parametrize("apply_to, limited", [
    ("all", ["p-classic", "p-quorum"]),
    ("queues", ["p-classic", "p-quorum"]),
    ("classic_queues", ["p-classic"]),
    ("quorum_queues", ["p-quorum"]),
    ("streams", []),
    ("exchanges", []),
])
def test_apply_to(own, channel, apply_to, limited):
    kinds = {"p-classic": None, "p-quorum": QUORUM}
    for queue, arguments in kinds.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    put(own, {"max-length-bytes": 1}, **{"apply-to": apply_to})
    for queue in kinds:
        publish(channel, 1, 2, queue=queue)
    assert [queue for queue in kinds if count(channel, queue) == 1] == limited


def test_a_key_for_another_type_of_queue_keeps_the_whole_policy_away(own, channel):
    channel.queue_declare("p")
    own.reload({"policies": [policy({"delivery-limit": 5, "max-length": 1}, name="high", priority=9),
                             policy({"max-length": 2}, name="low")]})
    publish(channel, 1, 2, 3)
    assert bodies(channel, "p") == [b"2", b"3"]


def test_only_one_policy_applies_the_highest_and_of_equals_the_first_by_name(own, channel):
    channel.queue_declare("p")
    own.reload({"policies": [policy({"max-length": 3}, name="b", priority=2), policy({"max-length": 2}, name="a"),
                             policy({"message-ttl": 0}, name="c", priority=1)]})
    publish(channel, 1, 2, 3, 4)
    assert bodies(channel, "p") == [b"2", b"3", b"4"]
    own.reload({"policies": [policy({"max-length": 1}, name="a", priority=2)]})
    publish(channel, 5, 6)
    assert bodies(channel, "p") == [b"6"]


def operator(definition):
    value = {key: field for key, field in policy(definition).items() if key not in ("name", "vhost")}
    return {"vhost": "/", "component": "operator_policy", "name": "operators", "value": {**value, "apply-to": "queues"}}


@pytest.mark.parametrize("users, operators, expected", [
    ({"max-length": 1}, {"max-length": 3}, 1),
    ({"max-length": 3}, {"max-length": 1}, 1),
    ({"max-length": 3}, {"max-length-bytes": 2}, 2),
    (None, {"max-length": 2}, 2),
    ({"max-length": 2, "overflow": "drop-head"}, {"overflow": "reject-publish"}, 2),
])
def test_operator_policies(own, channel, users, operators, expected):
    channel.queue_declare("p")
    own.reload({"policies": [policy(users)] if users else [], "parameters": [operator(operators)]})
    publish(channel, 1, 2, 3, 4)
    left = bodies(channel, "p")
    assert len(left) == expected
    assert left[0] == (b"1" if "overflow" in operators else str(5 - expected).encode())


@pytest.mark.parametrize("key", ["dead-letter-exchange", "alternate-exchange", "max-age"])
def test_operators_may_not_set_every_key(own, key):
    own.reload({"parameters": [operator({key: "1D"})]}, logged="definitions not imported")
    assert "are not recognised policy settings" in own.broker.log.read_text()
