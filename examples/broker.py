"""The way to the broker, the same for all examples: its address, connecting again when the connection is lost, and
ending in order on SIGINT (Ctrl-C) and SIGTERM."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPConnectionError

RECONNECT_S = 0.2


class Stop:
    """Says whether a signal has asked the program to end."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGINT, self.ask)
        signal.signal(signal.SIGTERM, self.ask)

    def ask(self, *_: object) -> None:
        self.asked = True


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default=os.environ.get("AMQP_HOST", "localhost"))
    parser.add_argument("--port", type=int, default=int(os.environ.get("AMQP_PORT", "5672")))
    return parser


def parameters(options: argparse.Namespace) -> pika.ConnectionParameters:
    return pika.ConnectionParameters(options.host, options.port, heartbeat=30)


def connect(options: argparse.Namespace) -> pika.BlockingConnection:
    return pika.BlockingConnection(parameters(options))


def keep_working(options: argparse.Namespace, work: Callable[[BlockingChannel, Stop], None],
                 lost: tuple[type[Exception], ...] = ()) -> None:
    """Does `work` until a signal says stop; begins anew whenever it loses the broker, or ends with an error of `lost`.

    `work` must return soon after `stop.asked`. What it has not acknowledged then, the broker delivers again."""
    stop = Stop()
    while not stop.asked:
        try:
            with connect(options) as connection:
                work(connection.channel(), stop)
        except (AMQPConnectionError, *lost) as error:
            print(f"no connection: {error!r}", file=sys.stderr, flush=True)
            time.sleep(RECONNECT_S)
