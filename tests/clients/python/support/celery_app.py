"""A Celery application; a worker's process finds broker and notebook in its environment."""

import json
import os
import time

from celery import Celery


def make_app(broker_url, notebook, queue_type="quorum"):
    """The application: tasks that note in the file `notebook` when they ran. Where queues are classic Celery limits a
    worker's channel as a whole, else each consumer."""
    app = Celery("tasks", broker=broker_url)
    app.conf.update(
        task_default_queue_type=queue_type,
        task_acks_late=True,
        broker_transport_options={"confirm_publish": True},
        broker_connection_retry_on_startup=True,
        task_ignore_result=True,
    )

    def write(name):
        with open(notebook, "a") as file:
            file.write(json.dumps([name, time.time()]) + "\n")

    @app.task(name="note")
    def note(name):
        write(name)

    @app.task(name="note_at_the_second_attempt", bind=True, max_retries=3)
    def note_at_the_second_attempt(self, name, retry_after_s):
        write(f"{name} {self.request.retries}")
        if self.request.retries == 0:
            raise self.retry(countdown=retry_after_s)

    return app


if "CELERY_TEST_BROKER" in os.environ:
    app = make_app(*(os.environ[f"CELERY_TEST_{name}"] for name in ("BROKER", "NOTEBOOK", "QUEUE_TYPE")))
