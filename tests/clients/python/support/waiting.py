"""Waiting for a state by polling, always with a deadline."""

import time

import pika


def eventually(condition, deadline_s=10.0, what="the condition"):
    """Returns the first true value of `condition()`; fails once `deadline_s` seconds have passed without one."""
    end = time.monotonic() + deadline_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come about within {deadline_s} s (last: {value!r})")
        time.sleep(0.01)


def drive_until(connection, condition, deadline_s=10.0, what="the condition"):
    """Like `eventually`, for a pika BlockingConnection whose events must be processed meanwhile."""
    def step():
        connection.process_data_events(time_limit=0.02)
        return condition()
    return eventually(step, deadline_s, what)


def exists(broker, open_connection, queue):
    """Whether a queue is there."""
    try:
        open_connection(broker).channel().queue_declare(queue, passive=True)
    except pika.exceptions.ChannelClosedByBroker:
        return False
    return True


def taken(channel, queue):
    """The next message of a queue, acknowledged: (method, properties, body); None if there is none."""
    delivery = channel.basic_get(queue, auto_ack=True)
    return delivery if delivery[0] is not None else None
