"""Takes the orders that failed for good out of their queue, and says where they come from and why."""

from broker import argument_parser, connect
from topology import FAILED, declare


def main() -> None:
    options = argument_parser(__doc__).parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        while (delivery := channel.basic_get(FAILED))[0] is not None:
            method, properties, body = delivery
            death = properties.headers["x-death"][0]
            print(f"{death['reason']} in {death['queue']}: {body.decode(errors='replace')}")
            channel.basic_ack(method.delivery_tag)


if __name__ == "__main__":
    main()
