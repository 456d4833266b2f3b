"""Runs broker, producer and consumer, kills them at random with kill -9, and checks that every record is in the
database exactly once. The broker is also made to hang now and then, for longer than the producer waits."""

import argparse
import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psycopg

from outbox import Outbox

HERE = Path(__file__).parent
RECORDS_A_STEP = 20
CONFIRM_TIMEOUT_S = 0.5


class Service:
    """A program that is killed and started again."""

    def __init__(self, name: str, log: Path, *command: object):
        self.name, self.log, self.kills = name, log, 0
        self.command = [str(part) for part in command]

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended by itself with {self.process.returncode}: {self.log.read_text()}")
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def hang(self, seconds: float) -> None:
        self.process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def running(options: argparse.Namespace, directory: Path) -> Iterator[list[Service]]:
    """Broker, producer and consumer, stopped at the end."""
    at = ["--host", "127.0.0.1", "--port", options.port]
    services = [
        Service("broker", directory / "broker.log", options.leveret, "--listen", f"127.0.0.1:{options.port}",
                "--data-dir", directory / "data"),
        Service("producer", directory / "producer.log", sys.executable, HERE / "producer.py", *at,
                "--outbox", directory / "outbox.db", "--timeout", CONFIRM_TIMEOUT_S),
        Service("consumer", directory / "consumer.log", sys.executable, HERE / "consumer.py", *at,
                "--database", options.database),
    ]
    with contextlib.ExitStack() as stack:
        for service in services:
            service.start()
            stack.callback(service.stop)
        yield services


def record(number: int, chance: random.Random) -> dict:
    return {"number": number, "patient": chance.randrange(1000), "heart_rate": chance.randrange(50, 120)}


def inject(services: list[Service], outbox: Outbox, seconds: float, chance: random.Random) -> None:
    """Adds records, kills services and lets the broker hang until the time is over."""
    broker = services[0]
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        outbox.add([record(number + each, chance) for each in range(RECORDS_A_STEP)])
        number += RECORDS_A_STEP
        if chance.random() < 0.05:
            broker.hang(2 * CONFIRM_TIMEOUT_S)
        time.sleep(chance.uniform(0, 0.2))
        if chance.random() < 0.3:
            service = chance.choice(services)
            service.kill()
            service.start()


def wait_until_written(database: psycopg.Connection, outbox: Outbox, deadline_s: float = 60) -> None:
    """Waits until every record was confirmed, and as many as there are were processed."""
    wanted = len(outbox.records())
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        processed = database.execute("SELECT count(*) FROM processed").fetchone()[0]
        if outbox.unsent_count() == 0 and processed >= wanted:
            return
        time.sleep(0.1)


def judge(database: psycopg.Connection, outbox: Outbox) -> list[str]:
    """What is wrong with the table of records."""
    sent = dict(outbox.records())
    stored = database.execute("SELECT message_id::text, record FROM records").fetchall()
    times = Counter(message_id for message_id, _ in stored)
    return ([f"missing: {id}" for id in sent if id not in times]
            + [f"{count} times: {id}" for id, count in times.items() if count > 1]
            + [f"not what was sent: {id} {json.dumps(found)}" for id, found in stored if sent.get(id) != found])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leveret", default="leveret", help="the broker's program")
    parser.add_argument("--port", type=int, default=5673, help="where the broker listens, on 127.0.0.1")
    parser.add_argument("--database", default="postgresql:///emr", help="where PostgreSQL is; its tables are emptied")
    parser.add_argument("--seconds", type=float, default=60, help="how long things are killed")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    parser.add_argument("--directory", type=Path, help="keep outbox, broker's data and logs here")
    return parser.parse_args()


def run(options: argparse.Namespace, directory: Path) -> list[str]:
    print(f"seed {options.seed}", flush=True)
    outbox = Outbox(str(directory / "outbox.db"))
    with psycopg.connect(options.database, autocommit=True) as database:
        database.execute("DROP TABLE IF EXISTS records, processed")
        with running(options, directory) as services:
            inject(services, outbox, options.seconds, random.Random(options.seed))
            wait_until_written(database, outbox)
            wrong = judge(database, outbox)
            print(", ".join(f"{service.name} killed {service.kills} times" for service in services))
            again = [(directory / name).read_text().count(text) for name, text in
                     (("producer.log", "sending again"), ("consumer.log", "came again"))]
            print("{} sent again after a timeout, {} came to the consumer again".format(*again))
    print(f"{len(outbox.records())} records, each exactly once" if not wrong else "\n".join(wrong[:20]))
    return wrong


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if options.directory:
        options.directory.mkdir(parents=True, exist_ok=True)
        sys.exit(bool(run(options, options.directory)))
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(bool(run(options, Path(directory))))


if __name__ == "__main__":
    main()
