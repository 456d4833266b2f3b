"""The two queues of this example."""

from pika.adapters.blocking_connection import BlockingChannel

SOURCE = "pipeline.readings"
RESULTS = "pipeline.results"


def declare(channel: BlockingChannel) -> None:
    channel.queue_declare(SOURCE, durable=True)
    channel.queue_declare(RESULTS, durable=True)
