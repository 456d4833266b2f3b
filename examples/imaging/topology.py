"""The queues of this example."""

from pika.adapters.blocking_connection import BlockingChannel

QUEUE = "images"
DAMAGED = "images.damaged"


def declare(channel: BlockingChannel) -> None:
    channel.queue_declare(DAMAGED, durable=True)
    channel.queue_declare(QUEUE, durable=True, arguments={
        # What the archive refuses is kept for a person to look at.
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": DAMAGED})
