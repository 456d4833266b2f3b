"""Connections, channels and consumers by the API: what is shown of them, to whom, and how they are closed."""

import time

import pika
import pytest

pytestmark = pytest.mark.leveret_only("its own listener")


def eventually(look, wanted=lambda it: it, seconds=20):
    """What `look` answers once that is what is wanted."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


@pytest.fixture
def named(served, open_connection, fresh):
    """Opens a connection with a name of its own; answers it and a function that finds it by the API."""

    def make(api, **options):
        name = fresh("conn")
        connection = open_connection(served, client_properties={"connection_name": name}, **options)

        def find():
            found = [it for it in api.get("connections") if it.get("user_provided_name") == name]
            assert len(found) <= 1
            return found[0] if found else None

        return connection, find

    return make


def test_a_connection_is_shown(api, named):
    connection, find = named(api, heartbeat=60)
    connection.channel()
    local, peer = connection._impl._transport._sock.getsockname(), connection._impl._transport._sock.getpeername()
    shown = eventually(find)
    assert shown["name"] == f"{local[0]}:{local[1]} -> {peer[0]}:{peer[1]}"
    expected = {
        "type": "network", "protocol": "AMQP 0-9-1", "state": "running", "vhost": "/", "user": "guest",
        "user_who_performed_action": "guest", "auth_mechanism": "PLAIN", "channels": 1, "channel_max": 2047,
        "frame_max": 131072, "timeout": 60, "ssl": False, "ssl_protocol": None, "peer_cert_subject": None,
        "host": peer[0], "port": peer[1], "peer_host": local[0], "peer_port": local[1], "node": "leveret@localhost",
    }
    assert {name: shown[name] for name in expected} == expected
    assert shown["client_properties"]["product"] == "Pika Python Client Library"
    assert shown["client_properties"]["capabilities"]["basic.nack"] is True
    assert abs(shown["connected_at"] - time.time() * 1000) < 60_000
    for field in ("recv_oct", "recv_cnt", "send_oct", "send_cnt"):
        assert shown[field] > 0, field
    assert shown["send_pend"] == 0
    alone = api.get("connections", shown["name"])
    assert alone["name"] == shown["name"] and set(alone) >= set(shown)
    assert api.get("connections", shown["name"], columns="name,user") == {"name": shown["name"], "user": "guest"}
    by_vhost = [it["name"] for it in api.get("vhosts", "/", "connections")]
    assert shown["name"] in by_vhost
    assert shown["name"] not in [it["name"] for it in api.get("vhosts", "other", "connections")]
    assert api.get("connections", shown["name"], "sessions") == []
    connection.close()
    eventually(find, lambda it: it is None)
    assert api.refusal("connections", shown["name"]) == (404, "Object Not Found", "Not Found")


def test_bytes_are_counted(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel()
    before = eventually(find)
    channel.confirm_delivery()
    channel.queue_declare(queue := fresh())
    channel.basic_publish("", queue, b"x" * 100_000)
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x" * 100_000
    after = eventually(find, lambda it: it["send_oct"] > before["send_oct"] + 100_000)
    assert before["recv_oct"] + 100_000 < after["recv_oct"] < before["recv_oct"] + 110_000
    assert after["send_oct"] < before["send_oct"] + 110_000
    channel.queue_delete(queue)


def test_a_channel_is_shown(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel(channel_number=3)
    channel.basic_qos(prefetch_count=7)
    channel.basic_qos(prefetch_count=50, global_qos=True)
    channel.confirm_delivery()
    queue = fresh()
    channel.queue_declare(queue)
    name = f"{eventually(find)['name']} (3)"
    shown = api.get("channels", name)
    expected = {
        "name": name, "number": 3, "vhost": "/", "user": "guest", "user_who_performed_action": "guest", "confirm": True,
        "transactional": False, "prefetch_count": 7, "global_prefetch_count": 50, "consumer_count": 0, "state": "running",
        "messages_unacknowledged": 0, "messages_unconfirmed": 0, "messages_uncommitted": 0, "acks_uncommitted": 0,
        "consumer_details": [], "node": "leveret@localhost",
    }
    assert {it: shown[it] for it in expected} == expected
    assert shown["connection_details"]["name"] == name.removesuffix(" (3)")
    assert [it["name"] for it in api.get("connections", find()["name"], "channels")] == [name]
    for listed in (api.get("channels"), api.get("vhosts", "/", "channels")):
        assert name in [it["name"] for it in listed]
    assert name not in [it["name"] for it in api.get("vhosts", "other", "channels")]
    channel.close()
    assert api.refusal("channels", name)[0] == 404
    assert find()["channels"] == 0
    for wrong in ("x", "x (3)", "x (y)"):
        assert api.refusal("channels", wrong)[0] == 404


def test_what_a_channel_has_counted(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel()
    channel.confirm_delivery()
    queue = fresh()
    channel.queue_declare(queue)
    for body in (b"a", b"b", b"c", b"d"):
        channel.basic_publish("", queue, body)
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish("", fresh("nowhere"), b"x", mandatory=True)
    channel.basic_publish("", fresh("nowhere"), b"x")
    name = f"{eventually(find)['name']} (1)"
    stats = api.get("channels", name)["message_stats"]
    assert (stats["publish"], stats["confirm"]) == (6, 6)
    assert (stats["return_unroutable"], stats["drop_unroutable"]) == (1, 1)
    first = channel.basic_get(queue)[0]
    channel.basic_get(queue, auto_ack=True)
    second = channel.basic_get(queue)[0]
    channel.basic_nack(second.delivery_tag, requeue=True)
    assert channel.basic_get(queue)[0].redelivered
    channel.basic_get(queue)
    assert channel.basic_get(queue)[0] is None
    shown = api.get("channels", name)
    assert shown["messages_unacknowledged"] == 3
    stats = shown["message_stats"]
    counted = {it: stats[it] for it in ("get", "get_no_ack", "get_empty", "deliver", "deliver_get", "redeliver", "ack")}
    assert counted == {"get": 4, "get_no_ack": 1, "get_empty": 1, "deliver": 0, "deliver_get": 5, "redeliver": 1, "ack": 0}
    channel.basic_ack(first.delivery_tag)
    channel.basic_ack(0, multiple=True)
    channel.queue_declare(queue, passive=True)
    shown = api.get("channels", name)
    assert (shown["messages_unacknowledged"], shown["message_stats"]["ack"]) == (0, 3)
    channel.queue_delete(queue)


def test_deliveries_are_counted_until_they_are_settled(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel()
    queue = fresh()
    channel.queue_declare(queue)
    for _ in range(10):
        channel.basic_publish("", queue, b"x")
    got = []
    channel.basic_qos(prefetch_count=4)
    channel.basic_consume(queue, lambda _c, method, _p, _b: got.append(method.delivery_tag))
    name = f"{eventually(find)['name']} (1)"
    shown = eventually(lambda: api.get("channels", name), lambda it: it["messages_unacknowledged"] == 4)
    assert (shown["message_stats"]["deliver"], shown["consumer_count"]) == (4, 1)
    eventually(lambda: connection.process_data_events(0) or got, lambda it: len(it) == 4)
    channel.basic_ack(got[1], multiple=True)
    channel.basic_reject(got[2], requeue=False)
    eventually(lambda: connection.process_data_events(0) or got, lambda it: len(it) == 7)
    shown = eventually(lambda: api.get("channels", name), lambda it: it["message_stats"]["deliver"] == 7)
    assert (shown["messages_unacknowledged"], shown["message_stats"]["ack"]) == (4, 2)
    channel.queue_delete(queue)


def test_a_transaction_is_shown(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel()
    queue = fresh()
    channel.queue_declare(queue)
    channel.basic_publish("", queue, b"first")
    channel.tx_select()
    tag = channel.basic_get(queue)[0].delivery_tag
    channel.basic_publish("", queue, b"x")
    channel.basic_publish("", queue, b"y")
    channel.basic_ack(tag)
    name = f"{eventually(find)['name']} (1)"

    def figures():
        shown = api.get("channels", name)
        assert shown["transactional"] is True and shown["confirm"] is False
        return shown["messages_uncommitted"], shown["acks_uncommitted"], shown["messages_unacknowledged"]

    eventually(figures, lambda it: it == (2, 1, 0))
    channel.tx_rollback()
    assert figures() == (0, 0, 1)
    channel.basic_ack(tag)
    channel.basic_publish("", queue, b"x")
    channel.tx_commit()
    assert figures() == (0, 0, 0)
    channel.queue_delete(queue)


def test_a_consumer_is_shown(api, named, fresh):
    connection, find = named(api)
    channel = connection.channel(channel_number=2)
    queue, other = fresh(), fresh()
    channel.queue_declare(queue)
    channel.queue_declare(other)
    channel.basic_qos(prefetch_count=9)
    tag = channel.basic_consume(queue, print, arguments={"x-priority": 3}, consumer_tag="mine")
    channel.basic_consume(other, print, auto_ack=True, exclusive=True)
    connection_name = eventually(find)["name"]
    shown = [it for it in api.get("consumers", "/") if it["queue"]["name"] == queue]
    assert shown == [it for it in api.get("consumers") if it["queue"]["name"] == queue]
    assert shown == [{
        "consumer_tag": tag, "queue": {"name": queue, "vhost": "/"}, "ack_required": True, "exclusive": False,
        "prefetch_count": 9, "active": True, "activity_status": "up", "arguments": {"x-priority": 3},
        "channel_details": {
            "name": f"{connection_name} (2)", "number": 2, "connection_name": connection_name, "user": "guest",
            "node": "leveret@localhost", "peer_host": "127.0.0.1", "peer_port": shown[0]["channel_details"]["peer_port"],
        },
    }]
    assert api.get("queues", "/", queue)["consumer_details"] == shown
    details = api.get("queues", "/", other)["consumer_details"]
    assert [(it["ack_required"], it["exclusive"], it["prefetch_count"]) for it in details] == [(False, True, 9)]
    assert len(api.get("channels", f"{connection_name} (2)")["consumer_details"]) == 2
    assert api.get("channels", f"{connection_name} (2)")["consumer_count"] == 2
    assert queue not in [it["queue"]["name"] for it in api.get("consumers", "other")]
    assert api.refusal("consumers", "nowhere")[0] == 404
    channel.basic_cancel(tag)
    assert api.get("queues", "/", queue)["consumer_details"] == []
    channel.queue_delete(other)
    assert eventually(lambda: api.get("channels", f"{connection_name} (2)"), lambda it: it["consumer_count"] == 0)
    channel.queue_delete(queue)


def test_a_single_active_consumer_is_told_from_those_that_wait(api, served_channel, fresh):
    queue = fresh()
    served_channel.queue_declare(queue, arguments={"x-single-active-consumer": True})
    for tag in ("first", "second"):
        served_channel.basic_consume(queue, print, consumer_tag=tag)

    def states():
        details = api.get("queues", "/", queue)["consumer_details"]
        return {it["consumer_tag"]: (it["active"], it["activity_status"]) for it in details}

    assert states() == {"first": (True, "single_active"), "second": (False, "waiting")}
    served_channel.basic_cancel("first")
    assert states() == {"second": (True, "single_active")}
    served_channel.queue_delete(queue)


@pytest.mark.parametrize(("headers", "text"), [({}, "Closed via management plugin"), ({"X-Reason": "it is late"}, "it is late")])
def test_a_connection_is_closed_with_a_reason(api, named, headers, text):
    connection, find = named(api)
    channel = connection.channel()
    name = eventually(find)["name"]
    assert api.delete("connections", name, headers=headers).status == 204
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        while True:
            channel.queue_declare("", exclusive=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (320, f"CONNECTION_FORCED - {text}")
    eventually(find, lambda it: it is None)
    assert api.delete("connections", name).refusal() == (404, "Object Not Found", "Not Found")


def test_connections_of_a_user_are_closed_together(api, named, fresh):
    user = fresh("user")
    api.put("users", user, body={"password": "p", "tags": ""})
    api.put("permissions", "/", user, body={"configure": ".*", "write": ".*", "read": ".*"})
    login = {"credentials": pika.PlainCredentials(user, "p")}
    found = [named(api, **login) for _ in range(3)]
    other, find_other = named(api)
    eventually(lambda: api.get("connections", "username", user), lambda it: len(it) == 3)
    assert {it["user"] for it in api.get("connections", "username", user)} == {user}
    assert api.delete("connections", "username", user, headers={"X-Reason": "all of you"}).status == 204
    for connection, _ in found:
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker, match="all of you"):
            while True:
                connection.process_data_events(0.1)
    assert api.get("connections", "username", user) == []
    assert find_other() and other.is_open
    api.delete("users", user)


def test_who_may_see_and_close_what(api, named):
    _, find = named(api)
    name = eventually(find)["name"]
    manager, monitor = api.as_user("manager", "p"), api.as_user("monitor", "p")
    own, find_own = named(api, credentials=pika.PlainCredentials("manager", "p"))
    own.channel()
    own_name = eventually(find_own)["name"]
    assert {it["user"] for it in manager.get("connections")} == {"manager"} == {it["user"] for it in manager.get("channels")}
    assert manager.get("connections", own_name)["name"] == own_name
    assert manager.get("channels", f"{own_name} (1)")["user"] == "manager"
    refused = (401, "not_authorised", "User not authorised to access object")
    assert manager.refusal("connections", name) == manager.refusal("connections", name, "channels") == refused
    assert manager.delete("connections", name).refusal() == refused
    assert monitor.get("connections", name)["name"] == name
    assert {it["name"] for it in monitor.get("connections")} >= {name, own_name}
    assert monitor.delete("connections", name).refusal() == refused
    assert manager.delete("connections", "username", "guest").refusal()[0] == 401
    assert manager.delete("connections", own_name).status == 204
    eventually(find_own, lambda it: it is None)
    assert find()


def test_lists_are_paged_and_filtered(api, named):
    names = []
    for _ in range(3):
        _, find = named(api)
        names.append(eventually(find)["name"])
    page = api.get("connections", page=1, page_size=2, sort="connected_at")
    assert len(page["items"]) == 2 and page["total_count"] >= 3
    found = api.get("connections", page=1, name=names[0])
    assert [it["name"] for it in found["items"]] == [names[0]]
    shown = api.get("connections", columns="name")
    assert [it for it in shown if it["name"] in names] == [{"name": name} for name in sorted(names)]
