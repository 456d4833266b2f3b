"""x-retry-delays, which is Leveret's own: what is put back comes again after the next delay."""

import time

import pika
import pytest

from support.queues import await_message, bodies, count, deaths
from support.waiting import drive_until, eventually

pytestmark = pytest.mark.leveret_only("Leveret's own")
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def declare(channel, queue, delays, kind="classic", **more):
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": kind, "x-retry-delays": delays, **more})
    return queue


def put_back(channel, queue, deadline_s=10.0):
    """Waits for the next message and puts it back: (its body, x-delivery-count, the time it came at)."""
    method, properties, body = await_message(channel, queue, deadline_s, auto_ack=False)
    came_at = time.monotonic()
    channel.basic_nack(method.delivery_tag, requeue=True)
    return body, (properties.headers or {}).get("x-delivery-count"), came_at


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_each_delay_in_turn_then_the_dead_letters(channel, scratch, kind):
    channel.confirm_delivery()
    letters = scratch.queue(channel)
    queue = declare(channel, scratch.name(), [50, 150], kind,
                    **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters})
    channel.basic_publish("", queue, b"work", PERSISTENT)
    tries = [put_back(channel, queue) for _ in range(3)]
    assert [count for _, count, _ in tries] == [None, 1, 2]
    waited = [later[2] - earlier[2] for earlier, later in zip(tries, tries[1:])]
    assert waited[0] >= 0.05 and waited[1] >= 0.15, waited
    assert deaths(await_message(channel, letters)[1]) == [(queue, "delivery_limit", 1)]
    assert count(channel, queue) == 0


def test_a_waiting_message_is_in_nobodys_way(channel, connection, scratch):
    channel.confirm_delivery()
    queue = declare(channel, scratch.name(), [200])
    for body in (b"1", b"2", b"3"):
        channel.basic_publish("", queue, body)
    assert put_back(channel, queue)[0] == b"1"
    assert bodies(channel, queue) == [b"2", b"3"]
    assert await_message(channel, queue)[2] == b"1"


def test_reject_with_requeue_is_a_retry_and_without_is_not(channel, scratch):
    channel.confirm_delivery()
    letters = scratch.queue(channel)
    queue = declare(channel, scratch.name(), [60_000],
                    **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters})
    for body in (b"wait", b"die"):
        channel.basic_publish("", queue, body)
    channel.basic_reject(await_message(channel, queue, auto_ack=False)[0].delivery_tag, requeue=True)
    channel.basic_reject(await_message(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)
    _, properties, body = await_message(channel, letters)
    assert (body, deaths(properties)) == (b"die", [(queue, "rejected", 1)])
    assert count(channel, queue) == 0
    assert channel.queue_purge(queue).method.message_count == 1  # what waits is purged too


def test_a_consumer_gets_retries_by_itself(channel, connection, scratch):
    queue = declare(channel, scratch.name(), [20, 20, 20])
    channel.basic_publish("", queue, b"x")
    tries = []

    def fail_twice(_channel, method, _properties, _body):
        tries.append(method.redelivered)
        if len(tries) < 3:
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            channel.basic_ack(method.delivery_tag)
    channel.basic_consume(queue, fail_twice)
    drive_until(connection, lambda: len(tries) == 3)
    assert tries == [False, True, True]


@pytest.mark.parametrize("delays", [[], [-1], ["1s"], 1000, [315_360_000_001], [1] * 256])
def test_delays_are_1_to_255_times_in_milliseconds(connection, scratch, delays):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        declare(connection.channel(), scratch.name(), delays)
    assert closed.value.reply_code == 406 and "x-retry-delays" in closed.value.reply_text


def test_count_and_time_survive_kill_9(own_broker, open_connection):
    """Only of persistent messages in durable queues: a transient one is gone with the process."""
    broker = own_broker()
    channel = open_connection(broker).channel()
    channel.confirm_delivery()
    channel.queue_declare("dead", durable=True)
    dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
    declare(channel, "soon", [0, 1500, 0], **dead)
    declare(channel, "late", [600_000], **dead)
    channel.queue_declare("sync", durable=True)
    for queue in ("soon", "late"):
        channel.basic_publish("", queue, queue.encode(), PERSISTENT)
    channel.basic_publish("", "late", b"transient")
    assert [put_back(channel, "late")[0] for _ in range(2)] == [b"late", b"transient"]
    for _ in range(2):
        put_back(channel, "soon")
    nacked_at = time.monotonic()
    channel.basic_publish("", "sync", b"confirmed after the nacks", PERSISTENT)
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    channel.confirm_delivery()
    body, returns, came_at = put_back(channel, "soon")
    assert (body, returns) == (b"soon", 2) and came_at - nacked_at >= 1.4
    body, returns, _ = put_back(channel, "soon")
    assert (body, returns) == (b"soon", 3)
    assert deaths(await_message(channel, "dead")[1]) == [("soon", "delivery_limit", 1)]
    # one with ten minutes to wait waits, and its queue is not empty
    assert channel.basic_get("late")[0] is None
    assert channel.queue_purge("late").method.message_count == 1


def test_retries_interrupted_by_kills_lose_nothing(own_broker, open_connection):
    broker = own_broker()
    channel = open_connection(broker).channel()
    channel.confirm_delivery()
    declare(channel, "q", [5] * 200)
    total = 60
    for number in range(total):
        channel.basic_publish("", "q", str(number), PERSISTENT)
    for _ in range(4):
        channel = open_connection(broker).channel()
        for _ in range(50):
            put_back(channel, "q")
        broker.restart_after_kill()
    channel = open_connection(broker).channel()
    found = {await_message(channel, "q", auto_ack=False)[2] for _ in range(total)}
    assert found == {str(number).encode() for number in range(total)}


def test_memory_of_waiting_messages_is_bounded(own_broker, open_connection):
    """Their bodies lie on disk, like those of a long queue."""
    broker = own_broker()
    connection = open_connection(broker)
    channel = connection.channel()
    channel.confirm_delivery()
    declare(channel, "q", [600_000])
    size, total = 20_000, 5_000
    before = broker.resident_bytes()
    body = bytes(size)
    publishing = connection.channel()
    for _ in range(total):
        publishing.basic_publish("", "q", body, PERSISTENT)
    eventually(lambda: count(channel, "q") == total, 60)
    returned = []

    def put_back_all(_channel, method, _properties, _body):
        returned.append(1)
        consuming.basic_nack(method.delivery_tag, requeue=True)
    consuming = connection.channel()
    consuming.basic_qos(prefetch_count=100)
    consuming.basic_consume("q", put_back_all)
    drive_until(connection, lambda: len(returned) == total, 60)
    assert count(channel, "q") == 0
    eventually(lambda: broker.resident_bytes() - before < size * total / 2, 20, "memory given back")


def test_very_many_put_back_at_once_come_in_their_order(connection, scratch):
    """They go back in steps, and no later step may begin its delay before an earlier one."""
    channel = connection.channel()
    queue = declare(channel, scratch.name(), [50] * 9)
    expected = [f"{n:05}".encode() for n in range(3000)]
    for body in expected:
        channel.basic_publish("", queue, body)
    came = []
    channel.basic_consume(queue, lambda _channel, _method, _properties, body: came.append(body))
    for _ in range(10):
        drive_until(connection, lambda: len(came) == len(expected), what="all of them")
        assert came == expected
        came.clear()
        channel.basic_nack(0, multiple=True, requeue=True)
