"""The broker under test as a process of our own, or one that somebody else runs."""

import ctypes
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import urlsplit

PR_SET_PDEATHSIG = 1
START_DEADLINE_S = float(os.environ.get("BROKER_START_DEADLINE_S", "15"))


def _die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def listener_address(ready_text, protocol="amqp"):
    """(host, port) of the first listener for `protocol` in the text of a ready file."""
    listeners = json.loads(ready_text)["listeners"]
    for listener in listeners:
        fields = listener if isinstance(listener, dict) else {"url": listener}
        text = fields.get("url") or fields.get("address")
        parts = urlsplit(text if "//" in text else f"//{text}")
        if (fields.get("protocol") or parts.scheme or "amqp") == protocol:
            return parts.hostname, parts.port
    raise AssertionError(f"no listener for {protocol} in {ready_text}")


class ExternalBroker:
    """A broker that is already running (AMQP_TEST_URL): nothing is known of its process."""

    pid = None

    def __init__(self, url):
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port or 5672

    def alive(self):
        return True


class BrokerProcess:
    """One run after another of the binary on one data directory."""

    def __init__(self, binary, directory, arguments=()):
        self.binary = binary
        self.directory = Path(directory)
        self.arguments = list(arguments)
        self.log = self.directory / "broker.log"
        self.output = self.directory / "broker.out"
        self.process = None
        # Many brokers run at a time, and one of them could have the usual port of the API.
        self.at_usual_ports = False
        self.host, self.port = "127.0.0.1", 0

    @property
    def data_dir(self):
        return self.directory / "data"

    @property
    def pid(self):
        return self.process.pid

    def start(self, keep_port=False):
        """Starts the broker and waits until it says that it accepts connections."""
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        port = self.port if keep_port else 0
        command = [self.binary, "--listen", f"127.0.0.1:{port}", "--data-dir", str(self.data_dir),
                   "--ready-file", str(ready), *self.arguments]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LEVERET_")}
        if not self.at_usual_ports:
            environment["LEVERET_MANAGEMENT_LISTEN"] = "none"
            environment["LEVERET_PROMETHEUS_LISTEN"] = "none"
        with open(self.output, "ab") as output, open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=log,
                                            cwd=self.directory, env=environment, start_new_session=True,
                                            preexec_fn=_die_with_parent)
        end = time.monotonic() + START_DEADLINE_S
        while not ready.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"the broker ended with {self.process.returncode}: {self.log_tail()}")
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"the broker was not ready in {START_DEADLINE_S} s: {self.log_tail()}")
            time.sleep(0.005)
        self.host, self.port = listener_address(ready.read_text())
        return self

    def management(self):
        """The address of the management API; the broker needs `--management-listen`."""
        return listener_address((self.directory / "ready.json").read_text(), "http")

    def metrics(self):
        """The address of the metrics; the broker needs `--prometheus-listen`."""
        return listener_address((self.directory / "ready.json").read_text(), "http/prometheus")

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """kill -9: the process gets no chance to write anything more."""
        if self.alive():
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait(10)

    def terminate(self):
        """SIGTERM; does not wait."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s):
        """The exit code, once the process has ended."""
        return self.process.wait(timeout_s)

    def restart_after_kill(self, keep_port=False):
        self.kill()
        return self.start(keep_port)

    def restart_after_sigterm(self, keep_port=False):
        self.terminate()
        self.wait(START_DEADLINE_S)
        return self.start(keep_port)

    def resident_bytes(self):
        """Resident memory of the process, from /proc."""
        return self._memory_bytes("VmRSS:")

    def resident_bytes_peak(self):
        """The most resident memory the process has had."""
        return self._memory_bytes("VmHWM:")

    def _memory_bytes(self, name):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name}")

    def log_tail(self):
        return self.log.read_text(errors="replace")[-2000:]
