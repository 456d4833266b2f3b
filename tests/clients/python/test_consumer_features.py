"""Consumers in their corners: priority, exclusive and single active ones, failover, timeouts, limits together."""

import pika
import pytest

from support.queues import count
from support.waiting import drive_until, eventually


class Listener:
    """A consumer on a channel of its own that keeps what it gets."""

    def __init__(self, connection, queue, prefetch=0, arguments=None, **options):
        self.connection = connection
        self.channel = connection.channel()
        self.channel.add_on_cancel_callback(lambda _frame: self.cancelled.append(True))
        self.got, self.tags, self.cancelled = [], [], []
        self.closed = None
        if prefetch:
            self.channel.basic_qos(prefetch_count=prefetch)
        self.tag = self.channel.basic_consume(queue, self.receive, arguments=arguments, **options)

    def receive(self, _channel, method, _properties, body):
        self.got.append(body)
        self.tags.append(method.delivery_tag)

    def ack_all(self):
        self.channel.basic_ack(self.tags[-1], multiple=True)


def publish_all(channel, queue, bodies):
    for body in bodies:
        channel.basic_publish("", queue, body)


def refusal(step):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        step()
    return closed.value.reply_code, closed.value.reply_text


def test_single_active_consumers_follow_in_the_order_they_registered(channel, connection, scratch):
    channel.confirm_delivery()
    queue = scratch.queue(channel, arguments={"x-single-active-consumer": True})
    listeners = [Listener(connection, queue, prefetch=10) for _ in range(4)]
    active = [listeners[0], listeners[2], listeners[3]]
    publish_all(channel, queue, [b"1"])
    drive_until(connection, lambda: active[0].got == [b"1"])
    listeners[1].channel.close()  # one that waits goes: nothing changes
    publish_all(channel, queue, [b"2"])
    drive_until(connection, lambda: active[0].got == [b"1", b"2"])
    # its channel closes: what it had comes first, to the next in line
    active[0].channel.close()
    publish_all(channel, queue, [b"3"])
    drive_until(connection, lambda: active[1].got == [b"1", b"2", b"3"])
    # a cancelled one keeps what it has not acknowledged
    active[1].channel.basic_cancel(active[1].tag)
    publish_all(channel, queue, [b"4"])
    drive_until(connection, lambda: active[2].got == [b"4"])
    active[1].channel.basic_nack(0, multiple=True, requeue=True)
    drive_until(connection, lambda: active[2].got == [b"4", b"1", b"2", b"3"])


def test_the_active_consumer_stays_active_without_credit(channel, connection, scratch):
    channel.confirm_delivery()
    queue = scratch.queue(channel, arguments={"x-single-active-consumer": True})
    first, second = Listener(connection, queue, prefetch=1), Listener(connection, queue, prefetch=1)
    publish_all(channel, queue, [b"1", b"2", b"3"])
    drive_until(connection, lambda: first.got == [b"1"])
    assert (count(channel, queue), second.got) == (2, [])
    first.ack_all()
    drive_until(connection, lambda: first.got == [b"1", b"2"])
    assert second.got == []


def test_exclusive_consumers_and_single_active_ones_do_not_mix(channel, connection, scratch):
    queue = scratch.queue(channel, arguments={"x-single-active-consumer": True})
    code, _ = refusal(lambda: Listener(connection, queue, exclusive=True))
    assert code == 403


def test_an_exclusive_consumer_keeps_others_out_and_is_kept_out(channel, connection, scratch):
    queue = scratch.queue(channel)
    alone = Listener(connection, queue, exclusive=True)
    text = f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"
    assert refusal(lambda: Listener(connection, queue)) == (403, text)
    alone.channel.close()
    Listener(connection, queue)
    assert refusal(lambda: Listener(connection, queue, exclusive=True)) == (403, text)


def test_consumer_priorities_leave_the_rest_to_others(channel, connection, scratch):
    channel.confirm_delivery()
    queue = scratch.queue(channel)
    low = Listener(connection, queue, prefetch=2, arguments={"x-priority": -5})
    usual = Listener(connection, queue, prefetch=2)
    high = Listener(connection, queue, prefetch=2, arguments={"x-priority": 10})
    publish_all(channel, queue, [b"1", b"2", b"3", b"4", b"5", b"6", b"7"])
    drive_until(connection, lambda: len(low.got) == 2)
    assert (high.got, usual.got, low.got) == ([b"1", b"2"], [b"3", b"4"], [b"5", b"6"])
    high.ack_all()
    drive_until(connection, lambda: high.got == [b"1", b"2", b"7"])


@pytest.mark.parametrize("value, why", [("1", "longstr"), (True, "bool")])
def test_a_priority_is_a_number(channel, connection, scratch, value, why):
    queue = scratch.queue(channel)
    assert refusal(lambda: Listener(connection, queue, arguments={"x-priority": value})) == (
        406, f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': "
             f"\"expected integer, got {why}\"")


@pytest.mark.parametrize("kind, argument, value", [
    ("classic", "x-stream-offset", "first"), ("quorum", "x-stream-offset", "first"),
    ("classic", "x-stream-filter", "a"), ("quorum", "x-stream-match-unfiltered", True), ("stream", "x-priority", 1)])
def test_arguments_of_other_kinds_of_queue(channel, connection, scratch, kind, argument, value):
    queue = scratch.queue(channel, durable=True, arguments={"x-queue-type": kind})
    assert refusal(lambda: Listener(connection, queue, prefetch=1, arguments={argument: value})) == (
        406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/' "
             f"of queue type rabbit_{kind}_queue")


def test_both_prefetches_hold_at_once(channel, connection, scratch):
    channel.confirm_delivery()
    queues = [scratch.queue(channel) for _ in range(2)]
    for queue in queues:
        publish_all(channel, queue, [b"m"] * 10)
    consuming = connection.channel()
    consuming.basic_qos(prefetch_count=3)
    consuming.basic_qos(prefetch_count=5, global_qos=True)
    tags = {queue: [] for queue in queues}
    for queue in queues:
        consuming.basic_consume(
            queue, lambda _c, method, _p, _b, queue=queue: tags[queue].append(method.delivery_tag))
    drive_until(connection, lambda: sum(map(len, tags.values())) == 5)
    assert sorted(map(len, tags.values())) == [2, 3]
    assert sum(count(channel, queue) for queue in queues) == 15
    # room on the channel is room for the consumer that is not at its own limit
    full, other = sorted(tags, key=lambda queue: -len(tags[queue]))
    consuming.basic_ack(tags[other][0])
    drive_until(connection, lambda: len(tags[other]) == 3)
    assert len(tags[full]) == 3


def test_consumers_are_told_when_their_queue_expires_or_goes(channel, connection, scratch):
    queue = scratch.queue(channel)
    listener = Listener(connection, queue)
    channel.queue_delete(queue)
    drive_until(connection, lambda: listener.cancelled)
    assert listener.channel.is_open


@pytest.mark.leveret_only("its own options")
@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_the_consumer_timeout_closes_the_channel(own_broker, open_connection, kind):
    broker = own_broker("--consumer-timeout", "200ms")
    connection = open_connection(broker)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": kind})
    arguments = {"x-stream-offset": "first"} if kind == "stream" else None
    listener = Listener(connection, "q", prefetch=1, arguments=arguments)
    channel.basic_publish("", "q", b"held")
    closed = []
    listener.channel._impl.add_on_close_callback(lambda _channel, reason: closed.append(reason))
    drive_until(connection, lambda: closed)
    assert (closed[0].reply_code, closed[0].reply_text) == (
        406, "PRECONDITION_FAILED - delivery acknowledgement on channel 2 timed out. Timeout value used: 200 ms. "
             "This timeout value can be configured, see consumers doc guide to learn more")
    assert listener.got == [b"held"] and channel.is_open
    if kind != "stream":
        eventually(lambda: count(channel, "q") == 1)


@pytest.mark.leveret_only("its own options")
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_consumer_timeout_may_cancel_that_consumer_alone(own_broker, open_connection, kind):
    broker = own_broker("--consumer-timeout-action", "cancel")
    connection = open_connection(broker)
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("q", durable=True, arguments={"x-queue-type": kind, "x-consumer-timeout": 150})
    channel.queue_declare("other")
    listener = Listener(connection, "q", prefetch=5)
    others = []
    listener.channel.basic_consume("other", lambda _c, _m, _p, body: others.append(body))
    publish_all(channel, "q", [b"1", b"2"])
    drive_until(connection, lambda: listener.cancelled)
    assert listener.channel.is_open and listener.got == [b"1", b"2"]
    eventually(lambda: count(channel, "q") == 2)
    channel.basic_publish("", "other", b"goes on")
    drive_until(connection, lambda: others == [b"goes on"])


@pytest.mark.leveret_only("off by default, unlike RabbitMQ's 30 minutes")
def test_the_consumers_own_timeout_goes_before_its_queues(own_broker, open_connection):
    connection = open_connection(own_broker())
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare("short", arguments={"x-consumer-timeout": 100})
    channel.queue_declare("none")
    patient = Listener(connection, "short", prefetch=1, arguments={"x-consumer-timeout": 0})
    for_ever = Listener(connection, "none", prefetch=1)
    hasty = Listener(connection, "short", prefetch=1)
    publish_all(channel, "short", [b"1", b"2"])
    publish_all(channel, "none", [b"3"])
    drive_until(connection, lambda: patient.got and hasty.got and for_ever.got)
    drive_until(connection, lambda: hasty.channel.is_closed)
    assert patient.channel.is_open and for_ever.channel.is_open
