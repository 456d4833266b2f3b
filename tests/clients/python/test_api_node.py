"""What the broker says of itself by the API, and the probes."""

import pytest

from support.management import Management

pytestmark = pytest.mark.leveret_only("its own listener")


def test_who_and_what(api):
    assert api.get("whoami") == {"name": "guest", "tags": ["administrator"]}
    assert api.get("version") == "3.13.7"
    assert api.get("cluster-name") == {"name": "leveret@localhost"}
    assert api.get("extensions") and api.get("deprecated-features") == []
    flags = {it["name"]: it["state"] for it in api.get("feature-flags")}
    assert flags["quorum_queue"] == flags["stream_queue"] == "enabled"
    assert api.put("feature-flags", "quorum_queue", "enable", body={}).status == 204
    assert api.put("feature-flags", "zz", "enable", body={}).refusal()[0] == 400
    assert api.put("cluster-name", body={"name": "zz"}).refusal()[0] == 400
    assert api.request("POST", "/api/login").status == 200
    # How to log in is known before.
    assert Management(api.address, None).get("auth")["oauth_enabled"] is False


def test_a_password_is_hashed_as_for_a_user(api, fresh):
    name, digest = fresh(), api.get("auth", "hash_password", "geheim")["ok"]
    api.put("users", name, body={"password_hash": digest, "tags": "management"})
    assert Management(api.address, (name, "geheim")).get("whoami")["name"] == name
    api.delete("users", name)


def test_the_node(served, api):
    nodes = api.get("nodes")
    assert [it["name"] for it in nodes] == ["leveret@localhost"]
    node = api.get("nodes", "leveret@localhost")
    assert node["os_pid"] == str(served.pid) and node["running"] is True and node["partitions"] == []
    for field in ("uptime", "run_queue", "processors", "fd_used", "fd_total", "sockets_used", "sockets_total", "proc_used",
                  "proc_total", "mem_used", "mem_limit", "disk_free", "disk_free_limit"):
        assert isinstance(node[field], int) and node[field] >= 0, field
    assert 0 < node["mem_used"] < node["mem_limit"] and node["disk_free"] > node["disk_free_limit"] > 0
    assert (node["mem_alarm"], node["disk_free_alarm"], node["being_drained"]) == (False, False, False)
    assert "direct" in [it["name"] for it in node["exchange_types"]]
    assert api.get("nodes", "leveret@localhost", columns="name") == {"name": "leveret@localhost"}
    assert api.get("nodes", "leveret@localhost", "memory")["memory"]["total"]["rss"] > 0
    assert api.refusal("nodes", "zz")[0] == 404 and api.refusal("nodes", "zz", "memory")[0] == 404
    assert api.as_user("manager", "p").refusal("nodes") == (401, "not_authorised", "Not monitor user")
    assert api.as_user("monitor", "p").get("nodes")


OK = b'{"status":"ok"}'


@pytest.mark.parametrize("check", [
    "aliveness-test/%2F", "healthchecks/node", "healthchecks/node/leveret@localhost", "health/checks/alarms",
    "health/checks/local-alarms", "health/checks/virtual-hosts", "health/checks/is-in-service",
    "health/checks/ready-to-serve-clients", "health/checks/below-node-connection-limit",
    "health/checks/metadata-store/initialized", "health/checks/metadata-store/initialized/with-data",
    "health/checks/reached-target-cluster-size", "health/checks/certificate-expiration/1/weeks",
    "health/checks/quorum-queues-without-elected-leaders/all-vhosts",
    "health/checks/quorum-queues-without-elected-leaders/vhost/%2F/pattern/x"])
def test_probes_are_answered_in_the_words_that_are_looked_for(api, check):
    answer = api.request("GET", f"/api/{check}")
    assert (answer.status, answer.body) == (200, OK)


def test_probes_that_fail(served, api):
    assert api.get("health", "checks", "port-listener", served.port) == {"status": "ok", "port": served.port}
    assert api.get("health", "checks", "protocol-listener", "amqp091")["status"] == "ok"
    assert api.get("health", "checks", "node-is-quorum-critical")["status"] == "ok"
    for check, missing in (("port-listener/1", 1), ("protocol-listener/mqtt", "mqtt")):
        answer = api.request("GET", f"/api/health/checks/{check}")
        assert (answer.status, answer.json["status"], answer.json["missing"]) == (503, "failed", missing)
    for wrong in ("port-listener/zz", "certificate-expiration/1/zz", "certificate-expiration/zz/days"):
        assert api.request("GET", f"/api/health/checks/{wrong}").refusal()[0] == 400
    assert api.refusal("aliveness-test", "nowhere")[0] == 404


@pytest.mark.parametrize("what", [
    "shovels", "shovels/%2F", "federation-links", "federation-links/%2F", "stream/connections", "stream/publishers",
    "stream/consumers/%2F", "auth/attempts/leveret@localhost/source"])
def test_what_there_is_none_of_is_an_empty_list(api, what):
    answer = api.request("GET", f"/api/{what}")
    assert (answer.status, answer.json) == (200, [])


def test_one_node_answers_for_a_cluster(api, fresh):
    name = fresh()
    api.put("queues", "/", name, body={"durable": True, "arguments": {"x-queue-type": "quorum"}})
    assert api.post("rebalance", "queues", body={}).status == 204
    assert api.post("queues", "/", name, "actions", body={"action": "sync"}).status == 204
    assert api.post("queues", "/", name, "actions", body={"action": "zz"}).refusal()[0] == 400
    assert api.get("queues", "quorum", "/", name, "status")[0]["Raft State"] == "leader"
    assert api.post("queues", "quorum", "/", name, "replicas", "add", body={"node": "x"}).refusal()[0] == 400
    assert api.delete("queues", "quorum", "/", name, "replicas", "delete", body={"node": "x"}).refusal()[0] == 400
    assert api.post("queues", "quorum", "replicas", "on", "leveret@localhost", "grow", body={}).status == 204
    api.delete("queues", "/", name)


def test_the_overview_has_what_strict_readers_want(api):
    shown = api.get("overview")
    for field in ("cluster_name", "node", "erlang_version", "erlang_full_version", "rabbitmq_version", "product_name",
                  "product_version", "statistics_db_event_queue", "queue_totals", "object_totals", "listeners",
                  "exchange_types", "rates_mode", "contexts", "management_version", "disable_stats"):
        assert field in shown, field


def test_names_are_filtered_as_autoscalers_ask_for_it(api, served_channel, fresh):
    base = fresh()
    for suffix in ("a", "b", "ab"):
        served_channel.queue_declare(f"{base}-{suffix}", exclusive=True)
    page = api.get("queues", "/", page=1, use_regex="true", pagination="false", name=f"^{base}-A", page_size=100)
    assert [it["name"] for it in page["items"]] == [f"{base}-a", f"{base}-ab"] and page["page_count"] == 1
    for item in page["items"]:
        assert item["messages"] == 0 and item["message_stats"]["publish_details"]["rate"] == 0
        assert item["message_stats"]["deliver_get_details"]["rate"] == 0


def test_lists_are_sorted_by_what_is_wanted(api, served_channel, fresh):
    base = fresh()
    for number, count in enumerate((2, 11, 0)):
        served_channel.queue_declare(f"{base}-{number}", exclusive=True)
        for _ in range(count):
            served_channel.basic_publish("", f"{base}-{number}", b"x")
    served_channel.queue_declare(f"{base}-2", passive=True)
    query = {"page": 1, "name": base, "sort": "messages", "columns": "name,messages"}
    assert [it["messages"] for it in api.get("queues", **query)["items"]] == [0, 2, 11]
    assert [it["messages"] for it in api.get("queues", sort_reverse="true", **query)["items"]] == [11, 2, 0]
