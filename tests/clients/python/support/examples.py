"""The programs in examples/ as processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from support.waiting import eventually

EXAMPLES = Path(__file__).resolve().parents[4] / "examples"


def environment(broker):
    """What tells the programs where the broker is."""
    return {**os.environ, "AMQP_HOST": broker.host, "AMQP_PORT": str(broker.port), "PYTHONUNBUFFERED": "1"}


def command(program, *arguments):
    return [sys.executable, str(EXAMPLES / program), *map(str, arguments)]


def run_example(broker, program, *arguments, timeout_s=30):
    """Runs a program to its end; what it printed."""
    done = subprocess.run(command(program, *arguments), env=environment(broker), capture_output=True, text=True,
                          timeout=timeout_s)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Example:
    """A program that runs until it is stopped, with what it has printed so far."""

    def __init__(self, broker, output, errors, program, *arguments):
        self.output, self.errors, self.program = output, errors, program
        with open(output, "ab") as out, open(errors, "ab") as err:
            self.process = subprocess.Popen(command(program, *arguments), env=environment(broker),
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)

    def printed(self):
        return self.output.read_text()

    def lines(self):
        return self.printed().splitlines()

    def wait_for(self, text, deadline_s=20):
        """Waits until it has printed a line that contains `text`."""
        def found():
            assert self.process.poll() is None, f"{self.program} ended: {self.printed()}{self.errors.read_text()}"
            return any(text in line for line in self.lines())
        eventually(found, deadline_s, f"{text!r} from {self.program}")

    def stop(self, number=signal.SIGTERM):
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(10)

    def kill(self):
        """kill -9, with every process it has started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
