#!/usr/bin/env python3
"""A soak: queues of all kinds under mixed load, while connections, channels, queues, exchanges and consumers come and go.

    tests/soak/soak.py [SECONDS]     300 if not told; LEVERET_BIN names the binary

Three things are judged. Nothing is lost, doubled or out of order: each lane knows what it sent (lanes.py). Nothing
grows: memory, disk, descriptors, threads and definitions are sampled once a second, and the Theil-Sen slope of the
samples behind the warm-up, times the time they cover, stays within the tolerance of each (measure.py). And everything
comes back: once all is deleted, within a minute. Ends with 1, and says what was wrong, if anything was."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "clients" / "python"))

import pika  # noqa: E402

import lanes  # noqa: E402
from measure import Broker, Series, TOLERANCE  # noqa: E402
from support.broker_process import BrokerProcess  # noqa: E402
from support.management import Management  # noqa: E402

SAMPLE_S = 1.0
# What is allocated once, and caches, are full by then.
WARM_UP_SHARE, WARM_UP_MIN_S = 0.4, 30.0
BACK_DEADLINE_S = 60.0
PROCESSES = 3


def work(address, stop, report, part):
    """One process of lanes: its findings, one list for each lane."""
    report.put(lanes.run(address, stop, lanes.ALL[part::PROCESSES]))


def sample(broker, seconds, workers):
    """The samples of a run."""
    series = Series()
    begun = time.monotonic()
    while (passed := time.monotonic() - begun) < seconds and all(worker.is_alive() for worker in workers):
        series.add(passed, broker.usage())
        time.sleep(max(0.0, begun + (len(series) * SAMPLE_S) - time.monotonic()))
    return series


def delete_everything(process, management):
    """Deletes what the lanes left: queues by AMQP, and with them what is bound; then exchanges."""
    with pika.BlockingConnection(pika.ConnectionParameters(process.host, process.port)) as connection:
        channel = connection.channel()
        for queue in management.get("queues"):
            channel.queue_delete(queue["name"])
        for exchange in management.get("exchanges"):
            if exchange["name"] and not exchange["name"].startswith("amq."):
                channel.exchange_delete(exchange["name"])


def come_back(broker, before):
    """Waits until everything is as it was; what is not after a minute."""
    end = time.monotonic() + BACK_DEADLINE_S
    while True:
        usage = broker.usage()
        left = {name: (before[name], usage[name]) for name, (_, kept) in TOLERANCE.items()
                if usage[name] > before[name] + kept}
        if not left or time.monotonic() > end:
            print(f"back: {usage}")
            return [f"{name} was {was:,} before the load and is {now:,} a minute after everything was deleted"
                    for name, (was, now) in left.items()]
        time.sleep(0.5)


def definitions_in_store(process):
    """How many definitions the store of a stopped broker has, as `store verify` counts them."""
    told = subprocess.run([process.binary, "store", "verify", str(process.data_dir)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    print(told.stdout.strip())
    words = told.stdout.replace(",", "").split()
    return int(words[words.index("definitions") - 1]) if told.returncode == 0 else -1


def stopped(process):
    process.terminate()
    return process.wait(60)


def soak(process, seconds):
    """Everything that was wrong."""
    process.start()
    assert stopped(process) == 0
    definitions_before = definitions_in_store(process)
    process.start()
    management = Management(process.management())
    broker = Broker(process, management)
    before = broker.settled()
    print(f"before: {before}", flush=True)
    stop, report = multiprocessing.Event(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=((process.host, process.port, process.management()), stop,
                                                          report, part), daemon=True) for part in range(PROCESSES)]
    for worker in workers:
        worker.start()
    series = sample(broker, seconds, workers)
    stop.set()
    wrong = []
    for _ in workers:
        for lane, findings, counts in report.get(timeout=120):
            print(f"{lane}: {counts}")
            wrong += [f"{lane}: {finding}" for finding in findings]
    for worker in workers:
        worker.join(30)
    for name, (tolerated, _) in TOLERANCE.items():
        begin = max(WARM_UP_MIN_S, seconds * WARM_UP_SHARE)
        growth = series.growth(name, begin)
        print(f"{name}: {series.median(name, begin):,.0f}, grown by {growth:,.0f} (tolerated {tolerated:,}); "
              f"{series.course(name)}", flush=True)
        if growth > tolerated:
            wrong.append(f"{name} grew by {growth:,.0f} in {seconds - begin:.0f} s, where {tolerated:,} are noise")
    delete_everything(process, management)
    wrong += come_back(broker, before)
    code = stopped(process)
    if code != 0:
        wrong.append(f"the broker ended with {code}")
    definitions = definitions_in_store(process)
    if definitions != definitions_before:
        wrong.append(f"{definitions} definitions are stored, {definitions_before} were before the load")
    return wrong


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 300.0
    binary = os.environ.get("LEVERET_BIN")
    if not binary:
        sys.exit("set LEVERET_BIN to the broker's binary")
    with tempfile.TemporaryDirectory(prefix="leveret-soak-") as home:
        process = BrokerProcess(os.path.abspath(binary), home, ["--management-listen", "127.0.0.1:0"])
        try:
            wrong = soak(process, seconds)
        finally:
            if process.alive():
                process.kill()
        if wrong:
            print(process.log_tail())
    for finding in wrong:
        print(f"WRONG: {finding}")
    print("nothing lost, doubled or out of order; nothing grew; all came back" if not wrong else "FAILED")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
