"""A device: shows notifications, first those that came while it was offline."""

from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import declare_device


def show_notifications(channel: BlockingChannel, stop: Stop, device: str) -> None:
    queue = declare_device(channel, device)
    print("online", flush=True)
    for method, _, body in channel.consume(queue, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        print(f"{device}: {body.decode()}", flush=True)
        channel.basic_ack(method.delivery_tag)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("device")
    options = parser.parse_args()
    keep_working(options, lambda channel, stop: show_notifications(channel, stop, options.device))


if __name__ == "__main__":
    main()
