"""Exchange-to-exchange bindings, alternate exchanges, CC and BCC: routes of more than one step."""

import pika
import pytest
from pika import spec

from test_exchanges import Catcher


def test_exchange_binding_passes_messages_on(channel, scratch):
    source, target = scratch.exchange(channel, "topic"), scratch.exchange(channel, "fanout")
    channel.exchange_bind(target, source, "a.*")
    c = Catcher(channel, source)
    c.bind("behind", exchange=target)
    assert c.routes("a.b") == ["behind"]
    assert c.routes("b.b") == []
    channel.exchange_unbind(target, source, "a.*")
    assert c.routes("a.b") == []


def test_the_target_sees_the_original_key_and_exchange(channel, scratch):
    source, target = scratch.exchange(channel, "fanout"), scratch.exchange(channel, "direct")
    channel.exchange_bind(target, source)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, target, "k")
    channel.basic_publish(source, "k", b"x")
    method, _, _ = channel.basic_get(queue, auto_ack=True)
    assert (method.exchange, method.routing_key) == (source, "k")


def test_a_queue_reached_on_two_ways_gets_one_message(channel, scratch):
    source = scratch.exchange(channel, "fanout")
    c = Catcher(channel, source)
    for _ in range(2):
        middle = scratch.exchange(channel, "fanout")
        channel.exchange_bind(middle, source)
        c.bind("end", exchange=middle)
    c.bind("end")
    assert c.routes() == ["end"]


def test_cycles_of_exchanges_end(channel, scratch):
    ring = [scratch.exchange(channel, "fanout") for _ in range(3)]
    c = Catcher(channel, ring[0])
    for number, exchange in enumerate(ring):
        channel.exchange_bind(ring[(number + 1) % 3], exchange)
        c.bind(number, exchange=exchange)
    channel.exchange_bind(ring[0], ring[0])
    assert sorted(c.routes()) == [0, 1, 2]
    assert sorted(c.routes(exchange=ring[1])) == [0, 1, 2]


def test_unbinding_what_is_not_bound_is_no_error(channel, scratch):
    source, target = scratch.exchange(channel), scratch.exchange(channel)
    channel.exchange_unbind(target, source, "never")
    channel.exchange_unbind(scratch.name(), scratch.name(), "never")


@pytest.mark.parametrize("missing", ["source", "target"])
def test_binding_a_missing_exchange(channel, scratch, missing):
    there, name = scratch.exchange(channel), scratch.name()
    target, source = (there, name) if missing == "source" else (name, there)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.exchange_bind(target, source, "k")
    assert (closed.value.reply_code, closed.value.reply_text) == (404, f"NOT_FOUND - no exchange '{name}' in vhost '/'")


def test_deleting_the_target_removes_the_binding(channel, scratch):
    source, target = scratch.exchange(channel, "fanout"), scratch.exchange(channel, "fanout")
    channel.exchange_bind(target, source)
    c = Catcher(channel, source)
    c.bind("behind", exchange=target)
    channel.exchange_delete(target)
    assert c.routes() == []
    channel.exchange_declare(target, exchange_type="fanout")
    c.bind("behind", exchange=target)
    assert c.routes() == []


def test_auto_delete_cascades_along_exchange_bindings(channel, scratch):
    first = scratch.exchange(channel, "fanout", auto_delete=True)
    second = scratch.exchange(channel, "fanout", auto_delete=True)
    channel.exchange_bind(second, first)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, second)
    channel.queue_delete(queue)  # takes the second exchange with it, and that the first
    for exchange in (second, first):
        other = channel.connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
            other.exchange_declare(exchange, passive=True)
        assert closed.value.reply_code == 404


def test_alternate_exchange_takes_what_is_not_routed(channel, scratch):
    alternate = scratch.exchange(channel, "fanout")
    exchange = scratch.exchange(channel, "direct", arguments={"alternate-exchange": alternate})
    c = Catcher(channel, exchange)
    c.bind("routed", "k")
    c.bind("rest", exchange=alternate)
    assert c.routes("k") == ["routed"]
    assert c.routes("other") == ["rest"]


def test_alternate_exchanges_form_chains_and_rings(channel, scratch):
    names = [scratch.name() for _ in range(3)]
    for number, name in enumerate(names):
        channel.exchange_declare(name, arguments={"alternate-exchange": names[(number + 1) % 3]})
    c = Catcher(channel, names[0])
    c.bind("last", "k", exchange=names[2])
    assert c.routes("k") == ["last"]
    assert c.routes("lost") == []


def test_a_missing_alternate_exchange_is_no_error(channel, scratch):
    exchange = scratch.exchange(channel, arguments={"alternate-exchange": scratch.name()})
    assert Catcher(channel, exchange).routes("k") == []


def test_a_message_that_the_alternate_exchange_routes_is_not_returned(channel, scratch):
    channel.confirm_delivery()
    alternate = scratch.exchange(channel, "fanout")
    exchange = scratch.exchange(channel, arguments={"alternate-exchange": alternate})
    with pytest.raises(pika.exceptions.UnroutableError):
        channel.basic_publish(exchange, "k", b"x", mandatory=True)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, alternate)
    channel.basic_publish(exchange, "k", b"x", mandatory=True)


def test_alternate_exchange_of_an_exchange_reached_by_a_binding(channel, scratch):
    alternate = scratch.exchange(channel, "fanout")
    inner = scratch.exchange(channel, "direct", arguments={"alternate-exchange": alternate})
    outer = scratch.exchange(channel, "fanout")
    channel.exchange_bind(inner, outer)
    c = Catcher(channel, outer)
    c.bind("rest", exchange=alternate)
    assert c.routes("nowhere") == ["rest"]


def copies(channel, c, exchange, key, **headers):
    channel.basic_publish(exchange, key, b"x", pika.BasicProperties(headers=headers))
    return {label: channel.queue_purge(queue).method.message_count for label, queue in c.queues.items()}


def test_cc_and_bcc_route_to_further_keys(channel):
    c = Catcher(channel, "amq.direct")
    for key in ("a-cc", "b-cc", "c-cc"):
        c.bind(key, key)
    assert copies(channel, c, "amq.direct", "a-cc", CC=["b-cc"], BCC=["c-cc"]) == {"a-cc": 1, "b-cc": 1, "c-cc": 1}
    assert copies(channel, c, "amq.direct", "none", CC=["b-cc", "c-cc"]) == {"a-cc": 0, "b-cc": 1, "c-cc": 1}
    assert copies(channel, c, "amq.direct", "a-cc", CC=["a-cc", "a-cc"], BCC=["a-cc"]) == {
        "a-cc": 1, "b-cc": 0, "c-cc": 0}
    assert copies(channel, c, "amq.direct", "a-cc", CC=[]) == {"a-cc": 1, "b-cc": 0, "c-cc": 0}


def test_cc_works_on_the_default_exchange(channel):
    first, second = (channel.queue_declare("", exclusive=True).method.queue for _ in range(2))
    channel.basic_publish("", first, b"x", pika.BasicProperties(headers={"CC": [second]}))
    method, properties, _ = channel.basic_get(second, auto_ack=True)
    assert method.routing_key == first  # the key it was published with
    assert properties.headers == {"CC": [second]}
    assert channel.basic_get(first, auto_ack=True)[0]


def test_bcc_is_removed_and_cc_stays(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    headers = {"CC": ["x"], "BCC": [queue], "other": 1}
    channel.basic_publish("", "nobody", b"body", pika.BasicProperties(headers=headers, content_type="text/plain"))
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert (properties.headers, properties.content_type, body) == ({"CC": ["x"], "other": 1}, "text/plain", b"body")
    assert method.routing_key == "nobody"


def test_a_message_routed_by_cc_alone_is_not_returned(channel):
    channel.confirm_delivery()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", "nobody", b"x", pika.BasicProperties(headers={"CC": [queue]}), mandatory=True)
    assert channel.basic_get(queue, auto_ack=True)[0]


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_cc_of_other_than_strings(channel, header):
    channel.basic_publish("amq.direct", "k", b"x", pika.BasicProperties(headers={header: "text"}))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_qos()
    assert closed.value.reply_code == 406
    assert f'{{unacceptable_type_in_header,"{header}",longstr}}' in closed.value.reply_text


def test_exchange_bind_nowait(wire, scratch):
    client = wire()
    client.open_channel(1)
    source = scratch.name()
    client.call(1, spec.Exchange.Declare(exchange=source, type="fanout"))
    client.send(1, spec.Exchange.Bind(destination="amq.fanout", source=source, nowait=True))
    queue = client.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    client.call(1, spec.Queue.Bind(queue=queue, exchange="amq.fanout"))
    client.publish(1, source, "", b"x")
    assert client.call(1, spec.Queue.Purge(queue=queue)).message_count == 1
    client.send(1, spec.Exchange.Unbind(destination="amq.fanout", source=source, nowait=True))
    client.publish(1, source, "", b"x")
    assert client.call(1, spec.Queue.Purge(queue=queue)).message_count == 0
