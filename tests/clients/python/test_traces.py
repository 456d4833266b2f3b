"""Spans of traced messages, as an OTLP collector gets them; needs a binary built with the feature `otel`."""

import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pika
import pytest

from support.waiting import eventually

pytestmark = pytest.mark.leveret_only("sends spans")

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENDER = "b7ad6b7169203331"


class Collector:
    """A tiny OTLP receiver."""

    def __init__(self, status=200):
        self.status, self.posts = status, []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.posts.append((self.path, self.headers["content-type"], json.loads(body)))
                self.send_response(collector.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def spans(self):
        """All spans so far, by name; no two are of one name."""
        spans = [span for _, _, body in list(self.posts) for resource in body["resourceSpans"]
                 for scope in resource["scopeSpans"] for span in scope["spans"]]
        named = {span["name"]: span for span in spans}
        assert len(named) == len(spans), [span["name"] for span in spans]
        return named


@pytest.fixture
def collector():
    made = []

    def make(**options):
        made.append(Collector(**options))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture
def traced_broker(binary, own_broker):
    """Makes brokers that send their spans somewhere."""
    # It ends at once for the one reason or the other.
    tried = subprocess.run([binary, "--otlp-endpoint", "http://127.0.0.1:1", "--in-memory", "--listen", "127.0.0.1:0",
                            "--ready-file", "/nonexistent/ready"], capture_output=True, timeout=30, check=False)
    if b"--features otel" in tried.stderr:
        pytest.skip("the binary was built without the feature otel")
    return lambda collector: own_broker("--otlp-endpoint", collector.url)


def properties(flags="01"):
    return pika.BasicProperties(headers={"traceparent": f"00-{TRACE}-{SENDER}-{flags}"})


def attributes(span):
    return {it["key"]: next(iter(it["value"].values())) for it in span["attributes"]}


def test_a_traced_message_is_told_of_from_publish_to_ack(traced_broker, collector, open_connection):
    collector = collector()
    channel = open_connection(traced_broker(collector)).channel()
    for queue in ("one", "other"):
        channel.queue_declare(queue)
        channel.queue_bind(queue, "amq.topic", "a.#")
    channel.basic_publish("amq.topic", "a.b", b"x" * 9, properties())
    channel.basic_publish("amq.topic", "a.b", b"not sampled", properties("00"))
    channel.basic_publish("amq.topic", "a.b", b"not traced")
    method, header, _ = eventually(lambda: (it := channel.basic_get("one"))[0] and it, what="the message")
    # It goes on as it came.
    assert header.headers["traceparent"] == f"00-{TRACE}-{SENDER}-01"
    channel.basic_ack(method.delivery_tag)
    got = []
    channel.basic_consume("other", lambda _channel, method, _properties, body: got.append((method.delivery_tag, body)))
    eventually(lambda: channel.connection.process_data_events(0.02) or len(got) == 3, what="the deliveries")
    channel.basic_nack(got[0][0], requeue=False)
    names = {"publish amq.topic", "route", "queue one", "queue other", "deliver one", "deliver other", "ack one",
             "reject other"}
    eventually(lambda: channel.connection.process_data_events(0.02) or set(collector.spans()) >= names,
               what="the spans")
    spans = collector.spans()
    assert set(spans) == names
    assert {span["traceId"] for span in spans.values()} == {TRACE}
    parent = lambda name: spans[name]["parentSpanId"]
    identity = lambda name: spans[name]["spanId"]
    assert parent("publish amq.topic") == SENDER
    for name, above in (("route", "publish amq.topic"), ("queue one", "publish amq.topic"),
                        ("deliver one", "queue one"), ("ack one", "deliver one"),
                        ("queue other", "publish amq.topic"), ("deliver other", "queue other"),
                        ("reject other", "deliver other")):
        assert parent(name) == identity(above), name
    assert len({span["spanId"] for span in spans.values()}) == len(spans)
    for span in spans.values():
        assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
    published = attributes(spans["publish amq.topic"])
    assert published["messaging.destination.name"] == "amq.topic"
    assert published["messaging.rabbitmq.destination.routing_key"] == "a.b"
    assert published["messaging.message.body.size"] == "9"
    assert attributes(spans["route"])["leveret.queues"] == "2"
    path, content_type, body = collector.posts[0]
    assert (path, content_type) == ("/v1/traces", "application/json")
    assert {"key": "service.name", "value": {"stringValue": "leveret"}} in body["resourceSpans"][0]["resource"]["attributes"]


def test_who_does_not_take_spans_holds_nothing_up(traced_broker, collector, open_connection):
    collector = collector(status=503)
    broker = traced_broker(collector)
    channel = open_connection(broker).channel()
    channel.queue_declare("q")
    channel.confirm_delivery()
    for _ in range(100):
        channel.basic_publish("", "q", b"", properties())
    eventually(lambda: "spans were lost" in broker.log.read_text(), what="the line in the log")
    assert channel.queue_declare("q", passive=True).method.message_count == 100
