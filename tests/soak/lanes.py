"""The lanes of the soak: each uses the broker in its own way, and knows what has to come of it."""

import random
import socket
import threading
import time
import traceback

import pika

PERIOD_S = 0.05
DRAIN_DEADLINE_S = 60.0
PERSISTENT = 2


class Lane(threading.Thread):
    """One connection, and what goes on over it in turns of PERIOD_S."""

    def __init__(self, address, stop):
        super().__init__(daemon=True)
        self.host, self.port, self.stopped = address[0], address[1], stop
        self.findings = []
        self.random = random.Random(type(self).__name__)
        self.counts = {}
        self.connection = self.channel = None

    @property
    def lane(self):
        return type(self).__name__

    def connect(self):
        return pika.BlockingConnection(pika.ConnectionParameters(self.host, self.port, heartbeat=0, socket_timeout=30,
                                                                 blocked_connection_timeout=60))

    def wrong(self, finding):
        if len(self.findings) < 10:
            self.findings.append(finding)

    def run(self):
        try:
            self.connection = self.connect()
            self.channel = self.connection.channel()
            self.begin()
            while not self.stopped.is_set():
                begun = time.monotonic()
                self.turn()
                self.pump(begun + PERIOD_S - time.monotonic())
            self.finish()
            self.connection.close()
        except Exception:  # whatever it is, the run is to say so
            self.findings.append(traceback.format_exc())

    def pump(self, seconds):
        """Takes what comes for so long."""
        end = time.monotonic() + seconds
        while (rest := end - time.monotonic()) > 0:
            self.connection.process_data_events(time_limit=rest)

    def pump_until(self, condition):
        end = time.monotonic() + DRAIN_DEADLINE_S
        while not condition() and time.monotonic() < end:
            self.connection.process_data_events(time_limit=0.1)
        return condition()

    def begin(self):
        """Declares and consumes."""

    def turn(self):
        """Publishes, or whatever else it does."""

    def finish(self):
        """Takes what is still to come."""


class Ordered(Lane):
    """All that is sent comes once, in the order in which it was sent."""

    RATE = 10
    SOURCE = {}
    # Where it is published to, and where it is taken from.
    TO = FROM = property(lambda self: f"soak-{self.lane}")

    def begin(self):
        self.sent = self.came = 0
        self.declare()
        self.consume()

    def declare(self):
        self.channel.queue_declare(self.FROM, durable=True, arguments=self.SOURCE)

    def consume(self):
        self.channel.basic_qos(prefetch_count=200)
        self.channel.basic_consume(self.FROM, self.take, arguments=self.reading())

    def reading(self):
        return None

    def take(self, channel, method, properties, body):
        number = int(body.split(b" ", 1)[0])
        if number != self.came:
            self.wrong(f"{number} came where {self.came} should have")
        self.came = number + 1
        self.settle(channel, method)

    def settle(self, channel, method):
        channel.basic_ack(method.delivery_tag)

    def turn(self):
        for _ in range(self.RATE):
            self.send(self.sent)
            self.sent += 1

    def send(self, number):
        self.channel.basic_publish("", self.TO, b"%d %s" % (number, b"." * 100), self.properties(number))

    def properties(self, number):
        return pika.BasicProperties(delivery_mode=PERSISTENT)

    def finish(self):
        if not self.pump_until(lambda: self.came == self.sent):
            self.wrong(f"{self.sent} were sent and {self.came} came")
        self.counts = {"sent": self.sent}


class Counted(Ordered):
    """All that is sent comes and is done with once, in whatever order."""

    def begin(self):
        self.open = {}
        super().begin()

    def turn(self):
        for _ in range(self.RATE):
            self.open[self.sent] = None
            self.send(self.sent)
            self.sent += 1

    def take(self, channel, method, properties, body):
        number = int(body.split(b" ", 1)[0])
        if self.is_put_back(channel, method, number):
            return
        if number not in self.open:
            self.wrong(f"{number} came twice")
        self.open.pop(number, None)
        channel.basic_ack(method.delivery_tag)

    def is_put_back(self, channel, method, number):
        return False

    def finish(self):
        if not self.pump_until(lambda: not self.open):
            self.wrong(f"{len(self.open)} of {self.sent} never came")
        self.counts = {"sent": self.sent}


class Classic(Ordered):
    """A durable queue whose consumer keeps up: most of all messages."""
    RATE = 50


class Transient(Ordered):
    RATE = 20

    def properties(self, number):
        return pika.BasicProperties()


class Stream(Ordered):
    SOURCE = {"x-queue-type": "stream", "x-max-length-bytes": 2_000_000, "x-stream-max-segment-size-bytes": 500_000}

    def reading(self):
        return {"x-stream-offset": "next"}

    def turn(self):
        super().turn()
        if self.sent % 100 == 0:
            with self.connect() as other:
                channel = other.channel()
                channel.basic_qos(prefetch_count=10)
                channel.basic_consume(self.FROM, lambda *_: None, arguments={"x-stream-offset": "first"})
                other.process_data_events(time_limit=0.02)


class Priority(Counted):
    SOURCE = {"x-max-priority": 5}

    def properties(self, number):
        return pika.BasicProperties(delivery_mode=PERSISTENT, priority=number % 7)


class Quorum(Counted):
    """Some are put back at their first delivery."""
    SOURCE = {"x-queue-type": "quorum", "x-delivery-limit": 5}

    def is_put_back(self, channel, method, number):
        if number % 20 or method.redelivered:
            return False
        channel.basic_nack(method.delivery_tag, requeue=True)
        return True


class Retries(Counted):
    """All come back once, never early."""
    RATE = 3
    DELAY_MS = 60
    SOURCE = {"x-retry-delays": [DELAY_MS]}

    def is_put_back(self, channel, method, number):
        if method.redelivered:
            waited = time.monotonic() - self.open[number]
            if waited < self.DELAY_MS / 1000:
                self.wrong(f"{number} came back after {waited:.4f} s")
            return False
        self.open[number] = time.monotonic()
        channel.basic_nack(method.delivery_tag, requeue=True)
        return True


class Letters(Ordered):
    """What is sent dies in one queue and comes out of another."""

    FROM = property(lambda self: f"soak-{self.lane}-letters")

    def declare(self):
        self.channel.queue_declare(self.FROM, durable=True)
        onwards = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.FROM}
        self.channel.queue_declare(self.TO, durable=True, arguments={**self.SOURCE, **onwards})


class Expiry(Letters):
    SOURCE = {"x-message-ttl": 50}
    RATE = 20


class Overflow(Letters):
    SOURCE = {"x-max-length": 10}
    RATE = 20

    def finish(self):
        self.channel.basic_consume(self.TO, self.take)
        super().finish()


class Rejects(Letters):
    def begin(self):
        super().begin()
        self.channel.basic_consume(self.TO, lambda channel, method, *_: channel.basic_reject(method.delivery_tag, False))


class Delayed(Counted):
    """Never early."""
    RATE = 4

    def declare(self):
        super().declare()
        self.channel.exchange_declare("soak-later", "x-delayed-message", durable=True,
                                      arguments={"x-delayed-type": "direct"})
        self.channel.queue_bind(self.FROM, "soak-later", "k")

    def send(self, number):
        delay = self.random.choice([1, 20, 100, 1500])
        self.open[number] = (time.monotonic(), delay)
        self.channel.basic_publish("soak-later", "k", b"%d" % number,
                                   pika.BasicProperties(delivery_mode=PERSISTENT, headers={"x-delay": delay}))

    def is_put_back(self, channel, method, number):
        sent_at, delay = self.open.get(number) or (0.0, 0)
        if time.monotonic() - sent_at < delay / 1000:
            self.wrong(f"{number} came {time.monotonic() - sent_at:.4f} s after it was sent for {delay} ms later")
        return False


class Duplicates(Ordered):
    """Everything is sent twice: by its identity, by its header, or by its producer's number."""
    RATE = 6
    SOURCE = {"x-dedup-window-ms": 2_000}

    def declare(self):
        super().declare()
        self.channel.exchange_declare("soak-once", "x-message-deduplication", durable=True,
                                      arguments={"x-cache-size": 1_000, "x-cache-persistence": "disk"})
        self.channel.queue_bind(self.FROM, "soak-once", self.TO)

    def send(self, number):
        way = number % 3
        properties = pika.BasicProperties(delivery_mode=PERSISTENT)
        if way == 0:
            properties.message_id = f"{number}"
        elif way == 1:
            properties.headers = {"x-deduplication-header": f"{number}"}
        else:
            properties.headers = {"x-producer": "soak", "x-sequence": number}
        for _ in range(2):
            self.channel.basic_publish("soak-once" if way == 1 else "", self.TO, b"%d" % number, properties)


class Transactions(Ordered):
    """What is committed comes, what is rolled back does not."""

    def begin(self):
        self.commits = 0
        super().begin()
        self.transaction = self.connection.channel()
        self.transaction.tx_select()

    def turn(self):
        self.commits += 1
        if self.commits % 3 == 0:
            for _ in range(3):
                self.transaction.basic_publish("", self.TO, b"-1", self.properties(0))
            self.transaction.tx_rollback()
            return
        for _ in range(3):
            self.transaction.basic_publish("", self.TO, b"%d" % self.sent, self.properties(0))
            self.sent += 1
        self.transaction.tx_commit()


class Large(Ordered):
    """Bodies in many frames."""
    RATE = 1

    def turn(self):
        if self.random.random() < 0.1:
            super().turn()

    def send(self, number):
        body = b"%d %s" % (number, b"x" * self.random.choice([200_000, 1_000_000, 3_000_000]))
        self.channel.basic_publish("", self.TO, body, self.properties(number))


class Replies(Lane):
    """Requests whose answers come straight back."""

    def begin(self):
        self.asked = self.answered = 0
        self.channel.queue_declare("soak-requests")
        self.channel.basic_consume("amq.rabbitmq.reply-to", self.take, auto_ack=True)
        self.server = self.connection.channel()
        self.server.basic_consume("soak-requests", self.serve, auto_ack=True)

    def serve(self, channel, method, properties, body):
        channel.basic_publish("", properties.reply_to, body)

    def take(self, channel, method, properties, body):
        if int(body) != self.answered:
            self.wrong(f"answer {body} came where {self.answered} should have")
        self.answered = int(body) + 1

    def turn(self):
        for _ in range(5):
            self.channel.basic_publish("", "soak-requests", b"%d" % self.asked,
                                       pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
            self.asked += 1

    def finish(self):
        if not self.pump_until(lambda: self.answered == self.asked):
            self.wrong(f"{self.asked} were asked and {self.answered} answered")
        self.counts = {"requests": self.asked}


class Vanishing(Lane):
    """Consumers that go without a word, with deliveries they never acknowledged: nothing may be lost."""

    def begin(self):
        self.sent, self.open = 0, set()
        self.channel.queue_declare("soak-vanishing", durable=True)
        self.other = None

    def turn(self):
        for _ in range(10):
            self.open.add(self.sent)
            self.channel.basic_publish("", "soak-vanishing", b"%d" % self.sent,
                                       pika.BasicProperties(delivery_mode=PERSISTENT))
            self.sent += 1
        if self.sent % 100 == 0:
            self.vanish()
            self.other = self.connect()
            channel = self.other.channel()
            channel.basic_qos(prefetch_count=50)
            channel.basic_consume("soak-vanishing", self.take)
        if self.other:
            self.other.process_data_events(time_limit=0.001)

    def vanish(self):
        if self.other:
            self.other._impl._transport._sock.shutdown(socket.SHUT_RDWR)  # pika ends none without a word
            self.other = None

    def take(self, channel, method, properties, body):
        if int(body) % 7:
            self.open.discard(int(body))
            channel.basic_ack(method.delivery_tag)

    def finish(self):
        self.vanish()

        def take(channel, method, properties, body):
            self.open.discard(int(body))
            channel.basic_ack(method.delivery_tag)
        self.channel.basic_consume("soak-vanishing", take)
        if not self.pump_until(lambda: not self.open):
            self.wrong(f"{len(self.open)} of {self.sent} never came")
        self.counts = {"sent": self.sent}


class Comings(Lane):
    """Connections, channels, queues, exchanges, bindings and consumers with names that never come again, each gone in
    one of the ways in which it can go."""

    def begin(self):
        self.number = 0
        self.channel.queue_declare("soak-shared")

    def turn(self):
        self.number += 1
        name = f"soak-{self.lane}-{self.number}"
        with self.connect() as connection:
            channel = connection.channel()
            ways = [self.exclusive, self.auto_delete, self.durable, self.exchange_first, self.auto_delete_exchange,
                    self.expiring, self.consumers, self.unroutable, self.failing]
            ways[self.number % len(ways)](connection, channel, name)

    def finish(self):
        self.counts = {"names": self.number}

    def exclusive(self, connection, channel, name):
        channel.queue_declare(name, exclusive=True)
        channel.queue_bind(name, "amq.topic", f"{name}.#")
        for _ in range(3):
            channel.basic_publish("amq.topic", f"{name}.x", b"x")
        channel.basic_get(name)

    def auto_delete(self, connection, channel, name):
        channel.queue_declare(name, auto_delete=True, durable=self.number % 2 == 0)
        channel.queue_bind(name, "amq.headers", "", {"x-match": "all", "name": name})
        tag = channel.basic_consume(name, lambda *_: None)
        channel.basic_publish("", name, b"x", pika.BasicProperties(delivery_mode=PERSISTENT))
        channel.basic_cancel(tag)

    def durable(self, connection, channel, name):
        channel.queue_declare(name, durable=True, arguments={"x-max-priority": 3})
        channel.exchange_declare(name, "topic", durable=True)
        channel.queue_bind(name, name, "a.*")
        channel.exchange_bind(name, "amq.fanout", name)
        channel.basic_publish(name, "a.b", b"x", pika.BasicProperties(delivery_mode=PERSISTENT))
        channel.queue_delete(name)
        channel.exchange_delete(name)

    def exchange_first(self, connection, channel, name):
        channel.exchange_declare(name, "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
        channel.queue_declare(name, durable=True)
        channel.queue_bind(name, name, "k")
        channel.basic_publish(name, "k", b"x", pika.BasicProperties(headers={"x-delay": 600_000}))
        channel.exchange_delete(name)
        channel.queue_delete(name)

    def auto_delete_exchange(self, connection, channel, name):
        """The exchange goes with the last queue bound to it."""
        channel.exchange_declare(name, "direct", durable=True, auto_delete=True)
        durable = self.number % 2 == 0
        channel.queue_declare(name, durable=durable, exclusive=not durable)
        channel.queue_bind(name, name, "k")
        if durable:
            channel.queue_delete(name)

    def expiring(self, connection, channel, name):
        channel.queue_declare(name, durable=True, arguments={"x-expires": 2_000, "x-message-ttl": 600_000})
        channel.queue_bind(name, "amq.direct", name)
        channel.basic_publish("amq.direct", name, b"x", pika.BasicProperties(delivery_mode=PERSISTENT))

    def consumers(self, connection, channel, name):
        for place in range(3):
            other = connection.channel()
            other.basic_qos(prefetch_count=3, global_qos=place == 1)
            other.basic_consume("soak-shared", lambda *_: None, consumer_tag=f"{name}-{place}", auto_ack=True)
            if place:
                other.close()

    def unroutable(self, connection, channel, name):
        channel.confirm_delivery()
        try:
            channel.basic_publish("amq.direct", name, b"x", mandatory=True)
            self.wrong("nothing was returned")
        except pika.exceptions.UnroutableError:
            pass

    def failing(self, connection, channel, name):
        try:
            channel.queue_declare(name, passive=True)
            self.wrong(f"{name} is there")
        except pika.exceptions.ChannelClosedByBroker:
            pass


# Dealt out to processes by turns: the ones that need most first.
ALL = [Classic, Expiry, Comings, Transient, Overflow, Vanishing, Quorum, Stream, Priority, Rejects, Retries, Delayed,
       Duplicates, Transactions, Replies, Large]


def run(address, stop, classes):
    """Runs lanes until `stop` is set: (lane, findings, counts) of each."""
    running = [kind(address, stop) for kind in classes]
    for lane in running:
        lane.start()
    for lane in running:
        lane.join()
    return [(lane.lane, lane.findings, lane.counts) for lane in running]
