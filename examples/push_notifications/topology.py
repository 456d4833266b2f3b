"""The exchange of notifications, and the queue of a device."""

from pika.adapters.blocking_connection import BlockingChannel

EXCHANGE = "notifications"
DAY_MS = 24 * 60 * 60 * 1000


def declare_exchange(channel: BlockingChannel) -> None:
    channel.exchange_declare(EXCHANGE, "fanout", durable=True)


def declare_device(channel: BlockingChannel, device: str) -> str:
    """The queue that keeps a device's notifications while it is offline."""
    declare_exchange(channel)
    queue = f"device.{device}"
    channel.queue_declare(queue, durable=True, arguments={
        "x-message-ttl": DAY_MS,   # older notifications are of no interest
        "x-max-length": 100,       # of more, the newest hundred
        "x-expires": 30 * DAY_MS,  # a device that does not come back is forgotten
    })
    channel.queue_bind(queue, EXCHANGE)
    return queue
