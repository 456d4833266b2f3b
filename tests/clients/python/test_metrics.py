"""Metrics for Prometheus: what is told of the broker and of its queues, and to whom."""

import http.client
import json
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlencode

import pika
import pytest

from support.broker_process import BrokerProcess
from support.management import Management
from support.metrics import scrape
from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("its own listener")

ENDPOINTS = {
    "/metrics": "aggregated",
    "/metrics/per-object": "per-object",
    "/metrics/detailed": "detailed",
    "/metrics/memory-breakdown": "memory-breakdown",
}
PLUGIN = "x-message-deduplication"
ODD = 'a "b" \\ c'
DETAILED = ("queue_coarse_metrics", "queue_consumer_count", "queue_metrics", "queue_delivery_metrics",
            "leveret_queue_metrics", "leveret_queue_times", "node_metrics", "node_coarse_metrics", "vhost_status",
            "exchange_bindings", "exchange_names", "exchange_metrics",
            "connection_churn_metrics", "auth_attempt_metrics", "node_persister_metrics", "leveret_store_metrics")


@pytest.fixture(scope="module")
def measured(tmp_path_factory, binary):
    """A broker with metrics and the API."""
    process = BrokerProcess(binary, tmp_path_factory.mktemp("measured"),
                            ["--management-listen", "127.0.0.1:0", "--prometheus-listen", "127.0.0.1:0"])
    yield process.start()
    alive = process.alive()
    process.kill()
    assert alive, f"the broker ended by itself: {process.log_tail()}"


@pytest.fixture
def measured_channel(measured, open_connection):
    return open_connection(measured).channel()


def detailed(broker, *families, **query):
    pairs = [("family", family) for family in families] + list(query.items())
    return scrape(broker.metrics(), f"/metrics/detailed?{urlencode(pairs)}")


def fill(channel, queue, count=3, **arguments):
    channel.queue_declare(queue, durable=True, arguments=arguments or None)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, b"x" * 10)


@pytest.mark.parametrize("path, endpoint", ENDPOINTS.items())
def test_each_endpoint_says_which_it_is(measured, path, endpoint):
    """Dashboards join on these labels."""
    found = scrape(measured.metrics(), path)
    [(labels, value)] = found.all("rabbitmq_identity_info")
    assert value == 1
    assert set(labels) == {"rabbitmq_node", "rabbitmq_cluster", "rabbitmq_cluster_permanent_id", "rabbitmq_endpoint"}
    assert labels["rabbitmq_endpoint"] == endpoint
    [(build, value)] = found.all("rabbitmq_build_info")
    assert (build["rabbitmq_version"], value) == ("3.13.7", 1)
    assert {"prometheus_plugin_version", "prometheus_client_version", "erlang_version"} <= set(build)


@pytest.mark.parametrize("path", [*ENDPOINTS, "/metrics/detailed?" + urlencode([("family", it) for it in DETAILED])])
def test_promtool_finds_nothing_wrong(measured, measured_channel, path):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("there is no promtool (Debian's package prometheus)")
    fill(measured_channel, ODD)
    text = scrape(measured.metrics(), path).text
    checked = subprocess.run([promtool, "check", "metrics"], input=text.encode(), capture_output=True, timeout=60)
    # 3: it would have named RabbitMQ's metrics otherwise.
    assert checked.returncode in (0, 3), checked.stderr.decode()
    named = [line for line in checked.stderr.decode().splitlines() if line.startswith("leveret_")]
    assert named == []


def test_no_family_is_told_twice(measured):
    for path in [*ENDPOINTS, "/metrics/detailed?" + urlencode([("family", it) for it in DETAILED])]:
        text = scrape(measured.metrics(), path).text
        types = [line for line in text.splitlines() if line.startswith("# TYPE ")]
        assert len(types) == len(set(types)), path


def test_what_queues_have_and_did_is_told_of_each_and_of_all(measured, measured_channel, fresh):
    channel = measured_channel
    queues = {kind: fresh(kind) for kind in ("classic", "quorum", "stream")}
    before = scrape(measured.metrics())
    for kind, queue in queues.items():
        fill(channel, queue, 4, **{"x-queue-type": kind})
    channel.basic_get(queues["classic"], auto_ack=True)
    method, _, _ = channel.basic_get(queues["quorum"])
    channel.basic_ack(method.delivery_tag)
    channel.basic_get(queues["quorum"])
    channel.basic_get(queues["classic"], auto_ack=True)
    expected = {"classic": (2, 0), "quorum": (2, 1), "stream": (4, 0)}

    def counted():
        found = scrape(measured.metrics(), "/metrics/per-object")
        names = ("rabbitmq_queue_messages_ready", "rabbitmq_queue_messages_unacked")
        return found if all(tuple(found.value(name, queue=queues[kind], vhost="/") for name in names) == pair
                            for kind, pair in expected.items()) else None

    each = eventually(counted, what="the counts of each queue")
    of = lambda name, kind: each.value(name, vhost="/", queue=queues[kind])
    assert of("rabbitmq_queue_messages", "quorum") == 3
    assert of("rabbitmq_queue_messages_ready_bytes", "classic") == 20
    assert of("rabbitmq_queue_get_total", "classic") == 2
    assert of("rabbitmq_queue_get_ack_total", "quorum") == 2
    assert of("rabbitmq_queue_messages_acked_total", "quorum") == 1
    assert of("leveret_queue_messages_published_total", "stream") == 4
    assert of("leveret_queue_oldest_message_age_seconds", "classic") >= 0
    [(info, _)] = each.all("rabbitmq_queue_info", queue=queues["stream"])
    assert info["queue_type"] == "rabbit_stream_queue" and info["membership"] == "leader"

    after = scrape(measured.metrics())
    more = lambda name, **labels: after.value(name, **labels) - before.value(name, **labels)
    assert more("rabbitmq_queues") == 3
    assert more("rabbitmq_queue_messages_ready") == 8
    assert more("rabbitmq_queue_messages_unacked") == 1
    assert more("leveret_queue_messages_published_total") == 12
    assert more("leveret_queue_time_in_queue_seconds_count") == 4
    assert more("leveret_queue_time_to_ack_seconds_count") == 1
    kind = {"protocol": "amqp091", "queue_type": "rabbit_quorum_queue"}
    assert more("rabbitmq_global_messages_delivered_get_manual_ack_total", **kind) == 2
    assert more("rabbitmq_global_messages_delivered_total", **kind) == 2
    assert more("rabbitmq_global_messages_acknowledged_total", **kind) == 1


def test_what_queues_did_that_are_gone_still_counts(measured, measured_channel, fresh):
    """To Prometheus a count that falls is one that began anew."""
    queue = fresh()
    before = scrape(measured.metrics())
    fill(measured_channel, queue, 5)
    measured_channel.basic_get(queue, auto_ack=True)
    measured_channel.queue_delete(queue)
    after = eventually(lambda: (it := scrape(measured.metrics())).value("rabbitmq_queues")
                       == before.value("rabbitmq_queues") and it, what="the queue to be gone")
    more = lambda name: after.value(name) - before.value(name)
    assert more("leveret_queue_messages_published_total") == 5
    assert more("rabbitmq_queue_get_total") == 1
    assert more("rabbitmq_queue_messages_ready") == 0


def test_times_are_cumulative_histograms(measured, measured_channel, fresh):
    queue = fresh()
    fill(measured_channel, queue, 6)
    for _ in range(6):
        measured_channel.basic_get(queue, auto_ack=True)
    found = detailed(measured, "leveret_queue_times", queue=f"^{queue}$")
    name = "leveret_detailed_queue_time_in_queue_seconds"
    buckets = [(float(labels["le"]), value) for labels, value in found.all(f"{name}_bucket")]
    assert buckets == sorted(buckets) and buckets[-1] == (float("inf"), 6)
    assert all(one <= other for (_, one), (_, other) in zip(buckets, buckets[1:]))
    assert found.value(f"{name}_count") == 6 and found.value(f"{name}_sum") >= 0


def test_what_ended_is_told_with_its_reason(measured, measured_channel, fresh):
    channel, dead, queue, plain = measured_channel, fresh("dead"), fresh("queue"), fresh("plain")
    channel.queue_declare(dead)
    fill(channel, queue, 3, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead, "x-max-length": 1})
    fill(channel, plain, 1)
    for name in (queue, plain):
        method, _, _ = channel.basic_get(name)
        channel.basic_nack(method.delivery_tag, requeue=False)
    ended = lambda what, name: {labels["reason"]: value for labels, value in detailed(
        measured, "leveret_queue_metrics", queue=f"^{name}$").all(f"leveret_detailed_queue_messages_{what}_total")
        if value}
    eventually(lambda: ended("dead_lettered", queue) == {"maxlen": 2, "rejected": 1}, what="the dead letters")
    eventually(lambda: ended("discarded", plain) == {"rejected": 1}, what="what was rejected")


def test_duplicates_are_counted(measured, measured_channel, fresh):
    queue = fresh()
    measured_channel.queue_declare(queue, arguments={"x-message-deduplication": True})
    before = scrape(measured.metrics()).value("leveret_queue_duplicates_total")
    once = pika.BasicProperties(headers={"x-deduplication-header": "same"})
    for _ in range(3):
        measured_channel.basic_publish("", queue, b"", once)
    measured_channel.queue_declare(queue, passive=True)
    found = detailed(measured, "leveret_queue_metrics", queue=f"^{queue}$")
    assert found.value("leveret_detailed_queue_duplicates_total") == 2
    measured_channel.queue_delete(queue)
    eventually(lambda: scrape(measured.metrics()).value("leveret_queue_duplicates_total") == before + 2,
               what="the duplicates of a queue that is gone")


def test_detailed_shows_what_is_asked_for(measured, open_connection, fresh):
    queue, other = fresh("one"), fresh("other")
    channel = open_connection(measured).channel()
    channel.queue_declare(queue)
    channel.queue_declare(other)
    assert {sample.name for sample in detailed(measured).samples} == {"rabbitmq_build_info", "rabbitmq_identity_info"}
    coarse = detailed(measured, "queue_coarse_metrics", "no_such_family", vhost="/", queue=f"^{queue}$")
    names = {sample.name for sample in coarse.samples if sample.labels.get("queue")}
    assert names == {"rabbitmq_detailed_queue_messages_ready", "rabbitmq_detailed_queue_messages_unacked",
                     "rabbitmq_detailed_queue_messages", "rabbitmq_detailed_queue_info"}
    assert {sample.labels["queue"] for sample in coarse.samples if "queue" in sample.labels} == {queue}
    assert not detailed(measured, "queue_coarse_metrics", vhost="elsewhere").all("rabbitmq_detailed_queue_messages")
    # It is in `queue_metrics`, too, and told once.
    both = detailed(measured, "queue_metrics", "queue_consumer_count", queue=f"^{queue}$")
    assert both.value("rabbitmq_detailed_queue_consumers") == 0
    exchange = fresh("exchange")
    channel.exchange_declare(exchange, "topic")
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "b")
    cluster = detailed(measured, "vhost_status", "exchange_bindings", "exchange_names")
    assert cluster.value("rabbitmq_cluster_vhost_status", vhost="/") == 1
    labels = {"vhost": "/", "exchange": exchange, "type": "topic"}
    assert cluster.value("rabbitmq_cluster_exchange_bindings", **labels) == 2
    assert cluster.value("rabbitmq_cluster_exchange_name", **labels) == 1
    assert not cluster.all("rabbitmq_cluster_exchange_name", exchange="")


def test_names_may_be_anything(measured, measured_channel):
    fill(measured_channel, ODD)
    found = detailed(measured, "queue_coarse_metrics", queue="\\\\")
    assert found.value("rabbitmq_detailed_queue_messages_ready", queue=ODD) >= 3


def test_who_asks_for_what_makes_no_sense_is_told(measured):
    def status(path, method="GET"):
        connection = http.client.HTTPConnection(*measured.metrics(), timeout=20)
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status

    assert status("/metrics/detailed?queue=(") == 400
    assert status("/metrics/other") == 404
    assert status("/metrics", "POST") == 405
    # There is nothing else where nobody logs in.
    assert status("/api/overview") == 404
    assert status("/") == 404


def test_beside_the_api_they_are_for_who_may_monitor(measured):
    api = Management(measured.management())
    for path in ENDPOINTS:
        answer = api.request("GET", path)
        assert answer.status == 200 and answer.headers["content-type"] == "text/plain; version=0.0.4"
        assert api.as_user("guest", "wrong").request("GET", path).status == 401
        assert Management(measured.management(), None).request("GET", path).status == 401
    assert api.send("PUT", "users", "m", body={"password": "p", "tags": "management"}).status in (201, 204)
    assert api.as_user("m", "p").request("GET", "/metrics").status == 401


def test_many_queues_are_told_piece_by_piece(measured, measured_channel, fresh):
    base = fresh("many")
    names = [f"{base}-{number}" for number in range(1500)]
    for name in names:
        measured_channel.queue_declare(name)
    found = detailed(measured, "queue_coarse_metrics", queue=f"^{base}-")
    assert len(found.text) > 2 << 17
    seen = [labels["queue"] for labels, _ in found.all("rabbitmq_detailed_queue_messages")]
    assert sorted(seen) == sorted(names)
    for name in names:
        measured_channel.queue_delete(name)


def test_memory_is_told_as_far_as_it_is_known(measured):
    found = scrape(measured.metrics(), "/metrics/memory-breakdown")
    parts = [sample.value for sample in found.samples if sample.name.startswith("rabbitmq_memory_")]
    used = scrape(measured.metrics()).value("rabbitmq_process_resident_memory_bytes")
    assert min(parts) >= 0 and abs(sum(parts) - used) < used


def test_there_are_none_where_none_are_wanted(own_broker):
    broker = own_broker("--prometheus-listen", "none")
    with pytest.raises(AssertionError, match="no listener for http/prometheus"):
        broker.metrics()


# What RabbitMQ's dashboard "RabbitMQ-Overview" asks for, each joined by the labels of `rabbitmq_identity_info`.
OVERVIEW = [f"rabbitmq_{name}" for name in (
    "channels", "connections", "queues", "channels_opened_total", "channels_closed_total", "connections_opened_total",
    "connections_closed_total", "queues_declared_total", "queues_created_total", "queues_deleted_total",
    "queue_messages_ready", "queue_messages_unacked", "disk_space_available_bytes", "disk_space_available_limit_bytes",
    "resident_memory_limit_bytes", "process_resident_memory_bytes", "process_open_fds", "process_max_fds",
    "erlang_uptime_seconds")]
OVERVIEW_GLOBAL = [f"rabbitmq_global_{name}" for name in (
    "publishers", "consumers", "messages_received_total", "messages_received_confirm_total", "messages_confirmed_total",
    "messages_routed_total", "messages_unroutable_dropped_total", "messages_unroutable_returned_total")]
OVERVIEW_BY_TYPE = [f"rabbitmq_global_{name}" for name in (
    "messages_delivered_total", "messages_delivered_consume_auto_ack_total",
    "messages_delivered_consume_manual_ack_total", "messages_delivered_get_auto_ack_total",
    "messages_delivered_get_manual_ack_total", "messages_get_empty_total", "messages_redelivered_total",
    "messages_acknowledged_total")]


def test_rabbitmqs_dashboard_finds_its_names(measured):
    found = scrape(measured.metrics())
    for name in OVERVIEW:
        assert [labels for labels, _ in found.all(name)] == [{}], name
    for name in OVERVIEW_GLOBAL:
        assert [labels for labels, _ in found.all(name)] == [{"protocol": "amqp091"}], name
    types = {"rabbit_classic_queue", "rabbit_quorum_queue", "rabbit_stream_queue"}
    for name in OVERVIEW_BY_TYPE:
        labels = [labels for labels, _ in found.all(name)]
        assert {it["queue_type"] for it in labels} == types and len(labels) == 3, name
        assert {it["protocol"] for it in labels} == {"amqp091"}
    sizes = [labels["le"] for labels, _ in found.all("rabbitmq_message_size_bytes_bucket", protocol="amqp091")]
    assert [float(it) for it in sizes] == [1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 5e7, 1e8, float("inf")]
    for part in ("sum", "count"):
        assert found.all(f"rabbitmq_message_size_bytes_{part}", protocol="amqp091")


def test_what_is_published_is_told_from_read_to_confirm(measured, open_connection, fresh):
    connection = open_connection(measured)
    channel, queue, exchange = connection.channel(), fresh(), fresh("exchange")
    before = scrape(measured.metrics())
    channel.queue_declare(queue)
    channel.queue_declare(queue)
    channel.exchange_declare(exchange)
    for size in (1, 100, 101, 5000):
        channel.basic_publish("", queue, b"x" * size)
    channel.basic_publish(exchange, "nowhere", b"")
    channel.basic_publish(exchange, "nowhere", b"", mandatory=True)
    confirming = connection.channel()
    confirming.confirm_delivery()
    for _ in range(3):
        confirming.basic_publish("", queue, b"x" * 7)
    with pytest.raises(pika.exceptions.UnroutableError):
        confirming.basic_publish(exchange, "nowhere", b"", mandatory=True)
    channel.close()
    after = eventually(lambda: (it := scrape(measured.metrics())).value("rabbitmq_channels_closed_total")
                       > before.value("rabbitmq_channels_closed_total") and it, what="the channel to be closed")
    more = lambda name, **labels: after.value(name, **labels) - before.value(name, **labels)
    assert more("rabbitmq_global_messages_received_total") == 10
    assert more("rabbitmq_global_messages_received_confirm_total") == 4
    assert more("rabbitmq_global_messages_confirmed_total") == 4
    assert more("rabbitmq_global_messages_routed_total") == 7
    assert more("rabbitmq_global_messages_unroutable_dropped_total") == 1
    assert more("rabbitmq_global_messages_unroutable_returned_total") == 2
    assert more("rabbitmq_channel_messages_published_total") == 10
    assert more("rabbitmq_message_size_bytes_count") == 10
    assert more("rabbitmq_message_size_bytes_sum") == 1 + 100 + 101 + 5000 + 21
    assert more("rabbitmq_message_size_bytes_bucket", le="100") == 8
    assert more("rabbitmq_message_size_bytes_bucket", le="1000") == 9
    assert more("rabbitmq_connections_opened_total") == 0
    assert more("rabbitmq_channels_opened_total") == 1
    assert more("rabbitmq_queues_declared_total") == 2 and more("rabbitmq_queues_created_total") == 1
    assert more("rabbitmq_connection_incoming_bytes_total") > 5000
    of_exchange = scrape(measured.metrics(), "/metrics/detailed?family=exchange_metrics")
    labels = {"vhost": "/", "exchange": exchange}
    assert of_exchange.value("rabbitmq_detailed_exchange_messages_unroutable_returned_total", **labels) == 2
    assert of_exchange.value("rabbitmq_detailed_exchange_messages_unroutable_dropped_total", **labels) == 1


def test_connections_that_are_gone_still_count(measured, open_connection):
    count = lambda found: (found.value("rabbitmq_connections_opened_total"),
                           found.value("rabbitmq_connections_closed_total"),
                           found.value("rabbitmq_global_messages_received_total"))
    before = count(scrape(measured.metrics()))
    connection = open_connection(measured)
    connection.channel().basic_publish("amq.fanout", "", b"")
    connection.close()
    expected = tuple(value + 1 for value in before)
    eventually(lambda: count(scrape(measured.metrics())) == expected, what="the connection to be counted")


def test_logins_are_counted(measured, open_connection):
    of = lambda outcome, protocol: scrape(measured.metrics()).value(
        f"rabbitmq_auth_attempts{outcome}_total", protocol=protocol)
    before = [of(outcome, "amqp091") for outcome in ("", "_succeeded", "_failed")]
    open_connection(measured)
    with pytest.raises(pika.exceptions.AMQPConnectionError):
        open_connection(measured, credentials=pika.PlainCredentials("guest", "wrong"))
    after = [of(outcome, "amqp091") for outcome in ("", "_succeeded", "_failed")]
    assert [one - other for one, other in zip(after, before)] == [2, 1, 1]
    before = of("_succeeded", "http")
    Management(measured.management()).request("GET", "/metrics")
    assert of("_succeeded", "http") == before + 1


def test_what_the_store_does_is_told(measured, measured_channel, fresh):
    before = scrape(measured.metrics())
    queue = fresh()
    measured_channel.queue_declare(queue, durable=True)
    measured_channel.confirm_delivery()
    measured_channel.basic_publish("", queue, b"x" * 1000, pika.BasicProperties(delivery_mode=2))
    after = scrape(measured.metrics())
    more = lambda name: after.value(name) - before.value(name)
    assert more("rabbitmq_io_sync_ops_total") >= 1 and more("leveret_sync_seconds_count") >= 1
    assert more("rabbitmq_io_write_bytes_total") >= 1000
    assert after.value("leveret_sync_seconds_bucket", le="+Inf") == after.value("leveret_sync_seconds_count")
    assert after.value("leveret_sync_seconds_sum") > 0


def test_duplicates_at_an_exchange_are_counted(measured, measured_channel, fresh):
    exchange = fresh()
    measured_channel.exchange_declare(exchange, PLUGIN, arguments={"x-cache-size": 100})
    measured_channel.queue_declare(exchange)
    measured_channel.queue_bind(exchange, exchange, "")
    once = pika.BasicProperties(headers={"x-deduplication-header": "same"})
    for _ in range(3):
        measured_channel.basic_publish(exchange, "", b"", once)
    measured_channel.exchange_declare(exchange, passive=True)
    found = scrape(measured.metrics(), "/metrics/detailed?family=exchange_metrics")
    assert found.value("leveret_detailed_exchange_duplicates_total", exchange=exchange) == 2


def dashboard_expressions():
    dashboard = json.loads((Path(__file__).parents[3] / "docs/grafana/leveret.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 30
    return expressions


def test_our_dashboard_is_read_by_prometheus(tmp_path):
    promtool = shutil.which("promtool")
    if not promtool:
        pytest.skip("there is no promtool (Debian's package prometheus)")
    rules = [{"record": f"rule_{number}", "expr": expression.replace("$__rate_interval", "1m").replace("$cluster", "x")}
             for number, expression in enumerate(dashboard_expressions())]
    path = tmp_path / "rules.json"
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    checked = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()


def test_our_dashboard_asks_for_what_there_is(measured, measured_channel, fresh):
    fill(measured_channel, fresh())
    there = {sample.name for sample in scrape(measured.metrics()).samples}
    for expression in dashboard_expressions():
        # Labels apart.
        asked = set(re.findall(r"\b(?:rabbitmq|leveret|process)_\w+", re.sub(r"\{[^}]*\}|\([a-z_, ]*\)", "", expression)))
        assert asked and asked <= there, expression
