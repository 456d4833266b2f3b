"""Queues by the API: declared, deleted, emptied."""

import pytest

pytestmark = pytest.mark.leveret_only("its own listener")


@pytest.fixture
def channel(served_channel):
    return served_channel


def test_a_queue_is_declared_once(api, channel, fresh):
    name = fresh()
    arguments = {"x-max-length": 5, "x-queue-mode": "lazy"}
    body = {"durable": True, "auto_delete": False, "arguments": arguments}
    answer = api.put("queues", "/", name, body=body)
    assert (answer.status, answer.body) == (201, b"")
    assert api.put("queues", "/", name, body=body).status == 204
    shown = api.get("queues", "/", name)
    assert (shown["durable"], shown["auto_delete"], shown["arguments"]) == (True, False, arguments)
    assert channel.queue_declare(name, durable=True, arguments=arguments).method.queue == name
    assert api.delete("queues", "/", name).status == 204
    assert api.refusal("queues", "/", name)[0] == 404


@pytest.mark.parametrize("body", [None, {}, {"durable": "false"}, {"arguments": []}])
def test_what_is_not_said_is_usual(api, fresh, body):
    name = fresh()
    assert api.put("queues", "/", name, body=body).status == 201
    shown = api.get("queues", "/", name)
    assert (shown["durable"], shown["auto_delete"], shown["exclusive"], shown["arguments"]) == (False, False, False, {})
    api.delete("queues", "/", name)


def test_another_declaration_is_refused_in_the_words_of_amqp(api, fresh):
    name = fresh()
    api.put("queues", "/", name, body={"durable": False})
    status, error, reason = api.put("queues", "/", name, body={"durable": True}).refusal()
    assert (status, error) == (400, "bad_request")
    assert reason == f"inequivalent arg 'durable' for queue '{name}' in vhost '/': received 'true' but current is 'false'"
    api.delete("queues", "/", name)


@pytest.mark.parametrize(("body", "said"), [
    ("{", "not_json"), ("[1]", "not_json"), ('"x"', "not_json"), ('{"durable": "x"}', "not_boolean"),
    ('{"arguments": 1}', "arguments"), ('{"arguments": {"x-message-ttl": "x"}}', "x-message-ttl"),
    ('{"arguments": {"' + "n" * 300 + '": 1}}', "255"),
    ('{"arguments": {"x": ' + "[" * 100 + "]" * 100 + "}}", "deep"),
])
def test_bodies_that_make_no_sense(api, fresh, body, said):
    answer = api.request("PUT", f"/api/queues/%2F/{fresh()}", body=body)
    status, error, reason = answer.refusal()
    assert (status, error) == (400, "bad_request") and said in reason


def test_names_that_cannot_be(api):
    assert api.put("queues", "/", "n" * 256, body={}).refusal()[0] == 400
    assert api.put("queues", "/", "amq.mine", body={}).refusal()[:2] == (401, "not_authorised")
    assert api.put("queues", "nowhere", "q", body={}).refusal() == (404, "Object Not Found", "Not Found")


def test_conditions_of_a_deletion(api, channel, fresh):
    name = fresh()
    channel.confirm_delivery()
    channel.queue_declare(name)
    channel.basic_publish("", name, b"x")
    tag = channel.basic_consume(name, lambda *_: None)
    status, error, reason = api.delete("queues", "/", name, **{"if-empty": "true", "if-unused": "true"}).refusal()
    assert (status, error) == (400, "bad_request") and "in use" in reason
    channel.basic_cancel(tag)
    # The client puts back what it had not handed on yet, for which there is no answer: the next method's comes after it.
    assert channel.queue_declare(name, passive=True).method.message_count == 1
    for query in ({"if-empty": "true"}, {"if-unused": "true"}):
        answer = api.delete("queues", "/", name, **query)
        assert answer.status == (400 if "if-empty" in query else 204), answer.body
    assert api.delete("queues", "/", name).refusal() == (404, "Object Not Found", "Not Found")


def test_a_queue_is_emptied(api, channel, fresh):
    name = fresh()
    channel.confirm_delivery()
    channel.queue_declare(name)
    for _ in range(3):
        channel.basic_publish("", name, b"x")
    assert api.delete("queues", "/", name, "contents").status == 204
    assert channel.queue_declare(name, passive=True).method.message_count == 0
    channel.queue_delete(name)
    assert api.delete("queues", "/", name, "contents").refusal()[0] == 404


def test_permissions_are_those_of_amqp(api, channel, fresh):
    name = fresh()
    channel.queue_declare(name)
    reader = api.as_user("reader", "p")
    for answer in (reader.put("queues", "/", fresh(), body={}), reader.delete("queues", "/", name)):
        status, error, reason = answer.refusal()
        assert (status, error) == (401, "not_authorised") and "refused for user 'reader'" in reason
    assert reader.delete("queues", "/", name, "contents").status == 204
    assert reader.put("queues", "other", name, body={}).refusal()[:2] == (401, "not_authorised")
    assert api.as_user("plain", "p").put("queues", "/", name, body={}).refusal()[0] == 401
    channel.queue_delete(name)


def test_an_exclusive_queue_of_another_connection_is_locked(api, channel, fresh):
    name = fresh()
    channel.queue_declare(name, exclusive=True)
    status, error, reason = api.delete("queues", "/", name).refusal()
    assert (status, error) == (400, "bad_request") and "exclusive access" in reason


def test_nothing_is_left_of_the_connections_that_did_it(api, fresh):
    name = fresh()
    before = api.get("overview")["object_totals"]
    for _ in range(20):
        api.put("queues", "/", name, body={})
        api.put("queues", "/", name, body={"durable": True})
        api.delete("queues", "/", name)
    after = api.get("overview")["object_totals"]
    assert (after["connections"], after["channels"]) == (before["connections"], before["channels"])
