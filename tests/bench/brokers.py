"""The brokers that are measured: Leveret, others that are started here, and others that run already.

Whatever is started here listens on loopback, on a free port, with a data directory of its own, and is ended by its
process id.
"""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

PATIENCE = 60


def leveret_binary(root, target):
    """The binary named by LEVERET_BIN, or the workspace's own, built."""
    named = os.environ.get("LEVERET_BIN")
    if named:
        return Path(named).resolve()
    build = ["cargo", "build", "--locked", "--release", "--package", "leveret-server", "--bin", "leveret"]
    subprocess.run([*build, "--target-dir", str(target)], cwd=root, check=True)
    return target / "release" / "leveret"


def resident_mb(pid):
    """Resident memory of a process and its children, in millions of bytes."""
    return sum(status_field(each, "VmRSS:") for each in process_tree(pid)) * 1024 / 1e6


def status_field(pid, key):
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def process_tree(root):
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            children.setdefault(status_field(entry.name, "PPid:"), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, []))
    return found


class Broker:
    """A broker that can be reached; `fresh` has what was started before replaced."""

    restartable = False

    def __init__(self, name):
        self.name = name
        self.address = None
        self.user, self.password, self.vhost = "guest", "guest", "/"
        self.pid = None
        self.data = None
        # The file that is read again on SIGHUP.
        self.definitions = None
        # Where the management API is.
        self.management = None

    def start(self):
        """Has it run."""

    def fresh(self):
        """Has it run, with nothing left of what it did before if that can be had."""
        self.start()

    def stop(self):
        """Ends what was started here."""

    def another(self):
        """One more of the kind, or None."""
        return None


class Running(Broker):
    """One that somebody else started, and ends."""

    def __init__(self, name, url, pid):
        super().__init__(name)
        parts = urlsplit(url)
        if parts.scheme != "amqp" or not parts.hostname:
            sys.exit(f"tests/bench.sh: {url} is not like amqp://user:password@127.0.0.1:5672/vhost")
        self.address = f"{parts.hostname}:{parts.port or 5672}"
        self.user = unquote(parts.username or "guest")
        self.password = unquote(parts.password or "guest")
        self.vhost = unquote(parts.path[1:]) if len(parts.path) > 1 else "/"
        self.pid = pid


class Child(Broker):
    """One that is started here."""

    restartable = True

    def __init__(self, name):
        super().__init__(name)
        self.process = None
        self.directory = None

    def start(self):
        if self.process is not None:
            return
        if self.directory is None:
            self.directory = Path(tempfile.mkdtemp(prefix=f"bench-{self.name}-"))
            self.data = self.directory / "data"
        self.launch()

    def launch(self):
        """Starts the process and waits until clients can connect."""
        raise NotImplementedError

    def spawn(self, command):
        log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                        cwd=self.directory, start_new_session=True)
        log.close()
        self.pid = self.process.pid

    def end(self, how=signal.SIGTERM):
        """Ends the process; the data stays."""
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        self.end()
        if self.directory is not None:
            shutil.rmtree(self.directory, ignore_errors=True)
            self.directory = None

    def failed(self):
        log = (self.directory / "log").read_text(errors="replace")
        sys.exit(f"tests/bench.sh: {self.name} did not start\n{log[-2000:]}")


class Leveret(Child):
    """The broker of this repository."""

    def __init__(self, binary, name="leveret"):
        super().__init__(name)
        self.binary = binary

    def another(self):
        return Leveret(self.binary, f"{self.name}-beside")

    def fresh(self):
        self.stop()
        self.start()

    def launch(self):
        ready = self.directory / "ready.json"
        ready.unlink(missing_ok=True)
        self.definitions = self.directory / "definitions.json"
        self.definitions.write_text("{}")
        self.spawn([str(self.binary), "--listen", "127.0.0.1:0", "--data-dir", str(self.data),
                    "--management-listen", "127.0.0.1:0", "--prometheus-listen", "127.0.0.1:0", "--ready-file", str(ready), "--log", "warn",
                    "--definitions", str(self.definitions)])
        deadline = time.monotonic() + PATIENCE
        while not ready.exists():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.failed()
            time.sleep(0.001)
        listeners = {each["protocol"]: f"{each['address']}:{each['port']}"
                     for each in json.loads(ready.read_text())["listeners"]}
        self.address, self.management = listeners["amqp"], listeners["http"]


class Started(Child):
    """Another broker, started by a command with {port} and {data} in it."""

    def __init__(self, name, command):
        super().__init__(name)
        self.command = command
        if "{port}" not in command or "{data}" not in command:
            sys.exit(f"tests/bench.sh: the command of {name} has to say where {{port}} and {{data}} go")

    def launch(self):
        port = free_port() if self.address is None else int(self.address.rsplit(":", 1)[1])
        self.data.mkdir(exist_ok=True)
        self.spawn(shlex.split(self.command.format(port=port, data=self.data)))
        self.address = f"127.0.0.1:{port}"
        deadline = time.monotonic() + PATIENCE
        while not greets(port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.failed()
            time.sleep(0.002)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def greets(port):
    """Whether an AMQP broker answers with connection.start."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            client.settimeout(1)
            client.sendall(b"AMQP\0\0\x09\x01")
            return client.recv(1) == b"\x01"
    except OSError:
        return False
