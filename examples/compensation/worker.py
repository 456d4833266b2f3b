"""Does one step of a trip and hands it on to the next, or gives it to be compensated if the step fails.

Handing on and acknowledging are one transaction of the broker: a trip is never at two steps, nor at none. The step
itself may be done twice if the worker dies after it, so it is made not to matter."""

import argparse

import pika
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from ledger import Ledger
from topology import STEPS, declare, queue_of, read_trip


class StepFailed(Exception):
    pass


def carry_out(ledger: Ledger, step: str, trip: dict) -> None:
    if trip.get("fails_at") == step:
        raise StepFailed(f"{trip['id']}: {step} failed")
    ledger.enter(trip["id"], step)


def work(channel: BlockingChannel, stop: Stop, ledger: Ledger, step: str) -> None:
    declare(channel)
    channel.tx_select()
    channel.basic_qos(prefetch_count=10)
    print(f"waiting for trips in {queue_of(step)}; book one with book.py", flush=True)
    following = STEPS[STEPS.index(step) + 1:]
    for method, _, body in channel.consume(queue_of(step), inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        try:
            trip = read_trip(body)
            carry_out(ledger, step, trip)
        except (StepFailed, ValueError) as error:
            print(error, flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            print(f"{trip['id']}: {step} done, {f'on to {following[0]}' if following else 'booked'}", flush=True)
            if following:
                channel.basic_publish("", queue_of(following[0]), body, pika.BasicProperties(delivery_mode=2))
            channel.basic_ack(method.delivery_tag)
        channel.tx_commit()


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--ledger", default="ledger.db", help="SQLite file of what was done")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    ledger = Ledger(options.ledger)
    keep_working(options, lambda channel, stop: work(channel, stop, ledger, options.step))


if __name__ == "__main__":
    main()
