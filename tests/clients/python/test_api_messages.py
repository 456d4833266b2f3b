"""Messages by the API: published, and taken out."""

import base64

import pytest

from support.management import path

pytestmark = pytest.mark.leveret_only("its own listener")


@pytest.fixture
def channel(served_channel):
    return served_channel


HOW = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}


@pytest.fixture
def queue(channel, fresh):
    name = fresh()
    channel.confirm_delivery()
    channel.queue_declare(name, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}-dead"})
    channel.queue_declare(f"{name}-dead")
    yield name
    channel.queue_delete(name)
    channel.queue_delete(f"{name}-dead")


def take(api, queue, **how):
    answer = api.post("queues", "/", queue, "get", body={**HOW, **how})
    assert answer.status == 200, answer.body
    return answer.json


def publish(api, exchange, key, payload="x", encoding="string", **properties):
    body = {"routing_key": key, "payload": payload, "payload_encoding": encoding, "properties": properties}
    return api.post("exchanges", "/", exchange, "publish", body=body)


def test_a_message_goes_in_and_comes_out(api, channel, queue):
    properties = {"delivery_mode": 2, "content_type": "text/plain", "headers": {"a": 1, "b": [True, "x"]},
                  "priority": 3, "timestamp": 1_700_000_000, "message_id": "m", "type": "t", "app_id": "app"}
    answer = publish(api, "amq.default", queue, "grüße", **properties)
    assert (answer.status, answer.json) == (200, {"routed": True})
    message = take(api, queue)[0]
    assert message == {
        "payload": "grüße", "payload_bytes": 7, "payload_encoding": "string", "redelivered": False, "exchange": "",
        "routing_key": queue, "message_count": 0, "properties": properties}
    assert take(api, queue) == []
    publish(api, "amq.default", queue, base64.b64encode(b"\xff\0").decode(), "base64")
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (body, method.redelivered) == (b"\xff\0", False)


def test_what_reaches_no_queue_is_told(api, fresh):
    assert publish(api, "amq.default", fresh()).json == {"routed": False}


def test_bodies_are_shown_as_they_are_wanted(api, channel, queue):
    for body in (b"text", b"\xff\xfe", b"x" * 200_000):
        channel.basic_publish("", queue, body)
    shown = take(api, queue, count=9, ackmode="ack_requeue_true", truncate=50_000)
    assert [it["payload_encoding"] for it in shown] == ["string", "base64", "string"]
    assert [it["payload_bytes"] for it in shown] == [4, 2, 200_000]
    assert len(shown[2]["payload"]) == 50_000
    assert [it["message_count"] for it in shown] == [2, 1, 0]
    shown = take(api, queue, encoding="base64", count=9)
    assert [base64.b64decode(it["payload"]) for it in shown] == [b"text", b"\xff\xfe", b"x" * 200_000]
    assert all(it["redelivered"] for it in shown)


@pytest.mark.parametrize(("mode", "left", "dead"), [
    ("ack_requeue_true", 3, 0), ("ack_requeue_false", 1, 0), ("reject_requeue_true", 3, 0),
    ("reject_requeue_false", 1, 2)])
def test_what_becomes_of_what_was_taken(api, channel, queue, mode, left, dead):
    for number in range(3):
        channel.basic_publish("", queue, str(number).encode())
    assert [it["payload"] for it in take(api, queue, count=2, ackmode=mode)] == ["0", "1"]
    count = lambda name: channel.queue_declare(name, passive=True).method.message_count
    assert (count(queue), count(f"{queue}-dead")) == (left, dead)
    # In the order in which they were.
    first = channel.basic_get(queue, auto_ack=True)[2]
    assert first == (b"0" if left == 3 else b"2")


@pytest.mark.parametrize("wrong", [
    {}, {"count": 1}, {**HOW, "encoding": "zz"}, {**HOW, "ackmode": "zz"}, {**HOW, "count": -1}, {**HOW, "count": "x"},
    {**HOW, "count": [1]}, {**HOW, "truncate": -5}, {**HOW, "ackmode": 1}])
def test_ways_to_take_that_are_none(api, queue, wrong):
    assert api.post("queues", "/", queue, "get", body=wrong).refusal()[:2] == (400, "bad_request")


def test_what_must_be_said_is_named(api, queue):
    assert api.post("queues", "/", queue, "get", body={}).refusal()[2] == (
        "[{key_missing,ackmode},{key_missing,count},{key_missing,encoding}]")
    assert "{key_missing,payload}" in api.post("exchanges", "/", "amq.direct", "publish", body={}).refusal()[2]


@pytest.mark.parametrize("wrong", [
    {"payload_encoding": "zz"}, {"payload": "!", "payload_encoding": "base64"}, {"payload": 1}, {"routing_key": 1},
    {"routing_key": "k" * 256}, {"properties": 1}, {"properties": {"zz": 1}}, {"properties": {"priority": 256}},
    {"properties": {"priority": "x"}}, {"properties": {"content_type": "x" * 256}}, {"properties": {"headers": 1}},
    {"properties": {"expiration": "x"}}, {"properties": {"user_id": "somebody"}}])
def test_messages_that_cannot_be(api, wrong):
    body = {"routing_key": "k", "payload": "x", "payload_encoding": "string", "properties": {}}
    answer = api.post("exchanges", "/", "amq.direct", "publish", body={**body, **wrong})
    assert answer.refusal()[:2] == (400, "bad_request")


def test_there_must_be_something_to_publish_to_and_to_take_from(api, fresh):
    assert publish(api, fresh(), "k").refusal()[0] == 404
    assert api.post("queues", "/", fresh(), "get", body=HOW).refusal()[0] == 404
    assert api.post("queues", "nowhere", fresh(), "get", body=HOW).refusal()[0] == 404


def test_permissions_are_those_of_amqp(api, queue):
    reader = api.as_user("reader", "p")
    assert publish(reader, "amq.direct", "k").refusal()[:2] == (401, "not_authorised")
    assert take(reader, queue) == []
    assert api.as_user("monitor", "p").post("queues", "/", queue, "get", body=HOW).refusal()[0] in (400, 401)


def test_large_bodies_go_through(api, channel, queue):
    payload = "x" * 3_000_000
    assert publish(api, "amq.default", queue, payload).json == {"routed": True}
    assert channel.basic_get(queue, auto_ack=True)[2] == payload.encode()
    answer = api.request("POST", path("exchanges", "/", "amq.default", "publish"), body=b" " * 20_000_001)
    assert answer.refusal()[:2] == (400, "bad_request")


def test_a_stream_gives_nothing_so(api, channel, fresh):
    name = fresh()
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": "stream"})
    assert api.post("queues", "/", name, "get", body=HOW).refusal()[:2] == (400, "bad_request")
    channel.queue_delete(name)


def test_what_is_persistent_is_durable_when_it_is_told(own_broker, open_connection, fresh):
    from support.management import Management
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    name = fresh()
    assert api.put("queues", "/", name, body={"durable": True}).status == 201
    for number in range(20):
        assert publish(api, "amq.default", name, str(number), delivery_mode=2).json == {"routed": True}
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    assert [channel.basic_get(name, auto_ack=True)[2] for _ in range(20)] == [str(it).encode() for it in range(20)]
    assert channel.basic_get(name)[0] is None
