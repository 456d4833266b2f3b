"""RabbitMQ's own rabbitmqadmin (the one in Python, as Debian has it) against the API."""

import json
import os
import shutil
import subprocess

import pika
import pytest

pytestmark = pytest.mark.leveret_only("its own listener")

ADMIN = shutil.which("rabbitmqadmin")


@pytest.fixture
def admin(served):
    if ADMIN is None:
        pytest.skip("rabbitmqadmin is not installed")

    def run(*arguments, vhost="/"):
        host, port = served.management()
        environment = {**os.environ, "HOME": "/nonexistent"}
        command = [ADMIN, "-H", host, "-P", str(port), f"--vhost={vhost}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout

    return run


def listed(admin, what, *columns):
    return json.loads(admin("-f", "raw_json", "list", what, *columns))


def test_a_day_of_an_administrator(admin, fresh, tmp_path):
    queue, exchange, user, vhost = (fresh(what) for what in ("queue", "exchange", "user", "vhost"))
    assert "exchange declared" in admin("declare", "exchange", f"name={exchange}", "type=topic")
    assert "queue declared" in admin("declare", "queue", f"name={queue}", "durable=true", 'arguments={"x-max-length":9}')
    assert "binding declared" in admin(
        "declare", "binding", f"source={exchange}", f"destination={queue}", "routing_key=a.#")
    assert "user declared" in admin("declare", "user", f"name={user}", "password=p", "tags=management")
    assert "vhost declared" in admin("declare", "vhost", f"name={vhost}")
    admin("declare", "permission", f"vhost={vhost}", f"user={user}", "configure=.*", "write=.*", "read=.*")
    admin("declare", "policy", "name=p", "pattern=^zz", 'definition={"expires":600000}', "apply-to=queues", vhost=vhost)
    admin("declare", "operator_policy", "name=o", "pattern=^zz", 'definition={"expires":600000}', vhost=vhost)
    admin("declare", "vhost_limit", f"vhost={vhost}", "name=max-queues", "value=7")
    assert "Message published" in admin("publish", f"exchange={exchange}", "routing_key=a.b", "payload=hallo")
    assert "NOT routed" in admin("publish", f"exchange={exchange}", "routing_key=b", "payload=x")
    assert "hallo" in admin("get", f"queue={queue}", "ackmode=ack_requeue_false")
    assert "queue purged" in admin("purge", "queue", f"name={queue}")
    assert queue in [it["name"] for it in listed(admin, "queues", "name", "messages")]
    assert {exchange, "amq.direct"} <= {it["name"] for it in listed(admin, "exchanges")}
    assert "a.#" in [it["routing_key"] for it in listed(admin, "bindings")]
    for what in ("users", "vhosts", "permissions", "policies", "nodes", "parameters", "vhost_limits", "operator_policies"):
        listed(admin, what)
    assert "leveret@localhost" in admin("show", "overview")
    exported = tmp_path / "definitions.json"
    admin("export", str(exported))
    assert queue in exported.read_text()
    admin("import", str(exported))
    admin("delete", "binding", f"source={exchange}", "destination_type=queue", f"destination={queue}",
          "properties_key=a.%23")
    admin("delete", "queue", f"name={queue}")
    admin("delete", "exchange", f"name={exchange}")
    admin("delete", "user", f"name={user}")
    assert queue not in [it["name"] for it in listed(admin, "queues", "name")]


def test_connections_and_virtual_hosts(admin, served, open_connection, fresh):
    vhost, queue = fresh("vhost"), fresh("queue")
    admin("declare", "vhost", f"name={vhost}")
    admin("declare", "queue", f"name={queue}", vhost=vhost)
    connection = open_connection(served, virtual_host=vhost)
    connection.channel().basic_consume(queue, print)
    connections = [it for it in listed(admin, "connections") if it["vhost"] == vhost]
    assert [(it["user"], it["channels"], it["state"]) for it in connections] == [("guest", 1, "running")]
    assert [it["consumer_count"] for it in listed(admin, "channels") if it["vhost"] == vhost] == [1]
    consumers = json.loads(admin("-f", "raw_json", "list", "consumers", vhost=vhost))
    assert [it["queue"]["name"] for it in consumers] == [queue]
    admin("close", "connection", f"name={connections[0]['name']}")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="CONNECTION_FORCED"):
        while True:
            connection.process_data_events(0.1)
    admin("delete", "vhost", f"name={vhost}")
    assert vhost not in [it["name"] for it in listed(admin, "vhosts", "name")]
