"""The queues of this example."""

QUEUE = "medical_records"

DECLARATION = {
    "queue": QUEUE,
    "durable": True,
    "arguments": {
        # A message-id that came within the last ten minutes is confirmed, but not queued again.
        "x-dedup-window-ms": 600_000,
        # What the consumer refuses is kept for a person to look at.
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "medical_records.refused",
    },
}
REFUSED = {"queue": "medical_records.refused", "durable": True}
