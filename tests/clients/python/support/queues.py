"""What tests do with queues over and over: looking, taking everything out, waiting for a message."""

from support.waiting import eventually


def count(channel, queue):
    """How many messages are ready."""
    return channel.queue_declare(queue, passive=True).method.message_count


def bodies(channel, queue):
    """Takes everything out that is ready."""
    found = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return found
        found.append(body)


def await_message(channel, queue, deadline_s=10.0, auto_ack=True):
    """(method, properties, body) of the next message, waited for."""
    def get():
        got = channel.basic_get(queue, auto_ack=auto_ack)
        return got if got[0] else None
    return eventually(get, deadline_s, f"a message in {queue}")


def reject_next(channel, queue):
    """Rejects the next message for good."""
    channel.basic_reject(await_message(channel, queue, auto_ack=False)[0].delivery_tag, requeue=False)


def deaths(properties):
    """[(queue, reason, count)] of x-death, in its order."""
    return [(death["queue"], death["reason"], death["count"]) for death in properties.headers["x-death"]]
