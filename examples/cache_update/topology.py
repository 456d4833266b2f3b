"""The exchanges of this example and the queue of the cache writer."""

from pika.adapters.blocking_connection import BlockingChannel

CHANGES = "prices.changes"          # fanout: a price has changed
INVALIDATIONS = "prices.cached"     # fanout: the cache has the new price
CACHE_QUEUE = "prices.cache_writer"


def declare(channel: BlockingChannel) -> None:
    channel.exchange_declare(CHANGES, "fanout", durable=True)
    channel.exchange_declare(INVALIDATIONS, "fanout", durable=True)
    channel.queue_declare(CACHE_QUEUE, durable=True)
    channel.queue_bind(CACHE_QUEUE, CHANGES)
