"""After kill -9 and after SIGTERM: what was delivered before is marked as redelivered and bears x-delivery-count;
what nobody ever had is not marked. The mark and the count always go together.

Each test has a broker of its own."""

import pika
import pytest

from support.queues import await_message
from support.waiting import drive_until

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture(params=["kill", "sigterm"])
def restart(request):
    """The two ways to end the broker before it is started again."""
    return lambda own: own.restart_after_kill() if request.param == "kill" else own.restart_after_sigterm()


def publish(channel, queue, bodies, **properties):
    """Publishes with confirms, so that all before it is on its way to the disk too."""
    for body in bodies:
        channel.basic_publish("", queue, body, pika.BasicProperties(delivery_mode=2, **properties))


def open_channel(own, open_connection, queue, arguments=None):
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments=arguments)
    return channel


def told(method, properties):
    """x-delivery-count, 0 if it is not there; the mark has to agree."""
    count = (properties.headers or {}).get("x-delivery-count", 0)
    assert method.redelivered == (count > 0), f"redelivered={method.redelivered}, x-delivery-count {count}"
    return count


def drain(channel, queue):
    """[(body, x-delivery-count)] of everything in the queue, acknowledged."""
    found = []
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            channel.basic_qos()
            return found
        found.append((body.decode(), told(method, properties)))
        channel.basic_ack(method.delivery_tag)


def consume(channel, queue, count, auto_ack=False):
    """Consumes until `count` messages have come: [(body, x-delivery-count)]."""
    came = []
    channel.basic_consume(queue, auto_ack=auto_ack, on_message_callback=lambda _, method, properties, body:
                          came.append((body.decode(), told(method, properties))))
    drive_until(channel.connection, lambda: len(came) >= count)
    return came


def numbered(numbers, count=0):
    return [(str(number), count) for number in numbers]


def test_what_nobody_had_is_not_marked(own_broker, open_connection, restart):
    own = own_broker()
    publish(open_channel(own, open_connection, "q"), "q", map(str, range(100)))
    restart(own)
    assert drain(open_channel(own, open_connection, "q"), "q") == numbered(range(100))


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_half_was_delivered(own_broker, open_connection, restart, queue_type):
    own = own_broker()
    arguments = {"x-queue-type": queue_type}
    channel = open_channel(own, open_connection, "q", arguments)
    publish(channel, "q", map(str, range(1000)))
    channel.basic_qos(prefetch_count=500)
    assert consume(channel, "q", 500) == numbered(range(500))
    restart(own)
    channel = open_channel(own, open_connection, "q", arguments)
    publish(channel, "q", ["1000"])
    assert drain(channel, "q") == numbered(range(500), 1) + numbered(range(500, 1001))


def test_delivered_while_it_is_published(own_broker, open_connection, restart):
    """Deliveries do not wait for the disk: what was confirmed and seen is marked all the same."""
    own = own_broker()
    consumer = open_channel(own, open_connection, "q")
    came = []
    consumer.basic_consume("q", lambda _, method, properties, body: came.append((body, told(method, properties))))
    publish(open_channel(own, open_connection, "q"), "q", map(str, range(50)))
    drive_until(consumer.connection, lambda: len(came) == 50)
    restart(own)
    assert drain(open_channel(own, open_connection, "q"), "q") == numbered(range(50), 1)


def test_got_messages(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", "abcd")
    tags = [channel.basic_get("q")[0].delivery_tag for _ in range(3)]
    channel.basic_ack(tags[1])
    publish(channel, "q", "e")
    restart(own)
    assert drain(open_channel(own, open_connection, "q"), "q") == [("a", 1), ("c", 1), ("d", 0), ("e", 0)]


def test_each_priority_has_its_own_place(own_broker, open_connection, restart):
    own = own_broker()
    arguments = {"x-max-priority": 5}
    channel = open_channel(own, open_connection, "q", arguments)
    for priority in (1, 3, 5):
        publish(channel, "q", [f"{priority}{letter}" for letter in "ab"], priority=priority)
    channel.basic_qos(prefetch_count=3)
    assert consume(channel, "q", 3) == [("5a", 0), ("5b", 0), ("3a", 0)]
    restart(own)
    assert drain(open_channel(own, open_connection, "q", arguments), "q") == [
        ("5a", 1), ("5b", 1), ("3a", 1), ("3b", 0), ("1a", 0), ("1b", 0)]


def test_marks_outlive_several_restarts(own_broker, open_connection):
    own = own_broker()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", "abc")
    channel.basic_get("q")
    own.restart_after_kill()
    own.restart_after_sigterm()
    own.restart_after_sigterm()
    own.restart_after_kill()
    assert drain(open_channel(own, open_connection, "q"), "q") == [("a", 1), ("b", 0), ("c", 0)]


def test_a_new_queue_has_no_marks_of_the_old_one(own_broker, open_connection, restart):
    own = own_broker()
    for _ in range(3):
        channel = open_channel(own, open_connection, "q")
        publish(channel, "q", "ab")
        channel.basic_get("q")
        channel.queue_delete("q")
    publish(open_channel(own, open_connection, "q"), "q", "cd")
    restart(own)
    assert drain(open_channel(own, open_connection, "q"), "q") == [("c", 0), ("d", 0)]


def test_marks_that_cannot_be_believed(own_broker, open_connection):
    """As after a crash of the system: everything may have been delivered, and counts as such."""
    own = own_broker()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", "ab")
    channel.basic_get("q")
    own.kill()
    (own.data_dir / "delivered").unlink()
    own.start()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", "c")
    assert drain(channel, "q") == [("a", 1), ("b", 1), ("c", 0)]


def return_first(channel, queue, times):
    """Gets the first message and puts it back, so often; then waits until all of that is written."""
    for count in range(times):
        method, properties, _ = channel.basic_get(queue)
        assert told(method, properties) == count
        channel.basic_nack(method.delivery_tag, requeue=True)
    channel.queue_declare("other", durable=True)
    publish(channel, "other", "x")


@pytest.mark.parametrize("queue_type", ["classic", "quorum"])
def test_what_was_returned_keeps_its_count(own_broker, open_connection, restart, queue_type):
    own = own_broker()
    arguments = {"x-queue-type": queue_type}
    channel = open_channel(own, open_connection, "q", arguments)
    publish(channel, "q", "ab")
    return_first(channel, "q", 3)
    restart(own)
    channel = open_channel(own, open_connection, "q", arguments)
    # Out once more, when the broker ends again.
    method, properties, _ = channel.basic_get("q")
    assert told(method, properties) == 3
    publish(channel, "other", "x")
    restart(own)
    assert drain(open_channel(own, open_connection, "q", arguments), "q") == [("a", 4), ("b", 0)]


def test_a_closed_channel_returns_with_a_count(own_broker, open_connection, restart):
    own = own_broker()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", map(str, range(300)))
    for count in range(2):
        other = open_channel(own, open_connection, "q")
        other.basic_qos(prefetch_count=200)
        assert consume(other, "q", 200) == numbered(range(200), count)
        other.connection.close()
    publish(channel, "q", ["300"])
    restart(own)
    assert drain(open_channel(own, open_connection, "q"), "q") == numbered(range(200), 2) + numbered(range(200, 301))


def test_a_checkpoint_keeps_counts(own_broker, open_connection):
    """Counts outlive the records that said them."""
    own = own_broker()
    channel = open_channel(own, open_connection, "q")
    publish(channel, "q", "abc")
    return_first(channel, "q", 2)
    own.restart_after_sigterm()
    own.restart_after_kill()
    own.restart_after_sigterm()
    channel = open_channel(own, open_connection, "q")
    assert drain(channel, "q") == [("a", 2), ("b", 0), ("c", 0)]
    publish(channel, "q", "d")
    own.restart_after_kill()
    assert drain(open_channel(own, open_connection, "q"), "q") == [("d", 0)]


def test_the_delivery_limit_counts_over_kills(own_broker, open_connection):
    """A message that takes the broker down with it dies by its limit."""
    own = own_broker()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "",
                 "x-dead-letter-routing-key": "dead"}
    channel = open_channel(own, open_connection, "q", arguments)
    channel.queue_declare("dead", durable=True)
    publish(channel, "q", ["poison", "good"])
    for count in range(3):
        channel = open_channel(own, open_connection, "q", arguments)
        method, properties, body = channel.basic_get("q")
        assert (body, told(method, properties)) == (b"poison", count)
        publish(channel, "dead", ["written"])
        own.restart_after_kill()
    channel = open_channel(own, open_connection, "q", arguments)
    assert drain(channel, "q") == [("good", 0)]
    method, properties, body = await_message(channel, "dead")
    while body != b"poison":
        method, properties, body = await_message(channel, "dead")
    assert properties.headers["x-first-death-reason"] == "delivery_limit"


def test_what_is_not_certain_uses_up_no_limit(own_broker, open_connection):
    own = own_broker()
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 1}
    publish(open_channel(own, open_connection, "q", arguments), "q", "a")
    own.kill()
    (own.data_dir / "delivered").unlink()
    own.start()
    channel = open_channel(own, open_connection, "q", arguments)
    for count in (1, 2):
        method, properties, _ = channel.basic_get("q")
        assert told(method, properties) == count
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert channel.basic_get("q")[0] is None
