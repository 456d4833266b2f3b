"""Clients that ask for much at once: python3 rude.py HOST:PORT KIND [NAME=NUMBER ...].

What is needed beforehand is prepared, then "ready" is printed; with the next line on standard input the client does what
it is there for, and prints "done". No AMQP library: most of this is sent faster than one can encode it, and some of it no
library would send. Standard library only.
"""

import base64
import socket
import struct
import sys
import threading
import time
import urllib.request

MESSAGE = b"x" * 100


def short(text):
    return bytes([len(text)]) + text.encode()


def frame(kind, channel, payload):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel, ids, arguments=b""):
    return frame(1, channel, struct.pack(">HH", *ids) + arguments)


def declare(queue, flags=0, channel=1):
    """`flags`: passive 1, durable 2, exclusive 4, auto-delete 8, nowait 16."""
    return method(channel, (50, 10), b"\0\0" + short(queue) + bytes([flags]) + b"\0\0\0\0")


def bind(queue, exchange, key, nowait=True):
    return method(1, (50, 20), b"\0\0" + short(queue) + short(exchange) + short(key) + bytes([nowait]) + b"\0\0\0\0")


def declare_exchange(name, kind, auto_delete=False):
    """Without an answer."""
    return method(1, (40, 10), b"\0\0" + short(name) + short(kind) + bytes([16 | 4 * auto_delete]) + b"\0\0\0\0")


def consume(queue, tag, channel=1):
    """Without an answer."""
    return method(channel, (60, 20), b"\0\0" + short(queue) + short(tag) + bytes([8]) + b"\0\0\0\0")


def publish(key, body=MESSAGE, mandatory=False, exchange="", properties=b"\0\0"):
    return (method(1, (60, 40), b"\0\0" + short(exchange) + short(key) + bytes([mandatory]))
            + frame(2, 1, struct.pack(">HHQ", 60, 0, len(body)) + properties) + frame(3, 1, body))


class Client:
    """One connection with channel 1."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.socket.sendall(b"AMQP\0\0\x09\x01")
        self.await_method(10, 10)
        self.send(method(0, (10, 11), b"\0\0\0\0" + short("PLAIN") + struct.pack(">I", 12) + b"\0guest\0guest"
                         + short("en_US")))
        self.await_method(10, 30)
        self.send(method(0, (10, 31), struct.pack(">HIH", 2047, 131072, 0)))
        self.send(method(0, (10, 40), short("/") + b"\0\0"))
        self.await_method(10, 41)
        self.open(1)

    def send(self, data):
        self.socket.sendall(data)

    def open(self, channel):
        self.send(method(channel, (20, 10), b"\0"))
        self.await_method(20, 11)

    def read_frame(self):
        while len(self.buffer) < 7 or len(self.buffer) < 8 + struct.unpack(">I", self.buffer[3:7])[0]:
            more = self.socket.recv(1 << 20)
            if not more:
                raise EOFError
            self.buffer += more
        end = 7 + struct.unpack(">I", self.buffer[3:7])[0]
        kind, payload, self.buffer = self.buffer[0], self.buffer[7:end], self.buffer[end + 1:]
        return kind, payload

    def await_method(self, *ids):
        while True:
            kind, payload = self.read_frame()
            if kind == 1:
                found = struct.unpack(">HH", payload[:4])
                if found == ids:
                    return payload
                if found in ((10, 50), (20, 40)):
                    sys.exit(f"closed while waiting for {ids}: {payload!r}")

    def sync(self):
        """All that was sent has been carried out."""
        self.send(method(1, (60, 10), struct.pack(">IHB", 0, 0, 0)))
        self.await_method(60, 11)

    def read_bytes(self, count):
        """So many bytes, whatever they say."""
        buffer = memoryview(bytearray(1 << 20))
        count -= len(self.buffer)
        self.buffer = b""
        while count > 0:
            got = self.socket.recv_into(buffer, min(count, len(buffer)))
            if got == 0:
                raise EOFError
            count -= got

    def fill(self, queue, messages):
        self.send(declare(queue, 16))
        block = publish(queue) * 1000
        for _ in range(messages // 1000):
            self.send(block)
        self.sync()


def take_all(client, queue, messages):
    """Consumes all messages of a queue and acknowledges none."""
    client.send(consume(queue, "c"))
    client.read_bytes(messages * delivery_bytes(queue))


def delivery_bytes(queue):
    """A delivery to consumer c is a method with its names, a header without properties, and a body."""
    return 8 + 4 + 2 + 8 + 1 + 1 + 1 + len(queue) + 8 + 14 + 8 + len(MESSAGE)


def unread_consumers(address, connections=100, consumers=50, messages=200_000):
    """Consumers that do not read are closed, all at once."""
    Client(address).fill("rude", messages)
    clients = []
    for _ in range(connections):
        client = Client(address)
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(b"".join(consume("rude", f"c{number}") for number in range(consumers)))
        clients.append(client)
    yield
    for client in clients:
        client.socket.close()


def unacknowledged(address, messages=5_000_000):
    """A consumer with very many unacknowledged deliveries is closed."""
    client = Client(address)
    client.fill("rude", messages)
    take_all(client, "rude", messages)
    yield
    client.socket.close()


def requeued(address, messages=2_000_000):
    """Very many deliveries are put back at once."""
    client = Client(address)
    client.fill("rude", messages)
    take_all(client, "rude", messages)
    client.send(method(1, (60, 30), short("c") + b"\0"))
    client.await_method(60, 31)
    yield
    client.send(method(1, (60, 120), struct.pack(">QB", 0, 3)))
    client.sync()


def channel_of_consumers(address, consumers=32_000):
    """A channel with very many consumers is closed."""
    client = Client(address)
    client.send(declare("rude", 16))
    for first in range(0, consumers, 1000):
        client.send(b"".join(consume("rude", str(number)) for number in range(first, first + 1000)))
    client.sync()
    yield
    client.send(method(1, (20, 40), struct.pack(">H", 200) + short("bye") + b"\0\0\0\0"))
    client.await_method(20, 41)


def flood(address, what, seconds, connections):
    """The same again and again, as fast as it is taken; answers are read and dropped."""
    until = time.monotonic() + seconds
    block = what * max(1, 65536 // len(what))

    def write(client):
        try:
            while time.monotonic() < until:
                client.send(block)
        except OSError:
            pass
        client.socket.close()

    def read(client):
        buffer = bytearray(1 << 20)
        try:
            while client.socket.recv_into(buffer):
                pass
        except OSError:
            pass

    clients = [Client(address) for _ in range(connections)]
    clients[0].send(declare("rude", 16) + publish("rude") * 1000)
    clients[0].sync()
    yield
    threads = [threading.Thread(target=role, args=(client,), daemon=True) for client in clients for role in (write, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0, until + 2 - time.monotonic()))


def gets(address, seconds=5, connections=4):
    """basic.get without a pause."""
    return flood(address, method(1, (60, 70), b"\0\0" + short("rude") + b"\1"), seconds, connections)


def returns(address, seconds=5, connections=4):
    """Mandatory messages that no queue wants."""
    return flood(address, publish("nowhere", mandatory=True), seconds, connections)


def declares(address, seconds=5, connections=4):
    """A queue is declared and deleted again and again."""
    delete = method(1, (50, 40), b"\0\0" + short("rude2") + b"\0")
    return flood(address, declare("rude2") + delete, seconds, connections)


def failures(address, seconds=5, connections=4):
    """Channels that ask for a queue that is not there."""
    ask = declare("missing", 1, channel=2)
    return flood(address, method(2, (20, 10), b"\0") + ask + method(2, (20, 41)), seconds, connections)


def exclusive_queues(address, queues=40_000):
    """Very many exclusive queues are made, and go with their connection."""
    client = Client(address)
    yield
    for first in range(0, queues, 1000):
        client.send(b"".join(declare(f"rude{number}", 16 | 4) for number in range(first, first + 1000)))
    client.sync()
    client.socket.close()


def queues(address, queues=100_000):
    """Very many queues; what is done to them, others do."""
    client = Client(address)
    for first in range(0, queues, 1000):
        client.send(b"".join(declare(f"rude{number}", 16) for number in range(first, first + 1000)))
    client.sync()
    yield


def queue_of_bindings(address, bindings=100_000):
    """A queue with very many bindings is deleted."""
    client = Client(address)
    client.send(declare("rude", 16))
    for first in range(0, bindings, 1000):
        client.send(b"".join(bind("rude", "amq.topic", f"a.{number}.b") for number in range(first, first + 1000)))
    client.sync()
    yield
    client.send(method(1, (50, 40), b"\0\0" + short("rude") + b"\0"))
    client.await_method(50, 41)


def exchange_of_bindings(address, bindings=100_000):
    """An exchange with very many bindings is deleted."""
    client = Client(address)
    client.send(declare("rude", 16))
    client.send(method(1, (40, 10), b"\0\0" + short("rude") + short("topic") + b"\x10\0\0\0\0"))
    for first in range(0, bindings, 1000):
        client.send(b"".join(bind("rude", "rude", f"a.{number}.b") for number in range(first, first + 1000)))
    client.sync()
    yield
    client.send(method(1, (40, 20), b"\0\0" + short("rude") + b"\0"))
    client.await_method(40, 21)


def cascade(address, exchanges=50_000):
    """Very many exchanges go with the only queue that they lead to."""
    client = Client(address)
    client.send(declare("rude", 16))
    for first in range(0, exchanges, 1000):
        client.send(b"".join(declare_exchange(f"rude{number}", "direct", True) + bind("rude", f"rude{number}", "k")
                             for number in range(first, first + 1000)))
    client.sync()
    yield
    client.send(method(1, (50, 40), b"\0\0" + short("rude") + b"\0"))
    client.await_method(50, 41)


def commit(address, messages=100_000, queues=10_000):
    """A transaction of very many messages, to very many queues, is committed."""
    client = Client(address)
    for first in range(0, queues, 1000):
        client.send(b"".join(declare(f"rude{number}", 16) for number in range(first, first + 1000)))
    client.send(method(1, (90, 10)))
    client.await_method(90, 11)
    for first in range(0, messages, 1000):
        client.send(b"".join(publish(f"rude{number % queues}") for number in range(first, first + 1000)))
    client.sync()
    yield
    client.send(method(1, (90, 20)))
    client.await_method(90, 21)


def all_bound(address, queues):
    """A client, and very many queues that are bound to one exchange."""
    client = Client(address)
    client.send(declare_exchange("rude", "fanout"))
    for first in range(0, queues, 1000):
        client.send(b"".join(declare(f"rude{number}", 16) + bind(f"rude{number}", "rude", "")
                             for number in range(first, first + 1000)))
    client.sync()
    return client


def fan_out(address, queues=50_000):
    """One message goes to very many queues."""
    client = all_bound(address, queues)
    yield
    client.send(publish("", exchange="rude"))
    client.sync()


def dead_letter(address, queues=50_000):
    """One message that dies goes to very many queues."""
    client = all_bound(address, queues)
    name = b"rude"
    arguments = (short("x-dead-letter-exchange") + b"S" + struct.pack(">I", len(name)) + name
                 + short("x-max-length") + b"I" + struct.pack(">i", 1))
    table = struct.pack(">I", len(arguments)) + arguments
    client.send(method(1, (50, 10), b"\0\0" + short("dying") + bytes([16]) + table) + publish("dying"))
    client.sync()
    yield
    client.send(publish("dying"))
    client.sync()


def listing(address, seconds=4):
    """All queues are listed over HTTP, again and again."""
    word = "Basic " + base64.b64encode(b"guest:guest").decode()
    yield
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        asked = urllib.request.Request(f"http://{address}/api/queues", headers={"Authorization": word})
        with urllib.request.urlopen(asked) as answer:
            while answer.read(1 << 20):
                pass


KINDS = {kind.__name__.replace("_", "-"): kind for kind in (
    unread_consumers, unacknowledged, requeued, channel_of_consumers, gets, returns, declares, failures,
    exclusive_queues, queues, queue_of_bindings, exchange_of_bindings, cascade, commit, fan_out, dead_letter, listing)}


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in KINDS:
        sys.exit(f"{__doc__}\nkinds: {', '.join(KINDS)}")
    numbers = {name: int(number) for name, number in (word.split("=") for word in sys.argv[3:])}
    steps = KINDS[sys.argv[2]](sys.argv[1], **numbers)
    next(steps)
    print("ready", flush=True)
    sys.stdin.readline()
    next(steps, None)
    print("done", flush=True)


if __name__ == "__main__":
    main()
