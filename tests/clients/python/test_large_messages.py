"""Messages of 20 MB, which have files of their own: after kill -9 at any moment each is there whole or not at all, and
those that were confirmed are there.

Each test has a broker of its own."""

import hashlib
import threading

import pika
import pytest

from support.waiting import eventually

LARGE = 20_000_000
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def body(number):
    """A body in which every part says whose it is."""
    piece = hashlib.sha256(str(number).encode()).digest()
    return (piece * (LARGE // len(piece) + 1))[:LARGE]


class Publisher(threading.Thread):
    """Publishes one large message after another and notes which were confirmed, until the broker is gone."""

    def __init__(self, open_connection, own, first):
        super().__init__(daemon=True)
        self.channel = open_connection(own).channel()
        self.channel.queue_declare("large", durable=True)
        self.channel.confirm_delivery()
        self.next = first
        self.confirmed = []

    def run(self):
        try:
            while True:
                self.channel.basic_publish("", "large", body(self.next), PERSISTENT)
                self.confirmed.append(self.next)
                self.next += 1
        except (pika.exceptions.AMQPError, OSError):
            pass


def is_of_a_large_message(path):
    """Marked so, and with its own number: a file that is used again keeps its old mark until something is written."""
    try:
        with open(path, "rb") as file:
            mark = file.read(8)
    except FileNotFoundError:
        return False
    return mark[:4] == b"LVRB" and int.from_bytes(mark[4:8], "little") == int(path.stem)


def files(own):
    """The names of files of large messages."""
    return {path.name for path in (own.data_dir / "journal").glob("*.seg") if is_of_a_large_message(path)}


def drain(own, open_connection):
    """What is in the queue, by number; every message must be whole."""
    channel = open_connection(own).channel()
    found = []
    while True:
        method, _, got = channel.basic_get("large")
        if method is None:
            return found
        known = found[-1] + 1 if found else 0
        number = next(number for number in range(known, known + 50) if got[:32] == body(number)[:32])
        assert got == body(number), f"message {number} is not whole"
        found.append(number)
        channel.basic_ack(method.delivery_tag)


def make_durable(own, open_connection):
    """An acknowledgement has no answer; what was acknowledged before a confirm is durable with it."""
    channel = open_connection(own).channel()
    channel.queue_declare("after", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "after", b"", PERSISTENT)


def in_the_middle(own, publisher):
    """A file has just begun to be written."""
    before = files(own)
    eventually(lambda: files(own) - before and publisher.confirmed, 60)


def after_a_confirm(_own, publisher):
    """Two are confirmed."""
    eventually(lambda: len(publisher.confirmed) >= 2, 60)


@pytest.mark.parametrize("moment", [in_the_middle, after_a_confirm])
def test_confirmed_ones_are_there_and_none_is_half(own_broker, open_connection, moment):
    own = own_broker()
    confirmed, first = [], 0
    for _ in range(2):
        publisher = Publisher(open_connection, own, first)
        publisher.start()
        moment(own, publisher)
        own.restart_after_kill()
        publisher.join(30)
        assert not publisher.is_alive()
        confirmed += publisher.confirmed
        first = publisher.next + 1
    found = drain(own, open_connection)
    assert set(confirmed) <= set(found)
    assert found == sorted(found)


def test_others_publish_meanwhile_and_files_go_with_their_messages(own_broker, open_connection):
    own = own_broker()
    publisher = Publisher(open_connection, own, 0)
    other = open_connection(own).channel()
    other.queue_declare("small", durable=True)
    other.confirm_delivery()
    publisher.start()
    sent = 0
    while len(publisher.confirmed) < 3:
        other.basic_publish("", "small", str(sent), PERSISTENT)
        sent += 1
    assert files(own)
    own.restart_after_kill()
    publisher.join(30)
    channel = open_connection(own).channel()
    for number in range(sent):
        assert channel.basic_get("small", auto_ack=True)[2] == str(number).encode()
    assert set(publisher.confirmed) <= set(drain(own, open_connection))
    make_durable(own, open_connection)
    own.restart_after_kill()
    assert drain(own, open_connection) == []
    # Freed by a checkpoint, which a start with something to clear away brings about within half a minute.
    eventually(lambda: not files(own), 60)
