"""What tests of publisher deduplication share: messages with what they are known by, and what becomes of them."""

import pika

from support.queues import bodies, count

WINDOW = "x-dedup-window-ms"
# Windows that no test outlasts, however busy the machine.
LONG_MS = 3_600_000
ON_DISK = {"x-cache-size": 1000, "x-cache-persistence": "disk"}


def persistent(**properties):
    return pika.BasicProperties(delivery_mode=2, **properties)


def keyed(value, **headers):
    """A message known by the plugin's header."""
    return persistent(headers={"x-deduplication-header": value, **headers})


def identified(message_id):
    """A message known by its message_id."""
    return persistent(message_id=message_id)


def numbered(producer, sequence, **properties):
    """A message with its producer's number."""
    return persistent(headers={"x-producer": producer, "x-sequence": sequence}, **properties)


class Way:
    """How messages reach one queue: an exchange, a routing key, and a channel with confirms."""

    def __init__(self, channel, queue, exchange="", key=None):
        self.channel, self.queue, self.exchange = channel, queue, exchange
        self.key = queue if key is None else key

    def over(self, channel):
        """The same way over another channel."""
        return Way(channel, self.queue, self.exchange, self.key)

    def publish(self, body, properties, mandatory=False):
        """"ack", "nack" or "returned"."""
        if not self.channel._delivery_confirmation:
            self.channel.confirm_delivery()
        try:
            self.channel.basic_publish(self.exchange, self.key, body.encode(), properties, mandatory)
        except pika.exceptions.NackError:
            return "nack"
        except pika.exceptions.UnroutableError:
            return "returned"
        return "ack"

    def send(self, body, properties, mandatory=False):
        """Publishes without waiting for anything, as in a transaction."""
        self.channel.basic_publish(self.exchange, self.key, body.encode(), properties, mandatory)

    def bodies(self):
        """Takes everything out of the queue."""
        return [body.decode() for body in bodies(self.channel, self.queue)]

    def count(self):
        return count(self.channel, self.queue)


def behind(channel, queue, exchange, kind="direct", arguments=None):
    """The way to a durable queue through a durable exchange of its own."""
    channel.exchange_declare(exchange, kind, durable=True, arguments=arguments)
    channel.queue_declare(queue, durable=True)
    channel.queue_bind(queue, exchange, "k")
    return Way(channel, queue, exchange, "k")


def straight_to(channel, queue, arguments=None):
    """The way to a durable queue by its name."""
    channel.queue_declare(queue, durable=True, arguments=arguments)
    return Way(channel, queue)
