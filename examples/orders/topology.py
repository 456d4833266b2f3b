"""The queues of this example."""

from pika.adapters.blocking_connection import BlockingChannel

ORDERS = "orders"
FAILED = "orders.failed"
EXPRESS, NORMAL = 5, 1


def declare(channel: BlockingChannel) -> None:
    channel.queue_declare(FAILED, durable=True)
    channel.queue_declare(ORDERS, durable=True, arguments={
        "x-max-priority": EXPRESS,
        # What a worker puts back comes again after half a second, then one, then two; the fourth time it goes on to
        # the dead-letter exchange.
        "x-retry-delays": [500, 1000, 2000],
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": FAILED,
    })
