"""Announces a new price. Its version grows with each change; here it is the time."""

import json
import time

import pika

from broker import argument_parser, connect
from topology import CHANGES, declare


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("product")
    parser.add_argument("price")
    parser.add_argument("--version", type=int, default=time.time_ns() // 1000)
    options = parser.parse_args()
    change = {"product": options.product, "price": options.price, "version": options.version}
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        channel.basic_publish(CHANGES, "", json.dumps(change), pika.BasicProperties(delivery_mode=2))


if __name__ == "__main__":
    main()
