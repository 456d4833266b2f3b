"""Queue types and the arguments that go with them: what each takes and refuses, and what it then does."""

import threading

import pika
import pytest

from conftest import parameters
from support.queues import await_message, bodies, count
from support.waiting import drive_until, eventually

QUORUM = {"x-queue-type": "quorum"}
STREAM = {"x-queue-type": "stream"}


def refusal(connection, step):
    """(code, text) of the channel error that `step` brings about."""
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        step(connection.channel())
    return closed.value.reply_code, closed.value.reply_text


def declare_refused(connection, scratch, arguments, **flags):
    """The text of the 406 without its beginning; `Q` stands for the queue."""
    queue = scratch.name("q")
    code, text = refusal(connection, lambda channel: channel.queue_declare(queue, arguments=arguments, **flags))
    assert code == 406
    return text.removeprefix("PRECONDITION_FAILED - ").replace(f"queue '{queue}' in vhost '/'", "Q")


@pytest.mark.parametrize("kind", ["quorum", "stream"])
@pytest.mark.parametrize("flags, property", [
    ({"durable": False}, "non-durable"), ({"durable": True, "auto_delete": True}, "auto-delete"),
    ({"durable": True, "exclusive": True}, "exclusive-owner")])
def test_replicated_kinds_are_durable_and_shared(connection, scratch, kind, flags, property):
    text = declare_refused(connection, scratch, {"x-queue-type": kind}, **flags)
    assert text == f"invalid property '{property}' for Q"


@pytest.mark.parametrize("kind, argument, value", [
    ("quorum", "x-max-priority", 5), ("quorum", "x-queue-mode", "lazy"), ("quorum", "x-queue-version", 2),
    ("quorum", "x-max-age", "1h"), ("quorum", "x-stream-max-segment-size-bytes", 1000),
    ("classic", "x-delivery-limit", 5), ("classic", "x-quorum-initial-group-size", 1), ("classic", "x-max-age", "1h"),
    ("classic", "x-dead-letter-strategy", "at-least-once"),
    ("stream", "x-message-ttl", 1000), ("stream", "x-expires", 1000), ("stream", "x-max-length", 1),
    ("stream", "x-max-priority", 5), ("stream", "x-overflow", "drop-head"), ("stream", "x-delivery-limit", 5),
    ("stream", "x-dead-letter-exchange", "x"), ("stream", "x-queue-mode", "lazy")])
def test_arguments_of_other_kinds_are_refused(connection, scratch, kind, argument, value):
    text = declare_refused(connection, scratch, {"x-queue-type": kind, argument: value}, durable=True)
    assert text == f"invalid arg '{argument}' for Q of queue type rabbit_{kind}_queue"


@pytest.mark.parametrize("arguments, why", [
    ({"x-queue-type": "mirrored"}, "x-queue-type: \"unsupported queue type 'mirrored'\""),
    ({"x-queue-version": 3}, "x-queue-version: \"unsupported queue version '3'\""),
    ({"x-queue-mode": "eager"}, "x-queue-mode: \"unsupported queue mode 'eager'\""),
    ({"x-max-priority": 256}, "x-max-priority: {max_value_exceeded,256}"),
    ({"x-max-priority": -1}, "x-max-priority: {value_negative,-1}"),
    ({"x-single-active-consumer": 1}, "x-single-active-consumer: {unacceptable_type,signedint}"),
    ({"x-queue-leader-locator": "nearest"}, "x-queue-leader-locator: invalid_queue_locator_arg"),
    ({**QUORUM, "x-dead-letter-strategy": "maybe"}, "x-dead-letter-strategy: invalid_dlx_strategy"),
    ({**QUORUM, "x-quorum-initial-group-size": 0}, "x-quorum-initial-group-size: {value_zero,0}"),
    ({**QUORUM, "x-quorum-initial-group-size": -1}, "x-quorum-initial-group-size: {value_negative,-1}"),
    ({**STREAM, "x-initial-cluster-size": 0}, "x-initial-cluster-size: {value_zero,0}"),
    ({**STREAM, "x-max-age": "1w"}, "x-max-age: invalid_max_age"),
    ({**STREAM, "x-max-age": 5}, "x-max-age: {unacceptable_type,signedint}"),
    # a wrong value comes before an argument of another kind
    ({**QUORUM, "x-max-priority": 5, "x-message-ttl": -1}, "x-message-ttl: {value_negative,-1}")])
def test_wrong_values_are_refused(connection, scratch, arguments, why):
    argument, reason = why.split(": ", 1)
    assert declare_refused(connection, scratch, arguments, durable=True) == f"invalid arg '{argument}' for Q: {reason}"


@pytest.mark.parametrize("arguments, text", [
    ({"x-stream-max-segment-size-bytes": 3_000_000_001},
     "Exceeded max value for x-stream-max-segment-size-bytes"),
    ({"x-stream-filter-size-bytes": 15}, "Invalid value for  x-stream-filter-size-bytes"),
    ({"x-stream-filter-size-bytes": 256}, "Invalid value for  x-stream-filter-size-bytes")])
def test_sizes_of_streams_have_bounds(connection, scratch, arguments, text):
    assert declare_refused(connection, scratch, {**STREAM, **arguments}, durable=True) == text


@pytest.mark.parametrize("arguments", [
    {"x-queue-type": "classic", "x-queue-mode": "lazy", "x-queue-version": 2},
    {"x-queue-version": 1, "x-queue-mode": "default", "x-queue-leader-locator": "balanced"},
    {"x-queue-master-locator": "min-masters", "x-max-priority": 255, "x-single-active-consumer": True},
    {**QUORUM, "x-quorum-initial-group-size": 3, "x-queue-leader-locator": "client-local", "x-delivery-limit": 5},
    {**QUORUM, "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
     "x-dead-letter-exchange": "dlx"},
    {**STREAM, "x-max-age": "7D", "x-max-length-bytes": 10 ** 9, "x-stream-max-segment-size-bytes": 10 ** 6,
     "x-initial-cluster-size": 1, "x-queue-leader-locator": "least-leaders", "x-stream-filter-size-bytes": 32}])
def test_what_is_accepted_also_takes_messages_and_a_second_declaration(channel, scratch, arguments):
    queue = scratch.queue(channel, durable=True, arguments=arguments)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x", mandatory=True)
    channel.queue_declare(queue, durable=True, arguments=arguments)
    assert count(channel, queue) == 1


def test_unknown_arguments_are_ignored(channel, connection, scratch):
    queue = scratch.queue(channel, arguments={"x-of-a-plugin": True, "anything": [1, {"a": None}]})
    channel.queue_declare(queue, arguments={"something": "else"})
    assert count(channel, queue) == 0


@pytest.mark.parametrize("before, after, text", [
    (QUORUM, None, "received none but current is the value 'quorum' of type 'longstr'"),
    (QUORUM, {"x-queue-type": "classic"}, "received 'classic' but current is 'quorum'"),
    (QUORUM, STREAM, "received 'stream' but current is 'quorum'"),
    (STREAM, QUORUM, "received 'quorum' but current is 'stream'"),
    ({"x-queue-type": "classic"}, QUORUM, "received 'quorum' but current is 'classic'")])
def test_another_type_is_inequivalent(connection, channel, scratch, before, after, text):
    queue = scratch.queue(channel, durable=True, arguments=before)
    code, found = refusal(connection, lambda other: other.queue_declare(queue, durable=True, arguments=after))
    assert (code, found) == (
        406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{queue}' in vhost '/': {text}")


def test_priorities_up_to_255_in_order(channel, scratch):
    queue = scratch.queue(channel, arguments={"x-max-priority": 255})
    channel.confirm_delivery()
    for priority in (0, 255, 128, 254, 1):
        for part in b"ab":
            channel.basic_publish("", queue, bytes([part]), pika.BasicProperties(priority=priority))
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0]:
        found.append((got[1].priority, got[2]))
    assert found == [(priority, part) for priority in (255, 254, 128, 1, 0) for part in (b"a", b"b")]


def test_a_priority_without_x_max_priority_means_nothing(channel, scratch):
    queue = scratch.queue(channel)
    channel.confirm_delivery()
    for priority in (1, 9):
        channel.basic_publish("", queue, str(priority), pika.BasicProperties(priority=priority))
    assert bodies(channel, queue) == [b"1", b"9"]


def test_a_requeued_message_goes_back_into_its_priority(channel, scratch):
    queue = scratch.queue(channel, arguments={"x-max-priority": 2})
    channel.confirm_delivery()
    for body, priority in ((b"low", 0), (b"high", 2)):
        channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
    high, low = (channel.basic_get(queue)[0].delivery_tag for _ in range(2))
    channel.basic_nack(low, requeue=True)
    channel.basic_nack(high, requeue=True)
    assert bodies(channel, queue) == [b"high", b"low"]


def test_with_priorities_the_limit_takes_the_highest_first(channel, scratch):
    """RabbitMQ's documented surprise: the head of the queue is its highest priority."""
    queue = scratch.queue(channel, arguments={"x-max-priority": 1, "x-max-length": 1})
    channel.confirm_delivery()
    for body, priority in ((b"high", 1), (b"low", 0)):
        channel.basic_publish("", queue, body, pika.BasicProperties(priority=priority))
    assert bodies(channel, queue) == [b"low"]


def test_transient_queues_and_global_qos_are_allowed(channel, connection, scratch):
    """RabbitMQ 4.3 refuses both, which broke Celery and others."""
    queue = scratch.queue(channel, durable=False)
    channel.basic_qos(prefetch_count=2, global_qos=True)
    for body in range(3):
        channel.basic_publish("", queue, str(body))
    got = []
    channel.basic_consume(queue, lambda *_: got.append(1))
    drive_until(connection, lambda: len(got) == 2)


def test_quorum_queues_keep_transient_messages_too(own_broker, open_connection):
    """Whatever is in a quorum queue is on disk."""
    broker = own_broker()
    channel = open_connection(broker).channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True, arguments=QUORUM)
    for mode in (1, 2):
        channel.basic_publish("", "q", str(mode), pika.BasicProperties(delivery_mode=mode))
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    assert bodies(channel, "q") == [b"1", b"2"]


class Bystander:
    """Sends a message to and fro in a thread and counts how often."""

    def __init__(self, broker):
        self.rounds = 0
        self.stopped = False
        self.connection = pika.BlockingConnection(parameters(broker))
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        channel = self.connection.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        while not self.stopped:
            channel.basic_publish("", queue, b"ping")
            if channel.basic_get(queue, auto_ack=True)[0]:
                self.rounds += 1
        self.connection.close()

    def stop(self):
        self.stopped = True
        self.thread.join(30)


@pytest.mark.parametrize("verb", ["purge", "delete"])
def test_emptying_a_long_queue_delays_nobody(broker, connect, scratch, verb):
    """Others get on between the request and its answer, or the answer is there at once."""
    publisher = connect().channel()
    queue = scratch.queue(publisher, durable=True)
    total = 200_000
    for _ in range(total):
        publisher.basic_publish("", queue, b"0123456789", pika.BasicProperties(delivery_mode=2))
    eventually(lambda: count(publisher, queue) == total, 120, "all published")
    bystander = Bystander(broker)
    try:
        eventually(lambda: bystander.rounds > 10)
        asked_at = bystander.rounds
        answer = publisher.queue_purge(queue) if verb == "purge" else publisher.queue_delete(queue)
        meanwhile = bystander.rounds - asked_at
        assert answer.method.message_count == total
        eventually(lambda: bystander.rounds > asked_at + 100, what="the bystander's progress")
        # as long as a few hundred round trips at the very most, not one for each message
        assert meanwhile < total / 100
    finally:
        bystander.stop()
