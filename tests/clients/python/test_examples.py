"""The programs in examples/, run as a reader would run them, and what they print."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.waiting import eventually

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def environment(own):
    return {**os.environ, "AMQP_HOST": own.host, "AMQP_PORT": str(own.port)}


def run(own, program):
    """Runs a program to its end; what it printed."""
    done = subprocess.run([sys.executable, EXAMPLES / program], env=environment(own), capture_output=True, text=True,
                          timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _take_interrupts():
    """Who runs the tests in the background may ignore SIGINT, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def consumer(broker, channel, tmp_path):
    """hello_consumer.py running; answers the lines it has printed so far."""
    printed = tmp_path / "printed"
    with open(printed, "w") as output:
        process = subprocess.Popen([sys.executable, EXAMPLES / "hello_consumer.py"], env=environment(broker),
                                   stdout=output, stderr=subprocess.STDOUT, preexec_fn=_take_interrupts)
    yield process, lambda: printed.read_text().splitlines()
    if process.poll() is None:
        process.kill()
        process.wait()
    channel.queue_delete("hello")


def test_hello_world(broker, channel):
    assert run(broker, "hello_world.py").splitlines() == [" [x] Sent 'Hello World!'", " [x] Received 'Hello World!'"]
    assert channel.queue_delete("hello_world").method.message_count == 0


def test_producer_and_consumer(broker, consumer):
    process, printed = consumer
    assert run(broker, "hello_producer.py").splitlines() == [f" [x] Sent {number}" for number in range(10)]
    waiting = " [*] Waiting for messages. To exit press CTRL+C"
    received = [f" [x] Received {number}" for number in range(10)]
    eventually(lambda: len(printed()) >= 11)
    assert [line for line in printed() if line != waiting] == received
    assert waiting in printed()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0
    assert printed()[-1] == "Interrupted"


def test_medical_data_outlives_kill_9(own_broker, open_connection):
    own = own_broker("--vhost", "/rabbitmq")
    assert run(own, "medical_data.py") == " [x] Sent medical data\n"
    own.restart_after_kill()
    channel = open_connection(own, virtual_host="/rabbitmq").channel()
    channel.queue_declare("medical_data", durable=True)
    method, properties, body = channel.basic_get("medical_data", auto_ack=True)
    assert (method.message_count, properties.delivery_mode) == (0, 2)
    assert json.loads(body) == {"patient_id": 12345, "heart_rate": 72, "blood_pressure": "120/80",
                                "temperature": 36.6}
