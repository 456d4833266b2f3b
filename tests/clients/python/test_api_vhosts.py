"""Virtual hosts by the API: what is said of them, how they are protected, and how they are deleted; users that go."""

import threading
import time

import pika
import pytest

from support.management import Management

pytestmark = pytest.mark.leveret_only("its own listener")

RIGHTS = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture
def vhost(api, fresh):
    name = fresh("vhost")
    assert api.put("vhosts", name, body={"description": "for a test", "tags": "one,two"}).status == 201
    yield name
    api.delete("vhosts", name, "deletion", "protection")
    api.delete("vhosts", name)


def test_what_is_said_of_it(api, vhost):
    shown = api.get("vhosts", vhost)
    assert (shown["description"], shown["tags"], shown["protected_from_deletion"]) == ("for a test", ["one", "two"], False)
    assert shown["metadata"] == {"description": "for a test", "tags": ["one", "two"], "protected_from_deletion": False}
    assert api.put("vhosts", vhost, body={"description": "else", "default_queue_type": "quorum"}).status == 204
    shown = api.get("vhosts", vhost)
    assert (shown["description"], shown["tags"], shown["default_queue_type"]) == ("else", ["one", "two"], "quorum")
    exported = [it for it in api.get("definitions")["vhosts"] if it["name"] == vhost]
    assert exported[0]["metadata"]["description"] == "else" and exported[0]["metadata"]["default_queue_type"] == "quorum"
    assert api.put("vhosts", vhost, body={"tags": 5}).refusal()[0] == 400


def test_deletion_and_protection(api, vhost):
    assert api.post("vhosts", vhost, "deletion", "protection").status == 204
    assert api.get("vhosts", vhost)["protected_from_deletion"] is True
    status, error, reason = api.delete("vhosts", vhost).refusal()
    assert (status, error) == (412, "precondition_failed") and "protected from deletion" in reason
    assert api.delete("vhosts", vhost, "deletion", "protection").status == 204
    assert api.delete("vhosts", vhost).status == 204
    assert api.refusal("vhosts", vhost)[0] == 404
    assert api.delete("vhosts", vhost).refusal()[0] == 404
    assert api.post("vhosts", vhost, "deletion", "protection").refusal()[0] == 404
    assert api.delete("vhosts", "/").refusal()[0] == 400
    for who in ("manager", "monitor", "policymaker"):
        assert api.as_user(who, "p").delete("vhosts", "other").refusal()[0] == 401
        assert api.as_user(who, "p").post("vhosts", "other", "deletion", "protection").refusal()[0] == 401


def test_everything_goes_with_it(api, served, open_connection, vhost):
    connection = open_connection(served, virtual_host=vhost)
    channel = connection.channel()
    channel.exchange_declare("x", "topic", durable=True)
    for number in range(50):
        channel.queue_declare(f"q{number}", durable=True)
        channel.queue_bind(f"q{number}", "x", "k")
    channel.confirm_delivery()
    channel.basic_publish("x", "k", b"m", pika.BasicProperties(delivery_mode=2))
    channel.basic_consume("q1", print)
    api.put("policies", vhost, "p", body={"pattern": ".*", "definition": {"max-length": 5}})
    api.put("vhost-limits", vhost, "max-queues", body={"value": 500})
    assert api.delete("vhosts", vhost).status == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        while True:
            connection.process_data_events(0.1)
    assert (closed.value.reply_code, closed.value.reply_text) == (320, f"CONNECTION_FORCED - vhost '{vhost}' is deleted")
    with pytest.raises(pika.exceptions.AMQPError):
        open_connection(served, virtual_host=vhost)
    for what in ("queues", "exchanges", "bindings", "permissions", "policies", "vhost-limits", "consumers", "connections"):
        assert vhost not in [it.get("vhost") for it in api.get(what)], what
    # One made anew has nothing of it.
    assert api.put("vhosts", vhost, body={}).status == 201
    assert api.get("queues", vhost) == [] and api.get("vhosts", vhost)["description"] == ""
    assert api.get("policies", vhost) == []
    channel = open_connection(served, virtual_host=vhost).channel()
    assert channel.queue_declare("q1", durable=True).method.message_count == 0


def test_it_is_there_whole_or_gone_after_a_kill(own_broker, open_connection):
    """Killed at many moments of a deletion, nothing of the virtual host comes back, or all of it."""
    outcomes = set()
    broker = own_broker("--management-listen", "127.0.0.1:0")
    for delay in (0.0, 0.001, 0.005, 0.02, 0.06, 0.2):
        api = Management(broker.management())
        api.put("vhosts", "v", body={})
        if not api.get("queues", "v"):
            channel = open_connection(broker, virtual_host="v").channel()
            for number in range(200):
                channel.queue_declare(f"q{number}", durable=True, arguments={"x-dead-letter-exchange": ""})
                channel.queue_bind(f"q{number}", "amq.topic", "k")
            channel.connection.close()

        def delete(api=api):
            try:
                api.request("DELETE", "/api/vhosts/v")
            except OSError:
                pass

        deleting = threading.Thread(target=delete)
        deleting.start()
        time.sleep(delay)
        broker.kill()
        deleting.join()
        broker.start()
        api = Management(broker.management())
        there = "v" in [it["name"] for it in api.get("vhosts")]
        outcomes.add(there)
        if there:
            assert len(api.get("queues", "v")) == 200 and api.get("permissions") != []
            assert len(api.get("exchanges", "v", "amq.topic", "bindings", "source")) == 200
        else:
            assert "v" not in [it["vhost"] for it in api.get("queues")]
            assert "v" not in [it["vhost"] for it in api.get("permissions")]
            assert "put aside" not in broker.log.read_text()
    assert outcomes


def test_connections_of_a_user_that_is_deleted_are_closed(api, served, open_connection, fresh):
    user = fresh("user")
    api.put("users", user, body={"password": "p", "tags": ""})
    api.put("permissions", "/", user, body=RIGHTS)
    connection = open_connection(served, credentials=pika.PlainCredentials(user, "p"))
    assert api.delete("users", user).status == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        while True:
            connection.process_data_events(0.1)
    assert (closed.value.reply_code, closed.value.reply_text) == (320, f"CONNECTION_FORCED - user '{user}' is deleted")


def test_rights_that_are_taken_away_are_missed_with_the_next_method(api, served, open_connection, fresh):
    user, queue = fresh("user"), fresh()
    api.put("users", user, body={"password": "p", "tags": ""})
    api.put("permissions", "/", user, body=RIGHTS)
    connection = open_connection(served, credentials=pika.PlainCredentials(user, "p"))
    channel = connection.channel()
    channel.queue_declare(queue)
    assert api.delete("permissions", "/", user).status == 204
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="ACCESS_REFUSED"):
        channel.queue_declare(queue)
    assert connection.is_open
    api.delete("users", user)
    api.delete("queues", "/", queue)
