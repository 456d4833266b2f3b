"""Writes each record to PostgreSQL once, however often it is delivered.

The record and the key that tells it was processed are written in one transaction, and the delivery is acknowledged
after the commit. Dying before the commit leaves nothing behind; dying after it, the record comes again and is known."""

import argparse
import sys

import psycopg
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import DECLARATION, QUEUE, REFUSED

# Nothing in the table of records keeps a record from being there twice: the key in `processed` alone does.
TABLES = """
CREATE TABLE IF NOT EXISTS processed (message_id uuid PRIMARY KEY, at timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS records (message_id uuid NOT NULL, record jsonb NOT NULL);
"""


def create_tables(database: psycopg.Connection) -> None:
    with database.transaction():
        database.execute("SELECT pg_advisory_xact_lock(1)")  # two consumers may start at once
        database.execute(TABLES)


def store(database: psycopg.Connection, message_id: str, body: bytes) -> bool:
    """Writes the record and its key in one transaction; False if the key was there already."""
    with database.transaction():
        inserted = database.execute("INSERT INTO processed (message_id) VALUES (%s) ON CONFLICT DO NOTHING",
                                    [message_id])
        if inserted.rowcount == 0:
            return False
        database.execute("INSERT INTO records (message_id, record) VALUES (%s, %s)", [message_id, body.decode()])
        return True


def consume(channel: BlockingChannel, stop: Stop, database: psycopg.Connection) -> None:
    channel.queue_declare(**REFUSED)
    channel.queue_declare(**DECLARATION)
    channel.basic_qos(prefetch_count=50)
    print(f"waiting for records in {QUEUE}; producer.py sends them, add.py makes some", flush=True)
    for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        try:
            if store(database, properties.message_id, body):
                print(f"stored {properties.message_id}", flush=True)
            else:
                print(f"came again, redelivered={method.redelivered}: {properties.message_id}", flush=True)
        except (psycopg.DataError, psycopg.IntegrityError, UnicodeDecodeError) as error:
            print(f"refused {properties.message_id}: {error}", file=sys.stderr, flush=True)
            channel.basic_reject(method.delivery_tag, requeue=False)
        else:
            channel.basic_ack(method.delivery_tag)


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--database", default="postgresql:///emr", help="where PostgreSQL is")
    return parser.parse_args()


def main() -> None:
    options = arguments()

    def work(channel: BlockingChannel, stop: Stop) -> None:
        with psycopg.connect(options.database, autocommit=True) as database:
            create_tables(database)
            consume(channel, stop, database)

    keep_working(options, work, lost=(psycopg.OperationalError,))


if __name__ == "__main__":
    main()
