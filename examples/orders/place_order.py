"""Places an order."""

import json

import pika

from broker import argument_parser, connect
from topology import EXPRESS, NORMAL, ORDERS, declare


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("item")
    parser.add_argument("--express", action="store_true", help="goes before orders that are not")
    parser.add_argument("--fails", type=int, default=0, metavar="TIMES",
                        help="how often handling it fails, to see what happens then")
    options = parser.parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        order = json.dumps({"item": options.item, "fails": options.fails})
        channel.basic_publish("", ORDERS, order, pika.BasicProperties(
            delivery_mode=2, priority=EXPRESS if options.express else NORMAL, content_type="application/json"))
    print(f"placed {options.item}")


if __name__ == "__main__":
    main()
