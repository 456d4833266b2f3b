"""Restarts under load with a ledger, and how the broker stops when it is asked to."""

import contextlib
import os
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pika
import pytest
from pika import spec

from conftest import parameters
from support.waiting import eventually
from support.wire import WireClient

BROKEN = (pika.exceptions.AMQPError, OSError)
ROUNDS = int(os.environ.get("RESTART_ROUNDS", "5"))


class Ledger:
    """What publishers were promised and what consumers have acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.promised, self.acknowledged, self.received = set(), set(), []

    def publish(self, own, producer, stop):
        """Publishes numbered messages in confirm mode until the broker dies."""
        number = 0
        try:
            with pika.BlockingConnection(parameters(own)) as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                while not stop.is_set():
                    label = f"{producer}:{number:06}"
                    channel.basic_publish("", "ledger", label, pika.BasicProperties(delivery_mode=2))
                    with self.lock:
                        self.promised.add(label)
                    number += 1
        except BROKEN:
            pass

    def consume(self, own, stop):
        """Consumes and acknowledges until the broker dies."""
        try:
            with pika.BlockingConnection(parameters(own)) as connection:
                channel = connection.channel()
                channel.basic_qos(prefetch_count=20)
                for method, _, body in channel.consume("ledger", inactivity_timeout=0.05):
                    if stop.is_set():
                        return
                    if method is None:
                        continue
                    with self.lock:
                        self.received.append((body.decode(), method.redelivered))
                    channel.basic_ack(method.delivery_tag)
        except BROKEN:
            pass


def test_killed_again_and_again_under_load(own_broker, open_connection):
    """Producers and a consumer work while the broker is killed; in the end the ledger balances:
    everything promised was received, and what was received twice was flagged the second time."""
    own = own_broker()
    open_connection(own).channel().queue_declare("ledger", durable=True)
    ledger = Ledger()
    chance = random.Random(7)
    for round_number in range(ROUNDS):
        stop = threading.Event()
        before = len(ledger.promised)
        with ThreadPoolExecutor(4) as workers:
            work = [workers.submit(ledger.publish, own, f"{round_number}.{producer}", stop) for producer in range(3)]
            work.append(workers.submit(ledger.consume, own, stop))
            target = before + chance.randrange(50, 400)
            eventually(lambda: len(ledger.promised) >= target, 30, "progress")
            own.kill()
            stop.set()
            for one in work:
                one.result(20)
        own.start()
    channel = open_connection(own).channel()
    while True:
        method, _, body = channel.basic_get("ledger", auto_ack=True)
        if method is None:
            break
        ledger.received.append((body.decode(), method.redelivered))
    seen = {}
    for label, redelivered in ledger.received:
        if label in seen:
            assert redelivered, f"{label} came twice and was not flagged"
        seen[label] = True
    assert ledger.promised - set(seen) == set()
    for producer in {label.split(":")[0] for label in seen}:
        first = list(dict.fromkeys(label for label, _ in ledger.received if label.startswith(f"{producer}:")))
        assert first == sorted(first), f"messages of {producer} changed their order"


def test_many_quick_restarts_without_load(own_broker, open_connection):
    own = own_broker()
    for number in range(ROUNDS):
        channel = open_connection(own).channel()
        channel.queue_declare("counter", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "counter", str(number), pika.BasicProperties(delivery_mode=2))
        assert channel.queue_declare("counter", passive=True).method.message_count == number + 1
        if number % 2:
            own.restart_after_kill()
        else:
            own.restart_after_sigterm()
    assert open_connection(own).channel().queue_declare("counter", passive=True).method.message_count == ROUNDS


@pytest.mark.parametrize("clients", [0, 1, 50])
def test_sigterm_closes_clients_with_320_and_exits_0_within_5_seconds(own_broker, clients):
    own = own_broker()
    connected = [WireClient(own.host, own.port).handshake() for _ in range(clients)]
    begin = time.monotonic()
    own.terminate()
    for client in connected:
        close = client.read_method(spec.Connection.Close)
        assert (close.reply_code, close.reply_text.startswith("CONNECTION_FORCED")) == (320, True)
        with contextlib.suppress(OSError):  # the broker need not wait for it
            client.send(0, spec.Connection.CloseOk())
    assert own.wait(10) == 0
    assert time.monotonic() - begin < 5
    for client in connected:
        client.close()


@pytest.mark.leveret_only("RabbitMQ waits longer")
def test_a_client_that_does_not_answer_does_not_delay_the_stop(own_broker):
    own = own_broker()
    silent = WireClient(own.host, own.port).handshake()
    greeting = socket.create_connection((own.host, own.port))
    begin = time.monotonic()
    own.terminate()
    assert own.wait(10) == 0
    assert time.monotonic() - begin < 5
    silent.close()
    greeting.close()


def test_after_sigterm_nobody_is_let_in(own_broker):
    own = own_broker()
    own.terminate()
    assert own.wait(10) == 0
    with pytest.raises(OSError):
        socket.create_connection((own.host, own.port), 1)


def test_sigterm_under_load_keeps_every_promise(own_broker, open_connection):
    own = own_broker()
    open_connection(own).channel().queue_declare("ledger", durable=True)
    ledger, stop = Ledger(), threading.Event()
    with ThreadPoolExecutor(3) as workers:
        work = [workers.submit(ledger.publish, own, str(producer), stop) for producer in range(3)]
        eventually(lambda: len(ledger.promised) > 200, 30, "progress")
        own.terminate()
        own.wait(15)
        stop.set()
        for one in work:
            one.result(20)
    own.start()
    channel, found = open_connection(own).channel(), set()
    while True:
        method, _, body = channel.basic_get("ledger", auto_ack=True)
        if method is None:
            break
        found.add(body.decode())
    assert ledger.promised - found == set()


@pytest.mark.leveret_only("a second RabbitMQ on the same directory fails in its own way")
def test_a_second_broker_on_the_same_directory_is_refused_and_harms_nothing(own_broker, open_connection):
    own = own_broker(directory="shared")
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "kept", b"x", pika.BasicProperties(delivery_mode=2))
    second = own_broker(directory="shared", start=False)
    second.log = second.directory / "second.log"
    with pytest.raises(AssertionError, match="ended with 1"):
        second.start()
    message = second.log.read_text().strip()
    assert len(message.splitlines()) == 1 and str(own.data_dir) in message, message
    channel.basic_publish("", "kept", b"y", pika.BasicProperties(delivery_mode=2))
    own.restart_after_kill()
    assert open_connection(own).channel().queue_declare("kept", passive=True).method.message_count == 2


@pytest.mark.leveret_only("its own option")
def test_in_memory_keeps_nothing(own_broker, open_connection):
    own = own_broker("--in-memory")
    channel = open_connection(own).channel()
    channel.queue_declare("kept", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "kept", b"x", pika.BasicProperties(delivery_mode=2))
    assert not own.data_dir.exists()
    own.restart_after_sigterm()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        open_connection(own).channel().queue_declare("kept", passive=True)
    assert closed.value.reply_code == 404


@pytest.mark.leveret_only("its own option")
def test_vhosts_made_at_start_are_apart(own_broker, open_connection):
    own = own_broker("--vhost", "/rabbitmq", "--vhost", "other")
    first = open_connection(own, virtual_host="/rabbitmq").channel()
    second = open_connection(own, virtual_host="other").channel()
    first.queue_declare("q", durable=True)
    second.exchange_declare("x", durable=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        second.queue_declare("q", passive=True)
    assert closed.value.reply_text == "NOT_FOUND - no queue 'q' in vhost 'other'"
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        first.exchange_declare("x", passive=True)
    assert closed.value.reply_text == "NOT_FOUND - no exchange 'x' in vhost '/rabbitmq'"
    own.restart_after_kill()
    open_connection(own, virtual_host="/rabbitmq").channel().queue_declare("q", passive=True)
