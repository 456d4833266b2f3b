"""Exchanges by the API: declared and deleted."""

import pytest

pytestmark = pytest.mark.leveret_only("its own listener")


@pytest.fixture
def channel(served_channel):
    return served_channel


def test_an_exchange_is_declared_once(api, channel, fresh):
    name = fresh()
    body = {"type": "topic", "durable": True, "auto_delete": False, "internal": False,
            "arguments": {"alternate-exchange": "amq.fanout"}}
    answer = api.put("exchanges", "/", name, body=body)
    assert (answer.status, answer.body) == (201, b"")
    assert api.put("exchanges", "/", name, body=body).status == 204
    shown = api.get("exchanges", "/", name)
    assert {key: shown[key] for key in body} == body
    channel.exchange_declare(name, passive=True)
    status, error, reason = api.put("exchanges", "/", name, body={**body, "type": "fanout"}).refusal()
    assert (status, error) == (400, "bad_request") and "inequivalent arg 'type'" in reason
    assert api.delete("exchanges", "/", name).status == 204
    assert api.delete("exchanges", "/", name).refusal() == (404, "Object Not Found", "Not Found")


def test_without_a_type_it_is_direct(api, fresh):
    name = fresh()
    assert api.put("exchanges", "/", name, body={}).status == 201
    assert api.get("exchanges", "/", name)["type"] == "direct"
    api.delete("exchanges", "/", name)


def test_one_in_use_is_kept_if_so_wanted(api, channel, fresh):
    name, queue = fresh(), fresh()
    api.put("exchanges", "/", name, body={"type": "fanout"})
    channel.queue_declare(queue)
    channel.queue_bind(queue, name)
    status, error, reason = api.delete("exchanges", "/", name, **{"if-unused": "true"}).refusal()
    assert (status, error) == (400, "bad_request") and "in use" in reason
    channel.queue_unbind(queue, name)
    assert api.delete("exchanges", "/", name, **{"if-unused": "true"}).status == 204
    channel.queue_delete(queue)


@pytest.mark.parametrize(("name", "body", "status"), [
    ("amq.mine", {}, 401), ("amq.default", {}, 401), ("n" * 256, {}, 400), ("x", {"type": "zz"}, 400),
    ("x", {"type": 1}, 400), ("x", {"internal": "maybe"}, 400), ("x", {"arguments": "x"}, 400)])
def test_exchanges_that_cannot_be(api, name, body, status):
    assert api.put("exchanges", "/", name, body=body).refusal()[0] == status


def test_the_brokers_own_stay(api):
    assert api.delete("exchanges", "/", "amq.direct").refusal()[0] in (400, 401)
    assert api.delete("exchanges", "/", "amq.default").refusal()[0] in (400, 401)
    assert api.put("exchanges", "nowhere", "x", body={}).refusal()[0] == 404


def test_permissions_are_those_of_amqp(api, fresh):
    reader = api.as_user("reader", "p")
    assert reader.put("exchanges", "/", fresh(), body={}).refusal()[:2] == (401, "not_authorised")
