"""Sends the records of an outbox, and sends each again until the broker has confirmed it.

Each record keeps its id as message-id however often it is sent, so that the broker and the consumer can tell a record
that comes twice from two records."""

import argparse
import sys
import time
from typing import NamedTuple

import pika
from pika.channel import Channel
from pika.frame import Method

from broker import Stop, argument_parser, parameters
from outbox import Outbox, Row
from topology import DECLARATION, QUEUE, REFUSED

IN_FLIGHT_MAX = 200
POLL_S = 0.05
RECONNECT_S = 0.2


class Sent(NamedTuple):
    row: Row
    at: float


class Producer:
    def __init__(self, parameters: pika.ConnectionParameters, outbox: Outbox, timeout_s: float, stop: Stop):
        self.parameters = parameters
        self.outbox = outbox
        self.timeout_s = timeout_s
        self.stop = stop

    def run(self) -> None:
        """Sends until a signal says stop; connects again whenever the connection is lost."""
        while not self.stop.asked:
            self.channel: Channel | None = None
            self.unconfirmed: dict[int, Sent] = {}  # by delivery tag, oldest first
            self.delivery_tag = 0
            self.newest_row = 0
            connection = pika.SelectConnection(self.parameters, on_open_callback=self.on_open,
                                               on_open_error_callback=self.on_lost, on_close_callback=self.on_lost)
            connection.ioloop.start()
            time.sleep(RECONNECT_S)

    def on_lost(self, connection: pika.SelectConnection, reason: Exception) -> None:
        if not self.stop.asked:
            print(f"no connection: {reason!r}", file=sys.stderr, flush=True)
        connection.ioloop.stop()

    def on_open(self, connection: pika.SelectConnection) -> None:
        connection.channel(on_open_callback=self.on_channel)

    def on_channel(self, channel: Channel) -> None:
        self.channel = channel
        channel.add_on_close_callback(self.on_channel_closed)
        channel.queue_declare(**REFUSED)
        channel.queue_declare(**DECLARATION)
        channel.confirm_delivery(self.on_confirm, callback=self.on_ready)

    def on_channel_closed(self, channel: Channel, reason: Exception) -> None:
        """Without its channel the connection is of no use: the loss of both begins anew."""
        if channel.connection.is_open:
            print(f"no channel: {reason!r}", file=sys.stderr, flush=True)
            channel.connection.close()

    def on_ready(self, _: Method) -> None:
        self.poll(self.channel)

    def poll(self, channel: Channel) -> None:
        """Sends what is to be sent, time and again."""
        if not channel.is_open:
            return
        if self.stop.asked:
            channel.connection.close()
            return
        self.send_overdue()
        self.send_new()
        channel.connection.ioloop.call_later(POLL_S, lambda: self.poll(channel))

    def on_confirm(self, frame: Method) -> None:
        if isinstance(frame.method, pika.spec.Basic.Nack):
            return  # sent again when its time is over, not at once: the broker has its reasons
        tag = frame.method.delivery_tag
        tags = [each for each in self.unconfirmed if each <= tag] if frame.method.multiple else [tag]
        settled = [self.unconfirmed.pop(each) for each in tags if each in self.unconfirmed]
        self.outbox.mark_sent([sent.row for sent in settled])
        if settled:
            print(f"{len(settled)} records confirmed, the latest: {settled[-1].row.id}", flush=True)

    def send_overdue(self) -> None:
        """Sends again what was not confirmed in time; a confirm of the earlier try is of no use any more."""
        limit = time.monotonic() - self.timeout_s
        for tag in [tag for tag, sent in self.unconfirmed.items() if sent.at < limit]:
            row = self.unconfirmed.pop(tag).row
            print(f"no confirm in {self.timeout_s} s, sending again: {row.id}", file=sys.stderr, flush=True)
            self.send(row)

    def send_new(self) -> None:
        for row in self.outbox.unsent(after=self.newest_row, limit=IN_FLIGHT_MAX - len(self.unconfirmed)):
            self.newest_row = row.number
            self.send(row)

    def send(self, row: Row) -> None:
        self.channel.basic_publish("", QUEUE, row.body, pika.BasicProperties(
            message_id=row.id, delivery_mode=pika.DeliveryMode.Persistent, content_type="application/json"))
        self.delivery_tag += 1
        self.unconfirmed[self.delivery_tag] = Sent(row, time.monotonic())


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--outbox", default="outbox.db", help="SQLite file with the records to send")
    parser.add_argument("--timeout", type=float, default=1.0, metavar="SECONDS",
                        help="how long to wait for a confirm before a record is sent again")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    print(f"sending the records of {options.outbox}; put some in with add.py", flush=True)
    Producer(parameters(options), Outbox(options.outbox), options.timeout, Stop()).run()


if __name__ == "__main__":
    main()
