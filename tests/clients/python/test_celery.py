"""Celery. With quorum queues: tasks now, later and again, by its native delayed delivery, whose queues hold messages
for up to 2^27 seconds. With classic ones: a worker of two queues, which has one channel with a limit for both."""

import datetime
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from celery import Celery

from support.celery_app import make_app
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("a broker of its own, for Celery's names are the same everywhere")

LATER_S = 2
DEADLINE_S = 60


class Worker:
    """A worker process on one broker, ended by its process id."""

    def __init__(self, url, directory, queue_type="quorum", *options):
        self.notebook = directory / "notebook"
        self.notebook.touch()
        self.log = directory / "worker.log"
        environment = {**os.environ, "CELERY_TEST_BROKER": url, "CELERY_TEST_NOTEBOOK": str(self.notebook),
                       "CELERY_TEST_QUEUE_TYPE": queue_type}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "support.celery_app", "worker", "-P", "solo", "-l", "INFO",
                 *options],
                cwd=Path(__file__).parent, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def notes(self):
        """When each task ran, by its name."""
        ended = self.process.poll()
        assert ended is None, f"the worker ended with {ended}: {self.log.read_text()[-2000:]}"
        return dict(json.loads(line) for line in self.notebook.read_text().splitlines())

    def wait_for(self, name):
        return eventually(lambda: self.notes().get(name), DEADLINE_S, f"{name}; {self.log.read_text()[-2000:]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def broker_url(own_broker):
    own = own_broker()
    return f"amqp://guest:guest@{own.host}:{own.port}//"


@pytest.fixture
def worker(broker_url, tmp_path):
    process = Worker(broker_url, tmp_path)
    yield process
    process.stop()


def test_countdown_eta_and_retry(broker_url, worker):
    app = make_app(broker_url, worker.notebook)
    app.tasks["note"].delay("now")
    worker.wait_for("now")

    sent = time.time()
    app.tasks["note"].apply_async(["countdown"], countdown=LATER_S)
    eta = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=LATER_S)
    app.tasks["note"].apply_async(["eta"], eta=eta)
    app.tasks["note_at_the_second_attempt"].delay("again", 1)
    app.tasks["note"].apply_async(["in a year"], countdown=365 * 86400)

    first, second = worker.wait_for("again 0"), worker.wait_for("again 1")
    # Celery counts whole seconds and rounds them down.
    assert second - first >= 0.9
    assert worker.wait_for("countdown") - sent >= LATER_S - 1
    assert worker.wait_for("eta") - sent >= LATER_S - 1
    assert "in a year" not in worker.notes()
    app.close()


def test_a_worker_of_two_queues_takes_from_both(broker_url, tmp_path):
    app = Celery(broker=broker_url, set_as_current=False)
    for queue, count in (("qa", 200), ("qb", 10)):
        for number in range(count):
            app.send_task("note", [f"{queue} {number}"], queue=queue)
    app.close()
    worker = Worker(broker_url, tmp_path, "classic", "-Q", "qa,qb", "--prefetch-multiplier", "4")
    try:
        worker.wait_for("qa 199")
        order = list(worker.notes())
    finally:
        worker.stop()
    # One of each in turn, but for what was fetched before the second queue was there, and on the way since.
    before_the_last = order[:order.index("qb 9")]
    assert len(before_the_last) <= 9 + 10 + 4 * 4, order
