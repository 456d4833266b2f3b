"""Sends readings in Fahrenheit for transform.py, each confirmed, and takes the results out that are there."""

import json
import random

import pika

from broker import argument_parser, connect
from topology import RESULTS, SOURCE, declare


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--count", type=int, default=20, help="readings to send")
    parser.add_argument("--results", action="store_true", help="send none, but print the results and take them out")
    options = parser.parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        if options.results:
            while (delivery := channel.basic_get(RESULTS))[0] is not None:
                print(delivery[2].decode())
                channel.basic_ack(delivery[0].delivery_tag)
            return
        channel.confirm_delivery()
        for number in range(options.count):
            reading = {"number": number, "fahrenheit": random.randrange(-40, 120)}
            channel.basic_publish("", SOURCE, json.dumps(reading), pika.BasicProperties(delivery_mode=2))
    print(f"{options.count} readings sent to {SOURCE}")


if __name__ == "__main__":
    main()
