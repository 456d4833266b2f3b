"""The management HTTP API: what it shows, whom it lets in, and what it does with hostile clients."""

import base64
import http.client
import json
import socket
import threading
import time

import pika
import pytest

from support.management import Management, path
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("its own listener")

DELAYED = {"x-delayed-type": "direct"}
PERSISTENT = 2

DEFINITIONS = {
    "vhosts": [{"name": "/"}, {"name": "other"}, {"name": "a b/c"}],
    "users": [
        {"name": "manager", "password": "m:p", "tags": ["management"]},
        {"name": "monitor", "password": "p", "tags": "monitoring"},
        {"name": "policymaker", "password": "p", "tags": "policymaker"},
        {"name": "admin", "password": "p", "tags": "administrator"},
        {"name": "reader", "password": "p", "tags": "management"},
        {"name": "plain", "password": "p", "tags": ""},
    ],
    "permissions": [
        *[{"user": user, "vhost": "/", "configure": ".*", "write": ".*", "read": ".*"}
          for user in ("manager", "monitor", "policymaker", "plain")],
        {"user": "reader", "vhost": "/", "configure": "", "write": "", "read": "^x"},
        {"user": "guest", "vhost": "other", "configure": ".*", "write": ".*", "read": ".*"},
        {"user": "guest", "vhost": "a b/c", "configure": ".*", "write": ".*", "read": ".*"},
    ],
    "policies": [
        {"vhost": "/", "name": "limits", "pattern": "^limited", "apply-to": "queues", "priority": 1,
         "definition": {"max-length": 10, "message-ttl": 60000}},
        {"vhost": "/", "name": "alternate", "pattern": "^limited", "apply-to": "exchanges",
         "definition": {"alternate-exchange": "amq.fanout"}},
    ],
}
OPERATOR_POLICIES = [{"vhost": "/", "name": "ceiling", "pattern": "^limited", "apply-to": "queues",
                      "definition": {"max-length": 5, "expires": 3600000}}]


@pytest.fixture(scope="module")
def managed(tmp_path_factory, binary):
    """A broker with the API and with users, policies and virtual hosts."""
    from support.broker_process import BrokerProcess
    home = tmp_path_factory.mktemp("managed")
    definitions = home / "definitions.json"
    text = json.dumps({**DEFINITIONS, "parameters": [
        {"vhost": it["vhost"], "component": "operator_policy", "name": it["name"],
         "value": {key: it[key] for key in ("pattern", "apply-to", "definition")} | {"priority": 0}}
        for it in OPERATOR_POLICIES]})
    definitions.write_text(text)
    process = BrokerProcess(binary, home, ["--management-listen", "127.0.0.1:0", "--definitions", str(definitions)])
    yield process.start()
    alive = process.alive()
    process.kill()
    assert alive, f"the broker ended by itself: {process.log_tail()}"


@pytest.fixture
def api(managed):
    return Management(managed.management())


@pytest.fixture
def channel(managed, open_connection):
    return open_connection(managed).channel()


def names(items):
    return [(item["vhost"], item["name"]) for item in items]


# What is shown

def test_the_ready_file_and_standard_output_name_the_listener(managed):
    host, port = managed.management()
    assert host == "127.0.0.1" and port not in (0, managed.port)
    assert f"http://127.0.0.1:{port}" in managed.output.read_text()


def test_there_is_no_listener_where_none_is_wanted(own_broker):
    broker = own_broker("--management-listen", "none")
    with pytest.raises(AssertionError, match="no listener for http"):
        broker.management()


def test_an_address_that_was_asked_for_must_be_free(managed, own_broker):
    broker = own_broker("--management-listen", f"127.0.0.1:{managed.management()[1]}", start=False)
    with pytest.raises(AssertionError, match="the broker ended with 1: .*--management-listen"):
        broker.start()


def test_the_usual_port_is_taken_by_one_and_the_next_does_without(own_broker):
    """Whether it is free at first is not for the test to say."""
    brokers = [own_broker(start=False) for _ in range(2)]
    for broker in brokers:
        broker.at_usual_ports = True
        broker.start()
    has_api = ["there is no API" not in broker.log.read_text() for broker in brokers]
    assert has_api[1] is False
    for broker, has in zip(brokers, has_api):
        assert ("http://0.0.0.0:15672" in broker.output.read_text()) is has


def test_overview(managed, api, channel):
    channel.queue_declare("overview", exclusive=True)
    channel.confirm_delivery()
    channel.basic_publish("", "overview", b"1")
    channel.basic_publish("", "overview", b"2")
    shown = api.get("overview")
    assert shown["product_name"] == "Leveret" and shown["product_version"]
    assert shown["rabbitmq_version"] == shown["management_version"] == "3.13.7"
    assert shown["cluster_name"] == shown["node"] == "leveret@localhost"
    assert shown["disable_stats"] is False
    totals = shown["queue_totals"]
    assert totals["messages"] == totals["messages_ready"] + totals["messages_unacknowledged"] >= 2
    objects = shown["object_totals"]
    assert objects["queues"] >= 1 and objects["connections"] >= 1 and objects["channels"] >= 1
    assert objects["exchanges"] >= 3 * 7
    ports = {(it["protocol"], it["port"]) for it in shown["listeners"]}
    assert ports == {("amqp", managed.port), ("http", managed.management()[1])}
    assert api.get("overview", columns="queue_totals.messages") == {"queue_totals": {"messages": totals["messages"]}}


def test_a_queue(api, channel):
    arguments = {"x-max-length": 7, "x-dead-letter-exchange": "dlx", "x-list": [1, "a", True], "x-nothing": None}
    channel.queue_declare("shown", durable=True, arguments=arguments)
    for body in b"abc":
        channel.basic_publish("", "shown", bytes([body]))
    channel.basic_get("shown")
    queue = api.get("queues", "/", "shown")
    assert {key: queue[key] for key in (
        "name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments", "policy", "operator_policy",
        "effective_policy_definition", "state", "consumers", "messages", "messages_ready", "messages_unacknowledged",
    )} == {
        "name": "shown", "vhost": "/", "type": "classic", "durable": True, "auto_delete": False, "exclusive": False,
        "arguments": arguments, "policy": None, "operator_policy": None, "effective_policy_definition": {},
        "state": "running", "consumers": 0, "messages": 3, "messages_ready": 2, "messages_unacknowledged": 1,
    }
    assert "leveret" in queue and queue["node"] == "leveret@localhost" and "delivery_limit" not in queue
    assert api.get("queues", "/", "shown", columns="name,messages") == {"name": "shown", "messages": 3}
    for limit, expected in ((None, 20), (7, 7), (-1, "unlimited")):
        arguments = {"x-queue-type": "quorum"} | ({} if limit is None else {"x-delivery-limit": limit})
        channel.queue_declare("counts", durable=True, arguments=arguments)
        assert api.get("queues", "/", "counts")["delivery_limit"] == expected
        channel.queue_delete("counts")
    channel.queue_delete("shown")
    assert api.refusal("queues", "/", "shown") == (404, "Object Not Found", "Not Found")


def test_what_a_queue_tells_about_its_messages(api, channel):
    channel.confirm_delivery()
    channel.queue_declare("told", arguments={"x-max-length": 100})
    for body in (b"1", b"22", b"333"):
        channel.basic_publish("", "told", body)
    channel.basic_get("told", auto_ack=True)
    first, _, _ = channel.basic_get("told")
    channel.basic_nack(first.delivery_tag, requeue=True)
    again, _, _ = channel.basic_get("told")
    channel.basic_ack(again.delivery_tag)
    channel.basic_get("told")
    channel.basic_get("told")
    queue = api.get("queues", "/", "told")
    counted = {key: value for key, value in queue["message_stats"].items() if not key.endswith("_details")}
    assert counted == {
        "publish": 3, "deliver": 0, "deliver_no_ack": 0, "get": 3, "get_no_ack": 1, "get_empty": 1, "deliver_get": 4,
        "redeliver": 1, "ack": 1}
    assert queue["message_stats"]["publish_details"]["rate"] >= 0
    assert queue["message_bytes_ready"] == 0 and queue["message_bytes"] == queue["message_bytes_unacknowledged"] > 0
    assert queue["memory"] > 0
    told = queue["leveret"]
    assert told["totals"]["requeued"] == 1
    assert told["time_in_queue"]["count"] == 3 and told["time_to_ack"]["count"] == 1
    assert told["time_in_queue"]["p50_ms"] <= told["time_in_queue"]["p999_ms"] <= told["time_in_queue"]["max_ms"]
    assert told["forecast"]["empty_in_seconds"] == 0
    assert set(told["rates"]) >= {"arrival", "service"}
    channel.queue_delete("told")


def test_a_queue_that_only_grows_says_when_it_is_full(api, channel):
    channel.confirm_delivery()
    channel.queue_declare("growing", arguments={"x-max-length": 1_000_000})

    def grown():
        channel.basic_publish("", "growing", b"x")
        forecast = api.get("queues", "/", "growing")["leveret"]["forecast"]
        return forecast["full_in_seconds"] is not None and forecast["empty_in_seconds"] is None

    eventually(grown, what="a forecast")
    channel.queue_delete("growing")


def test_types_and_flags_of_queues(api, channel):
    channel.queue_declare("own", exclusive=True, auto_delete=True)
    channel.queue_declare("quorum", durable=True, arguments={"x-queue-type": "quorum"})
    channel.queue_declare("stream", durable=True, arguments={"x-queue-type": "stream"})
    channel.basic_consume("own", lambda *_: None)
    own = api.get("queues", "/", "own")
    assert (own["exclusive"], own["auto_delete"], own["durable"], own["consumers"]) == (True, True, False, 1)
    assert api.get("queues", "/", "quorum")["type"] == "quorum"
    assert api.get("queues", "/", "stream")["type"] == "stream"
    for name in ("quorum", "stream"):
        channel.queue_delete(name)


def test_policies_in_force(api, channel):
    channel.queue_declare("limited")
    queue = api.get("queues", "/", "limited")
    assert (queue["policy"], queue["operator_policy"]) == ("limits", "ceiling")
    assert queue["effective_policy_definition"] == {"max-length": 5, "message-ttl": 60000, "expires": 3600000}
    channel.exchange_declare("limited")
    exchange = api.get("exchanges", "/", "limited")
    assert (exchange["policy"], exchange["operator_policy"]) == ("alternate", None)
    assert exchange["effective_policy_definition"] == {"alternate-exchange": "amq.fanout"}
    channel.queue_delete("limited")
    channel.exchange_delete("limited")


def test_exchanges(api, channel):
    channel.exchange_declare("shown", "topic", durable=True, auto_delete=True, internal=True,
                             arguments={"alternate-exchange": "amq.direct"})
    assert api.get("exchanges", "/", "shown") == {
        "name": "shown", "vhost": "/", "type": "topic", "durable": True, "auto_delete": True, "internal": True,
        "arguments": {"alternate-exchange": "amq.direct"}, "policy": None, "operator_policy": None,
        "effective_policy_definition": {}, "leveret": {"deduplication": None}}
    default = api.get("exchanges", "/", "amq.default")
    assert (default["name"], default["type"]) == ("", "direct")
    listed = names(api.get("exchanges", "/"))
    assert ("/", "") in listed and ("/", "amq.topic") in listed and ("/", "shown") in listed
    channel.exchange_delete("shown")
    assert api.refusal("exchanges", "/", "shown")[0] == 404
    assert len(api.get("exchanges")) >= 3 * 7


def test_duplicates_are_counted(api, channel):
    window = {"x-dedup-window-ms": 60_000}
    channel.queue_declare("once", arguments=window)
    channel.exchange_declare("once", "fanout", arguments=window)
    channel.queue_declare("behind", exclusive=True)
    channel.queue_bind("behind", "once", "")
    channel.confirm_delivery()
    for key in "aabba":
        for exchange in ("", "once"):
            channel.basic_publish(exchange, "once", b"", pika.BasicProperties(message_id=key))
    queue, exchange = api.get("queues", "/", "once"), api.get("exchanges", "/", "once")
    assert queue["messages"] == 2
    expected = {"duplicates": 3, "gaps": 0, "keys": 2, "producers": 0, "producers_forgotten": 0}
    assert queue["leveret"]["deduplication"] == exchange["leveret"]["deduplication"] == expected
    channel.queue_delete("once")
    channel.exchange_delete("once")


def test_virtual_hosts_have_their_own_lists(managed, api, open_connection):
    for vhost in ("other", "a b/c"):
        open_connection(managed, virtual_host=vhost).channel().queue_declare(f"of {vhost}", auto_delete=True)
    assert names(api.get("queues", "other")) == [("other", "of other")]
    assert names(api.get("queues", "a b/c")) == [("a b/c", "of a b/c")]
    assert api.get("queues", "a b/c", "of a b/c")["vhost"] == "a b/c"
    everywhere = names(api.get("queues"))
    assert everywhere == sorted(everywhere) and ("other", "of other") in everywhere
    assert api.refusal("queues", "nowhere") == (404, "Object Not Found", "Not Found")
    assert api.refusal("queues", "/", "of other")[0] == 404


def test_long_lists_are_whole_and_pages_are_parts_of_them(api, channel):
    made = [f"many-{number:04}" for number in range(700)]
    for name in made:
        channel.queue_declare(name, exclusive=True)
    whole = [name for _, name in names(api.get("queues", "/")) if name.startswith("many-")]
    assert whole == made
    page = api.get("queues", "/", page=2, page_size=300, name="MANY-")
    assert [item["name"] for item in page["items"]] == made[300:600]
    assert (page["page"], page["page_size"], page["page_count"], page["item_count"], page["filtered_count"]) == (
        2, 300, 3, 300, 700)
    assert page["total_count"] >= 700
    backwards = api.get("queues", "/", page=1, page_size=1, name="many-", sort_reverse="true", sort="name")
    assert backwards["items"][0]["name"] == made[-1]


@pytest.mark.parametrize(("query", "error"), [
    ({"page": "x"}, "bad_request"),
    ({"page": 0}, "invalid_pagination_parameters"),
    ({"page": 1, "page_size": 501}, "invalid_pagination_parameters"),
    ({"page": 10 ** 6}, "page_out_of_range"),
])
def test_pages_that_do_not_exist(api, query, error):
    status, said, reason = api.refusal("queues", **query)
    assert (status, said) == (400, error) and reason


@pytest.mark.parametrize("what", ["config/effective"])
def test_what_rabbitmq_has_and_leveret_has_not(api, what):
    status, error, reason = api.request("GET", f"/api/{what}").refusal()
    assert (status, error) == (501, "not_implemented") and reason


def test_other_ways_to_say_no(api):
    assert api.refusal("zz") == (404, "Object Not Found", "Not Found")
    page = api.request("GET", "/")
    assert page.status == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
    assert api.request("GET", "/api/queues/%zz").refusal()[:2] == (400, "bad_request")
    assert api.refusal("queues", page=1, name="(", use_regex="true")[:2] == (400, "invalid_regex")
    answer = api.request("POST", path("overview"), body=b"{}")
    assert answer.refusal()[:2] == (405, "method_not_allowed")
    assert answer.headers["allow"] == "HEAD, GET, OPTIONS"
    answer = api.request("OPTIONS", path("queues", "/", "q"))
    assert (answer.status, answer.headers["allow"]) == (200, "HEAD, GET, PUT, DELETE, OPTIONS")


def test_head_has_no_body(api):
    answer = api.request("HEAD", path("overview"))
    assert (answer.status, answer.body) == (200, b"")


# Who is let in

def test_no_credentials_and_wrong_ones(api):
    for user in (None, ("guest", "wrong"), ("nobody", "guest"), ("guest", "")):
        answer = Management(api.address, user).request("GET", path("overview"))
        assert answer.refusal() == (401, "not_authorized", "Not_Authorized")
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
    for value in ("Basic", "Basic !!", "Bearer x", "Basic " + "A" * 5000):
        answer = Management(api.address, None).request("GET", path("overview"), {"Authorization": value})
        assert answer.status == 401, value


def test_tags_decide(api):
    assert api.as_user("plain", "p").refusal("overview") == (401, "not_authorised", "Not management user")
    for name in ("monitor", "policymaker"):
        assert api.as_user(name, "p").get("queues") is not None
    manager = api.as_user("manager", "m:p").get("overview")
    assert "connections" not in manager["object_totals"] and "listeners" not in manager
    assert "connections" in api.as_user("monitor", "p").get("overview")["object_totals"]


def test_virtual_hosts_are_for_those_who_may_use_them(api):
    refused = (401, "not_authorised", "User not authorised to access virtual host")
    manager = api.as_user("manager", "m:p")
    assert manager.refusal("queues", "other") == refused
    assert manager.refusal("exchanges", "other", "amq.direct") == refused
    assert {vhost for vhost, _ in names(manager.get("exchanges"))} == {"/"}
    # Administrators and monitors see all of them, with or without rights there.
    for name in ("admin", "monitor"):
        user = api.as_user(name, "p")
        assert len(user.get("exchanges", "other")) == 7
        assert {vhost for vhost, _ in names(user.get("exchanges"))} == {"/", "other", "a b/c"}
        assert {vhost for vhost, _ in names(user.get("queues", "other"))} <= {"other"}
    assert manager.refusal("queues", "nowhere")[0] == 404


def test_guest_comes_from_this_machine_only(own_broker):
    address = own_address()
    if address is None:
        pytest.skip("this machine has the loopback address only")
    broker = own_broker("--management-listen", "0.0.0.0:0")
    port = broker.management()[1]
    assert Management(("127.0.0.1", port)).get("queues") == []
    assert Management((address, port)).refusal("queues") == (
        401, "not_authorised", "User can only log in via localhost")


def own_address():
    """An address of this machine other than loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address = probe.getsockname()[0]
        return None if address.startswith("127.") else address


# Delayed messages

@pytest.fixture
def later(channel):
    """A delayed exchange with a queue behind it; publishes with confirms."""
    channel.exchange_declare("x-later", "x-delayed-message", durable=True, arguments=DELAYED)
    channel.queue_declare("x-due", durable=True)
    channel.queue_bind("x-due", "x-later", "k")
    channel.confirm_delivery()
    yield channel
    channel.exchange_delete("x-later")
    channel.queue_delete("x-due")


def delay(channel, body, delay_ms, key="k", exchange="x-later"):
    properties = pika.BasicProperties(headers={"x-delay": delay_ms}, delivery_mode=PERSISTENT)
    channel.basic_publish(exchange, key, body, properties)


def test_delayed_messages_are_listed_in_the_order_of_their_times(api, later):
    before = time.time() * 1000
    delay(later, b"ccc", 900_000, key="k.ü")
    delay(later, b"a", 60_000)
    delay(later, b"bb", 300_000)
    listed = api.get("exchanges", "/", "x-later", "delayed")
    assert listed["count"] == 3 and listed["next"] is None
    messages = listed["messages"]
    assert [(it["routing_key"], it["body_bytes"]) for it in messages] == [("k", 1), ("k", 2), ("k.ü", 3)]
    assert len({it["id"] for it in messages}) == 3
    for message, wait_ms in zip(messages, (60_000, 300_000, 900_000)):
        # A delay begins with the millisecond after its message was read: a fast answer sees that one too.
        assert wait_ms - 10_000 < message["delay_left_ms"] <= wait_ms + 1
        # The broker reads the system's clock once, at its start.
        assert abs(message["due_at"] - before - wait_ms) < 10_000
    assert api.get("exchanges", "/", "x-later")["messages_delayed"] == 3


def test_delayed_messages_come_in_pages(api, later):
    for number in range(25):
        delay(later, b"x" * number, 60_000 + number)
    found, after = [], ""
    while after is not None:
        page = api.get("exchanges", "/", "x-later", "delayed", limit=10, after=after)
        assert page["count"] == 25 and len(page["messages"]) <= 10
        found += [it["body_bytes"] for it in page["messages"]]
        after = page["next"]
    assert found == list(range(25))
    for wrong in ({"limit": 0}, {"limit": 501}, {"limit": "x"}, {"after": "zz"}):
        assert api.refusal("exchanges", "/", "x-later", "delayed", **wrong)[:2] == (400, "bad_request")


def test_large_bodies_make_shorter_pages(api, later):
    for number in range(40):
        delay(later, bytes(1_500_000), 600_000 + number)
    page = api.get("exchanges", "/", "x-later", "delayed", limit=40)
    assert 0 < len(page["messages"]) < 40 and page["next"]
    assert all(it["body_bytes"] == 1_500_000 for it in page["messages"])
    rest = api.get("exchanges", "/", "x-later", "delayed", limit=40, after=page["next"])
    assert len(page["messages"]) + len(rest["messages"]) == 40 and rest["next"] is None


def test_a_delayed_message_is_cancelled_once(api, later):
    delay(later, b"kept", 1_500)
    delay(later, b"cancelled", 1_000)
    first = api.get("exchanges", "/", "x-later", "delayed", limit=1)["messages"][0]
    cancel = lambda: api.request("DELETE", path("exchanges", "/", "x-later", "delayed", first["id"]))
    answer = cancel()
    assert (answer.status, answer.body) == (204, b"")
    assert cancel().refusal()[:2] == (404, "not_found")
    assert api.get("exchanges", "/", "x-later", "delayed")["count"] == 1
    eventually(lambda: later.queue_declare("x-due", passive=True).method.message_count == 1)
    assert later.basic_get("x-due", auto_ack=True)[2] == b"kept"
    # What has gone on cannot be cancelled any more.
    assert api.refusal("exchanges", "/", "x-later", "delayed", 0, method="DELETE")[0] == 404


def test_what_has_no_delayed_messages(api, later):
    status, error, reason = api.refusal("exchanges", "/", "amq.direct", "delayed")
    assert (status, error) == (404, "not_found") and "x-delayed-message" in reason
    assert api.refusal("exchanges", "/", "nowhere", "delayed")[0] == 404
    assert api.refusal("exchanges", "nowhere", "x-later", "delayed")[0] == 404
    assert api.refusal("exchanges", "/", "x-later", "delayed", "zz", method="DELETE")[0] == 404
    assert api.refusal("exchanges", "/", "x-later", "delayed", 10 ** 15, method="DELETE")[0] == 404
    assert api.refusal("exchanges", "/", "x-later", "delayed", 1)[0] == 405


def test_permissions_on_the_exchange_are_needed(api, later):
    delay(later, b"a", 60_000)
    reader = api.as_user("reader", "p")
    message = reader.get("exchanges", "/", "x-later", "delayed")["messages"][0]
    status, error, reason = reader.refusal("exchanges", "/", "x-later", "delayed", message["id"], method="DELETE")
    assert (status, error) == (401, "not_authorised")
    assert reason == "ACCESS_REFUSED - configure access to exchange 'x-later' in vhost '/' refused for user 'reader'"
    assert reader.refusal("exchanges", "/", "amq.direct", "delayed")[0] == 401
    assert api.get("exchanges", "/", "x-later", "delayed")["count"] == 1


def test_a_cancellation_survives_kill_9(own_broker, open_connection):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    channel = open_connection(broker).channel()
    channel.exchange_declare("x-later", "x-delayed-message", durable=True, arguments=DELAYED)
    channel.queue_declare("x-due", durable=True)
    channel.queue_bind("x-due", "x-later", "k")
    channel.confirm_delivery()
    for number in range(40):
        delay(channel, str(number).encode(), 3_000 + number)
    api = Management(broker.management())
    listed = api.get("exchanges", "/", "x-later", "delayed")["messages"]
    for message in listed[::2]:
        assert api.request("DELETE", path("exchanges", "/", "x-later", "delayed", message["id"])).status == 204
    broker.restart_after_kill()
    api = Management(broker.management())
    left = api.get("exchanges", "/", "x-later", "delayed")
    assert [it["id"] for it in left["messages"]] == [it["id"] for it in listed[1::2]]
    channel = open_connection(broker).channel()
    eventually(lambda: channel.queue_declare("x-due", passive=True).method.message_count == 20)
    bodies = [int(channel.basic_get("x-due", auto_ack=True)[2]) for _ in range(20)]
    assert bodies == list(range(1, 40, 2))


# Hostile clients

def talk(address, data, timeout_s=15):
    """Sends bytes and reads until the broker closes."""
    with socket.create_connection(address, timeout=timeout_s) as peer:
        try:
            peer.sendall(data)
            received = b""
            while part := peer.recv(65536):
                received += part
        except ConnectionError:
            pass  # closed with what we sent unread
        return received


@pytest.mark.parametrize("garbage", [
    b"\x00\x01\x02\xff" * 100 + b"\r\n\r\n",
    b"AMQP\x00\x00\x09\x01\r\n\r\n",
    b"GET /api/overview\r\n\r\n",
    b"GET /api/overview HTTP/9.9\r\n\r\n",
    b"GET " + b"/" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(200)) + b"\r\n",
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"GET / HTTP/1.1\r\nTransfer-Encoding: zz\r\n\r\n",
], ids=["bytes", "amqp", "no version", "a wrong version", "a long path", "a long header", "many headers",
        "negative length", "unknown encoding"])
def test_garbage_is_refused(managed, api, garbage):
    answer = talk(managed.management(), garbage)
    assert answer == b"" or answer.split()[1] in (b"400", b"404", b"401", b"414", b"431", b"501", b"505"), answer[:100]
    assert api.get("overview")


def test_an_endless_head_is_cut_off(managed, api):
    with socket.create_connection(managed.management(), timeout=15) as peer:
        peer.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(OSError):
            for number in range(1_000_000):
                peer.sendall(b"x-%d: y\r\n" % number)
    assert api.get("overview")


def test_a_body_is_not_swallowed(managed, api):
    resident = managed.resident_bytes()
    with socket.create_connection(managed.management(), timeout=15) as peer:
        with pytest.raises(OSError):
            peer.sendall(b"POST /api/overview HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
            for _ in range(2_000):
                peer.sendall(bytes(100_000))
    assert managed.resident_bytes() < resident + (32 << 20)
    assert api.get("overview")


def test_slow_heads_time_out_and_hold_up_nobody(managed, api):
    peers = [socket.create_connection(managed.management(), timeout=20) for _ in range(50)]
    try:
        for peer in peers:
            peer.sendall(b"GET /api/overview HTTP/1.1\r\nHost:")
        assert api.get("overview")
        begun = time.monotonic()
        for peer in peers:
            while peer.recv(4096):
                pass
        assert time.monotonic() - begun < 18
    finally:
        for peer in peers:
            peer.close()


def test_silent_connections_keep_nobody_out(own_broker):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    # From several addresses, since of one address only so many have a place.
    silent = [socket.create_connection(broker.management(), timeout=10, source_address=(f"127.0.0.{1 + number % 6}", 0))
              for number in range(300)]
    try:
        begun = time.monotonic()
        assert api.get("overview")
        assert time.monotonic() - begun < 4, "before the silent ones time out"
    finally:
        for peer in silent:
            peer.close()


def test_guessing_is_slowed_down_and_others_get_in(own_broker):
    """Threads guess for three seconds; meanwhile somebody else logs in, also as the user that is guessed at."""
    broker = own_broker("--management-listen", "127.0.0.1:0")
    over = time.monotonic() + 3
    answers = []

    def guess():
        while time.monotonic() < over:
            try:
                answers.append(status_from("127.0.0.1", "wrong"))
            except OSError:
                pass  # more connections than one address may have

    def status_from(address, password):
        connection = http.client.HTTPConnection(*broker.management(), timeout=20, source_address=(address, 0))
        token = base64.b64encode(f"guest:{password}".encode()).decode()
        connection.request("GET", path("overview"), headers={"Authorization": f"Basic {token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    guessers = [threading.Thread(target=guess) for _ in range(20)]
    for guesser in guessers:
        guesser.start()
    while time.monotonic() < over:
        begun = time.monotonic()
        assert status_from("127.0.0.2", "guest") == 200
        assert time.monotonic() - begun < 2
        time.sleep(0.05)
    for guesser in guessers:
        guesser.join()
    assert set(answers) == {401}
    # 5 at once, and what 20 at a time can do within seconds in which each waits longer than the one before.
    assert len(answers) < 150, len(answers)
    assert broker.log.read_text().count("HTTP access denied") <= 102


def test_who_does_not_read_is_cut_off(own_broker, open_connection):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    channel = open_connection(broker).channel()
    for number in range(3_000):
        channel.queue_declare(f"q{number:05}" + "x" * 200, exclusive=True)
    api = Management(broker.management())
    request = (b"GET /api/queues HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n")
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(broker.management())
        peer.settimeout(30)
        peer.sendall(request)
        peer.recv(1)
        begun = time.monotonic()
        assert len(api.get("queues")) == 3_000
        assert time.monotonic() - begun < 10, "others are answered meanwhile"
        # The broker gives up on it: nothing of it is left open.
        eventually(lambda: not established(broker.management()[1], peer.getsockname()[1]), deadline_s=30)


def established(port, from_port):
    """Whether the broker's side of a connection is open, by /proc/net/tcp."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    wanted = (f":{port:04X}", f":{from_port:04X}", "01")
    return any((row[1][-5:], row[2][-5:], row[3]) == wanted for row in rows)


def test_who_has_said_all_and_closes_its_side_is_answered(managed):
    request = b"GET /api/overview HTTP/1.1\r\nHost: x\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\r\n"
    for _ in range(20):
        with socket.create_connection(managed.management(), timeout=15) as peer:
            peer.sendall(request)
            peer.shutdown(socket.SHUT_WR)
            received = b""
            while part := peer.recv(65536):
                received += part
        assert received.startswith(b"HTTP/1.1 200") and received.endswith(b"}")


def test_one_connection_takes_many_requests(managed):
    connection = http.client.HTTPConnection(*managed.management(), timeout=10)
    for _ in range(20):
        connection.request("GET", path("overview"), headers={"Authorization": "Basic Z3Vlc3Q6Z3Vlc3Q="})
        response = connection.getresponse()
        assert response.status == 200
        response.read()
    connection.close()


def test_who_has_asked_and_says_no_more_is_answered(managed):
    head = b"GET /api/overview HTTP/1.1\r\nHost: x\r\n"
    for authorization, status in ((b"Z3Vlc3Q6Z3Vlc3Q=", b"200"), (b"Z3Vlc3Q6d3Jvbmc=", b"401")):
        with socket.create_connection(managed.management(), timeout=20) as peer:
            peer.sendall(head + b"Authorization: Basic " + authorization + b"\r\n\r\n")
            peer.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: peer.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 " + status), answer


def test_the_broker_stops_with_requests_open(own_broker):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    with socket.create_connection(broker.management()) as peer:
        peer.sendall(b"GET /api")
        broker.terminate()
        assert broker.wait(10) == 0
