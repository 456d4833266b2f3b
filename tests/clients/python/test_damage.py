"""One flipped bit in what is stored costs one message, wherever that lies: it is set aside, which the log, an event and
`leveret store verify` tell, and everything behind it flows.

Each test has a broker of its own, with a message in every kind of place."""

import re
import subprocess

import pika
import pytest

from support.queues import deaths
from support.waiting import drive_until, eventually

pytestmark = pytest.mark.leveret_only("looks into Leveret's files")

MESSAGES = 5
# The one in the middle.
BAD = 2
# Long enough for a broker to stop, and to be looked at, before it is over.
LATER_MS = 4_000


def body_of(place, number):
    return f"body:{place}:{number}:".encode() + b"." * 100


def head_of(place, number):
    return f"head:{place}:{number}:"


def publish(channel, place, exchange="", key=None, **properties):
    headers = properties.pop("headers", {})
    for number in range(MESSAGES):
        of_one = pika.BasicProperties(delivery_mode=2, headers={"mark": head_of(place, number), **headers}, **properties)
        channel.basic_publish(exchange, place if key is None else key, body_of(place, number), of_one)


class Queue:
    """A queue of some kind."""

    def __init__(self, **arguments):
        self.arguments = {f"x-{name.replace('_', '-')}": value for name, value in arguments.items()}

    def declare(self, channel, place):
        channel.queue_declare(place, durable=True, arguments=self.arguments)

    def fill(self, channel, place):
        self.declare(channel, place)
        publish(channel, place)

    def before_reading(self, channel, place):
        pass


class Priority(Queue):
    def fill(self, channel, place):
        self.declare(channel, place)
        publish(channel, place, priority=3)


class Transaction(Queue):
    def fill(self, channel, place):
        self.declare(channel, place)
        own = channel.connection.channel()
        own.tx_select()
        publish(own, place)
        own.tx_commit()
        own.close()


class Retries(Queue):
    """All of them wait to come again."""

    def fill(self, channel, place):
        super().fill(channel, place)
        for _ in range(MESSAGES):
            method, _, _ = channel.basic_get(place)
            channel.basic_nack(method.delivery_tag, requeue=True)


class Letters(Queue):
    """They have died elsewhere."""

    def fill(self, channel, place):
        self.declare(channel, place)
        channel.queue_declare("dying", durable=True, arguments={
            "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": place})
        publish(channel, place, key="dying")
        eventually(lambda: channel.queue_declare(place, passive=True).method.message_count == MESSAGES)


class Delayed(Queue):
    def fill(self, channel, place):
        self.declare(channel, place)
        channel.exchange_declare("later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
        channel.queue_bind(place, "later", place)
        publish(channel, place, "later", headers={"x-delay": LATER_MS})


class History(Queue):
    """An exchange that keeps what it has seen for those who bind to it."""

    def fill(self, channel, place):
        channel.exchange_declare("talk", "x-recent-history", durable=True)
        publish(channel, place, "talk")

    def before_reading(self, channel, place):
        self.declare(channel, place)
        channel.queue_bind(place, "talk")


PLACES = {
    "classic": Queue(),
    "quorum": Queue(queue_type="quorum"),
    "priority": Priority(max_priority=5),
    "limited": Queue(max_length=100, message_ttl=3_600_000),
    "unique": Queue(message_deduplication=True),
    "single": Queue(single_active_consumer=True),
    "stream": Queue(queue_type="stream"),
    "transaction": Transaction(),
    "retries": Retries(retry_delays=[LATER_MS]),
    "letters": Letters(),
    "delayed": Delayed(),
    "history": History(),
    "dead": Queue(dead_letter_exchange="", dead_letter_routing_key="graves"),
}


def flip(own, text):
    """Flips a bit of this text wherever the journal has it."""
    found = 0
    for path in (own.data_dir / "journal").glob("*.seg"):
        content = bytearray(path.read_bytes())
        at = content.find(text)
        while at >= 0:
            content[at] ^= 1
            found += 1
            at = content.find(text, at)
        path.write_bytes(content)
    assert found, f"{text} is nowhere"


def verify(own):
    """Exit code, what is found to be damaged now, and what was set aside before."""
    done = subprocess.run([own.binary, "store", "verify", str(own.data_dir)], capture_output=True, text=True, timeout=60)
    lines = done.stdout.splitlines()
    return (done.returncode, [line for line in lines if "is what was written" in line or "is not what was" in line],
            [line for line in lines if line.startswith("set aside before: ")])


def read(connection, place):
    """The numbers of the messages that come out of a place, until nothing is left there."""
    channel = connection.channel()
    PLACES[place].before_reading(channel, place)
    channel.basic_qos(prefetch_count=100)
    got = []

    def take(_channel, method, properties, body):
        found = re.match(rb"body:%s:(\d):" % place.encode(), body)
        assert found and properties.headers["mark"] == head_of(place, int(found[1])), body
        got.append(int(found[1]))
        channel.basic_ack(method.delivery_tag)

    first = {"x-stream-offset": "first"} if place == "stream" else None
    channel.basic_consume(place, take, arguments=first)
    drive_until(connection, lambda: len(got) >= MESSAGES - 1, 30, f"{place}: the others, {got}")
    if place != "stream":
        eventually(lambda: channel.queue_declare(place, passive=True).method.message_count == 0)
    channel.close()
    return got


@pytest.mark.parametrize("where", ["body", "head"])
@pytest.mark.parametrize("stop", ["an orderly stop", "a kill"])
def test_a_flipped_bit_costs_one_message_wherever_it_is(own_broker, open_connection, stop, where):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    channel.queue_declare("told", durable=True)
    channel.queue_bind("told", "amq.rabbitmq.event", "message.damaged")
    channel.queue_declare("graves", durable=True)
    for place, kind in PLACES.items():
        kind.fill(channel, place)
    # What was settled before is on its way to the disk with this.
    channel.basic_publish("", "graves", b"sound", pika.BasicProperties(delivery_mode=2))
    channel.basic_get("graves", auto_ack=True)
    channel.basic_publish("", "told", b"sound", pika.BasicProperties(delivery_mode=2))
    channel.basic_get("told", auto_ack=True)
    if stop == "a kill":
        own.kill()
    else:
        own.terminate()
        assert own.wait(20) == 0
    for place in PLACES:
        flip(own, body_of(place, BAD)[:-100] if where == "body" else head_of(place, BAD).encode())
    code, damaged, before = verify(own)
    assert (code, len(damaged), before) == (2, len(PLACES), []), damaged

    own.start()
    connection = open_connection(own)
    for place in PLACES:
        assert read(connection, place) == [number for number in range(MESSAGES) if number != BAD], place
    channel = connection.channel()
    told = {}
    # What exchanges keep is read at the start; it is told of them.
    exchanges = {"delayed": "later", "history": "talk"}

    def everything_is_told():
        _, properties, _ = channel.basic_get("told", auto_ack=True)
        if properties is not None and "messages" in (properties.headers or {}):
            name = properties.headers["name"]
            told[name] = told.get(name, 0) + properties.headers["messages"]
        return sum(told.values()) >= len(PLACES)
    eventually(everything_is_told, 20, "the events")
    assert told == {exchanges.get(place, place): 1 for place in PLACES}
    # It has not lost its name where only its body is damaged.
    method, properties, body = channel.basic_get("graves", auto_ack=True)
    while body == b"sound":
        method, properties, body = channel.basic_get("graves", auto_ack=True)
    if where == "body":
        assert (body, properties.headers["mark"]) == (b"", head_of("dead", BAD))
        assert deaths(properties) == [("dead", "damaged", 1)]
    else:
        assert method is None
    said = re.findall(r"damaged messages are set aside.*messages=(\d+)", own.log.read_text())
    said = said or re.findall(r"messages=(\d+).*damaged messages are set aside", own.log.read_text())
    assert sum(map(int, said)) == len(PLACES), own.log_tail()
    own.terminate()
    assert own.wait(20) == 0
    _, damaged, before = verify(own)
    # A stream keeps it until retention takes it.
    assert (len(damaged), len(before)) == (1, len(PLACES)), damaged
