"""The queue of this example."""

QUEUE = "images"
DECLARATION = {"queue": QUEUE, "durable": True}
