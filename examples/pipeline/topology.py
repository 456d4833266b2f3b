"""The queues of this example."""

from pika.adapters.blocking_connection import BlockingChannel

SOURCE = "pipeline.readings"
RESULTS = "pipeline.results"
REFUSED = "pipeline.refused"


def declare(channel: BlockingChannel) -> None:
    channel.queue_declare(REFUSED, durable=True)
    channel.queue_declare(SOURCE, durable=True, arguments={
        # What cannot be transformed is kept for a person to look at.
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": REFUSED})
    channel.queue_declare(RESULTS, durable=True)
