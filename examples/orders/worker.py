"""Handles orders: express ones first; one that fails is tried again later, and put aside after the last try."""

import json

from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import ORDERS, declare


class OutOfStock(Exception):
    pass


def read(body: bytes) -> dict:
    """The order; ValueError if that is none, which no later try would change."""
    order = json.loads(body)
    if not isinstance(order, dict) or not isinstance(order.get("item"), str) or not isinstance(order.get("fails"), int):
        raise ValueError(f"not an order: {body[:100]!r}")
    return order


def handle(order: dict, tries_before: int) -> None:
    """Stands for the real work, which may fail and succeed later."""
    if tries_before < order["fails"]:
        raise OutOfStock(order["item"])


def work(channel: BlockingChannel, stop: Stop) -> None:
    declare(channel)
    # One at a time: what was prefetched could not be overtaken by an express order any more.
    channel.basic_qos(prefetch_count=1)
    print("waiting for orders", flush=True)
    for method, properties, body in channel.consume(ORDERS, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        try:
            order = read(body)
        except ValueError as error:
            print(f"put aside: {error}", flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
            continue
        tries_before = (properties.headers or {}).get("x-delivery-count", 0)
        try:
            handle(order, tries_before)
        except OutOfStock as error:
            print(f"failed {error} (try {tries_before + 1})", flush=True)
            channel.basic_nack(method.delivery_tag, requeue=True)
        else:
            print(f"handled {order['item']} (try {tries_before + 1})", flush=True)
            channel.basic_ack(method.delivery_tag)


def main() -> None:
    options = argument_parser(__doc__).parse_args()
    keep_working(options, work)


if __name__ == "__main__":
    main()
