"""What administrators do leaves a trace; logins are counted; definitions come as a form; who may speak for others."""

import json

import pika
import pytest

from support.management import Management

pytestmark = pytest.mark.leveret_only("its own listener")

RIGHTS = {"configure": ".*", "write": ".*", "read": ".*"}


def audited(broker):
    """The lines of the audit log."""
    return [line for line in broker.log.read_text().splitlines() if "administration" in line and "audit" in line]


def test_each_change_is_a_line(own_broker):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    before = len(audited(broker))
    api.get("users")
    api.put("users", "zoe", body={"password": "secret-word", "tags": "management"})
    api.delete("users", "nobody-there")
    api.as_user("zoe", "secret-word").put("vhosts", "v", body={})
    Management(api.address, ("zoe", "wrong")).delete("users", "zoe")
    api.put("queues", "/", "q", body={})
    api.post("queues", "/", "q", "get", body={"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"})
    api.delete("connections", "username", "zoe", headers={"X-Reason": "for a test"})
    lines = audited(broker)[before:]
    assert len(lines) == 6, lines
    wanted = [
        ("guest", "PUT", "/api/users/zoe", "true"), ("guest", "DELETE", "/api/users/nobody-there", "false"),
        ("zoe", "PUT", "/api/vhosts/v", "false"), ("zoe", "DELETE", "/api/users/zoe", "false"),
        ("guest", "PUT", "/api/queues/%2F/q", "true"), ("guest", "DELETE", "/api/connections/username/zoe", "true"),
    ]
    for line, (user, method, path, done) in zip(lines, wanted, strict=True):
        for said in (user, f"method={method}", f"path={path}".replace("path=", ""), f"done={done}", "127.0.0.1"):
            assert said in line, (said, line)
    assert "for a test" in lines[-1]
    assert "secret-word" not in broker.log.read_text()


def test_no_line_of_it_is_left_out(own_broker):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    for number in range(150):
        api.delete("queues", "/", f"q{number}")
    assert len(audited(broker)) == 150


def test_logins_are_counted(own_broker, open_connection):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    open_connection(broker)
    for password in ("wrong", "wronger"):
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            open_connection(broker, credentials=pika.PlainCredentials("guest", password), connection_attempts=1)
    assert Management(api.address, ("guest", "wrong")).refusal("whoami")[0] == 401
    counted = {it["protocol"]: it for it in api.get("auth", "attempts", "leveret@localhost")}
    amqp, http = counted["amqp091"], counted["http"]
    assert (amqp["auth_attempts"], amqp["auth_attempts_succeeded"], amqp["auth_attempts_failed"]) == (3, 1, 2)
    assert http["auth_attempts_failed"] == 1 and http["auth_attempts_succeeded"] >= 1
    assert api.refusal("auth", "attempts", "zz")[0] == 404
    assert api.delete("auth", "attempts", "leveret@localhost").status == 204
    counted = {it["protocol"]: it for it in api.get("auth", "attempts", "leveret@localhost")}
    assert counted["amqp091"]["auth_attempts"] == 0


def form(name, text):
    boundary = "----leveret-test"
    body = (f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="d.json"\r\n'
            f"Content-Type: application/json\r\n\r\n{text}\r\n--{boundary}--\r\n")
    return body, {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def test_definitions_come_as_a_form(api, fresh):
    name = fresh()
    body, headers = form("file", json.dumps({"queues": [{"name": name, "vhost": "/", "durable": True}]}))
    assert api.request("POST", "/api/definitions", headers, body).status == 204
    assert api.get("queues", "/", name)["durable"] is True
    assert api.request("POST", "/api/definitions/%2F", headers, body).status == 204
    body, headers = form("other", "{}")
    assert api.request("POST", "/api/definitions", headers, body).refusal()[0] == 400
    body, headers = form("file", "{")
    assert api.request("POST", "/api/definitions", headers, body).refusal()[0] == 400
    assert api.request("POST", "/api/definitions", {"Content-Type": "multipart/form-data"}, "x").refusal()[0] == 400
    api.delete("queues", "/", name)


def test_an_impersonator_publishes_in_the_name_of_others(api, served, open_connection, fresh):
    user, queue = fresh("user"), fresh()
    api.put("users", user, body={"password": "p", "tags": "impersonator"})
    api.put("permissions", "/", user, body=RIGHTS)
    channel = open_connection(served, credentials=pika.PlainCredentials(user, "p")).channel()
    channel.confirm_delivery()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="somebody"))
    assert channel.basic_get(queue)[1].user_id == "somebody"
    # Without the tag it speaks for itself alone.
    api.put("users", user, body={"password": "p", "tags": ""})
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="user_id property set to 'somebody'"):
        channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="somebody"))
    api.delete("users", user)
    api.delete("queues", "/", queue)


def test_there_are_no_tables_of_erlang(api):
    for path in ("memory/ets", "memory/ets/relative", "memory/ets/management", "memory/ets/management/relative"):
        answer = api.request("GET", f"/api/nodes/leveret@localhost/{path}")
        assert (answer.status, answer.json) == (200, {"ets_tables_memory": "no_tables"})
    assert api.refusal("nodes", "zz", "memory", "ets")[0] == 404


