"""Sends measurements, each confirmed by the broker before the next."""

import json
import random
import time
import uuid

import pika

from broker import argument_parser, connect
from topology import QUEUE, declare

PROGRESS_S = 1.0


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        told = time.monotonic()
        for number in range(options.count):
            if time.monotonic() - told >= PROGRESS_S:
                told = time.monotonic()
                print(f"{number} of {options.count} measurements sent", flush=True)
            measurement = {"sensor": number % 10, "celsius": round(random.gauss(20, 5), 2)}
            channel.basic_publish("", QUEUE, json.dumps(measurement), pika.BasicProperties(
                message_id=str(uuid.uuid4()), delivery_mode=2, content_type="application/json"))
    print(f"{options.count} measurements sent")


if __name__ == "__main__":
    main()
