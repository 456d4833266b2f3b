"""examples/orders, push_notifications, compensation and queue_to_database, as processes with a broker of their own."""

import signal
import sqlite3
import time
import uuid

import pika
import psycopg
import pytest

from support.examples import run_example
from support.waiting import eventually


@pytest.fixture
def own(own_broker):
    return own_broker()


@pytest.fixture
def own_channel(own, open_connection):
    return open_connection(own).channel()


def message_count(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def test_express_orders_go_first(own, own_channel, start_example):
    for item, *options in (["tea"], ["cake"], ["coffee", "--express"], ["milk", "--express"]):
        run_example(own, "orders/place_order.py", item, *options)
    worker = start_example(own, "orders/worker.py")
    worker.wait_for("handled cake")
    assert [line.split()[1] for line in worker.lines()[1:]] == ["coffee", "milk", "tea", "cake"]
    assert worker.stop(signal.SIGINT) == 0
    assert message_count(own_channel, "orders") == 0


def test_failed_orders_are_tried_again_later_and_then_put_aside(own, own_channel, start_example):
    worker = start_example(own, "orders/worker.py")
    worker.wait_for("waiting")
    begin = time.monotonic()
    run_example(own, "orders/place_order.py", "unobtainium", "--fails", "9")
    run_example(own, "orders/place_order.py", "cake", "--fails", "2")
    worker.wait_for("handled cake (try 3)")
    assert time.monotonic() - begin >= 1.5
    eventually(lambda: message_count(own_channel, "orders.failed") == 1, 20)
    assert time.monotonic() - begin >= 3.5
    assert [line for line in worker.lines() if "unobtainium" in line] == [
        f"failed unobtainium (try {number})" for number in range(1, 5)]
    failed = run_example(own, "orders/failed_orders.py")
    assert failed.startswith("delivery_limit in orders: ") and '"unobtainium"' in failed and failed.count("\n") == 1
    assert message_count(own_channel, "orders.failed") == 0


def test_notifications_reach_devices_that_were_offline(own, own_channel, start_example):
    phone = start_example(own, "push_notifications/device.py", "phone")
    tablet = start_example(own, "push_notifications/device.py", "tablet")
    phone.wait_for("online")
    tablet.wait_for("online")
    run_example(own, "push_notifications/send.py", "one")
    tablet.wait_for("tablet: one")
    assert tablet.stop() == 0
    run_example(own, "push_notifications/send.py", "short-lived", "--ttl", "0.3")
    run_example(own, "push_notifications/send.py", "two")
    eventually(lambda: message_count(own_channel, "device.tablet") == 1)
    phone.wait_for("phone: two")
    assert phone.lines() == ["online", "phone: one", "phone: short-lived", "phone: two"]
    tablet = start_example(own, "push_notifications/device.py", "tablet")
    tablet.wait_for("two")
    assert tablet.lines() == ["online", "tablet: two"]


def test_notifications_outlive_the_broker(own, start_example):
    phone = start_example(own, "push_notifications/device.py", "phone")
    phone.wait_for("online")
    assert phone.stop() == 0
    run_example(own, "push_notifications/send.py", "kept")
    own.restart_after_kill(keep_port=True)
    start_example(own, "push_notifications/device.py", "phone").wait_for("phone: kept")


@pytest.mark.parametrize("body", [b"hello", b"[]", b'{"item": "tea"}', b"\xff"])
def test_what_is_no_order_is_put_aside_at_once(own, own_channel, start_example, body):
    worker = start_example(own, "orders/worker.py")
    worker.wait_for("waiting for orders")
    own_channel.basic_publish("", "orders", body)
    run_example(own, "orders/place_order.py", "tea")
    worker.wait_for("handled tea")
    assert message_count(own_channel, "orders.failed") == 1
    assert run_example(own, "orders/failed_orders.py").startswith("rejected in orders: ")


ACTIONS = {
    None: ["reserve", "bill", "notify"],
    "reserve": ["cancelled"],
    "bill": ["reserve", "release", "cancelled"],
    "notify": ["reserve", "bill", "refund", "release", "cancelled"],
}


def test_a_step_that_fails_is_compensated(own, start_example, tmp_path):
    """Three trips of each kind; a worker and the broker are killed in between."""
    ledger = tmp_path / "ledger.db"
    workers = [start_example(own, "compensation/worker.py", step, "--ledger", ledger)
               for step in ("reserve", "bill", "notify")]
    start_example(own, "compensation/compensate.py", "--ledger", ledger)
    trips = {}

    def book():
        for fails_at in ACTIONS:
            options = ["--fails-at", fails_at] if fails_at else []
            trips[run_example(own, "compensation/book.py", *options).strip()] = fails_at

    book()
    workers[1].kill()
    book()
    start_example(own, "compensation/worker.py", "bill", "--ledger", ledger)
    own.restart_after_kill(keep_port=True)
    book()
    with sqlite3.connect(ledger, timeout=30) as database:
        def actions(trip):
            return [action for action, in database.execute("SELECT action FROM ledger WHERE trip = ? ORDER BY number",
                                                           (trip,))]
        eventually(lambda: all(actions(trip) == ACTIONS[fails_at] for trip, fails_at in trips.items()), 30)
    database.close()
    assert len(trips) == 12


def test_what_is_no_trip_is_put_aside(own, own_channel, start_example, tmp_path):
    ledger = tmp_path / "ledger.db"
    run_example(own, "compensation/book.py")
    for body in (b"hello", b"[]", b"\xff"):
        own_channel.basic_publish("", "trip.reserve", body)
    for step in ("reserve", "bill", "notify"):
        start_example(own, "compensation/worker.py", step, "--ledger", ledger)
    start_example(own, "compensation/compensate.py", "--ledger", ledger)
    eventually(lambda: message_count(own_channel, "trip.unreadable") == 3, 20)
    trip = run_example(own, "compensation/book.py").strip()
    with sqlite3.connect(ledger, timeout=30) as database:
        done = "SELECT count(*) FROM ledger WHERE trip = ?"
        eventually(lambda: database.execute(done, (trip,)).fetchone() == (3,), 20)
    database.close()


def test_measurements_are_written_in_batches_each_once(own, own_channel, start_example, postgres):
    """One of two writers is killed in the middle; the broker as well, while nobody publishes."""
    run_example(own, "queue_to_database/producer.py", "--count", "2000")
    own.restart_after_kill(keep_port=True)
    arguments = ["queue_to_database/writer.py", "--database", postgres, "--batch", "100"]
    writers = [start_example(own, *arguments) for _ in range(2)]
    # One may take all before the other has started.
    eventually(lambda: any("rows in one transaction" in writer.printed() for writer in writers), 60)
    killed, other = sorted(writers, key=lambda writer: "rows in one transaction" not in writer.printed())
    killed.kill()
    run_example(own, "queue_to_database/producer.py", "--count", "1050")
    with psycopg.connect(postgres, autocommit=True) as database:
        def rows():
            return database.execute("SELECT count(*), count(DISTINCT id) FROM measurements").fetchone()
        eventually(lambda: rows() == (3050, 3050), 60)
    assert other.stop() == 0
    batches = [int(line.split()[0]) for writer in writers for line in writer.lines()]
    assert sum(batches) >= 3050 and len(batches) < 200


def test_what_is_no_measurement_is_put_aside(own, own_channel, start_example, postgres):
    run_example(own, "queue_to_database/producer.py", "--count", "1")
    key = str(uuid.uuid4())
    for message_id, body in ((None, b'{"sensor": 1, "celsius": 1}'), ("no uuid", b'{"sensor": 1, "celsius": 1}'),
                             (key, b"no JSON"), (key, b"[]"), (key, b'{"sensor": 4000000000, "celsius": 1}'),
                             (key, b'{"sensor": 1, "celsius": null}'), (key, b'{"sensor": 1, "celsius": 1.5}')):
        own_channel.basic_publish("", "measurements", body, pika.BasicProperties(message_id=message_id))
    writer = start_example(own, "queue_to_database/writer.py", "--database", postgres)
    eventually(lambda: message_count(own_channel, "measurements.refused") == 6)
    with psycopg.connect(postgres, autocommit=True) as database:
        eventually(lambda: "rows in one transaction" in writer.printed())
        eventually(lambda: database.execute("SELECT count(*) FROM measurements").fetchone() == (2,))
        assert database.execute("SELECT celsius FROM measurements WHERE id = %s", [key]).fetchone() == (1.5,)
    assert writer.stop() == 0
    assert message_count(own_channel, "measurements") == 0
