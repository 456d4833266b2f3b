"""Bindings by the API: added, listed, found by their keys, removed."""

import pytest

pytestmark = pytest.mark.leveret_only("its own listener")


@pytest.fixture
def channel(served_channel):
    return served_channel


@pytest.fixture
def ends(channel, fresh):
    """An exchange, a queue and a second exchange."""
    source, queue, target = fresh("source"), fresh("queue"), fresh("target")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(target, "fanout")
    channel.queue_declare(queue)
    yield source, queue, target
    channel.queue_delete(queue)
    channel.exchange_delete(source)
    channel.exchange_delete(target)


def between(source, kind, destination, *more):
    return ("bindings", "/", "e", source, kind, destination, *more)


@pytest.mark.parametrize(("routing_key", "arguments", "key"), [
    ("", {}, "~"), ("k", {}, "k"), ("a.b c/ü~*", {}, None), ("k", {"a": 1}, None), ("", {"a": [1, "x"]}, None),
    ("%2F%", {}, None), ("a+b", {}, None)])
def test_a_binding_lives_at_the_place_that_is_told(api, ends, routing_key, arguments, key):
    source, queue, _ = ends
    answer = api.post(*between(source, "q", queue), body={"routing_key": routing_key, "arguments": arguments})
    assert (answer.status, answer.body) == (201, b"")
    listed = api.get(*between(source, "q", queue))
    assert len(listed) == 1
    binding = listed[0]
    assert {name: binding[name] for name in (
        "source", "vhost", "destination", "destination_type", "routing_key", "arguments")} == {
        "source": source, "vhost": "/", "destination": queue, "destination_type": "queue",
        "routing_key": routing_key, "arguments": arguments}
    if key is not None:
        assert binding["properties_key"] == key
    # By the key that is listed, and by the address that was answered, which is relative to the one that was asked.
    assert api.get(*between(source, "q", queue, binding["properties_key"])) == binding
    location = answer.headers["location"]
    assert location.startswith("../../../../%2F/e/")
    where = location.replace("../../../../", "/api/bindings/")
    assert api.request("GET", where).json == binding
    assert api.request("DELETE", where).status == 204
    assert api.request("GET", where).refusal() == (404, "Object Not Found", "Not Found")
    assert api.get(*between(source, "q", queue)) == []


def test_exchanges_are_bound_to_exchanges(api, ends):
    source, _, target = ends
    assert api.post(*between(source, "e", target), body={"routing_key": "k"}).status == 201
    binding = api.get(*between(source, "e", target, "k"))
    assert (binding["destination"], binding["destination_type"]) == (target, "exchange")
    assert api.get("exchanges", "/", source, "bindings", "source") == [binding]
    assert api.get("exchanges", "/", target, "bindings", "destination") == [binding]
    assert api.delete(*between(source, "e", target, "k")).status == 204


def test_lists_of_bindings(api, ends, channel):
    source, queue, _ = ends
    for number in range(3):
        channel.queue_bind(queue, source, f"k{number}")
    keys = [(it["source"], it["routing_key"]) for it in api.get("queues", "/", queue, "bindings")]
    assert keys == [("", queue), (source, "k0"), (source, "k1"), (source, "k2")]
    everywhere = api.get("bindings")
    assert [it for it in everywhere if it["source"] == source] == [
        it for it in api.get("bindings", "/") if it["source"] == source]
    assert api.get("bindings", "other") == []
    default = api.get("exchanges", "/", "amq.default", "bindings", "source")
    assert queue in [it["destination"] for it in default]
    assert api.request("GET", f"/api/bindings/%2F/e//q/{queue}").json == api.get(*between("amq.default", "q", queue))
    assert api.get(*between("nothing", "q", queue)) == []


def test_many_bindings_are_all_listed(api, ends, channel):
    source, queue, _ = ends
    for number in range(2_500):
        channel.queue_bind(queue, source, f"k{number:04}")
    listed = [it["routing_key"] for it in api.get(*between(source, "q", queue))]
    assert listed == [f"k{number:04}" for number in range(2_500)]


def test_ends_that_are_not_there(api, ends, fresh):
    source, queue, _ = ends
    nobody = fresh()
    assert api.post(*between(nobody, "q", queue), body={}).refusal() == (
        404, "not_found", f"no exchange '{nobody}' in vhost '/'")
    assert api.post(*between(source, "q", nobody), body={}).refusal() == (
        404, "not_found", f"no queue '{nobody}' in vhost '/'")
    assert api.post(*between(source, "z", queue), body={}).refusal()[0] == 404
    assert api.post("bindings", "nowhere", "e", source, "q", queue, body={}).refusal()[0] == 404
    assert api.delete(*between(source, "q", queue, "zz")).refusal()[0] == 404
    assert api.refusal("queues", "/", nobody, "bindings")[0] == 404
    assert api.refusal("exchanges", "/", nobody, "bindings", "source")[0] == 404


@pytest.mark.parametrize("body", [{"routing_key": "k" * 256}, {"routing_key": 1}, {"arguments": 1}])
def test_bindings_that_cannot_be(api, ends, body):
    source, queue, _ = ends
    assert api.post(*between(source, "q", queue), body=body).refusal()[:2] == (400, "bad_request")


def test_the_default_exchange_takes_none(api, ends):
    _, queue, _ = ends
    assert api.post(*between("amq.default", "q", queue), body={"routing_key": "k"}).refusal()[0] in (400, 401)


def test_permissions_are_those_of_amqp(api, ends):
    source, queue, _ = ends
    reader = api.as_user("reader", "p")
    assert reader.post(*between(source, "q", queue), body={}).refusal()[:2] == (401, "not_authorised")
