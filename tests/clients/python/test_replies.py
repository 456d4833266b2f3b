"""Every reply in rabbitmq-replies.json: the same scope, code and text."""

import json
import re
from pathlib import Path

import pika
import pytest

from support import queue_situations  # noqa: F401 - registers its situations
from support.situations import SITUATIONS, Stage

REPLIES = json.loads((Path(__file__).parent.parent / "rabbitmq-replies.json").read_text())

# Rows of the file that other modules check, since they are no reply to a method on an open channel.
ELSEWHERE = {
    "bad password": "test_authentication.py",
    "bad vhost": "test_handshake.py",
    "server properties": "test_handshake.py",
    "generated consumer tag": "test_consume.py",
    "server-named queue": "test_queues.py",
}


@pytest.mark.parametrize("name", sorted(SITUATIONS))
def test_reply(name, connect, scratch):
    stage = Stage(connect(), connect, scratch)
    try:
        SITUATIONS[name](stage)
        reply = ["ok", 0, ""]
    except pika.exceptions.ChannelClosedByBroker as error:
        reply = ["channel", error.reply_code, error.reply_text]
        assert stage.connection.is_open  # a channel error leaves the connection and its other channels alone
        stage.connection.channel()
    except pika.exceptions.ConnectionClosedByBroker as error:
        reply = ["connection", error.reply_code, error.reply_text]
    reply[2] = reply[2].replace(stage.queue, "QUEUE").replace(stage.exchange, "EXCHANGE")
    assert reply == REPLIES[name]


def test_every_row_of_the_file_is_checked_somewhere():
    raw = {name for name in REPLIES if name.startswith("raw: ")}
    assert set(REPLIES) - raw == set(SITUATIONS) | set(ELSEWHERE)


def test_every_raw_row_is_checked():
    text = (Path(__file__).parent / "test_protocol_errors.py").read_text()
    checked = set(re.findall(r'"(raw: [^"]+)"', text))
    assert checked == {name for name in REPLIES if name.startswith("raw: ")}
