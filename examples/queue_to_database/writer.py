"""Writes measurements to PostgreSQL, many in one transaction, and acknowledges them after the commit."""

import argparse
import json
import sys
import time
import uuid
from typing import NamedTuple

import psycopg
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import QUEUE, declare

TABLE = """CREATE TABLE IF NOT EXISTS measurements (
    id uuid PRIMARY KEY, sensor integer NOT NULL, celsius double precision NOT NULL)"""


class Measurement(NamedTuple):
    id: uuid.UUID
    sensor: int
    celsius: float


def parse(message_id: str | None, body: bytes) -> Measurement:
    """Fails on what is no measurement: one that the database refuses would spoil its whole batch."""
    fields = json.loads(body)
    sensor = int(fields["sensor"])
    if not -2**31 <= sensor < 2**31:
        raise ValueError(f"no sensor: {sensor}")
    return Measurement(uuid.UUID(message_id), sensor, float(fields["celsius"]))


def create_table(database: psycopg.Connection) -> None:
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(1)")  # two writers may start at once
        database.execute(TABLE)


def store(database: psycopg.Connection, batch: list[Measurement]) -> None:
    """Writes the batch in one transaction; what came before (and was not acknowledged) is passed over."""
    with database.transaction(), database.cursor() as cursor:
        cursor.executemany("INSERT INTO measurements VALUES (%s, %s, %s) ON CONFLICT DO NOTHING", batch)
    print(f"{len(batch)} rows in one transaction", flush=True)


def write(channel: BlockingChannel, stop: Stop, database: psycopg.Connection, batch_max: int, wait_s: float) -> None:
    """Writes a batch when it is full, or when its first measurement has waited long enough."""
    declare(channel)
    # The next batch arrives while this one is written; more than that stays in the queue for other writers.
    channel.basic_qos(prefetch_count=2 * batch_max)
    batch: list[Measurement] = []
    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=wait_s):
        if stop.asked:
            return
        if method is not None:
            try:
                measurement = parse(properties.message_id, body)
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                print(f"refused {properties.message_id}: {error!r}", file=sys.stderr, flush=True)
                channel.basic_reject(method.delivery_tag, requeue=False)
            else:
                if not batch:
                    since = time.monotonic()
                batch.append(measurement)
                newest = method.delivery_tag
        if batch and (len(batch) == batch_max or time.monotonic() - since >= wait_s):
            store(database, batch)
            channel.basic_ack(newest, multiple=True)
            batch = []


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--database", default="postgresql:///measurements", help="where PostgreSQL is")
    parser.add_argument("--batch", type=int, default=200, help="most rows in one transaction")
    parser.add_argument("--wait", type=float, default=0.2, metavar="SECONDS", help="longest wait for a full batch")
    return parser.parse_args()


def main() -> None:
    options = arguments()

    def work(channel: BlockingChannel, stop: Stop) -> None:
        with psycopg.connect(options.database, autocommit=True) as database:
            create_table(database)
            write(channel, stop, database, options.batch, options.wait)

    keep_working(options, work, lost=(psycopg.OperationalError,))


if __name__ == "__main__":
    main()
