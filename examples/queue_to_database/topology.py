"""The queue of this example."""


QUEUE = "measurements"
DECLARATION = {"queue": QUEUE, "durable": True}
