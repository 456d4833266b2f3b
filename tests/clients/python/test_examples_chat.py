"""examples/chat: pages talk to each other through the bridge, over the death of the broker and of the bridge."""

import contextlib
import http.client
import json
import time
import uuid
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as open_socket

from support.services import free_port

TOPICS = ["lobby", "help.printers", "help.network", "help.*", "#"]


def opened(url, **options):
    """A WebSocket to the bridge, as a context."""
    return open_socket(f"{url.replace('http', 'ws')}socket", proxy=None, max_queue=None, **options)


class Page:
    """What page.js is to the bridge, without the page."""

    def __init__(self, socket, name=None, topic=None):
        self.socket = socket
        self.frames = []
        self.welcome = self.wait_for(type="welcome")
        if name:
            self.join(name, topic)

    def send(self, frame):
        self.socket.send(frame if isinstance(frame, (str, bytes)) else json.dumps(frame))

    def wait_for(self, deadline_s=20, **wanted):
        """The next frame that has these fields."""
        end = time.monotonic() + deadline_s
        while True:
            frame = json.loads(self.socket.recv(end - time.monotonic()))
            self.frames.append(frame)
            if wanted.items() <= frame.items():
                return frame

    def join(self, name, topic):
        self.send({"type": "join", "name": name, "topic": topic})
        self.wait_for(type="joined", topic=topic)

    def say(self, room, text, id=None):
        """Sends a text, and again as long as it is not confirmed; its id."""
        id = id or uuid.uuid4().hex
        while True:
            self.send({"type": "say", "id": id, "room": room, "text": text})
            if self.answer(id) == "sent":
                return id
            self.wait_for(type="joined")

    def hear(self, text):
        """Waits until somebody has said it, if nobody has so far."""
        if text not in [said for _, said in self.texts()]:
            self.wait_for(what="said", text=text)

    def answer(self, id):
        while (frame := self.wait_for(id=id))["type"] == "message":
            pass
        return frame["type"]

    def texts(self):
        """Room and text of all that was said, as far as it was waited for."""
        return [(frame["room"], frame["text"]) for frame in self.frames if frame.get("what") == "said"]


@pytest.fixture
def own(own_broker):
    return own_broker()


@pytest.fixture
def bridge(own, start_example):
    """Starts a bridge; its process and its address."""
    def start(port=0):
        process = start_example(own, "chat/bridge.py", "--http-port", port, "--topics", *TOPICS)
        process.wait_for("http://127.0.0.1:")
        return process, process.lines()[0]
    return start


@pytest.fixture
def url(bridge):
    return bridge()[1]


@pytest.fixture
def page(url):
    """Opens pages, and closes them after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: Page(stack.enter_context(opened(url)), *arguments)


def test_rooms_are_separate_and_patterns_hear_several(page):
    ann, bob = page("Ann", "lobby"), page("Bob", "help.printers")
    helper, everywhere = page("Hal", "help.*"), page("Eve", "#")
    assert ann.welcome["topics"][3:] == [
        {"topic": "help.*", "rooms": ["help.printers", "help.network"]},
        {"topic": "#", "rooms": ["lobby", "help.printers", "help.network"]}]
    said = [("lobby", "tea?"), ("help.printers", "no <b>paper</b> & no ink"), ("help.network", "no net"),
            ("lobby", "tea."), ("help.printers", "paper!")]
    for room, text in said:
        (ann if room == "lobby" else bob).say(room, text)
    for each, last in ((ann, "tea."), (bob, "paper!"), (helper, "paper!"), (everywhere, "paper!")):
        each.hear(last)
    assert everywhere.texts() == said
    assert helper.texts() == [one for one in said if one[0].startswith("help")]
    assert bob.texts() == [one for one in said if one[0] == "help.printers"]
    assert ann.texts() == [one for one in said if one[0] == "lobby"]


def test_coming_and_leaving_is_announced_and_not_kept(page):
    ann, bob = page("Ann", "lobby"), page("Bob", "lobby")
    ann.wait_for(what="came", name="Bob", room="lobby")
    bob.join("Bob", "help.network")
    ann.wait_for(what="left", name="Bob", room="lobby")
    ann.say("lobby", "alone")
    newcomer = page("Cid", "lobby")
    newcomer.hear("alone")
    assert not [frame for frame in newcomer.frames if frame.get("name") == "Bob"]


def test_the_last_messages_come_to_whoever_joins(own, page):
    ann = page("Ann", "lobby")
    for number in range(60):
        ann.say("lobby", str(number))
    last = [("lobby", str(number)) for number in range(10, 60)]
    for topic in ("lobby", "#"):
        newcomer = page("Bob", topic)
        newcomer.hear("59")
        assert newcomer.texts() == last
    own.restart_after_kill(keep_port=True)
    newcomer.wait_for(type="joined")
    newcomer.frames.clear()
    newcomer.hear("59")
    assert newcomer.texts() == last


def test_the_chat_goes_on_after_kill_9_of_the_broker(own, page):
    ann, bob = page("Ann", "lobby"), page("Bob", "#")
    before = ann.say("lobby", "before")
    bob.hear("before")
    own.kill()
    lost = uuid.uuid4().hex
    ann.send({"type": "say", "id": lost, "room": "lobby", "text": "while it is away"})
    assert ann.answer(lost) == "unsent"
    own.start(keep_port=True)
    for each in (ann, bob):
        each.wait_for(type="joined")
        each.frames.clear()
    # Both are sent again; the first had reached the broker before it was killed.
    ann.say("lobby", "before", before)
    ann.say("lobby", "while it is away", lost)
    ann.say("lobby", "after")
    for each in (ann, bob):
        each.hear("after")
        assert each.texts() == [("lobby", "before"), ("lobby", "while it is away"), ("lobby", "after")]


MALFORMED = [
    "", "hello", "[" * 16_000, "null", "[]", "{}", b"\xff\xfe\x00", '{"type": 1}', '{"type": "leave"}',
    {"type": "join", "name": "Ann"}, {"type": "join", "name": " ", "topic": "lobby"},
    {"type": "join", "name": "A" * 31, "topic": "lobby"}, {"type": "join", "name": "Ann", "topic": "cellar"},
    {"type": "join", "name": ["Ann"], "topic": "lobby"},
    {"type": "say", "id": "0" * 32, "room": "cellar", "text": "x"},
    {"type": "say", "id": "0" * 32, "room": "help.*", "text": "x"},
    {"type": "say", "id": "0" * 32, "room": "lobby", "text": "x" * 2001},
    {"type": "say", "id": "no id", "room": "lobby", "text": "x"},
    {"type": "say", "id": "0" * 32, "room": "lobby", "text": {"x": 1}},
]


def test_malformed_and_oversized_frames_do_no_harm(page):
    ann, bob, stranger = page("Ann", "lobby"), page("Bob", "lobby"), page()
    stranger.send({"type": "say", "id": "0" * 32, "room": "lobby", "text": "x"})
    assert stranger.wait_for(type="refused")["reason"] == "join first"
    for frame in MALFORMED:
        ann.send(frame)
        assert ann.wait_for(type="refused")["reason"]
    ann.say("lobby", "lone \ud800 surrogate")
    bob.hear("lone \ud800 surrogate")
    ann.send("x" * 20_000)
    with pytest.raises(ConnectionClosed) as closed:
        ann.wait_for(type="refused")
    assert closed.value.rcvd.code == 1009
    bob.wait_for(what="left", name="Ann")
    bob.say("lobby", "still here")
    bob.hear("still here")
    assert len(bob.texts()) == 2


def test_what_others_publish_does_no_harm(own, page, open_connection):
    ann = page("Ann", "lobby")
    channel = open_connection(own).channel()
    channel.confirm_delivery()
    for body in (b"", b"no JSON", b"[]", b"[" * 100_000, b'{"what": "said", "type": "joined", "id": 1, "text": {}}'):
        channel.basic_publish("chat", "lobby", body)
    ann.say("lobby", "fine")
    ann.hear("fine")
    assert ann.texts() == [("lobby", "{}"), ("lobby", "fine")]
    assert [frame["type"] for frame in ann.frames].count("joined") == 1


def test_only_pages_from_here_are_served(url):
    def status(path):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        finally:
            connection.close()

    assert [status(path) for path in ("/", "/page.js", "/page.css")] == [200] * 3
    assert [status(path) for path in ("/bridge.py", "/../bridge.py", "/%2e%2e/broker.py", "//")] == [404] * 4
    with pytest.raises(InvalidStatus) as refused, opened(url, origin="http://elsewhere.example"):
        pass
    assert refused.value.response.status_code == 403
    with opened(url, origin=url.rstrip("/")) as socket:
        assert socket.recv(10)


def test_the_bridge_ends_in_order(bridge):
    process, url = bridge()
    with opened(url) as socket:
        Page(socket, "Ann", "lobby").wait_for(what="came")
        assert process.stop() == 0
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(10)
    assert closed.value.rcvd.code == 1001
    assert process.errors.read_text() == ""


LAST = "document.querySelector('#log li:last-child .text')?.textContent"
TEXTS = "[...document.querySelectorAll('#log .text')].map(each => each.textContent)"
CONNECTED = "document.getElementById('status')?.dataset.state === 'up'"
AWAY = "document.getElementById('status').dataset.state === 'away'"
SENT = "!document.querySelector('#log .pending')"


def test_two_tabs_talk_over_the_death_of_broker_and_bridge(own, bridge, chromium):
    port = free_port()
    process, url = bridge(port)
    tabs = ann, bob = [chromium.open(url) for _ in range(2)]

    def say(tab, text):
        tab.evaluate("document.getElementById('text').focus()")
        tab.type(text)
        tab.enter()

    def all_have(texts):
        for tab in tabs:
            tab.wait_for(f"JSON.stringify({TEXTS}) === {json.dumps(json.dumps(texts, separators=(',', ':')))}")
            tab.wait_for(SENT)

    for tab, name in ((ann, "Ann"), (bob, "Bob")):
        tab.wait_for(CONNECTED)
        tab.evaluate("document.getElementById('name').focus()")
        tab.type(name)
        tab.enter()
        tab.wait_for(f"document.getElementById('status').textContent === 'Connected as {name}'")
    said = ["Hello, Bob", "<img src=x onerror=\"document.title='harmed'\"> & <b>bold</b>"]
    say(ann, said[0])
    bob.wait_for(f"{LAST} === {json.dumps(said[0])}")
    say(bob, said[1])
    all_have(said)
    assert [tab.evaluate("document.title + document.querySelectorAll('#log img, #log .text b').length")
            for tab in tabs] == ["Chat0"] * 2
    own.kill()
    ann.wait_for(AWAY)
    said.append("said while the broker was away")
    say(ann, said[-1])
    assert ann.evaluate("document.querySelectorAll('#log .pending').length") == 1
    own.start(keep_port=True)
    all_have(said)
    process.kill()
    bob.wait_for(AWAY)
    said.append("said while the bridge was away")
    say(bob, said[-1])
    bridge(port)
    all_have(said)
    bob.evaluate("[...document.querySelectorAll('#topics button')].at(-1).click()")
    bob.wait_for("document.getElementById('topic').textContent === 'All rooms'")
    all_have(said)
    assert bob.evaluate("[...document.getElementById('room').options].map(each => each.value)") == TOPICS[:3]
