"""PostgreSQL and Redis from Debian's packages, as processes of the tests' own."""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg
import redis

from support.waiting import eventually


def free_port():
    """A port that nobody listens on, outside the range from which the kernel takes ports for outgoing connections: a
    server may be away for a while and find it free again."""
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(10_000, lowest)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def debian_program(name):
    """Path of a PostgreSQL or Redis program, None where it is not installed."""
    versions = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    return str(versions[-1]) if versions else shutil.which(name)


class Server:
    """A server in a temporary directory, ended by its process id."""

    stop_signal = signal.SIGTERM

    def __init__(self):
        self.directory = Path(tempfile.mkdtemp(prefix="leveret-test-"))
        self.port = free_port()
        self.process = None

    def launch(self, command, **options):
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            cwd=self.directory, **options)
        eventually(self.answers_or_ended, 30, f"{command[0]} at port {self.port}")
        return self

    def answers_or_ended(self):
        ended = self.process.poll()
        assert ended is None, f"ended with {ended}: {(self.directory / 'log').read_text()[-2000:]}"
        return self.answers()

    def stop(self):
        if self.process is not None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class PostgreSQL(Server):
    """Trusts everyone on its port; does not sync, since nothing cuts its power here."""

    stop_signal = signal.SIGINT  # PostgreSQL's fast shutdown

    @staticmethod
    def missing():
        """Why it cannot be started here; None if it can."""
        if not debian_program("initdb"):
            return "PostgreSQL is not installed"
        return None

    def start(self):
        # PostgreSQL refuses to run as root.
        owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if owner:
            shutil.chown(self.directory, "postgres", "postgres")
        data = self.directory / "data"
        done = subprocess.run([debian_program("initdb"), "-D", data, "-U", "postgres", "--auth=trust", "--no-sync",
                               "--encoding=UTF8", "--locale=C"],
                              cwd=self.directory, capture_output=True, text=True, **owner)
        assert done.returncode == 0, done.stderr
        return self.launch([debian_program("postgres"), "-D", data, "-c", "listen_addresses=127.0.0.1",
                            "-p", str(self.port), "-c", "unix_socket_directories=", "-c", "fsync=off"], **owner)

    def answers(self):
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def new_database(self):
        """The URL of a database made for the caller."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def url(self, database="postgres"):
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"


class Redis(Server):
    """Keeps nothing."""

    @staticmethod
    def missing():
        """Why it cannot be started here; None if it can."""
        return None if debian_program("redis-server") else "Redis is not installed"

    def start(self):
        return self.launch([debian_program("redis-server"), "--bind", "127.0.0.1", "--port", str(self.port),
                            "--save", "", "--appendonly", "no", "--dir", str(self.directory)])

    def answers(self):
        try:
            with redis.Redis(port=self.port) as client:
                return client.ping()
        except redis.ConnectionError:
            return False

    def url(self):
        return f"redis://127.0.0.1:{self.port}/0"
