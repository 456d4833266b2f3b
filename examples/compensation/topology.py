"""The queues of the saga, and what is in them."""

import json

from pika.adapters.blocking_connection import BlockingChannel

STEPS = ("reserve", "bill", "notify")
UNDO = {"reserve": "release", "bill": "refund"}  # nothing takes a notification back: it is the last step
COMPENSATE = "trip.compensate"
UNREADABLE = "trip.unreadable"


def read_trip(body: bytes) -> dict:
    """The trip; ValueError if that is none."""
    trip = json.loads(body)
    if not isinstance(trip, dict) or not isinstance(trip.get("id"), str):
        raise ValueError(f"not a trip: {body[:100]!r}")
    return trip


def queue_of(step: str) -> str:
    return f"trip.{step}"


def declare(channel: BlockingChannel) -> None:
    """A queue for each step; what a step rejects goes to the queue of compensations, and what cannot be read there is
    put aside for somebody to look at."""
    channel.queue_declare(UNREADABLE, durable=True)
    channel.queue_declare(COMPENSATE, durable=True, arguments={
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": UNREADABLE})
    for step in STEPS:
        channel.queue_declare(queue_of(step), durable=True, arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": COMPENSATE})
