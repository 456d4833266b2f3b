"""examples/emr and examples/pipeline: nothing is lost or doubled although processes are killed at random.

The programs in charge of the killing bring a broker of their own; here they kill for a shorter time than by default."""

import contextlib
import json
import re
import sqlite3
import subprocess
import uuid

import pika
import psycopg
import pytest

from support.examples import command, run_example
from support.services import free_port
from support.waiting import eventually, exists, taken


@pytest.fixture
def faults(binary):
    """Runs a program that kills others; what it printed."""
    running = []

    def run(program, *arguments, timeout_s):
        process = subprocess.Popen(command(program, "--leveret", binary, "--port", free_port(), *arguments),
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                   text=True)
        running.append(process)
        printed, _ = process.communicate(timeout=timeout_s)
        assert process.returncode == 0, printed
        return printed

    yield run
    for process in running:
        if process.poll() is None:
            process.terminate()  # it ends what it has started
            process.communicate(timeout=30)


def test_medical_records_are_stored_exactly_once(faults, postgres, tmp_path):
    printed = faults("emr/faults.py", "--database", postgres, "--seconds", "20", "--directory", tmp_path,
                     timeout_s=110)
    print(printed)
    assert re.search(r"^\d+ records, each exactly once$", printed, re.MULTILINE)
    assert all(int(kills) > 0 for kills in re.findall(r"killed (\d+) times", printed))
    # What the producer sent again after a timeout, the broker kept from the consumer. Few may have come to it twice: a
    # delivery does not wait for the disk, and what was not confirmed when the broker was killed comes anew.
    again = set(re.findall(r"sending again: (\S+)", (tmp_path / "producer.log").read_text()))
    doubled = set(re.findall(r"redelivered=False: (\S+)", (tmp_path / "consumer.log").read_text()))
    assert len(again & doubled) <= len(again) // 2


def test_records_are_written_with_their_key_or_refused(own_broker, open_connection, start_example, postgres):
    own = own_broker()
    channel = open_connection(own).channel()
    consumer = start_example(own, "emr/consumer.py", "--database", postgres)
    eventually(lambda: exists(own, open_connection, "medical_records"))
    known, new = str(uuid.uuid4()), str(uuid.uuid4())
    with psycopg.connect(postgres, autocommit=True) as database:
        database.execute("INSERT INTO processed VALUES (%s)", [known])
        for key, body in ((known, b'{"patient": 1}'), (new, b'{"patient": 2}'), (str(uuid.uuid4()), b"no JSON")):
            channel.basic_publish("", "medical_records", body, pika.BasicProperties(message_id=key))
        _, _, refused = eventually(lambda: taken(channel, "medical_records.refused"))
        assert refused == b"no JSON"
        assert database.execute("SELECT message_id::text, record FROM records").fetchall() == [(new, {"patient": 2})]
    waiting, *said = consumer.lines()
    assert waiting.startswith("waiting for records in medical_records")
    assert said == [f"came again, redelivered=False: {known}", f"stored {new}"]
    assert consumer.stop() == 0


def test_the_producer_begins_anew_when_its_channel_is_closed(own_broker, open_connection, start_example, tmp_path):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.queue_declare("medical_records")  # not as the producer wants it
    path = tmp_path / "outbox.db"
    producer = start_example(own, "emr/producer.py", "--outbox", path)
    eventually(lambda: "no channel" in producer.errors.read_text())
    channel.queue_delete("medical_records")
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as outbox, outbox:
        outbox.execute("INSERT INTO outbox (id, body) VALUES ('one', '{}')")
    eventually(lambda: exists(own, open_connection, "medical_records"))
    assert eventually(lambda: taken(channel, "medical_records"))[1].message_id == "one"
    producer.wait_for("1 records confirmed, the latest: one")
    assert run_example(own, "emr/add.py", "--outbox", path, '{"patient": 7}') == f"1 records put into {path}\n"
    assert eventually(lambda: taken(channel, "medical_records"))[2] == b'{"patient": 7}'
    assert producer.stop() == 0


def test_what_cannot_be_transformed_is_put_aside(own_broker, open_connection, start_example):
    own = own_broker()
    transform = start_example(own, "pipeline/transform.py")
    transform.wait_for("waiting for readings in pipeline.readings")
    channel = open_connection(own).channel()
    bad = [b"no JSON", b"[]", b'{"number": 1}', b'{"number": 1, "fahrenheit": "warm"}']
    for body in (*bad, b'{"number": 2, "fahrenheit": 212}'):
        channel.basic_publish("", "pipeline.readings", body)
    assert json.loads(eventually(lambda: taken(channel, "pipeline.results"))[2]) == {"number": 2, "celsius": 100.0}
    assert [eventually(lambda: taken(channel, "pipeline.refused"))[2] for _ in bad] == bad
    run_example(own, "pipeline/feed.py", "--count", "30")
    eventually(lambda: channel.queue_declare("pipeline.results", passive=True).method.message_count == 30)
    transform.wait_for("readings are results in pipeline.results now")
    results = [json.loads(line) for line in run_example(own, "pipeline/feed.py", "--results").splitlines()]
    assert sorted(result["number"] for result in results) == list(range(30))
    assert transform.stop() == 0


def test_pipeline_is_exact_over_50_kills(faults):
    printed = faults("pipeline/faults.py", timeout_s=110)
    print(printed)
    assert printed.splitlines()[-1] == "10000 readings, each became one result"
    assert int(re.search(r"at least (\d+) of them in the middle of work", printed)[1]) > 5
