"""Who waits for whom: how often the broker's threads stop to wait, for each thousand messages.

A thread that waits gives up its core by itself; the kernel counts that as a voluntary switch. Waiting for a socket or
for the disk is among them, so a group's figure is the most that its locks can have cost. Where `perf` may trace system
calls (root, usually), futex calls are counted too: those that wait for a lock or another thread, and those that wake.
"""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import rows
import tables
from brokers import process_tree
from load import Unable

WARM = 1
COUNTED = 3
SIXTEEN = "--producers 16 --consumers 16 --queues 16"


def loads():
    named = {row.name: (row.what, row.load) for row in rows.ROWS}
    return {
        **{name: named[name] for name in ("a1", "c1", "c2", "e1")},
        "a1-16": ("a1 with 16 producers, consumers, queues", f"{named['a1'][1]} {SIXTEEN}"),
        "c1-16": ("c1 with 16 producers, consumers, queues", f"{named['c1'][1]} {SIXTEEN}"),
    }


def measure(load, measured):
    found = {}
    for broker in measured:
        broker.start()
        if broker.pid is None:
            print(f"{broker.name}: its process is not known (--pid)", file=sys.stderr)
            continue
        found[broker.name] = {}
        for name, (what, options) in loads().items():
            broker.fresh()
            found[broker.name][name] = {"what": what, **one(load, broker, options)}
            tell(broker, name, found[broker.name][name])
    return found


def one(load, broker, options):
    run = load.begin(broker, f"{options} --warmup {WARM} --time {COUNTED + 2}")
    time.sleep(WARM + 0.5)
    before = switches(broker.pid)
    begun = time.monotonic()
    futexes = futex_calls(broker.pid)
    time.sleep(max(0, begun + COUNTED - time.monotonic()))
    lasted = time.monotonic() - begun
    after = switches(broker.pid)
    try:
        published = load.result(run)[0]["published_per_s"]
    except Unable as why:
        return {"failed": str(why)}

    def a_thousand(count):
        return round(count / lasted / published * 1000, 3)

    groups = {group: {"waits": a_thousand(count - before.get(group, 0))} for group, count in after.items()}
    for group, count in (futexes or {}).items():
        groups.setdefault(group, {})["futexes"] = a_thousand(count)
    return {"published": published, "groups": {group: groups[group] for group in sorted(groups)}}


def group_of(name):
    """Threads that are called the same but for a number."""
    return re.sub(r"[-_]?\d+$", "", name)


def switches(pid):
    """Voluntary switches so far, by group of threads."""
    counted = {}
    for process in process_tree(pid):
        for thread in Path(f"/proc/{process}/task").iterdir():
            try:
                name = (thread / "comm").read_text().strip()
                status = (thread / "status").read_text()
            except OSError:
                continue
            count = int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status, re.M)[1])
            counted[group_of(name)] = counted.get(group_of(name), 0) + count
    return counted


def futex_calls(pid):
    """Futex calls of `COUNTED` seconds by group of threads, or None where they cannot be counted."""
    if shutil.which("perf") is None:
        return None
    command = ["perf", "stat", "-x,", "--per-thread", "-e", "syscalls:sys_enter_futex",
               "-p", ",".join(map(str, process_tree(pid))), "--", "sleep", str(COUNTED)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return None
    counted = {}
    for line in done.stderr.splitlines():
        thread, _, rest = line.partition(",")
        count = rest.split(",")[0]
        if count.isdigit():
            group = group_of(re.sub(r"-\d+$", "", thread))
            counted[group] = counted.get(group, 0) + int(count)
    return counted


def tell(broker, name, each):
    if "failed" in each:
        print(f"locks  {broker.name}  {name}: {each['failed']}", flush=True)
        return
    print(f"locks  {broker.name}  {name}: {tables.rate(each['published'])} published/s; for each 1,000:", flush=True)
    for group, counts in each["groups"].items():
        if any(counts.values()):
            print(f"    {group:18} {cell(counts)}", flush=True)


def cell(counts):
    futexes = counts.get("futexes")
    return f"{counts.get('waits', 0):g} waits" + (f", {futexes:g} futex calls" if futexes is not None else "")
