"""The queues of this example."""

from pika.adapters.blocking_connection import BlockingChannel

QUEUE = "measurements"
REFUSED = "measurements.refused"


def declare(channel: BlockingChannel) -> None:
    channel.queue_declare(REFUSED, durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={
        # What the writer refuses is kept for a person to look at.
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": REFUSED})
