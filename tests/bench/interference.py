"""What one client does to the latency of another, whose queue has nothing to do with it: by its load, or by asking for much
at once (rude.py).

Two quiet queues are measured, at 1,000 messages a second: a transient one (from sending to receipt) and a persistent
one (from sending to the confirm); first with nothing else going on, then beside each disturbance. On a small machine a
disturbance takes cores and disk from everybody, so each is also put on a second broker of the same kind that runs
beside the measured one: what is more than that is the broker's own.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from load import Unable

SECONDS = 5
QUIET = {
    "transient": ("--mode latency --rate 1000 --size 1024 --auto-ack --prefix quiet-transient", "latency_us"),
    "persistent": ("--mode latency --rate 1000 --size 1024 --persistent --confirms 1000 --prefetch 200 --multi-ack 10 "
                   "--prefix quiet-persistent", "confirm_latency_us"),
}
FILL = "--mode backlog --phase publish --size 1024 --persistent --confirms 1000 --prefix disturbing"
PACED = "--size 1024 --persistent --confirms 1000 --prefetch 100 --multi-ack 10 --prefix disturbing"


class Disturbance:
    """What goes on beside: something prepared before, and a load meanwhile."""

    def __init__(self, name, what, load, before=(), after=0.0, seconds=SECONDS):
        self.name, self.what, self.load, self.before = name, what, load, before
        self.after, self.seconds = after, seconds

    def prepare(self, load, broker):
        for options in self.before:
            load.run(broker, options)

    def begin(self, load, broker):
        return load.begin(broker, self.load.format(seconds=self.seconds + 1))


class Rude(Disturbance):
    """A client that asks for much at once: prepared by rude.py, and let go in the middle of the measurement."""

    def __init__(self, kind, what, name=None, **numbers):
        super().__init__(name or kind.replace("-", " "), what, "", after=0.7)
        self.kind, self.numbers, self.prepared = kind, numbers, None

    def prepare(self, load, broker):
        words = [f"{name}={number}" for name, number in self.numbers.items()]
        command = [sys.executable, str(Path(__file__).with_name("rude.py")), broker.address, self.kind, *words]
        self.prepared = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.prepared.stdout.readline() != "ready\n":
            self.prepared.communicate()
            raise Unable("could not be prepared")

    def begin(self, load, broker):
        self.prepared.stdin.write("go\n")
        self.prepared.stdin.flush()
        return self.prepared


class Listing(Rude):
    """All queues are asked for over HTTP, again and again."""

    def begin(self, load, broker):
        if broker.management is None:
            raise Unable("has no management API here")
        command = [sys.executable, str(Path(__file__).with_name("rude.py")), broker.management, "listing"]
        lister = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lister.stdin.write("go\n")
        lister.stdin.flush()
        self.prepared.communicate("go\n")
        return lister


class PolicyForAll(Rude):
    """A definitions file with a new policy for very many queues is read again."""

    def begin(self, load, broker):
        if broker.definitions is None:
            raise Unable("reads no definitions file")
        policy = {"vhost": "/", "name": "all", "pattern": ".*", "apply-to": "queues", "priority": 1,
                  "definition": {"max-length": 1_000_000}}
        broker.definitions.write_text(json.dumps({"policies": [policy]}))
        os.kill(broker.pid, signal.SIGHUP)
        return super().begin(load, broker)


DISTURBANCES = [
    Disturbance("slow consumer", "20,000 msg/s of 1 KB into a queue whose consumer takes 500",
                f"{PACED} --rate 20000 --consume-rate 500 --time {{seconds}}"),
    Disturbance("huge messages", "one message of 100 MB a second, persistent",
                "--size 100000000 --persistent --confirms 1 --prefetch 1 --rate 1 --prefix disturbing --time {seconds}"),
    Disturbance("topology", "bindings made and taken away without a pause, durable",
                "--mode churn --churn binding --durable --prefix disturbing --time {seconds}"),
    Disturbance("delete", "a queue with 1 M messages of 1 KB is deleted", "--mode delete --prefix disturbing",
                before=(f"{FILL} --messages 1000000",), after=0.7, seconds=2),
    Disturbance("checkpoints", "50,000 msg/s of 1 KB to disk: a checkpoint about every second",
                f"{PACED} --consumers 0 --rate 50000 --time {{seconds}}"),
    Disturbance("compaction", "the same, while segments that are an eighth live are copied",
                "--size 1024 --persistent --confirms 1000 --consumers 0 --rate 50000 --prefix compacting "
                "--time {seconds}",
                before=(f"{FILL} --messages 500000 --spread --queues 8 --consumers 8",
                        "--mode backlog --phase drain --messages 437500 --size 1024 --prefetch 1000 --multi-ack 100 "
                        "--queues 7 --consumers 7 --prefix disturbing --reuse --keep")),
    Rude("unread-consumers", "100 connections with 50 unread consumers each close, 200,000 messages queued"),
    Rude("unread-consumers", "20 connections with 20 unread consumers each close, 200,000 messages queued",
         name="20 x 20 consumers", connections=20, consumers=20),
    Rude("unacknowledged", "a consumer with 5 M unacknowledged deliveries closes"),
    Rude("requeued", "2 M deliveries are put back by one basic.nack"),
    Rude("channel-of-consumers", "a channel with 32,000 consumers closes"),
    Rude("gets", "4 connections send basic.get without a pause"),
    Rude("returns", "4 connections send mandatory messages that no queue takes"),
    Rude("declares", "4 connections declare and delete a queue without a pause"),
    Rude("failures", "4 connections have channels closed by errors without a pause"),
    Rude("exclusive-queues", "40,000 exclusive queues are declared, and their connection closes"),
    PolicyForAll("queues", "a policy comes for 100,000 queues, by SIGHUP", name="policy"),
    Rude("queue-of-bindings", "a queue with 100,000 bindings is deleted"),
    Rude("exchange-of-bindings", "an exchange with 100,000 bindings is deleted"),
    Rude("cascade", "a queue is deleted that 50,000 auto-delete exchanges go with"),
    Rude("commit", "a transaction of 100,000 messages to 10,000 queues commits"),
    Rude("fan-out", "one message goes to 50,000 queues"),
    Rude("dead-letter", "one message dies and goes to 50,000 queues"),
    Listing("queues", "50,000 queues are listed over HTTP, again and again", name="listing", queues=50_000),
]
# What the worst disturbance may cost another client.
REACH_P99_US, REACH_MAX_US = 20_000, 100_000


def measure(load, measured):
    """The quiet latencies, and those beside each disturbance, for each broker."""
    found = {}
    for broker in measured:
        broker.fresh()
        beside = broker.another()
        try:
            if beside is not None:
                beside.start()
            found[broker.name] = of_broker(load, broker, beside)
        finally:
            if beside is not None:
                beside.stop()
    return found


def of_broker(load, broker, beside):
    quiet = [quiet_latency(load, broker, SECONDS) for _ in range(3)]
    middle = {name: sorted((each[name] for each in quiet), key=lambda each: each["p99"])[1] for name in QUIET}
    found = {"quiet": middle, "beside": {}}
    print(f"interference  {broker.name}  quiet p99 " + ", ".join(f"{n} {v['p99']} us" for n, v in middle.items()))
    for disturbance in DISTURBANCES:
        entry = {"what": disturbance.what}
        for where, disturbed in (("same", broker), ("other", beside)):
            if disturbed is None:
                continue
            try:
                entry[where] = disturbed_latency(load, broker, disturbed, disturbance)
            except Unable as why:
                print(f"{disturbance.name}: {why}", file=sys.stderr)
            leave_nothing(load, broker, beside)
        found["beside"][disturbance.name] = entry
        tell(disturbance.name, entry, middle)
    return found


def leave_nothing(load, broker, beside):
    """Takes away what a disturbance left, on the disk too: removing a gigabyte of files keeps it busy."""
    if beside is not None:
        beside.fresh()
    if broker.restartable:
        broker.fresh()
        os.sync()
        time.sleep(1)
        return
    for prefix in ("disturbing", "compacting"):
        load.run(broker, f"--mode delete --queues 8 --consumers 8 --prefix {prefix}")


def tell(name, entry, quiet):
    for where in ("same", "other"):
        if where in entry:
            shown = ", ".join(f"{kind} p99 {each['p99']} us ({each['p99'] / max(quiet[kind]['p99'], 1):.1f}x), worst "
                              f"{each['max']} us" for kind, each in entry[where].items())
            print(f"  {name:20} on {where:5} broker: {shown}", flush=True)


def quiet_latency(load, broker, seconds, meanwhile=None):
    runs = {name: load.begin(broker, f"{options} --warmup 0.3 --time {seconds}")
            for name, (options, _) in QUIET.items()}
    if meanwhile is not None:
        meanwhile()
    lines = {name: load.result(run)[0] for name, run in runs.items()}
    kept = ("p50", "p99", "p999", "max")
    return {name: {key: lines[name][QUIET[name][1]][key] for key in kept} for name in QUIET}


def disturbed_latency(load, broker, disturbed, disturbance):
    running = []
    try:
        disturbance.prepare(load, disturbed)
        return latency_beside(load, broker, disturbed, disturbance, running)
    finally:
        for run in running:
            run.terminate()
            run.communicate()


def latency_beside(load, broker, disturbed, disturbance, running):
    if disturbance.after == 0:
        running.append(disturbance.begin(load, disturbed))
        time.sleep(0.3)

    def meanwhile():
        if disturbance.after > 0:
            time.sleep(disturbance.after)
            running.append(disturbance.begin(load, disturbed))

    return quiet_latency(load, broker, disturbance.seconds, meanwhile)
