"""tx.select, commit, rollback: publishes, acks, returns."""

import pika
import pytest
from pika import spec

from support.waiting import drive_until


def ready(channel, queue):
    """How many messages there are, by taking them out."""
    return channel.queue_purge(queue).method.message_count


@pytest.fixture
def queue(channel):
    channel.confirm_delivery()  # what the plain channel published is in its queue when the other asks for it
    return channel.queue_declare("", exclusive=True).method.queue


@pytest.fixture
def tx(connection):
    channel = connection.channel()
    channel.tx_select()
    return channel


def test_published_messages_appear_with_the_commit(channel, tx, queue):
    for _ in range(5):
        tx.basic_publish("", queue, b"x")
    tx.basic_qos()
    assert ready(channel, queue) == 0
    tx.tx_commit()
    assert ready(channel, queue) == 5


def test_rollback_drops_publishes(channel, tx, queue):
    tx.basic_publish("", queue, b"x")
    tx.tx_rollback()
    tx.tx_commit()
    assert ready(channel, queue) == 0


def test_a_new_transaction_begins_after_commit_and_rollback(channel, tx, queue):
    tx.basic_publish("", queue, b"1")
    tx.tx_commit()
    tx.basic_publish("", queue, b"2")
    tx.tx_rollback()
    tx.basic_publish("", queue, b"3")
    tx.tx_commit()
    assert [channel.basic_get(queue, auto_ack=True)[2] for _ in range(2)] == [b"1", b"3"]


def test_select_twice_and_empty_commits_are_no_errors(tx):
    tx.tx_select()
    tx.tx_commit()
    tx.tx_commit()
    tx.tx_rollback()


def test_acks_take_effect_with_the_commit(channel, connection, tx, queue):
    for number in range(3):
        channel.basic_publish("", queue, str(number))
    for _ in range(3):
        tag = tx.basic_get(queue)[0].delivery_tag
    tx.basic_ack(tag, multiple=True)
    tx.close()  # without a commit: all three come back
    other = connection.channel()
    other.tx_select()
    for _ in range(3):
        method = other.basic_get(queue)[0]
        assert method.redelivered
    other.basic_ack(method.delivery_tag, multiple=True)
    other.tx_commit()
    other.close()
    assert ready(channel, queue) == 0


def test_after_rollback_the_messages_are_still_unacknowledged_and_can_be_acked(channel, tx, queue):
    channel.basic_publish("", queue, b"x")
    tag = tx.basic_get(queue)[0].delivery_tag
    tx.basic_ack(tag)
    tx.tx_rollback()
    assert channel.basic_get(queue)[0] is None  # not requeued by the rollback
    tx.basic_ack(tag)
    tx.tx_commit()
    tx.close()
    assert ready(channel, queue) == 0


@pytest.mark.parametrize("requeue", [True, False])
def test_nacks_wait_for_the_commit(channel, tx, queue, requeue):
    channel.basic_publish("", queue, b"x")
    tag = tx.basic_get(queue)[0].delivery_tag
    tx.basic_nack(tag, requeue=requeue)
    tx.basic_qos()
    assert ready(channel, queue) == 0
    tx.tx_commit()
    assert ready(channel, queue) == int(requeue)


def test_acks_of_unknown_tags_fail_at_once(tx):
    tx.basic_ack(99)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        tx.basic_qos()
    assert closed.value.reply_text == "PRECONDITION_FAILED - unknown delivery tag 99"


def test_returns_come_with_the_commit(wire):
    client = wire()
    client.open_channel(1)
    client.call(1, spec.Tx.Select())
    client.publish(1, "", "nowhere", b"x", mandatory=True)
    client.call(1, spec.Basic.Qos())  # nothing was returned so far
    client.send(1, spec.Tx.Commit())
    assert client.read_method(spec.Basic.Return).reply_code == 312
    client.read_content()
    client.read_method(spec.Tx.CommitOk)


def test_publishing_to_a_missing_exchange_fails_the_channel(tx, scratch):
    tx.basic_publish(scratch.name(), "k", b"x")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        tx.tx_commit()
    assert closed.value.reply_code == 404


def test_closing_the_channel_drops_the_transaction(channel, tx, queue):
    tx.basic_publish("", queue, b"x")
    tx.close()
    assert ready(channel, queue) == 0


def test_one_commit_over_many_queues(channel, tx):
    queues = [channel.queue_declare("", exclusive=True).method.queue for _ in range(10)]
    for number in range(100):
        tx.basic_publish("", queues[number % 10], b"x")
    tx.tx_commit()
    assert [ready(channel, queue) for queue in queues] == [10] * 10


def test_move_a_message_in_one_transaction(channel, tx, queue):
    target = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"moved")
    method, properties, body = tx.basic_get(queue)
    tx.basic_publish("", target, body, properties)
    tx.basic_ack(method.delivery_tag)
    tx.tx_commit()
    tx.close()
    assert (ready(channel, queue), channel.basic_get(target, auto_ack=True)[2]) == (0, b"moved")


@pytest.mark.parametrize("arguments", [{}, {"x-overflow": "reject-publish"}, {"x-queue-type": "quorum"}],
                         ids=["drop-head", "reject-publish", "quorum"])
def test_consumers_that_wait_come_before_a_limit(connection, channel, tx, scratch, arguments):
    queue = scratch.queue(channel, durable=True, arguments={"x-max-length": 10} | arguments)
    seen = []
    channel.basic_consume(queue, lambda _c, _m, _p, body: seen.append(int(body)), auto_ack=True)
    for number in range(100):
        tx.basic_publish("", queue, b"%d" % number, pika.BasicProperties(delivery_mode=2))
    tx.tx_commit()
    drive_until(connection, lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_no_time_to_live_is_enough_for_a_consumer_that_waits(connection, channel, tx, scratch):
    queue = scratch.queue(channel, durable=True)
    seen = []
    channel.basic_consume(queue, lambda _c, _m, _p, body: seen.append(int(body)), auto_ack=True)
    for number in range(20):
        tx.basic_publish("", queue, b"%d" % number, pika.BasicProperties(delivery_mode=2, expiration="0"))
        tx.tx_commit()
    drive_until(connection, lambda: len(seen) == 20)


def test_a_full_queue_makes_a_commit_partial(connection, channel, tx, scratch):
    full = scratch.queue(channel, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    other = scratch.queue(channel, durable=True)
    for _ in range(3):
        tx.basic_publish("", full, b"x", pika.BasicProperties(delivery_mode=2))
    tx.basic_publish("", other, b"x", pika.BasicProperties(delivery_mode=2))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        tx.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (406, "PRECONDITION_FAILED - partial tx completion")
    assert (ready(channel, full), ready(channel, other)) == (1, 1)
