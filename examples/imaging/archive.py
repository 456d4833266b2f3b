"""Writes images to a directory, and checks that they are what was sent."""

import argparse
import hashlib
import os
import sys
from pathlib import Path

from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import QUEUE, declare


def intact(headers: dict, image: bytes) -> bool:
    """Whether it is what was sent, under a name that leads nowhere else."""
    name = headers.get("name")
    return (isinstance(name, str) and name not in ("", "..") and name == Path(name).name
            and hashlib.sha256(image).hexdigest() == headers.get("sha256"))


def store(directory: Path, name: str, image: bytes) -> None:
    """Writes a file that is there as a whole or not at all."""
    partial = directory / f"{name}.partial"
    with open(partial, "wb") as file:
        file.write(image)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(directory / name)
    # The new name, too, is to be on disk.
    entry = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)


def archive(channel: BlockingChannel, stop: Stop, directory: Path) -> None:
    declare(channel)
    # One image in memory at a time.
    channel.basic_qos(prefetch_count=1)
    for method, properties, image in channel.consume(QUEUE, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        headers = properties.headers or {}
        if intact(headers, image):
            store(directory, headers["name"], image)
            channel.basic_ack(method.delivery_tag)
            print(f"archived {headers['name']}, {len(image)} bytes", flush=True)
        else:
            channel.basic_reject(method.delivery_tag, requeue=False)
            print(f"damaged: {headers.get('name')}", file=sys.stderr, flush=True)


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--directory", type=Path, default="archive")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    options.directory.mkdir(parents=True, exist_ok=True)
    keep_working(options, lambda channel, stop: archive(channel, stop, options.directory))


if __name__ == "__main__":
    main()
