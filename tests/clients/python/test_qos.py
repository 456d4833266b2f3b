"""basic.qos: per consumer, per channel, changed later."""

import pytest
from pika import spec

from support.waiting import drive_until


class Prefetch:
    """A raw channel whose deliveries are counted per consumer."""

    def __init__(self, client):
        self.client = client
        client.open_channel(1)
        self.queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
        self.tags = {}

    def qos(self, count, global_=False):
        self.client.call(1, spec.Basic.Qos(prefetch_count=count, global_qos=global_))

    def consume(self, tag, no_ack=False):
        self.tags[tag] = []
        self.client.call(1, spec.Basic.Consume(queue=self.queue, consumer_tag=tag, no_ack=no_ack))

    def publish(self, count):
        for _ in range(count):
            self.client.publish(1, "", self.queue, b"x")

    def settle(self):
        """Reads all deliveries until the broker falls silent; {consumer tag: how many so far}."""
        while True:
            try:
                method = self.client.read_method(spec.Basic.Deliver, timeout_s=0.25)
            except TimeoutError:
                return {tag: len(seen) for tag, seen in self.tags.items()}
            self.client.read_content()
            self.tags[method.consumer_tag].append(method.delivery_tag)

    def ack(self, tag, multiple=False):
        self.client.send(1, spec.Basic.Ack(tag, multiple))


@pytest.fixture
def prefetch(wire):
    return Prefetch(wire())


def test_without_qos_everything_comes(prefetch):
    prefetch.consume("a")
    prefetch.publish(300)
    assert prefetch.settle() == {"a": 300}


def test_prefetch_counts_each_consumer(prefetch):
    prefetch.qos(3)
    prefetch.consume("a")
    prefetch.consume("b")
    prefetch.publish(20)
    assert prefetch.settle() == {"a": 3, "b": 3}


def test_each_ack_makes_room_for_one(prefetch):
    prefetch.qos(2)
    prefetch.consume("a")
    prefetch.publish(10)
    assert prefetch.settle() == {"a": 2}
    prefetch.ack(1)
    assert prefetch.settle() == {"a": 3}
    prefetch.ack(3, multiple=True)
    assert prefetch.settle() == {"a": 5}


@pytest.mark.parametrize("method", [spec.Basic.Nack(1, False, False), spec.Basic.Reject(1, False),
                                    spec.Basic.Nack(1, False, True)], ids=["nack", "reject", "requeue"])
def test_nack_and_reject_make_room_too(prefetch, method):
    prefetch.qos(1)
    prefetch.consume("a")
    prefetch.publish(3)
    assert prefetch.settle() == {"a": 1}
    prefetch.client.send(1, method)
    assert prefetch.settle() == {"a": 2}


def test_a_later_qos_applies_to_later_consumers_only(prefetch):
    prefetch.qos(2)
    prefetch.consume("a")
    prefetch.qos(5)
    prefetch.consume("b")
    prefetch.publish(30)
    assert prefetch.settle() == {"a": 2, "b": 5}


def test_prefetch_zero_is_no_limit(prefetch):
    prefetch.qos(1)
    prefetch.consume("a")
    prefetch.qos(0)
    prefetch.consume("b")
    prefetch.publish(50)
    assert prefetch.settle() == {"a": 1, "b": 49}


def test_global_qos_is_shared_by_the_channel(prefetch):
    prefetch.qos(4, global_=True)
    prefetch.consume("a")
    prefetch.consume("b")
    prefetch.publish(20)
    counts = prefetch.settle()
    assert sum(counts.values()) == 4
    prefetch.ack(2, multiple=True)
    assert sum(prefetch.settle().values()) == 6


def test_global_and_consumer_limits_hold_together(prefetch):
    prefetch.qos(3)
    prefetch.qos(5, global_=True)
    prefetch.consume("a")
    prefetch.consume("b")
    prefetch.publish(20)
    counts = prefetch.settle()
    assert sum(counts.values()) == 5
    assert max(counts.values()) == 3


def test_raising_the_global_limit_delivers_more_at_once(prefetch):
    prefetch.qos(2, global_=True)
    prefetch.consume("a")
    prefetch.publish(10)
    assert prefetch.settle() == {"a": 2}
    prefetch.qos(6, global_=True)
    assert prefetch.settle() == {"a": 6}
    prefetch.qos(0, global_=True)
    assert prefetch.settle() == {"a": 10}


def test_lowering_the_global_limit_holds_until_enough_is_acknowledged(prefetch):
    prefetch.qos(4, global_=True)
    prefetch.consume("a")
    prefetch.publish(10)
    assert prefetch.settle() == {"a": 4}
    prefetch.qos(2, global_=True)
    prefetch.ack(2, multiple=True)
    assert prefetch.settle() == {"a": 4}
    prefetch.ack(3)
    assert prefetch.settle() == {"a": 5}


def one_by_one(prefetch, count):
    """Acknowledges each delivery before the next; the consumers' tags in order."""
    order = []
    for _ in range(count):
        method = prefetch.client.read_method(spec.Basic.Deliver)
        prefetch.client.read_content()
        order.append(method.consumer_tag)
        prefetch.ack(method.delivery_tag)
    return order


def test_consumers_of_a_channel_take_turns(prefetch):
    prefetch.qos(1, global_=True)
    for tag in "abc":
        prefetch.consume(tag)
    prefetch.publish(30)
    assert one_by_one(prefetch, 30) == list("abc" * 10)


def test_a_queue_that_never_runs_dry_starves_no_other(connection, channel):
    first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.basic_qos(prefetch_count=4, global_qos=True)
    seen = []

    def on_message(_c, method, _p, _b):
        seen.append(method.routing_key)
        if method.routing_key == first:
            channel.basic_publish("", first, b"x")
        channel.basic_ack(method.delivery_tag)
    for _ in range(10):
        channel.basic_publish("", first, b"x")
    for queue in (first, second):
        channel.basic_consume(queue, on_message)
    for _ in range(20):
        channel.basic_publish("", second, b"x")
    drive_until(connection, lambda: seen.count(second) == 20)
    last = len(seen) - 1 - seen[::-1].index(second)
    meanwhile = seen[seen.index(second):last]
    assert meanwhile.count(first) <= 2 * 20


def test_a_limit_for_consumers_lifts_the_channels(prefetch):
    prefetch.qos(1, global_=True)
    prefetch.consume("a")
    prefetch.publish(10)
    assert prefetch.settle() == {"a": 1}
    prefetch.qos(3)
    assert prefetch.settle() == {"a": 10}


def test_a_full_channel_holds_its_no_ack_consumers_back(prefetch):
    prefetch.qos(1, global_=True)
    prefetch.consume("a")
    prefetch.publish(1)
    assert prefetch.settle() == {"a": 1}
    prefetch.consume("b", no_ack=True)
    prefetch.client.call(1, spec.Basic.Cancel(consumer_tag="a"))
    prefetch.publish(5)
    assert prefetch.settle() == {"a": 1, "b": 0}
    prefetch.ack(1)
    assert prefetch.settle() == {"a": 1, "b": 5}


def test_no_ack_consumers_know_no_limit_of_their_own(prefetch):
    prefetch.qos(1)
    prefetch.consume("a", no_ack=True)
    prefetch.publish(20)
    assert prefetch.settle() == {"a": 20}


def test_get_is_not_limited(prefetch):
    prefetch.qos(1)
    prefetch.publish(5)
    for _ in range(5):
        assert isinstance(prefetch.client.call(1, spec.Basic.Get(queue=prefetch.queue)), spec.Basic.GetOk)
        prefetch.client.read_content()


def test_a_blocked_consumer_of_one_queue_does_not_block_another_queue(connection, channel):
    first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.basic_qos(prefetch_count=1)
    seen = {first: 0, second: 0}

    def on_message(_c, method, _p, _b):
        seen[method.routing_key] += 1
        if method.routing_key == second:
            channel.basic_ack(method.delivery_tag)
    for queue in (first, second):
        channel.basic_consume(queue, on_message)
    for _ in range(10):
        channel.basic_publish("", first, b"x")
        channel.basic_publish("", second, b"x")
    drive_until(connection, lambda: seen == {first: 1, second: 10})


def test_fairness_of_consumers_with_prefetch(connection, channel):
    """Ten consumers that acknowledge at once share a backlog about evenly."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    for _ in range(1000):
        channel.basic_publish("", queue, b"x")
    counts = [0] * 10

    def counter(number, own):
        def on_message(_c, method, _p, _b):
            counts[number] += 1
            own.basic_ack(method.delivery_tag)
        return on_message
    for number in range(10):
        own = connection.channel()
        own.basic_qos(prefetch_count=10)
        own.basic_consume(queue, counter(number, own))
    drive_until(connection, lambda: sum(counts) == 1000, deadline_s=20)
    assert min(counts) >= 10
