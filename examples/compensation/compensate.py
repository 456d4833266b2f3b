"""Undoes the steps of a trip that were done before the one that failed, the latest first."""

import argparse

from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from ledger import Ledger
from topology import COMPENSATE, STEPS, UNDO, declare, queue_of, read_trip


def done_before(queue: str) -> list[str]:
    """The steps before the one whose queue that is."""
    return list(STEPS[:[queue_of(step) for step in STEPS].index(queue)])


def compensate(channel: BlockingChannel, stop: Stop, ledger: Ledger) -> None:
    declare(channel)
    channel.basic_qos(prefetch_count=10)
    print(f"waiting for trips in {COMPENSATE}; book.py --fails-at STEP makes one", flush=True)
    for method, properties, body in channel.consume(COMPENSATE, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        try:
            trip = read_trip(body)
        except ValueError as error:
            print(f"put aside: {error}", flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
            continue
        for step in reversed(done_before(properties.headers["x-first-death-queue"])):
            ledger.enter(trip["id"], UNDO[step])
            print(f"{trip['id']}: {UNDO[step]} done", flush=True)
        ledger.enter(trip["id"], "cancelled")
        print(f"{trip['id']}: cancelled", flush=True)
        channel.basic_ack(method.delivery_tag)


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--ledger", default="ledger.db", help="SQLite file of what was done")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    ledger = Ledger(options.ledger)
    keep_working(options, lambda channel, stop: compensate(channel, stop, ledger))


if __name__ == "__main__":
    main()
