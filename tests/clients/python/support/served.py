"""Fixtures: a broker with the management API, and users of each tag, for the tests of the API's resources."""

import json
import uuid

import pytest

from support.broker_process import BrokerProcess
from support.management import Management

ALL = {"configure": ".*", "write": ".*", "read": ".*"}
DEFINITIONS = {
    "vhosts": [{"name": "/"}, {"name": "other"}, {"name": "a b/c"}],
    "users": [
        {"name": "manager", "password": "p", "tags": "management"},
        {"name": "reader", "password": "p", "tags": "management"},
        {"name": "monitor", "password": "p", "tags": "monitoring"},
        {"name": "policymaker", "password": "p", "tags": "policymaker"},
        {"name": "admin", "password": "p", "tags": "administrator"},
        {"name": "plain", "password": "p", "tags": ""},
    ],
    "permissions": [
        *[{"user": user, "vhost": "/", **ALL} for user in ("manager", "policymaker", "plain")],
        {"user": "reader", "vhost": "/", "configure": "", "write": "", "read": ".*"},
        *[{"user": "guest", "vhost": vhost, **ALL} for vhost in ("other", "a b/c")],
    ],
}


@pytest.fixture(scope="session")
def served(tmp_path_factory, binary):
    """A broker with the API."""
    home = tmp_path_factory.mktemp("served")
    definitions = home / "definitions.json"
    definitions.write_text(json.dumps(DEFINITIONS))
    process = BrokerProcess(binary, home, ["--management-listen", "127.0.0.1:0", "--definitions", str(definitions)])
    yield process.start()
    alive = process.alive()
    process.kill()
    assert alive, f"the broker ended by itself: {process.log_tail()}"


@pytest.fixture
def api(served):
    return Management(served.management())


@pytest.fixture
def served_channel(served, open_connection):
    return open_connection(served).channel()


@pytest.fixture
def fresh():
    """Makes names that nobody else uses."""
    base = f"t-{uuid.uuid4().hex[:8]}"
    numbers = iter(range(1000))
    return lambda suffix="x": f"{base}-{suffix}-{next(numbers)}"
