"""exchange.declare and delete, the predeclared exchanges, and what each type routes."""

import pika
import pytest

PREDECLARED = {"": "direct", "amq.direct": "direct", "amq.fanout": "fanout", "amq.topic": "topic",
               "amq.headers": "headers", "amq.match": "headers", "amq.rabbitmq.trace": "topic"}


class Catcher:
    """Queues bound to an exchange; `routes` says which of them a message reached."""

    def __init__(self, channel, exchange):
        self.channel, self.exchange = channel, exchange
        self.queues = {}

    def bind(self, label, routing_key="", arguments=None, exchange=None):
        if label not in self.queues:
            self.queues[label] = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.queue_bind(self.queues[label], exchange or self.exchange, routing_key, arguments)

    def routes(self, routing_key="", headers=None, exchange=None):
        self.channel.basic_publish(exchange or self.exchange, routing_key, b"x", pika.BasicProperties(headers=headers))
        reached = []
        for label, queue in self.queues.items():
            count = self.channel.queue_purge(queue).method.message_count
            reached += [label] * count
        return reached


@pytest.fixture
def catcher(channel, scratch):
    return lambda kind, **options: Catcher(channel, scratch.exchange(channel, kind, **options))


@pytest.mark.parametrize("exchange, kind", [item for item in PREDECLARED.items() if item[0]])
def test_predeclared_exchanges(channel, exchange, kind):
    channel.exchange_declare(exchange, exchange_type=kind, passive=True)
    # an equal redeclaration is allowed, although the name is reserved
    channel.exchange_declare(exchange, exchange_type=kind, durable=True, internal=exchange == "amq.rabbitmq.trace")


def test_default_exchange_is_found_passively(channel):
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare("", passive=True)
    assert closed.value.reply_code == 403


def test_default_exchange_routes_to_the_queue_of_that_name(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x")
    method, _, body = channel.basic_get(queue, auto_ack=True)
    assert (method.exchange, method.routing_key, body) == ("", queue, b"x")


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
def test_redeclaring_alike_is_no_error_and_delete_removes(channel, scratch, kind):
    exchange = scratch.name()
    for _ in range(2):
        channel.exchange_declare(exchange, exchange_type=kind, durable=True, auto_delete=True,
                                 arguments={"alternate-exchange": "amq.fanout"})
    channel.exchange_declare(exchange, passive=True)
    channel.exchange_delete(exchange)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_declare(exchange, passive=True)
    assert closed.value.reply_code == 404


def test_passive_declare_ignores_the_type(channel, scratch):
    exchange = scratch.exchange(channel, "topic")
    channel.exchange_declare(exchange, exchange_type="direct", passive=True)


def test_delete_if_unused_of_an_unused_exchange(channel, scratch):
    channel.exchange_delete(scratch.exchange(channel), if_unused=True)


def test_auto_delete_exchange_goes_with_its_last_binding(connection, channel, scratch):
    exchange = scratch.exchange(channel, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "a")
    channel.queue_bind(queue, exchange, "b")
    channel.queue_unbind(queue, exchange, "a")
    channel.exchange_declare(exchange, passive=True)
    channel.queue_unbind(queue, exchange, "b")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.exchange_declare(exchange, passive=True)


def test_auto_delete_exchange_goes_with_its_last_queue(channel, scratch):
    exchange = scratch.exchange(channel, auto_delete=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, exchange, "a")
    channel.queue_delete(queue)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker):
        channel.exchange_declare(exchange, passive=True)


def test_direct(catcher):
    c = catcher("direct")
    c.bind("one", "red")
    c.bind("two", "red")
    c.bind("three", "blue")
    c.bind("three", "red.x")
    assert c.routes("red") == ["one", "two"]
    assert c.routes("blue") == ["three"]
    assert c.routes("RED") == c.routes("re") == c.routes("red.") == c.routes("*") == c.routes("") == []


def test_direct_with_two_bindings_of_one_queue_delivers_once(catcher):
    c = catcher("direct")
    c.bind("one", "k", {"a": 1})
    c.bind("one", "k", {"a": 2})
    assert c.routes("k") == ["one"]


def test_direct_with_a_key_of_255_bytes(catcher):
    c = catcher("direct")
    c.bind("long", "k" * 255)
    assert c.routes("k" * 255) == ["long"]
    assert c.routes("k" * 254) == []


def test_fanout_ignores_the_key(catcher):
    c = catcher("fanout")
    c.bind("one", "a")
    c.bind("two", "b")
    c.bind("two", "c")
    assert c.routes("whatever") == c.routes("") == ["one", "two"]


# The empty key has no words at all, "." has two empty ones.
TOPICS = [
    ("#", ["", "a", "a.b", "a.b.c", ".", "..", "a.", ".a"], []),
    ("*", ["a", "a b"], ["", "a.b", ".", "a.", ".a"]),
    ("*.*", ["a.b", ".", "a.", ".b"], ["", "a", "a.b.c", ".."]),
    ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a", ""]),
    ("a.#", ["a", "a.b", "a.b.c", "a.", "a.."], ["b", "b.a", "", ".a"]),
    ("#.a", ["a", "b.a", "c.b.a", ".a"], ["a.b", "", "a."]),
    ("#.a.#", ["a", "b.a", "a.b", "c.a.b", ".a."], ["b", "", "b.c"]),
    ("*.#", ["a", "a.b", "a.b.c", "."], [""]),
    ("#.*", ["a", "a.b", "."], [""]),
    ("#.#", ["", "a", "a.b"], []),
    ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c", "a.b.d"]),
    ("a.#.c", ["a.c", "a.b.c", "a.b.b.c", "a..c"], ["a", "a.b", "c", "c.a"]),
    ("*.b.#.d.*", ["a.b.d.e", "a.b.c.d.e", "a.b.c.c.d.e"], ["b.d.e", "a.b.d", "a.b.c.d"]),
    ("", [""], ["a", "."]),
    ("a", ["a"], ["", "a.", ".a", "a.a", "A"]),
    ("a..b", ["a..b"], ["a.b", "a.x.b"]),
    (".", ["."], ["", "a", ".."]),
    ("a.", ["a."], ["a", "a.b"]),
    ("a#", ["a#"], ["a", "ab", "a.b"]),
    ("a*.b", ["a*.b"], ["ax.b", "a.b"]),
    ("##", ["##"], ["", "a"]),
]


@pytest.mark.parametrize("pattern, hits, misses", TOPICS, ids=[row[0] or "(empty)" for row in TOPICS])
def test_topic(catcher, pattern, hits, misses):
    c = catcher("topic")
    c.bind("it", pattern)
    assert [key for key in hits if c.routes(key) != ["it"]] == []
    assert [key for key in misses if c.routes(key)] == []


def test_topic_delivers_once_however_many_patterns_match(catcher):
    c = catcher("topic")
    for pattern in ("#", "a.#", "a.*", "*.b", "a.b"):
        c.bind("one", pattern)
    c.bind("two", "a.b")
    assert c.routes("a.b") == ["one", "two"]


def test_topic_unbind_leaves_the_other_patterns(channel, catcher):
    c = catcher("topic")
    for pattern in ("a.#", "a.*", "a.b.c"):
        c.bind(pattern, pattern)
    channel.queue_unbind(c.queues["a.*"], c.exchange, "a.*")
    assert c.routes("a.b") == ["a.#"]
    assert c.routes("a.b.c") == ["a.#", "a.b.c"]
    channel.queue_unbind(c.queues["a.#"], c.exchange, "a.#")
    assert c.routes("a.b.c") == ["a.b.c"]


HEADERS = [
    # binding arguments, headers that match, headers that do not
    ({"x-match": "all", "a": 1, "b": "two"}, [{"a": 1, "b": "two"}, {"a": 1, "b": "two", "c": 3}],
     [{"a": 1}, {"b": "two"}, {"a": 2, "b": "two"}, {"a": "1", "b": "two"}, {}, None]),
    ({"a": 1}, [{"a": 1}, {"a": 1, "b": 2}], [{"a": 2}, {"b": 1}, {}, None]),
    ({"x-match": "any", "a": 1, "b": "two"}, [{"a": 1}, {"b": "two"}, {"a": 2, "b": "two"}],
     [{"a": 2}, {"b": "2"}, {"c": 1}, {}, None]),
    ({"x-match": "all"}, [{}, None, {"a": 1}], []),
    ({}, [{}, None, {"a": 1}], []),
    ({"x-match": "any"}, [], [{}, None, {"a": 1}]),
    ({"x-match": "all", "a": None}, [{"a": 1}, {"a": "x"}, {"a": None}], [{}, {"b": 1}]),
    ({"x-match": "any", "a": None, "b": 2}, [{"a": 7}, {"b": 2}], [{"b": 3}, {}]),
    ({"x-match": "all", "x-own": 1, "a": 1}, [{"a": 1}, {"a": 1, "x-own": 2}], [{"x-own": 1}, {}]),
    ({"x-match": "any", "x-own": 1, "a": 1}, [{"a": 1}], [{"x-own": 1}, {}]),
    ({"x-match": "all", "flag": True}, [{"flag": True}], [{"flag": False}, {"flag": "true"}, {"flag": 1}]),
    ({"x-match": "all", "t": {"n": 1}}, [{"t": {"n": 1}}], [{"t": {"n": 2}}, {"t": 1}]),
]


@pytest.mark.parametrize("arguments, hits, misses", HEADERS, ids=[str(row[0]) for row in HEADERS])
def test_headers(catcher, arguments, hits, misses):
    c = catcher("headers")
    c.bind("it", arguments=arguments)
    assert [headers for headers in hits if c.routes(headers=headers) != ["it"]] == []
    assert [headers for headers in misses if c.routes(headers=headers)] == []


WITH_X = [
    ({"x-match": "all-with-x", "x-own": 1, "a": 1}, [{"a": 1, "x-own": 1}], [{"a": 1}, {"x-own": 1}, {}]),
    ({"x-match": "any-with-x", "x-own": 1, "a": 1}, [{"a": 1}, {"x-own": 1}], [{"x-own": 2}, {}]),
]


@pytest.mark.parametrize("arguments, hits, misses", WITH_X, ids=[str(row[0]) for row in WITH_X])
def test_headers_with_x(catcher, arguments, hits, misses):
    test_headers(catcher, arguments, hits, misses)


def test_headers_ignores_the_routing_key(catcher):
    c = catcher("headers")
    c.bind("it", "some key", {"a": 1})
    assert c.routes("another key", headers={"a": 1}) == ["it"]


def test_headers_delivers_once_however_many_bindings_match(catcher):
    c = catcher("headers")
    c.bind("one", arguments={"a": 1})
    c.bind("one", arguments={"b": 1})
    c.bind("two", arguments={"x-match": "any", "a": 1, "b": 1})
    assert c.routes(headers={"a": 1, "b": 1}) == ["one", "two"]


def test_headers_unbind_needs_the_same_arguments(channel, catcher):
    c = catcher("headers")
    c.bind("it", arguments={"a": 1})
    channel.queue_unbind(c.queues["it"], c.exchange, "", {"a": 2})
    assert c.routes(headers={"a": 1}) == ["it"]
    channel.queue_unbind(c.queues["it"], c.exchange, "", {"a": 1})
    assert c.routes(headers={"a": 1}) == []
