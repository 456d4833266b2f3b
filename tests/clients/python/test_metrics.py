"""Metrics for Prometheus: what is told of the broker and of its queues, and to whom."""

import http.client
import shutil
import subprocess
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
ODD = 'a "b" \\ c'
DETAILED = ("queue_coarse_metrics", "queue_consumer_count", "queue_metrics", "queue_delivery_metrics",
            "leveret_queue_metrics", "leveret_queue_times", "node_metrics", "node_coarse_metrics", "vhost_status",
            "exchange_bindings", "exchange_names")


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
