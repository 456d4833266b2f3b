"""Waiting for a state by polling, always with a deadline."""

import time


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
