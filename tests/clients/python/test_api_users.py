"""Users, permissions and limits by the API."""

import pika
import pytest

from support.management import Management

pytestmark = pytest.mark.leveret_only("its own listener")

ALL = {"configure": ".*", "write": ".*", "read": ".*"}


@pytest.fixture
def user(api, fresh):
    name = fresh("user")
    assert api.put("users", name, body={"password": "p", "tags": "management"}).status == 201
    yield name
    api.delete("users", name)


def test_a_user_is_made_changed_and_deleted(api, fresh):
    name = fresh()
    assert api.put("users", name, body={"password": "p", "tags": "management,monitoring"}).status == 201
    shown = api.get("users", name)
    assert (shown["name"], shown["tags"], shown["limits"]) == (name, ["management", "monitoring"], {})
    assert shown["hashing_algorithm"] == "rabbit_password_hashing_sha256" and shown["password_hash"]
    assert Management(api.address, (name, "p")).get("whoami") == {"name": name, "tags": ["management", "monitoring"]}
    assert api.put("users", name, body={"password_hash": shown["password_hash"], "tags": ["administrator"]}).status == 204
    assert Management(api.address, (name, "p")).get("whoami")["tags"] == ["administrator"]
    assert api.put("users", name, body={"tags": "administrator"}).status == 204
    assert api.get("users", name)["password_hash"] == ""
    assert Management(api.address, (name, "p")).refusal("whoami")[0] == 401
    assert name in [it["name"] for it in api.get("users")]
    assert api.delete("users", name).status == 204
    assert api.delete("users", name).refusal() == (404, "Object Not Found", "Not Found")


@pytest.mark.parametrize("body", [
    {"password": "p"}, {}, {"tags": 1}, {"tags": "", "password_hash": "!"}, {"tags": "", "password": 1}])
def test_users_that_cannot_be(api, fresh, body):
    assert api.put("users", fresh(), body=body).refusal()[:2] == (400, "bad_request")


def test_several_are_deleted_or_none(api, fresh):
    names = [fresh() for _ in range(3)]
    for name in names:
        api.put("users", name, body={"password": "p", "tags": ""})
    assert set(names) <= {it["name"] for it in api.get("users", "without-permissions")}
    assert api.post("users", "bulk-delete", body={"users": [names[0], "nobody"]}).refusal()[0] == 400
    assert api.get("users", names[0])
    assert api.post("users", "bulk-delete", body={"users": names}).status == 204
    assert not set(names) & {it["name"] for it in api.get("users")}
    for wrong in ({}, {"users": 1}, {"users": [1]}):
        assert api.post("users", "bulk-delete", body=wrong).refusal()[0] == 400


def test_a_permission_comes_and_goes(served, api, user, open_connection):
    assert api.put("permissions", "/", user, body=ALL).status == 201
    assert api.put("permissions", "/", user, body={**ALL, "write": "^a"}).status == 204
    expected = {"user": user, "vhost": "/", **ALL, "write": "^a"}
    assert api.get("permissions", "/", user) == expected
    assert api.get("users", user, "permissions") == [expected]
    assert expected in api.get("permissions") and expected in api.get("vhosts", "/", "permissions")
    credentials = pika.PlainCredentials(user, "p")
    open_connection(served, credentials=credentials).close()
    assert api.delete("permissions", "/", user).status == 204
    assert api.delete("permissions", "/", user).refusal()[0] == 404
    assert api.refusal("permissions", "/", user)[0] == 404
    with pytest.raises(pika.exceptions.ProbableAccessDeniedError):
        open_connection(served, credentials=credentials)


def test_permissions_that_cannot_be(api, user):
    assert api.put("permissions", "/", user, body={"configure": ""}).refusal() == (
        400, "bad_request", "[{key_missing,write},{key_missing,read}]")
    for place in (("/", "nobody"), ("nowhere", user)):
        assert api.put("permissions", *place, body=ALL).refusal() == (400, "bad_request", "vhost_or_user_not_found")


def test_topic_permissions(api, user):
    api.put("permissions", "/", user, body=ALL)
    body = {"exchange": "amq.topic", "write": "^a", "read": "^b"}
    assert api.put("topic-permissions", "/", user, body=body).status == 201
    assert api.put("topic-permissions", "/", user, body=body).status == 204
    expected = {"user": user, "vhost": "/", **body}
    assert api.get("topic-permissions", "/", user) == [expected]
    assert api.get("users", user, "topic-permissions") == [expected]
    assert expected in api.get("topic-permissions") and expected in api.get("vhosts", "/", "topic-permissions")
    assert api.delete("topic-permissions", "/", user, "amq.topic").status == 204
    assert api.delete("topic-permissions", "/", user).refusal()[0] == 404
    assert api.refusal("topic-permissions", "/", user)[0] == 404


def test_limits_of_users_and_virtual_hosts(api, user):
    assert api.put("user-limits", user, "max-connections", body={"value": 5}).status == 204
    assert api.put("user-limits", user, "max-channels", body={"value": 6}).status == 204
    assert api.get("user-limits", user) == [{"user": user, "value": {"max-connections": 5, "max-channels": 6}}]
    # A change of the user leaves them.
    api.put("users", user, body={"password": "p", "tags": "management"})
    assert api.get("users", user)["limits"] == {"max-connections": 5, "max-channels": 6}
    assert api.delete("user-limits", user, "max-connections").status == 204
    assert api.put("user-limits", user, "max-channels", body={"value": -1}).status == 204
    assert api.get("user-limits", user) == []
    assert api.put("vhost-limits", "other", "max-queues", body={"value": 3}).status == 204
    assert {"vhost": "other", "value": {"max-queues": 3}} in api.get("vhost-limits")
    assert api.delete("vhost-limits", "other", "max-queues").status == 204
    assert api.get("vhost-limits", "other") == []
    for wrong in (("user-limits", user, "zz"), ("vhost-limits", "/", "zz")):
        assert api.put(*wrong, body={"value": 1}).refusal()[:2] == (400, "bad_request")
    assert api.put("user-limits", user, "max-channels", body={"value": "x"}).refusal()[0] == 400
    assert api.put("user-limits", user, "max-channels", body={}).refusal()[0] == 400
    assert api.put("user-limits", "nobody", "max-channels", body={"value": 1}).refusal()[0] == 404
    assert api.put("vhost-limits", "nowhere", "max-queues", body={"value": 1}).refusal()[0] == 404


@pytest.mark.parametrize("name", ["manager", "monitor", "policymaker"])
def test_it_is_for_administrators(api, name):
    asking = api.as_user(name, "p")
    for place in (("users",), ("users", "guest"), ("permissions",), ("permissions", "/", "guest"), ("user-limits",),
                  ("topic-permissions",), ("definitions",)):
        assert asking.refusal(*place) == (401, "not_authorised", "Not administrator user"), place
    assert asking.put("users", "x", body={"tags": "administrator"}).refusal()[0] == 401
    assert asking.delete("users", "guest").refusal()[0] == 401
    assert asking.put("permissions", "/", name, body=ALL).refusal()[0] == 401


def test_what_was_set_and_taken_away_is_so_after_kill_9(own_broker, fresh):
    broker = own_broker("--management-listen", "127.0.0.1:0")
    api = Management(broker.management())
    kept, gone = fresh(), fresh()
    for name in (kept, gone):
        api.put("users", name, body={"password": "p", "tags": "management"})
        api.put("permissions", "/", name, body=ALL)
        api.put("topic-permissions", "/", name, body={"exchange": "amq.topic", "write": "", "read": ""})
    api.put("global-parameters", gone, body={"value": [1]})
    api.put("policies", "/", gone, body={"pattern": "^x", "definition": {"max-length": 1}})
    api.delete("permissions", "/", kept)
    api.delete("users", gone)
    api.delete("global-parameters", gone)
    api.delete("policies", "/", gone)
    broker.restart_after_kill()
    api = Management(broker.management())
    assert {it["name"] for it in api.get("users")} == {"guest", kept}
    assert [it["user"] for it in api.get("permissions")] == ["guest"]
    assert [it["user"] for it in api.get("topic-permissions")] == [kept]
    assert api.get("global-parameters") == [] and api.get("policies") == []
