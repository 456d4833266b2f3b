"""Sends a notification to every device."""

import pika

from broker import argument_parser, connect
from topology import EXCHANGE, declare_exchange


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("text")
    parser.add_argument("--ttl", type=float, metavar="SECONDS", help="worthless after that; a day if not given")
    options = parser.parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare_exchange(channel)
        channel.confirm_delivery()
        expiration = None if options.ttl is None else str(int(options.ttl * 1000))
        channel.basic_publish(EXCHANGE, "", options.text,
                              pika.BasicProperties(delivery_mode=2, expiration=expiration))


if __name__ == "__main__":
    main()
