"""Runs the load generator."""

import json
import os
import subprocess
from pathlib import Path


class Unable(Exception):
    """The run could not be made, and why."""


# What amqpload does not know; runs that need one of these are left out with it.
OWN = ("--spread", "--consumer-connections", "--consume-rate", "--reuse", "--heartbeat", "binding", "delete")


class Load:
    """tests/load, or amqpload where AMQPLOAD names it: their options and figures have the same names."""

    def __init__(self, binary, is_own):
        self.binary = str(binary)
        self.is_own = is_own

    @staticmethod
    def find(root, target):
        named = os.environ.get("AMQPLOAD")
        if named:
            return Load(Path(named).resolve(), False)
        named = os.environ.get("LEVERET_LOAD")
        if named:
            return Load(Path(named).resolve(), True)
        build = ["cargo", "build", "--locked", "--release", "--package", "leveret-load"]
        subprocess.run([*build, "--target-dir", str(target)], cwd=root, check=True)
        return Load(target / "release" / "leveret-load", True)

    def command(self, broker, options):
        words = options.split() if isinstance(options, str) else [str(word) for word in options]
        if not self.is_own and any(word in OWN for word in words):
            raise Unable("amqpload does not know this row")
        who = ["--user", broker.user, "--password", broker.password, "--vhost", broker.vhost]
        accounts = ["--pid", str(broker.pid)] if broker.pid else []
        return [self.binary, broker.address, *who, *accounts, *words]

    def begin(self, broker, options):
        """Starts a run that goes on meanwhile; `result` waits for it."""
        return subprocess.Popen(self.command(broker, options), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True)

    def result(self, process):
        """The figures of a run, one dictionary for each line it printed."""
        try:
            output, errors = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unable("did not end") from None
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
        if process.returncode != 0:
            wrong = [line["verify"] for line in lines if line.get("verify") and not line["verify"]["ok"]]
            raise Unable(errors.strip() or f"messages are not as they should be: {wrong}")
        return lines

    def run(self, broker, options):
        """The figures of a run that prints one line."""
        lines = self.result(self.begin(broker, options))
        return lines[0] if lines else {}
