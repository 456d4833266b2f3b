"""Books a trip: hands it to the first step."""

import json
import sys
import uuid

import pika

from broker import argument_parser, connect
from topology import STEPS, declare, queue_of


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--fails-at", choices=STEPS, help="the step that shall fail, to see what happens then")
    options = parser.parse_args()
    trip = {"id": str(uuid.uuid4()), "fails_at": options.fails_at}
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        channel.basic_publish("", queue_of(STEPS[0]), json.dumps(trip),
                              pika.BasicProperties(delivery_mode=2, content_type="application/json"))
    print(trip["id"])
    print("handed to the first step; worker.py and compensate.py say what becomes of it", file=sys.stderr)


if __name__ == "__main__":
    main()
