"""x-recent-history: whoever binds gets the last messages. RabbitMQ has it as a plugin."""

import pika
import pytest

from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("RabbitMQ knows this type with a plugin only")

PERSISTENT = pika.BasicProperties(delivery_mode=2)
KIND = "x-recent-history"


def drain(channel, queue, count):
    """The bodies of the `count` messages in the queue, which are all."""
    found = []

    def take():
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is not None:
            found.append(body.decode())
        return len(found) >= count

    eventually(take, what=f"{count} messages")
    assert channel.basic_get(queue)[0] is None
    return found


def bound(channel, exchange):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange)
    return queue


def test_the_last_twenty_go_to_whoever_binds(channel, scratch):
    channel.confirm_delivery()
    exchange = scratch.exchange(channel, KIND)
    early = bound(channel, exchange)
    for number in range(25):
        channel.basic_publish(exchange, f"key{number}", str(number).encode())
    assert drain(channel, early, 25) == [str(number) for number in range(25)]
    assert drain(channel, bound(channel, exchange), 20) == [str(number) for number in range(5, 25)]


def test_length_and_no_store(channel, scratch):
    channel.confirm_delivery()
    exchange = scratch.exchange(channel, KIND, arguments={"x-recent-history-length": 2})
    for number in range(4):
        channel.basic_publish(exchange, "", str(number).encode())
    unseen = pika.BasicProperties(headers={"x-recent-history-no-store": True})
    channel.basic_publish(exchange, "", b"unseen", unseen)
    assert drain(channel, bound(channel, exchange), 2) == ["2", "3"]


@pytest.mark.parametrize("length, shown", [(0, "0"), (-1, "-1"), ("ten", '<<"ten">>'), (True, "true")])
def test_a_bad_length_is_refused(channel, scratch, length, shown):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        scratch.exchange(channel, KIND, arguments={"x-recent-history-length": length})
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406, f"PRECONDITION_FAILED - Invalid argument {shown}, 'x-recent-history-length' must be a positive integer")


def test_an_exchange_gets_the_last_messages_too(channel, scratch):
    channel.confirm_delivery()
    exchange = scratch.exchange(channel, KIND)
    for key in ("a.1", "b.1", "a.2"):
        channel.basic_publish(exchange, key, key.encode())
    topic = scratch.exchange(channel, "topic")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, topic, "a.*")
    channel.exchange_bind(topic, exchange)
    assert drain(channel, queue, 2) == ["a.1", "a.2"]


def test_a_durable_history_survives_kill_9(own_broker, open_connection):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.exchange_declare("talk", KIND, durable=True, arguments={"x-recent-history-length": 3})
    for number in range(10):
        channel.basic_publish("talk", "", str(number).encode(), PERSISTENT)
    channel.basic_publish("talk", "", b"transient")
    own.restart_after_kill()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    # The transient one had taken the place of the oldest.
    assert drain(channel, bound(channel, "talk"), 2) == ["8", "9"]
    channel.basic_publish("talk", "", b"10", PERSISTENT)
    assert drain(channel, bound(channel, "talk"), 3) == ["8", "9", "10"]
