"""Sends image files, each with its SHA-256; ends when the broker has all of them on disk."""

import hashlib
from pathlib import Path

import pika

from broker import argument_parser, connect
from topology import QUEUE, declare


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    with connect(options) as connection:
        channel = connection.channel()
        declare(channel)
        channel.confirm_delivery()
        for file in options.files:
            image = file.read_bytes()
            channel.basic_publish("", QUEUE, image, pika.BasicProperties(
                delivery_mode=2, content_type="application/dicom",
                headers={"name": file.name, "sha256": hashlib.sha256(image).hexdigest()}))
            print(f"sent {file.name}, {len(image)} bytes", flush=True)


if __name__ == "__main__":
    main()
