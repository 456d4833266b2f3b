"""What a broker costs that has nothing to do: wake-ups, idle connections, and memory after a burst."""

import sys
import time
from pathlib import Path

from brokers import process_tree, resident_mb
from load import Unable

SECONDS = 10
CONNECTIONS = 1000
BURST_CONNECTIONS = 5000
BURST_MESSAGES = 5_000_000
PATIENCE = 30


def measure(load, measured):
    found = {}
    for broker in measured:
        if broker.pid is None and not broker.restartable:
            print(f"{broker.name}: its process is not known (--pid)", file=sys.stderr)
            continue
        found[broker.name] = {
            "alone": alone(broker),
            "connections": [connections(load, broker, heartbeat) for heartbeat in (0, 60, 10)],
            "bursts": [burst_of_connections(load, broker), burst_of_messages(load, broker)],
        }
        tell(broker, found[broker.name])
    return found


def tell(broker, found):
    print(f"idle  {broker.name}  alone: {found['alone']}")
    for each in (*found["connections"], *found["bursts"]):
        print(f"  {each}", flush=True)


def switches(pid):
    """How often threads of a process tree had waited for something, and it came."""
    total = 0
    for process in process_tree(pid):
        try:
            threads = list(Path(f"/proc/{process}/task").iterdir())
        except OSError:
            continue
        for thread in threads:
            try:
                text = (thread / "status").read_text()
            except OSError:
                continue
            total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("voluntary_ctxt_switches"))
    return total


def alone(broker):
    """Wake-ups a second, nobody connected."""
    broker.fresh()
    return {"wakeups_per_s": wakeups(broker, 3), "rss_mb": round(resident_mb(broker.pid), 1)}


def wakeups(broker, settle):
    """Wake-ups a second of a broker that has nothing to do, `settle` seconds from now."""
    time.sleep(settle)
    before = switches(broker.pid)
    time.sleep(SECONDS)
    return round((switches(broker.pid) - before) / SECONDS, 2)


def connections(load, broker, heartbeat):
    broker.fresh()
    options = f"--mode idle --connections {CONNECTIONS} --producers 2 --time {SECONDS} --heartbeat {heartbeat}"
    try:
        line = load.run(broker, options)
    except Unable as why:
        return {"connections": CONNECTIONS, "heartbeat_s": heartbeat, "failed": str(why)}
    wanted = ("connections", "heartbeat_s", "idle_cpu", "wakeups_per_s", "rss_per_connection_kb")
    return {name: line.get(name) for name in wanted}


def burst_of_connections(load, broker):
    options = f"--mode idle --connections {BURST_CONNECTIONS} --producers 2 --time 1"
    return burst(load, broker, f"{BURST_CONNECTIONS:,} connections", [options])


def burst_of_messages(load, broker):
    options = f"--mode backlog --messages {BURST_MESSAGES} --size 1024 --persistent --confirms 1000 --prefetch 1000 " \
              "--multi-ack 100"
    return burst(load, broker, f"{BURST_MESSAGES:,} messages of 1 KB", [options])


def burst(load, broker, what, runs):
    """Memory before, at most, and after; and how long it took to come back to within a fifth."""
    broker.fresh()
    time.sleep(1)
    # One client first, so that what every first client leaves behind is not counted.
    load.result(load.begin(broker, "--size 16 --auto-ack --time 0.2"))
    time.sleep(1)
    before = resident_mb(broker.pid)
    peak = 0.0
    try:
        for options in runs:
            run = load.begin(broker, options)
            while run.poll() is None:
                peak = max(peak, resident_mb(broker.pid))
                time.sleep(0.05)
            load.result(run)
    except Unable as why:
        return {"what": what, "failed": str(why)}
    begun = time.monotonic()
    least, within = resident_mb(broker.pid), None
    while time.monotonic() - begun < PATIENCE and within is None:
        least = min(least, resident_mb(broker.pid))
        if least <= before * 1.2:
            within = round(time.monotonic() - begun, 1)
        time.sleep(0.2)
    return {"what": what, "rss_before_mb": round(before, 1), "rss_peak_mb": round(peak, 1),
            "rss_after_mb": round(least, 1), "ratio": round(least / before, 2), "within_s": within,
            "wakeups_per_s": wakeups(broker, 30)}
