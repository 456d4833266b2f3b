"""Takes readings in Fahrenheit from one queue and puts them in Celsius into another, each exactly once.

What a transaction publishes and acknowledges, the broker does as one step or not at all. So a reading has either gone
from the first queue and its result is in the second, or neither, whoever dies at whatever moment."""

import argparse
import json
import sys

import pika
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import RESULTS, SOURCE, declare


def to_celsius(reading: dict) -> dict:
    return {"number": reading["number"], "celsius": round((reading["fahrenheit"] - 32) * 5 / 9, 2)}


def transform(channel: BlockingChannel, stop: Stop, batch: int) -> None:
    """Commits after `batch` readings, or sooner when there are no more for the moment."""
    declare(channel)
    channel.tx_select()
    channel.basic_qos(prefetch_count=2 * batch)
    print(f"waiting for readings in {SOURCE}; send some with feed.py", flush=True)
    uncommitted, results = 0, 0
    for method, _, body in channel.consume(SOURCE, inactivity_timeout=0.05):
        if stop.asked:
            return
        if method is not None:
            try:
                result = json.dumps(to_celsius(json.loads(body)))
            except (ValueError, KeyError, TypeError) as error:
                print(f"refused {body[:100]!r}: {error!r}", file=sys.stderr, flush=True)
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                channel.basic_publish("", RESULTS, result, pika.BasicProperties(delivery_mode=2))
                channel.basic_ack(method.delivery_tag)
                results += 1
            uncommitted += 1
        if uncommitted == batch or (method is None and uncommitted):
            channel.tx_commit()
            if results:
                print(f"{results} readings are results in {RESULTS} now, the latest: {result}", flush=True)
            uncommitted, results = 0, 0


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--batch", type=int, default=10, help="readings in one transaction")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    keep_working(options, lambda channel, stop: transform(channel, stop, options.batch))


if __name__ == "__main__":
    main()
