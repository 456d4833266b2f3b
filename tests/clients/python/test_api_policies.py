"""Policies and parameters by the API."""

import pytest

pytestmark = pytest.mark.leveret_only("its own listener")

POLICY = {"pattern": "^pp", "definition": {"max-length": 7}, "priority": 3, "apply-to": "queues"}


@pytest.fixture(params=["policies", "operator-policies"])
def kind(request):
    return request.param


def test_a_policy_is_set_shown_and_cleared(api, served_channel, fresh, kind):
    name, queue = fresh(), "pp-" + fresh()
    served_channel.queue_declare(queue)
    assert api.put(kind, "/", name, body=POLICY).status == 201
    assert api.put(kind, "/", name, body=POLICY).status == 204
    expected = {"vhost": "/", "name": name, **POLICY}
    assert api.get(kind, "/", name) == expected
    assert expected in api.get(kind) and expected in api.get(kind, "/") and api.get(kind, "other") == []
    field = "policy" if kind == "policies" else "operator_policy"
    assert api.get("queues", "/", queue)[field] == name
    assert api.delete(kind, "/", name).status == 204
    assert api.delete(kind, "/", name).refusal() == (404, "Object Not Found", "Not Found")
    assert api.get("queues", "/", queue)[field] is None
    served_channel.queue_delete(queue)


def test_what_is_not_said_is_usual(api, fresh):
    name = fresh()
    api.put("policies", "/", name, body={"pattern": "^x", "definition": {"expires": 5}})
    shown = api.get("policies", "/", name)
    assert (shown["priority"], shown["apply-to"]) == (0, "all")
    api.delete("policies", "/", name)


@pytest.mark.parametrize(("body", "said"), [
    ({"pattern": "^a"}, "{key_missing,definition}"), ({"definition": {}}, "{key_missing,pattern}"),
    ({"pattern": "^a", "definition": {"zz": 1}}, "zz"), ({"pattern": "*[", "definition": {"expires": 1}}, "*["),
    ({"pattern": "^a", "definition": {"expires": "x"}}, "x"), ({"pattern": 1, "definition": {"expires": 1}}, ""),
    ({"pattern": "^a", "definition": 1}, ""), ({"pattern": "^a", "definition": {"expires": 1}, "priority": "x"}, ""),
    ({"pattern": "^a", "definition": {"expires": 1}, "apply-to": "zz"}, "")])
def test_policies_that_cannot_be(api, fresh, kind, body, said):
    status, error, reason = api.put(kind, "/", fresh(), body=body).refusal()
    assert (status, error) == (400, "bad_request") and said in reason
    assert api.put(kind, "nowhere", fresh(), body=POLICY).refusal()[0] == 404


def test_policies_are_for_policymakers_of_the_virtual_host(api, fresh, kind):
    name = fresh()
    maker, manager = api.as_user("policymaker", "p"), api.as_user("manager", "p")
    assert manager.put(kind, "/", name, body=POLICY).refusal()[:2] == (401, "not_authorised")
    assert manager.refusal(kind)[0] == 401
    assert maker.put(kind, "other", name, body=POLICY).refusal()[0] == 401
    assert maker.put(kind, "/", name, body=POLICY).status == (201 if kind == "policies" else 401)
    api.delete(kind, "/", name)


def test_global_parameters(api, fresh):
    name = fresh()
    assert api.put("global-parameters", name, body={"value": {"a": [1]}}).status == 201
    assert api.put("global-parameters", name, body={"value": 2}).status == 204
    assert api.get("global-parameters", name) == {"name": name, "value": 2}
    assert {"name": name, "value": 2} in api.get("global-parameters")
    assert api.put("global-parameters", name, body={}).refusal()[2] == "[{key_missing,value}]"
    assert api.delete("global-parameters", name).status == 204
    assert api.refusal("global-parameters", name)[0] == 404


@pytest.mark.parametrize("component", ["shovel", "federation-upstream", "zz"])
def test_nothing_heeds_other_parameters(api, component):
    status, error, reason = api.put("parameters", component, "/", "x", body={"value": {}}).refusal()
    assert (status, error) == (400, "bad_request")
    assert reason.startswith(f"Validation failed\n\ncomponent {component} not found\n")
    assert api.get("parameters", component) == [] and api.get("parameters", component, "/") == []
    assert api.delete("parameters", component, "/", "x").refusal()[0] == 404


def test_parameters_that_came_with_definitions_are_shown(api, fresh):
    name = fresh()
    parameter = {"component": "federation-upstream", "vhost": "/", "name": name, "value": {"uri": "amqp://"}}
    assert api.post("definitions", body={"parameters": [parameter]}).status == 204
    assert api.get("parameters", "federation-upstream", "/", name) == parameter
    assert parameter in api.get("parameters")
    assert api.delete("parameters", "federation-upstream", "/", name).status == 204
    assert parameter not in api.get("parameters")
