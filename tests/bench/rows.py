"""The rows: which load, what was asked for, and what the best of the other brokers reached on a machine like ours."""

import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Callable, Optional

import disk
from brokers import greets, resident_mb
from load import Unable
from results import median

PERSISTENT = "--size 1024 --persistent --confirms 1000 --prefetch 200 --multi-ack 10"
ROUTED = "--size 16 --auto-ack --confirms 1000"
BACKLOG = "--mode backlog --messages 1000000 --size 1024 --persistent --confirms 1000 --prefetch 1000 --multi-ack 100"
MANY = "--mode latency --rate 10000 --size 16 --auto-ack"


@dataclass
class Row:
    """One load. `reach` has the least (rates) or most (everything else) that a figure may be; `peer` the same figures
    of RabbitMQ 3.10.8 or LavinMQ 2.9.1, whichever was better; `beside` is a row, a figure and by what factor the
    figure may be more than that row's."""

    name: str
    what: str
    load: str = ""
    run: Optional[Callable] = None
    rate: str = "published"
    reach: dict = field(default_factory=dict)
    peer: dict = field(default_factory=dict)
    beside: Optional[tuple] = None


def figures(line):
    """The figures of one run under short names."""
    broker = line.get("broker") or {}
    latency = line.get("latency_us") or {}
    confirm = line.get("confirm_latency_us") or {}
    found = {
        "published": line.get("published_per_s"),
        "consumed": line.get("consumed_per_s"),
        "operations": line.get("operations_per_s"),
        "opened": line.get("opened_per_s"),
        "cpu": broker.get("cpu_us_per_published"),
        "cpu_delivery": broker.get("cpu_us_per_consumed"),
        "latency_p50": latency.get("p50"),
        "latency_p99": latency.get("p99"),
        "confirm_p50": confirm.get("p50"),
        "confirm_p99": confirm.get("p99"),
        "rss": broker.get("peak_rss_mb"),
        "kib_each": line.get("rss_per_connection_kb"),
    }
    others = others_cpu(line, broker)
    if others is not None:
        found["others_cpu"] = others
    return {name: value for name, value in found.items() if value is not None}


def others_cpu(line, broker):
    """Cores that neither broker nor client used: how much else went on."""
    if "machine_cpu_s" not in line or "cpu_s" not in broker:
        return None
    spent = line["machine_cpu_s"] - line["client_cpu_s"] - broker["cpu_s"]
    messages = max(line.get("published") or 0, line.get("consumed") or 0)
    rate = max(line.get("published_per_s") or 0, line.get("consumed_per_s") or 0)
    seconds = messages / rate if rate else line.get("measured_s") or 0
    return round(max(spent, 0) / seconds, 2) if seconds else None


def backlog(load, broker, _row, _seconds):
    """A million messages in; memory; restart after kill -9; all out."""
    lines = load.result(load.begin(broker, f"{BACKLOG} --phase publish --keep"))
    found = figures(lines[0])
    found.pop("consumed", None)
    if broker.restartable:
        broker.end(signal.SIGKILL)
        begun = time.monotonic()
        broker.start()
        load.run(broker, "--mode ready --messages 1000000 --time 60")
        found["restart_ms"] = round((time.monotonic() - begun) * 1e3, 1)
    drained = figures(load.result(load.begin(broker, f"{BACKLOG} --phase drain"))[0])
    found.update({"drained": drained["consumed"], "cpu_delivery": drained.get("cpu_delivery")})
    return found


def start(_load, broker, _row, _seconds):
    """From exec to the handshake with nothing in the store, and memory at rest."""
    if not broker.restartable:
        raise Unable("it was not started here")
    took = []
    for _ in range(5):
        broker.stop()
        begun = time.monotonic()
        broker.start()
        greets(int(broker.address.rsplit(":", 1)[1]))
        took.append((time.monotonic() - begun) * 1e3)
    time.sleep(2)
    found = {"start_ms": round(statistics.median(took), 1), "rss": round(resident_mb(broker.pid), 1)}
    size = stripped_mb(getattr(broker, "binary", None), broker.directory)
    if size:
        found["binary_mb"] = size
    return found


def stripped_mb(binary, directory):
    if binary is None or shutil.which("strip") is None:
        return None
    copy = directory / "stripped"
    subprocess.run(["strip", "-o", str(copy), str(binary)], check=True)
    return round(copy.stat().st_size / 1e6, 1)


def large(load, broker, row, seconds):
    """10 MB bodies, and what the disk takes of them when one write and fdatasync is all that is done."""
    found = figures(load.run(broker, f"{row.load} --time {max(seconds, 4)}"))
    found["mb_s"] = round(found["published"] * 10, 1)
    if broker.data is not None:
        found["disk_mb_s"] = round(disk.write_and_sync(broker.data.parent, 10_000_000, 40), 1)
        found["of_disk"] = round(found["mb_s"] / found["disk_mb_s"], 2)
    return found


def everything_to_disk(load, broker, row, seconds):
    """The row, and what the disk takes when groups of its messages are written and synced."""
    found = figures(load.run(broker, f"{row.load} --warmup 0.5 --time {seconds}"))
    if broker.data is not None:
        found["disk_mb_s"] = round(disk.write_and_sync(broker.data.parent, 1_000_000, 400), 1)
    return found


def peer(published=None, cpu=None, **more):
    found = {"published": published, "cpu": cpu, **more}
    return {name: value for name, value in found.items() if value is not None}


ROWS = [
    Row("a1", "16 B, auto-ack", "--size 16 --auto-ack", reach=peer(6e6, 0.15), peer=peer(1.06e6, 0.94)),
    Row("a2", "1 KB, auto-ack", "--size 1024 --auto-ack", reach=peer(1.2e6, 0.75), peer=peer(281e3, 3.55)),
    Row("b1", "16 B, confirms and acks", "--size 16 --confirms 1000 --prefetch 100 --multi-ack 10",
        reach=peer(1.5e6, 0.45), peer=peer(454e3, 1.7)),
    Row("b2", "1 KB, confirms and acks", "--size 1024 --confirms 1000 --prefetch 100 --multi-ack 10",
        reach=peer(900e3, 0.9), peer=peer(150e3, 6.0)),
    Row("c1", "persistent 1 KB, confirms and acks", PERSISTENT,
        reach=peer(900e3, 1.2, confirm_p99=4000), peer=peer(157e3, 5.8, confirm_p99=15000)),
    Row("c2", "c1 with 4 producers, consumers, queues", f"{PERSISTENT} --producers 4 --consumers 4 --queues 4",
        reach=peer(900e3, 1.2, confirm_p99=10000), peer=peer(163e3, 5.9, confirm_p99=60000)),
    Row("c0", "c1 without a consumer: all reaches the disk", f"{PERSISTENT} --consumers 0", everything_to_disk,
        reach=peer(350e3, 2.5), peer=peer(123e3, 3.2)),
    Row("d", "c1 on a queue declared as quorum", f"{PERSISTENT} --queue-args x-queue-type=quorum",
        reach=peer(900e3, 1.2), peer=peer(27.5e3, 42.6)),
    Row("e1", "fanout to 10 queues, a delivery", f"{ROUTED} --exchange fanout --queues 10 --consumers 10",
        rate="consumed", reach=peer(consumed=6e6, cpu_delivery=0.12), peer=peer(consumed=1.19e6, cpu_delivery=0.79)),
    Row("e2", "topic, 1,000 bindings", f"{ROUTED} --exchange topic --bindings 1000",
        reach=peer(1.2e6, 0.5), peer=peer(101e3, 11.0)),
    Row("e2-100k", "topic, 100,000 bindings", f"{ROUTED} --exchange topic --bindings 100000",
        beside=("e2", "cpu", 1.2)),
    Row("e3", "headers, 100 bindings", f"{ROUTED} --exchange headers --bindings 100",
        reach=peer(600e3, 1.5), peer=peer(173e3, 5.9)),
    Row("f1", "1,000 msg/s, 1 KB", "--mode latency --rate 1000 --size 1024 --auto-ack",
        reach=peer(cpu=22, latency_p50=65, latency_p99=150), peer=peer(cpu=44, latency_p50=68, latency_p99=180)),
    Row("f2", "10,000 msg/s, 1 KB", "--mode latency --rate 10000 --size 1024 --auto-ack",
        peer=peer(cpu=38.8, latency_p50=75, latency_p99=1368)),
    Row("f3", "1,000 msg/s, persistent 1 KB", f"--mode latency --rate 1000 {PERSISTENT}",
        reach=peer(confirm_p50=200), peer=peer(cpu=132, confirm_p50=302, confirm_p99=865)),
    Row("g", "1 M × 1 KB backlog", run=backlog,
        reach=peer(300e3, rss=40, drained=900e3, restart_ms=50),
        peer=peer(123e3, rss=31, drained=548e3, restart_ms=30)),
    Row("h-connection", "connections opened and closed", "--mode churn --churn connection --producers 2",
        rate="operations", reach={"operations": 10e3}, peer={"operations": 5.6e3, "cpu": 141}),
    Row("h-channel", "channels opened and closed", "--mode churn --churn channel", rate="operations",
        reach={"operations": 16e3}, peer={"operations": 12e3, "cpu": 44}),
    Row("h-queue", "queues declared and deleted", "--mode churn --churn queue", rate="operations",
        reach={"operations": 8e3}, peer={"operations": 427, "cpu": 2026}),
    Row("h-idle", "5,000 connections with channel, queue, consumer", "--mode idle --connections 5000 --producers 2",
        rate="opened", reach={"kib_each": 12}, peer={"opened": 334, "kib_each": 88.6}),
    Row("i", "start, memory at rest, stripped binary", run=start,
        reach={"start_ms": 15, "rss": 8, "binary_mb": 10}, peer={"start_ms": 18, "rss": 13, "binary_mb": 8.4}),
    Row("j1", "one persistent message at a time", "--size 1024 --persistent --confirms 1 --consumers 0",
        reach=peer(5.5e3), peer=peer(4.7e3, 103, confirm_p50=189)),
    Row("j2", "the same, 16 producers", "--size 1024 --persistent --confirms 1 --consumers 0 --producers 16",
        reach=peer(45e3), peer=peer(22e3, 27, confirm_p50=639)),
    Row("large", "10 MB bodies, persistent, no consumer",
        "--size 10000000 --persistent --confirms 4 --consumers 0", large, reach={"of_disk": 0.8}),
    Row("large-through", "10 MB bodies, persistent, consumed",
        "--size 10000000 --persistent --confirms 4 --prefetch 4"),
    Row("many-1", "1 queue × 10,000 msg/s", MANY),
    Row("many-queues", "1,000 queues × 10 msg/s",
        f"{MANY} --spread --queues 1000 --consumers 1000 --consumer-connections 1", rate="consumed",
        beside=("many-1", "cpu_delivery", 1.5)),
    Row("many-clients", "1,000 producers and consumers × 10 msg/s",
        f"{MANY} --queues 1000 --producers 1000 --consumers 1000", rate="consumed",
        beside=("many-1", "cpu_delivery", 1.5)),
    Row("many-consumers", "50 consumers on one queue", "--size 16 --auto-ack --consumers 50", rate="consumed",
        beside=("a1", "cpu_delivery", 1.5)),
    Row("many-bindings", "10,000 bindings to a fanout, 10 queues",
        f"{ROUTED} --exchange fanout --bindings 10000 --queues 10 --consumers 10", rate="consumed",
        beside=("e1", "cpu_delivery", 1.5)),
]


def once(load, broker, row, seconds):
    if row.run is not None:
        return row.run(load, broker, row, seconds)
    warmup = "" if "churn" in row.load or "idle" in row.load else "--warmup 0.5"
    return figures(load.run(broker, f"{row.load} {warmup} --time {seconds}"))


def measure(load, measured, chosen, repeat, seconds):
    """Every row on every broker, the brokers in turn within a row; medians, figure by figure."""
    found = {}
    for row in chosen:
        runs = {broker.name: [] for broker in measured}
        failed = {}
        for _ in range(repeat):
            for broker in measured:
                if broker.name in failed:
                    continue
                try:
                    broker.fresh()
                    runs[broker.name].append(once(load, broker, row, seconds))
                except Unable as why:
                    failed[broker.name] = str(why)
        found[row.name] = {}
        for name, each in runs.items():
            if name in failed:
                found[row.name][name] = {"failed": failed[name]}
                print(f"{row.name:16} {name:16} {failed[name]}", file=sys.stderr)
                continue
            names = sorted({figure for run in each for figure in run})
            middle = {figure: median([run.get(figure) for run in each]) for figure in names}
            found[row.name][name] = {"median": middle, "runs": each}
            print(f"{row.name:16} {name:16} {summary(row, middle)}", flush=True)
    return found


def summary(row, middle):
    first = [row.rate] if row.rate in middle else []
    rest = [figure for figure in middle if figure not in first]
    return "  ".join(f"{figure} {middle[figure]:,.6g}" for figure in first + rest)
