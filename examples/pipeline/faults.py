"""Runs the broker and transform.py, kills the broker with kill -9 at random moments, and checks that every reading
became one result."""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pika
from pika.exceptions import AMQPConnectionError

from broker import connect
from topology import RESULTS, SOURCE, declare
from transform import to_celsius

READINGS_A_ROUND = 200


class Broker:
    def __init__(self, options: argparse.Namespace, directory: Path):
        self.command = [options.leveret, "--listen", f"127.0.0.1:{options.port}", "--data-dir", directory / "data"]
        self.log = directory / "broker.log"
        self.options = options

    def start(self) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def connect(self, deadline_s: float = 15) -> pika.BlockingConnection:
        """A connection, as soon as the broker takes one."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                return connect(self.options)
            except AMQPConnectionError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"the broker does not answer: {self.log.read_text()}") from None
                time.sleep(0.01)


def feed(broker: Broker, first: int, chance: random.Random) -> tuple[list[dict], int]:
    """Puts readings into the source, all in one transaction. Also says how many were waiting there before."""
    readings = [{"number": first + each, "fahrenheit": chance.randrange(-40, 120)} for each in range(READINGS_A_ROUND)]
    with broker.connect() as connection:
        channel = connection.channel()
        declare(channel)
        waiting = channel.queue_declare(SOURCE, passive=True).method.message_count
        channel.tx_select()
        for reading in readings:
            channel.basic_publish("", SOURCE, json.dumps(reading), pika.BasicProperties(delivery_mode=2))
        channel.tx_commit()
    return readings, waiting


def drain(broker: Broker, wanted: int, deadline_s: float = 60) -> list[dict]:
    """All results, once as many as are wanted are there and the source is empty (or the time is over)."""
    end = time.monotonic() + deadline_s
    with broker.connect() as connection:
        channel = connection.channel()

        def count(queue: str) -> int:
            return channel.queue_declare(queue, passive=True).method.message_count

        while (count(SOURCE) > 0 or count(RESULTS) < wanted) and time.monotonic() < end:
            time.sleep(0.05)
        results = []
        while (delivery := channel.basic_get(RESULTS, auto_ack=True))[0] is not None:
            results.append(json.loads(delivery[2]))
        return results


def judge(readings: list[dict], results: list[dict]) -> list[str]:
    """What is wrong with the results."""
    times = Counter(result["number"] for result in results)
    wanted = {reading["number"]: to_celsius(reading) for reading in readings}
    return ([f"missing: {number}" for number in wanted if number not in times]
            + [f"{count} times: {number}" for number, count in times.items() if count > 1]
            + [f"wrong: {result}" for result in results if wanted.get(result["number"]) != result])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--leveret", default="leveret", help="the broker's program")
    parser.add_argument("--port", type=int, default=5673, help="where the broker listens, on 127.0.0.1")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))
    options = parser.parse_args()
    options.host = "127.0.0.1"
    return options


def run(options: argparse.Namespace, directory: Path) -> list[str]:
    print(f"seed {options.seed}", flush=True)
    chance = random.Random(options.seed)
    broker = Broker(options, directory)
    broker.start()
    with open(directory / "transform.log", "ab") as log:
        worker = subprocess.Popen([sys.executable, Path(__file__).with_name("transform.py"), "--host", options.host,
                                   "--port", str(options.port)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    readings: list[dict] = []
    interrupted = 0
    try:
        for _ in range(options.kills):
            more, waiting = feed(broker, len(readings), chance)
            readings += more
            interrupted += waiting > 0
            time.sleep(chance.uniform(0, 0.15))
            broker.kill()
            broker.start()
        results = drain(broker, len(readings))
    finally:
        worker.terminate()
        worker.wait()
        broker.kill()
    wrong = judge(readings, results)
    print(f"{options.kills} kills, at least {interrupted} of them in the middle of work")
    print(f"{len(readings)} readings, each became one result" if not wrong else "\n".join(wrong[:20]))
    return wrong


def main() -> None:
    options = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as directory:
        sys.exit(bool(run(options, Path(directory))))


if __name__ == "__main__":
    main()
