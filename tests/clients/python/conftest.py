"""Fixtures: a broker, connections to it, and names that nobody else uses.

The broker is the binary in LEVERET_BIN, one for all tests of a session, or the one at AMQP_TEST_URL."""

import os
import uuid

import pika
import pytest

from support.broker_process import BrokerProcess, ExternalBroker
from support.chromium import Chromium
from support.examples import Example
from support.services import PostgreSQL, Redis
from support.wire import WireClient

pytest_plugins = ["support.served"]

EXTERNAL_URL = os.environ.get("AMQP_TEST_URL")


def pytest_collection_modifyitems(items):
    if not EXTERNAL_URL:
        return
    for item in items:
        if item.get_closest_marker("leveret_only"):
            item.add_marker(pytest.mark.skip(reason="asks for more than RabbitMQ does"))


@pytest.fixture(scope="session")
def binary():
    """Path of the broker's binary."""
    path = os.environ.get("LEVERET_BIN")
    if not path:
        pytest.skip("LEVERET_BIN names no binary")
    return os.path.abspath(path)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    """The broker that most tests share."""
    if EXTERNAL_URL:
        yield ExternalBroker(EXTERNAL_URL)
        return
    path = os.environ.get("LEVERET_BIN")
    assert path, "set LEVERET_BIN to the broker's binary, or AMQP_TEST_URL to a running broker"
    process = BrokerProcess(os.path.abspath(path), tmp_path_factory.mktemp("broker")).start()
    yield process
    alive = process.alive()
    process.kill()
    assert alive, f"the broker ended by itself: {process.log_tail()}"


@pytest.fixture
def own_broker(binary, tmp_path):
    """Makes brokers of the test's own, which may be killed; needs LEVERET_BIN."""
    made = []

    def make(*arguments, start=True, directory=None):
        home = tmp_path / (directory or f"broker{len(made)}")
        home.mkdir(exist_ok=True)
        process = BrokerProcess(binary, home, arguments)
        made.append(process)
        return process.start() if start else process

    yield make
    for process in made:
        if process.process is not None:
            process.kill()


def parameters(broker, **options):
    """pika's connection parameters for `broker`."""
    options.setdefault("heartbeat", 0)
    options.setdefault("socket_timeout", 10)
    options.setdefault("blocked_connection_timeout", 60)
    return pika.ConnectionParameters(host=broker.host, port=broker.port, **options)


@pytest.fixture
def open_connection():
    """Opens BlockingConnections to any broker and closes them after the test."""
    opened = []

    def make(broker, **options):
        connection = pika.BlockingConnection(parameters(broker, **options))
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        try:
            connection.close()
        except pika.exceptions.AMQPError:
            pass  # closed by the test or by the broker


@pytest.fixture
def connect(broker, open_connection):
    """Opens BlockingConnections to the shared broker."""
    return lambda **options: open_connection(broker, **options)


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def wire(broker):
    """Opens sockets that speak single frames; `wire()` has its handshake behind it unless `handshake=False`."""
    opened = []

    def make(handshake=True, **options):
        client = WireClient(broker.host, broker.port)
        opened.append(client)
        return client.handshake(**options) if handshake else client

    yield make
    for client in opened:
        client.close()


class Scratch:
    """Unique names; what bears one of them is deleted after the test."""

    def __init__(self):
        self.base = f"t-{uuid.uuid4().hex[:10]}"
        self.names = []

    def name(self, suffix="x"):
        name = f"{self.base}-{suffix}-{len(self.names)}"
        self.names.append(name)
        return name

    def queue(self, channel, **options):
        """Declares a queue and returns its name."""
        name = self.name("q")
        channel.queue_declare(name, **options)
        return name

    def exchange(self, channel, kind="direct", **options):
        """Declares an exchange and returns its name."""
        name = self.name("x")
        channel.exchange_declare(name, exchange_type=kind, **options)
        return name


@pytest.fixture
def scratch(broker):
    made = Scratch()
    yield made
    if not made.names:
        return
    connection = pika.BlockingConnection(parameters(broker))
    channel = connection.channel()
    for name in made.names:
        try:
            channel.exchange_delete(name)
            channel.queue_delete(name)
        except pika.exceptions.ChannelClosedByBroker:
            channel = connection.channel()  # another connection's exclusive queue: goes with that one
    connection.close()


@pytest.fixture
def start_example(tmp_path):
    """Starts programs of examples/ that run until they are stopped."""
    started = []

    def start(broker, program, *arguments):
        name = f"example{len(started)}"
        started.append(Example(broker, tmp_path / f"{name}.out", tmp_path / f"{name}.err", program, *arguments))
        return started[-1]

    yield start
    for example in started:
        example.kill()


def running(service):
    """Starts a server for as long as the fixture lasts; skips the test where its packages could not be had."""
    if why := service.missing():
        pytest.skip(why)
    server = service()
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres_server():
    yield from running(PostgreSQL)


@pytest.fixture
def postgres(postgres_server):
    """The URL of an empty PostgreSQL database."""
    return postgres_server.new_database()


@pytest.fixture
def redis_server():
    """A Redis with nothing in it."""
    yield from running(Redis)


@pytest.fixture
def chromium(tmp_path):
    """A browser."""
    if why := Chromium.missing():
        pytest.skip(why)
    browser = Chromium(tmp_path)
    try:
        yield browser.start()
    finally:
        browser.stop()
