"""Virtual hosts and definitions by the API."""

import json

import pytest

from support.management import Management, path

pytestmark = pytest.mark.leveret_only("its own listener")


def test_a_virtual_host_is_made_with_and_without_a_body(api, fresh):
    for headers, body in (({}, None), ({"Content-Type": "application/json"}, {})):
        name = fresh("vhost")
        assert api.put("vhosts", name, body=body, headers=headers).status == 201
        assert api.put("vhosts", name, body=body).status == 204
        shown = api.get("vhosts", name)
        assert (shown["name"], shown["tracing"], shown["messages"]) == (name, False, 0)
        assert shown["cluster_state"] == {"leveret@localhost": "running"}
        # Whoever made it may use it.
        assert api.put("queues", name, "q", body={}).status == 201
        assert name in [it["name"] for it in api.get("vhosts")]
    assert api.refusal("vhosts", "nowhere")[0] == 404


def test_settings_of_a_virtual_host(api, fresh):
    name = fresh("vhost")
    assert api.put("vhosts", name, body={"default_queue_type": "quorum", "tracing": True}).status == 201
    shown = api.get("vhosts", name)
    assert (shown["default_queue_type"], shown["tracing"]) == ("quorum", True)
    assert api.put("vhosts", name, body={"default_queue_type": "zz"}).refusal()[0] == 400
    assert api.put("vhosts", name, body={"tracing": "zz"}).refusal()[0] == 400


def test_virtual_hosts_are_made_by_administrators_and_seen_by_those_who_may(api, fresh):
    manager = api.as_user("manager", "p")
    assert manager.put("vhosts", fresh(), body={}).refusal()[0] == 401
    assert [it["name"] for it in manager.get("vhosts")] == ["/"]
    assert manager.refusal("vhosts", "other")[0] == 401
    assert {"/", "other"} <= {it["name"] for it in api.as_user("monitor", "p").get("vhosts")}


def make(api, vhost):
    """Something of each kind."""
    api.put("vhosts", vhost, body={"default_queue_type": "quorum"})
    api.put("users", f"{vhost}-user", body={"password": "p", "tags": "management"})
    api.put("permissions", vhost, f"{vhost}-user", body={"configure": "", "write": "^a", "read": ".*"})
    api.put("topic-permissions", vhost, f"{vhost}-user", body={"exchange": "x", "write": "^a", "read": ""})
    api.put("policies", vhost, "p", body={"pattern": "^q", "definition": {"max-length": 5}})
    api.put("operator-policies", vhost, "o", body={"pattern": "^q", "definition": {"expires": 600000}})
    api.put("vhost-limits", vhost, "max-queues", body={"value": 100})
    api.put("global-parameters", vhost, body={"value": {"a": 1}})
    arguments = {"x-queue-type": "classic", "x-max-priority": 3}
    api.put("queues", vhost, "q", body={"durable": True, "arguments": arguments})
    api.put("exchanges", vhost, "x", body={"type": "topic", "durable": True})
    api.post("bindings", vhost, "e", "x", "q", "q", body={"routing_key": "a.#", "arguments": {"n": 1}})
    api.post("bindings", vhost, "e", "x", "e", "amq.fanout", body={})


def of(definitions, vhost):
    """What a definitions document has of one virtual host."""
    return {part: [it for it in definitions[part] if it.get("vhost") == vhost]
            for part in ("permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings")}


def test_definitions_go_out_and_into_another_broker(api, own_broker, fresh):
    vhost = fresh("vhost")
    make(api, vhost)
    exported = api.get("definitions")
    assert exported["rabbitmq_version"] == "3.13.7" and exported["product_name"] == "Leveret"
    mine = of(exported, vhost)
    assert {part: len(items) for part, items in mine.items()} == {
        "permissions": 2, "topic_permissions": 1, "parameters": 2, "policies": 1, "queues": 1, "exchanges": 1,
        "bindings": 2}
    assert (vhost, "quorum") in [(it["name"], it.get("default_queue_type")) for it in exported["vhosts"]]
    assert {"name": vhost, "value": {"a": 1}} in exported["global_parameters"]
    broker = own_broker("--management-listen", "127.0.0.1:0")
    other = Management(broker.management())
    for _ in range(2):
        assert other.post("definitions", body=exported).status == 204
    broker.restart_after_kill()
    again = Management(broker.management()).get("definitions")
    assert of(again, vhost) == mine
    assert {it["name"]: it for it in again["users"]} == {it["name"]: it for it in exported["users"]}


def test_definitions_of_one_virtual_host_go_into_another(api, fresh):
    source, target = fresh("vhost"), fresh("vhost")
    make(api, source)
    api.put("vhosts", target)
    exported = api.get("definitions", source)
    assert "users" not in exported and all("vhost" not in it for it in exported["queues"] + exported["bindings"])
    assert api.post("definitions", target, body=exported).status == 204
    assert api.get("definitions", target) == exported
    assert api.refusal("definitions", "nowhere")[0] == 404
    assert api.post("definitions", "nowhere", body={}).refusal()[0] == 404


@pytest.mark.parametrize("body", ["{", "[]", '{"queues": 1}', '{"queues": [{"name": "q", "vhost": "nowhere"}]}',
                                  '{"users": [{"name": 1}]}', '{"bindings": [{}]}'])
def test_definitions_that_make_no_sense_change_nothing(api, body):
    before = api.get("definitions")
    answer = api.request("POST", path("definitions"), body=body)
    assert answer.refusal()[:2] == (400, "bad_request")
    assert api.get("definitions") == before


def test_exclusive_queues_are_not_exported(api, served_channel, fresh):
    name = fresh()
    served_channel.queue_declare(name, exclusive=True)
    served_channel.queue_bind(name, "amq.direct", "k")
    text = json.dumps(api.get("definitions"))
    assert name not in text
