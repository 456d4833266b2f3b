"""Dead-lettering under kill -9: whatever moves a message, and whenever the broker dies, a confirmed message is in its
queue or in the dead-letter queue, never in neither and never in both."""

import collections
import random
import threading
import time

import pika
import pytest

from conftest import parameters
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("kills its broker")

KILLS = 10
BETWEEN_KILLS = (4, 120)  # confirmed messages
PERSISTENT = pika.BasicProperties(delivery_mode=2)
DEADLINE_S = 60

SOURCES = {
    "rejected": {},
    "expired": {"x-message-ttl": 30},
    "maxlen": {"x-max-length": 5},
    "delivery_limit": {"x-queue-type": "quorum", "x-delivery-limit": 1},
}


class Mover(threading.Thread):
    """Publishes to one source, and does there what makes messages die; connects again after each kill."""

    def __init__(self, reason, broker, up):
        super().__init__(name=reason)
        self.reason, self.broker, self.up = reason, broker, up
        self.tried = 0
        self.confirmed = set()
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        while not self.stopping.is_set():
            self.up.wait(DEADLINE_S)
            try:
                self.work(pika.BlockingConnection(parameters(self.broker)).channel())
            except (pika.exceptions.AMQPError, OSError):
                pass  # killed
            except Exception as failure:  # noqa: BLE001 - told by the test
                self.failure = failure
                return

    def work(self, channel):
        channel.confirm_delivery()
        while not self.stopping.is_set():
            number = self.tried
            self.tried += 1
            channel.basic_publish("", self.reason, str(number).encode(), PERSISTENT, mandatory=True)
            self.confirmed.add(number)
            if self.reason in ("rejected", "delivery_limit") and number % 3:
                self.give_back(channel, requeue=self.reason == "delivery_limit")
        channel.connection.close()

    def give_back(self, channel, requeue):
        """Two messages at once, so that one commit may move more than one."""
        tags = [channel.basic_get(self.reason)[0] for _ in range(2)]
        tags = [method.delivery_tag for method in tags if method]
        if tags:
            channel.basic_nack(tags[-1], multiple=True, requeue=requeue)


def bodies(channel, queue):
    """Numbers and reasons of everything in the queue."""
    found = []
    while True:
        method, properties, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        deaths = (properties.headers or {}).get("x-death", [])
        found.append((int(body), [(death["queue"], death["reason"], death["count"]) for death in deaths]))


@pytest.mark.parametrize("seed", [1])
def test_a_confirmed_message_is_in_its_queue_or_in_the_dead_letter_queue(own_broker, open_connection, seed):
    chance = random.Random(seed)
    own = own_broker()
    channel = open_connection(own).channel()
    for reason, arguments in SOURCES.items():
        channel.queue_declare(f"dead-{reason}", durable=True)
        channel.queue_declare(reason, durable=True, arguments={
            **arguments, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"dead-{reason}"})
    up = threading.Event()
    up.set()
    movers = [Mover(reason, own, up) for reason in SOURCES]
    for mover in movers:
        mover.start()

    def confirmed():
        failures = [mover.failure for mover in movers if mover.failure]
        assert not failures, failures
        return sum(len(mover.confirmed) for mover in movers)

    for _ in range(KILLS):
        enough = confirmed() + chance.randint(*BETWEEN_KILLS)
        eventually(lambda: confirmed() >= enough, DEADLINE_S)
        time.sleep(chance.uniform(0, 0.01))
        up.clear()
        own.restart_after_kill(keep_port=True)
        up.set()
    for mover in movers:
        mover.stopping.set()
    for mover in movers:
        mover.join(DEADLINE_S)
        assert not mover.is_alive() and mover.failure is None, mover.failure
    check(open_connection(own).channel(), movers)


def check(channel, movers):
    def count(queue):
        return channel.queue_declare(queue, passive=True).method.message_count

    eventually(lambda: count("expired") == 0, DEADLINE_S)
    moved = {}
    for mover in movers:
        reason = mover.reason
        alive, dead = bodies(channel, reason), bodies(channel, f"dead-{reason}")
        assert all(deaths == [] for _, deaths in alive), reason
        assert all(deaths == [(reason, reason, 1)] for _, deaths in dead), reason
        places = collections.Counter(number for number, _ in alive + dead)
        assert mover.confirmed - set(places) == set(), f"{reason}: lost"
        assert [number for number, times in places.items() if times > 1] == [], f"{reason}: twice"
        assert max(places) < mover.tried
        moved[reason] = len(dead)
    assert all(moved.values()), moved
