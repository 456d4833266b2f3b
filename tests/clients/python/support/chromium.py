"""Headless Chromium, driven over its DevTools protocol."""

import base64
import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

from websockets.sync.client import connect

from support.waiting import eventually


class Chromium:
    """A browser with a profile of its own, ended by its process id."""

    def __init__(self, directory):
        self.directory = Path(directory)
        self.tabs = []

    @staticmethod
    def program():
        return shutil.which("chromium") or shutil.which("chromium-browser")

    @classmethod
    def missing(cls):
        """Why it cannot be started here; None if it can."""
        return None if cls.program() else "Chromium is not installed"

    def start(self):
        profile = self.directory / "profile"
        command = [self.program(), "--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                   "--disable-background-networking", "--disable-component-update", "--disable-sync",
                   "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        if os.getuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses root
        with open(self.directory / "chromium.log", "ab") as log:
            self.process = subprocess.Popen([*command, "about:blank"], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, start_new_session=True)
        self.port = eventually(lambda: self.debugging_port(profile / "DevToolsActivePort"), 30, "Chromium")
        return self

    def debugging_port(self, file):
        assert self.process.poll() is None, (self.directory / "chromium.log").read_text()
        lines = file.read_text().splitlines() if file.exists() else []
        return int(lines[0]) if len(lines) == 2 else None

    def open(self, url):
        """A new tab."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("PUT", f"/json/new?{quote(url, safe='')}")
            target = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        self.tabs.append(Tab(target["webSocketDebuggerUrl"]))
        return self.tabs[-1]

    def stop(self):
        for tab in self.tabs:
            tab.closing.close()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


class Tab:
    """One page."""

    def __init__(self, url):
        self.closing = contextlib.ExitStack()
        self.socket = self.closing.enter_context(connect(url, max_size=None, proxy=None))
        self.numbers = itertools.count(1)

    def call(self, method, **parameters):
        """The result of one command; events that come before it are of no interest."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while (answer := json.loads(self.socket.recv(20))).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def evaluate(self, expression):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression):
        """The value of a JavaScript expression, once it is true."""
        return eventually(lambda: self.evaluate(expression), 20, expression)

    def resize(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)

    def type(self, text):
        """Into what has the focus."""
        self.call("Input.insertText", text=text)

    def enter(self):
        """The Enter key."""
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                      windowsVirtualKeyCode=13)

    def screenshot(self, file):
        Path(file).write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
