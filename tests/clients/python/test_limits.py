"""Time to live, length limits, dead letters, priorities: what queue arguments ask for."""

import pika
import pytest

from support.waiting import eventually


def take_all(channel, queue):
    """[(properties, body)] of all that is ready."""
    found = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append((properties, body))


def await_one(channel, queue, deadline_s=5):
    """The next message, waited for."""
    got = eventually(lambda: next(iter([m for m in [channel.basic_get(queue, auto_ack=True)] if m[0]]), None),
                     deadline_s, "a message")
    return got[1], got[2]


@pytest.fixture
def dead_letters(channel, scratch):
    """A queue for dead letters, bound to a fanout exchange: (exchange, queue)."""
    channel.confirm_delivery()
    exchange = scratch.exchange(channel, "fanout")
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange)
    return exchange, queue


def test_queue_ttl(channel):
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 100}).method.queue
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    assert channel.queue_declare(queue, passive=True).method.message_count == 3
    eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 0)
    assert channel.basic_get(queue)[0] is None


def test_message_expiration(channel):
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"short", pika.BasicProperties(expiration="50"))
    channel.basic_publish("", queue, b"stays")
    eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 1)
    assert [body for _, body in take_all(channel, queue)] == [b"stays"]


def test_ttl_0_expires_at_once_without_a_consumer(channel):
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 0}).method.queue
    channel.basic_publish("", queue, b"x")
    assert channel.basic_get(queue)[0] is None


def test_ttl_0_still_reaches_a_waiting_consumer(connection, channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-message-ttl": 0}).method.queue
    received = []
    channel.basic_consume(queue, lambda _c, _m, _p, body: received.append(body), auto_ack=True)
    channel.basic_publish("", queue, b"x")
    eventually(lambda: connection.process_data_events(0.02) or received)


def test_unused_queue_expires_and_use_renews_it(channel, scratch):
    queue = scratch.name()
    channel.queue_declare(queue, arguments={"x-expires": 400})

    def gone():
        other = channel.connection.channel()
        try:
            # a passive declare would renew it; unbinding finds a missing queue silently, get does not
            other.queue_bind(queue, "amq.direct", "k")
        except pika.exceptions.ChannelClosedByBroker as closed:
            return closed.reply_code == 404
        other.close()
        return False
    eventually(gone, deadline_s=5)


def test_max_length_drops_the_head(channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-length": 3}).method.queue
    for number in range(5):
        channel.basic_publish("", queue, str(number))
    assert [body for _, body in take_all(channel, queue)] == [b"2", b"3", b"4"]


def test_max_length_bytes(channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-length-bytes": 10}).method.queue
    for body in (b"aaaa", b"bbbb", b"cccc"):
        channel.basic_publish("", queue, body)
    assert [body for _, body in take_all(channel, queue)] == [b"bbbb", b"cccc"]


def test_rejected_messages_become_dead_letters(channel, dead_letters):
    exchange, letters = dead_letters
    queue = channel.queue_declare("", exclusive=True, arguments={"x-dead-letter-exchange": exchange}).method.queue
    channel.basic_publish("", queue, b"bad", pika.BasicProperties(content_type="text/plain", headers={"mine": 1}))
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    properties, body = await_one(channel, letters)
    assert (body, properties.content_type, properties.headers["mine"]) == (b"bad", "text/plain", 1)
    death, = properties.headers["x-death"]
    assert {key: death[key] for key in ("count", "reason", "queue", "exchange", "routing-keys")} == {
        "count": 1, "reason": "rejected", "queue": queue, "exchange": "", "routing-keys": [queue]}
    assert {key: properties.headers[f"x-first-death-{key}"] for key in ("queue", "reason", "exchange")} == {
        "queue": queue, "reason": "rejected", "exchange": ""}


def test_expired_messages_become_dead_letters(channel, dead_letters):
    exchange, letters = dead_letters
    queue = channel.queue_declare("", exclusive=True, arguments={"x-dead-letter-exchange": exchange}).method.queue
    channel.basic_publish("", queue, b"late", pika.BasicProperties(expiration="30"))
    properties, body = await_one(channel, letters)
    assert (body, properties.expiration) == (b"late", None)
    death, = properties.headers["x-death"]
    assert (death["reason"], death["original-expiration"], death["count"]) == ("expired", "30", 1)


def test_dropped_messages_become_dead_letters(channel, dead_letters):
    exchange, letters = dead_letters
    queue = channel.queue_declare("", exclusive=True, arguments={
        "x-dead-letter-exchange": exchange, "x-max-length": 1}).method.queue
    for body in (b"1", b"2"):
        channel.basic_publish("", queue, body)
    properties, body = await_one(channel, letters)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"1", "maxlen")


def test_dead_letter_routing_key(channel):
    channel.confirm_delivery()
    letters = channel.queue_declare("", exclusive=True).method.queue
    queue = channel.queue_declare("", exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters}).method.queue
    channel.basic_publish("", queue, b"x")
    channel.basic_nack(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    got = eventually(lambda: next(iter([m for m in [channel.basic_get(letters, auto_ack=True)] if m[0]]), None))
    assert (got[0].exchange, got[0].routing_key) == ("", letters)


def test_repeated_deaths_are_counted_in_one_entry(channel, scratch):
    channel.confirm_delivery()
    queue = scratch.name()
    channel.queue_declare(queue, exclusive=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
    channel.basic_publish("", queue, b"x")
    for _ in range(3):
        method = eventually(lambda: channel.basic_get(queue)[0])
        channel.basic_reject(method.delivery_tag, requeue=False)
    properties, _ = await_one(channel, queue)
    death, = properties.headers["x-death"]
    assert (death["count"], death["reason"], death["queue"]) == (3, "rejected", queue)


def test_a_cycle_without_a_rejection_is_dropped(channel, scratch):
    """A queue that expires messages into itself loses them instead of turning for ever."""
    channel.confirm_delivery()
    queue = scratch.name()
    channel.queue_declare(queue, exclusive=True, arguments={
        "x-message-ttl": 30, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue})
    channel.basic_publish("", queue, b"x")
    eventually(lambda: channel.queue_declare(queue, passive=True).method.message_count == 0)


def test_priorities(channel):
    queue = channel.queue_declare("", exclusive=True, arguments={"x-max-priority": 5}).method.queue
    for number, priority in enumerate([None, 3, 5, 0, 3, 200]):
        channel.basic_publish("", queue, str(number), pika.BasicProperties(priority=priority))
    assert [body for _, body in take_all(channel, queue)] == [b"2", b"5", b"1", b"4", b"0", b"3"]


def test_quorum_queue_counts_deliveries(channel, scratch):
    queue = scratch.queue(channel, durable=True, arguments={"x-queue-type": "quorum"})
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x")
    counts = []
    for _ in range(3):
        method, properties, _ = eventually(lambda: next(iter([m for m in [channel.basic_get(queue)] if m[0]]), None))
        counts.append((properties.headers or {}).get("x-delivery-count"))
        channel.basic_nack(method.delivery_tag, requeue=True)
    assert counts[0] in (None, 0)  # 0 in RabbitMQ 3.10, absent in others
    assert counts[1:] == [1, 2]


def test_delivery_limit_of_a_quorum_queue(channel, scratch, dead_letters):
    exchange, letters = dead_letters
    queue = scratch.queue(channel, durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": exchange})
    channel.basic_publish("", queue, b"poison")
    for _ in range(3):
        method = eventually(lambda: channel.basic_get(queue)[0])
        channel.basic_nack(method.delivery_tag, requeue=True)
    properties, body = await_one(channel, letters)
    assert (body, properties.headers["x-death"][0]["reason"]) == (b"poison", "delivery_limit")
