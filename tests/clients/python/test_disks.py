"""Disks that are small, full or not to be written to."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pika
import pytest

from support.disks import UNSHARE, SmallDisk
from support.waiting import drive_until, eventually, taken

pytestmark = pytest.mark.leveret_only("its disk is looked after")

PERSISTENT = pika.BasicProperties(delivery_mode=2)


@pytest.fixture
def on_disk(own_broker, binary, tmp_path):
    """Makes a broker, not started yet, whose data is on a disk of this size."""
    disks = []

    def make(size, *options):
        own = own_broker(*options, start=False)
        disk = SmallDisk(own.data_dir, size)
        disks.append(disk)
        own.binary = disk.program(tmp_path / "wrapper", binary)
        return own, disk

    yield make
    for disk in disks:
        disk.close()


def bodies(numbers, size):
    return [f"{number}:".encode().ljust(size, b".") for number in numbers]


def fill(channel, queue, numbers, size=100_000):
    channel.queue_declare(queue, durable=True)
    for body in bodies(numbers, size):
        channel.basic_publish("", queue, body, PERSISTENT)


def drain(connection, queue, count):
    """The numbers of so many messages, acknowledged."""
    channel = connection.channel()
    channel.basic_qos(prefetch_count=50)
    got = []

    def take(_channel, method, _properties, body):
        got.append(int(body.split(b":")[0]))
        channel.basic_ack(method.delivery_tag)
    channel.basic_consume(queue, take)
    drive_until(connection, lambda: len(got) >= count, 60, f"{count} messages")
    channel.close()
    return got


def test_a_disk_of_128_megabytes_is_enough_with_default_settings(on_disk, open_connection):
    own, disk = on_disk("128m")
    connection = open_connection(own.start())
    blocked = []
    connection.add_on_connection_blocked_callback(lambda *_: blocked.append(1))
    channel = connection.channel()
    channel.confirm_delivery()
    # Four times as much as the disk holds, of which a part is always there.
    for step in range(16):
        numbers = range(step * 320, step * 320 + 320)
        fill(channel, "small", numbers)
        assert drain(connection, "small", 320) == list(numbers)
    fill(channel, "small", range(100))
    assert not blocked
    own.kill()
    connection = open_connection(own.start())
    assert drain(connection, "small", 100) == list(range(100))
    assert disk.free_bytes() > 0


def test_a_disk_that_holds_little_goes_on_once_it_is_drained(on_disk, open_connection):
    own, _ = on_disk("16m")
    connection = open_connection(own.start())
    blocked = []
    connection.add_on_connection_blocked_callback(lambda *_: blocked.append(1))
    channel = connection.channel()
    channel.queue_declare("small", durable=True)
    (body,) = bodies([0], 50_000)
    while not blocked:
        channel.basic_publish("", "small", body, PERSISTENT)
        connection.process_data_events(0.005)
    own.kill()
    connection = open_connection(own.start(), blocked_connection_timeout=60)
    channel = connection.channel()
    # One at a time: each acknowledgement needs room of its own.
    while taken(channel, "small"):
        pass
    channel.confirm_delivery()
    fill(channel, "small", range(10))


@pytest.mark.parametrize("stop", ["an orderly stop", "a kill"])
def test_a_full_disk_can_be_drained_after_a_start(on_disk, open_connection, stop):
    own, disk = on_disk("128m")
    channel = open_connection(own.start()).channel()
    channel.confirm_delivery()
    fill(channel, "full", range(300))
    if stop == "a kill":
        own.kill()
    else:
        own.terminate()
        assert own.wait(20) == 0
    disk.fill()
    assert disk.free_bytes() == 0
    own.start()
    # What is published now waits for room, which those make who take something out.
    publishing = open_connection(own)
    publishing.channel().basic_publish("", "full", b"300:", PERSISTENT)
    publishing.process_data_events(0)
    connection = open_connection(own)
    assert drain(connection, "full", 301) == list(range(301))
    # Nobody has made room, and what they took out is free.
    eventually(lambda: disk.free_bytes() > 16 << 20, deadline_s=60)
    disk.make_room()
    channel = connection.channel()
    channel.confirm_delivery()
    fill(channel, "full", range(301, 310))
    own.kill()
    assert drain(open_connection(own.start()), "full", 9) == list(range(301, 310))


def verify_as_nobody(binary, data):
    """Where the files may not be written to."""
    for path in [data, *data.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    other = {} if os.geteuid() else {"user": 65534, "group": 65534, "extra_groups": []}
    try:
        return subprocess.run([binary, "store", "verify", data], capture_output=True, text=True, timeout=60, **other)
    except PermissionError:
        pytest.skip("nobody may not run the binary where it is")
    finally:
        for path in [data, *data.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def verify_on_a_mount(binary, data):
    """Where the whole file system may not."""
    script = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && ! touch "$1/x" && echo mounted >&2 && ' \
        'exec "$2" store verify "$1"'
    done = subprocess.run([*UNSHARE, "sh", "-c", script, "sh", data, binary], capture_output=True, text=True, timeout=60)
    if "mounted" not in done.stderr:
        pytest.skip("no namespace to mount a directory in")
    return done


@pytest.mark.parametrize("verify", [verify_as_nobody, verify_on_a_mount])
@pytest.mark.parametrize("stop", ["an orderly stop", "a kill"])
def test_a_copy_that_cannot_be_written_is_verified(own_broker, open_connection, binary, stop, verify):
    own = own_broker()
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    fill(channel, "q", range(20), 1000)
    if stop == "a kill":
        own.kill()
    else:
        own.terminate()
        assert own.wait(20) == 0
    with tempfile.TemporaryDirectory() as home:
        os.chmod(home, 0o755)
        data = Path(home) / "data"
        shutil.copytree(own.data_dir, data)

        def contents():
            return {path: path.read_bytes() for path in data.rglob("*") if path.is_file()}
        before = contents()
        done = verify(binary, data)
        assert done.returncode == 0, done
        assert " 20 messages" in done.stdout
        assert contents() == before
        # A header of a record that a start after an orderly stop does not read.
        segment = min(data.glob("journal/*.seg"))
        content = bytearray(segment.read_bytes())
        records = [at for at in range(0, len(content), 64) if content[at:at + 4] == b"LVRJ"]
        at = records[len(records) // 2]
        content[at + 9] ^= 1
        segment.write_bytes(content)
        before = contents()
        done = verify(binary, data)
        assert done.returncode == 2, done
        assert f"{segment}, offset {at}: a record is missing or unreadable" in done.stdout
        advice = "a start does not need" if stop == "an orderly stop" else "--recover"
        assert advice in done.stderr
        assert contents() == before
