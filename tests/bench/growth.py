"""How the cost of a message grows with how much else there is."""

import sys

import rows
from load import Unable

ROUTED = "--size 16 --auto-ack --confirms 1000"
STEPS = (1, 10, 100, 1000)


def queues(count):
    connections = min(count, 10)
    return f"{ROUTED} --spread --queues {count} --consumers {count} --consumer-connections {connections}"


def connections(count):
    return f"--size 16 --auto-ack --confirms 100 --producers {count} --consumers {count} --queues {count}"


def consumers(count):
    return f"{ROUTED} --consumers {count}"


def bindings(count):
    return f"{ROUTED} --exchange topic --bindings {count}"


SERIES = {
    "queues": ("queues that one producer publishes to in turn, a consumer each", queues, STEPS),
    "connections": ("producers, each with a queue and a consumer", connections, STEPS),
    "consumers": ("consumers of one queue", consumers, STEPS),
    "bindings": ("bindings of a topic exchange, each key used in turn", bindings, (*STEPS, 10_000, 100_000)),
}
BACKLOGS = (0, 1_000_000, 5_000_000)


def measure(load, measured, seconds):
    """CPU and rate at each step of each series, for each broker."""
    found = {}
    for name, (what, options, steps) in SERIES.items():
        found[name] = {"what": what, "brokers": {}}
        for broker in measured:
            points = []
            for count in steps:
                broker.fresh()
                line = attempt(load, broker, f"{options(count)} --warmup 0.5 --time {seconds}")
                points.append(point(count, line))
                tell(name, broker, points[-1])
            found[name]["brokers"][broker.name] = points
    found["backlog"] = {"what": "persistent messages of 1 KB that wait in the queue", "brokers": {}}
    for broker in measured:
        found["backlog"]["brokers"][broker.name] = backlog(load, broker, seconds)
    return found


def backlog(load, broker, seconds):
    """Publishing to a queue and consuming from it (c1) while messages wait in it."""
    points = []
    for count in BACKLOGS:
        broker.fresh()
        fill = "--mode backlog --phase publish --size 1024 --persistent --confirms 1000"
        filled = attempt(load, broker, f"{fill} --messages {count}") if count else {}
        line = attempt(load, broker, f"{rows.PERSISTENT} --reuse --warmup 0.5 --time {seconds}")
        points.append(point(count, line))
        points[-1]["rss_filled"] = (filled.get("broker") or {}).get("rss_mb")
        tell("backlog", broker, points[-1])
    return points


def attempt(load, broker, options):
    try:
        return load.run(broker, options)
    except Unable as why:
        print(f"{broker.name}: {why}", file=sys.stderr)
        return {}


def point(count, line):
    figures = rows.figures(line)
    wanted = ("published", "consumed", "cpu", "cpu_delivery", "latency_p99", "confirm_p99", "rss", "others_cpu")
    return {"at": count, **{name: figures.get(name) for name in wanted}}


def tell(name, broker, found):
    print(f"{name:12} {broker.name:16} {found['at']:>9,}  cpu a delivery {found['cpu_delivery']}  "
          f"consumed {found['consumed']}/s  peak rss {found['rss']} MB", flush=True)
