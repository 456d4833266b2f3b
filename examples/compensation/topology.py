"""The queues of the saga."""

from pika.adapters.blocking_connection import BlockingChannel

STEPS = ("reserve", "bill", "notify")
UNDO = {"reserve": "release", "bill": "refund"}  # nothing takes a notification back: it is the last step
COMPENSATE = "trip.compensate"


def queue_of(step: str) -> str:
    return f"trip.{step}"


def declare(channel: BlockingChannel) -> None:
    """A queue for each step; what a step rejects goes to the queue of compensations."""
    channel.queue_declare(COMPENSATE, durable=True)
    for step in STEPS:
        channel.queue_declare(queue_of(step), durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": COMPENSATE})
