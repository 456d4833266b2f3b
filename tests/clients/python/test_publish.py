"""basic.publish: confirms, returns, and what arrives of what was sent."""

import pika
import pytest
from pika import spec


@pytest.fixture
def confirming(wire):
    """A raw connection with channel 1 in confirm mode."""
    client = wire()
    client.open_channel(1)
    client.call(1, spec.Confirm.Select())
    return client


def confirms_of(client, count):
    """Reads acks and nacks until `count` tags are settled; {tag: "ack" | "nack"}."""
    settled, highest = {}, 0
    while len(settled) < count:
        method = client.read_method(spec.Basic.Ack, spec.Basic.Nack)
        word = "ack" if isinstance(method, spec.Basic.Ack) else "nack"
        tags = range(1, method.delivery_tag + 1) if method.multiple else [method.delivery_tag]
        for tag in tags:
            assert method.multiple or tag not in settled, f"tag {tag} settled twice"
            settled.setdefault(tag, word)
        highest = max(highest, method.delivery_tag)
    assert highest == count
    return settled


def test_confirm_select_twice_is_no_error(confirming):
    confirming.call(1, spec.Confirm.Select())


def test_unroutable_messages_are_confirmed(confirming):
    for _ in range(3):
        confirming.publish(1, "", "nowhere")
    assert confirms_of(confirming, 3) == {1: "ack", 2: "ack", 3: "ack"}


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("delivery_mode", [1, 2])
def test_every_publish_is_confirmed_once(confirming, scratch, durable, delivery_mode):
    queue = scratch.name()
    confirming.call(1, spec.Queue.Declare(queue=queue, durable=durable))
    properties = pika.BasicProperties(delivery_mode=delivery_mode)
    for number in range(500):
        confirming.publish(1, "", queue if number % 3 else "nowhere", b"x" * (number % 50), properties)
    assert set(confirms_of(confirming, 500).values()) == {"ack"}


def test_confirms_on_channels_are_counted_apart(confirming):
    confirming.open_channel(2)
    confirming.call(2, spec.Confirm.Select())
    for channel in (1, 2, 2, 1, 2):
        confirming.publish(channel, "", "nowhere")
    seen = {1: 0, 2: 0}
    while seen != {1: 2, 2: 3}:
        frame = confirming.read_frame()
        seen[frame.channel_number] = max(seen[frame.channel_number], frame.method.delivery_tag)


def test_tags_count_from_confirm_select_on(wire):
    client = wire()
    client.open_channel(1)
    for _ in range(5):
        client.publish(1, "", "nowhere")
    client.call(1, spec.Confirm.Select())
    client.publish(1, "", "nowhere")
    assert client.read_method(spec.Basic.Ack).delivery_tag == 1


def test_a_mandatory_miss_is_returned_before_its_confirm(confirming):
    properties = pika.BasicProperties(content_type="text/plain", headers={"a": 1}, message_id="7")
    confirming.publish(1, "amq.direct", "no such key", b"body", properties, mandatory=True)
    returned = confirming.read_method(spec.Basic.Return)
    assert (returned.reply_code, returned.reply_text) == (312, "NO_ROUTE")
    assert (returned.exchange, returned.routing_key) == ("amq.direct", "no such key")
    back, body = confirming.read_content()
    assert (back.content_type, back.headers, back.message_id, body) == ("text/plain", {"a": 1}, "7", b"body")
    assert confirming.read_method(spec.Basic.Ack).delivery_tag == 1


def test_every_return_comes_before_the_confirm_of_its_message(confirming):
    """Mandatory misses and plain publishes mixed: no confirm may cover a miss that is not yet returned."""
    misses = [number for number in range(1, 201) if number % 3 == 0]
    for number in range(1, 201):
        confirming.publish(1, "", "nowhere", str(number).encode(), mandatory=number % 3 == 0)
    returned, highest = [], 0
    while highest < 200:
        method = confirming.read_method(spec.Basic.Return, spec.Basic.Ack)
        if isinstance(method, spec.Basic.Return):
            returned.append(int(confirming.read_content()[1]))
            continue
        upto = method.delivery_tag
        covered = [n for n in misses if (n <= upto if method.multiple else n == upto)]
        assert set(covered) <= set(returned)
        highest = max(highest, upto)
    assert returned == misses


def test_a_mandatory_message_that_finds_a_queue_is_not_returned(confirming):
    queue = confirming.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    confirming.publish(1, "", queue, b"x", mandatory=True)
    assert confirming.read_method(spec.Basic.Ack).delivery_tag == 1


def test_returns_without_confirms(channel):
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append((method.reply_code, body)))
    channel.basic_publish("", "nowhere", b"one", mandatory=True)
    channel.basic_publish("", "nowhere", b"two", mandatory=False)
    channel.basic_publish("", "nowhere", b"three", mandatory=True)
    channel.basic_qos()
    channel.connection.process_data_events()
    assert returned == [(312, b"one"), (312, b"three")]


def test_pika_raises_for_an_unroutable_message(channel):
    channel.confirm_delivery()
    with pytest.raises(pika.exceptions.UnroutableError) as error:
        channel.basic_publish("", "nowhere", b"x", mandatory=True)
    assert error.value.messages[0].method.reply_text == "NO_ROUTE"
    channel.basic_publish("", "nowhere", b"x")


def test_a_publish_to_a_missing_exchange_closes_the_channel_and_is_never_confirmed(confirming, scratch):
    confirming.publish(1, "", "nowhere")
    confirming.publish(1, scratch.name(), "k")
    confirming.publish(1, "", "nowhere")
    acks = []
    while True:
        method = confirming.read_method(spec.Basic.Ack, spec.Channel.Close)
        if isinstance(method, spec.Channel.Close):
            break
        acks.append(method.delivery_tag)
    assert (method.reply_code, method.class_id, method.method_id) == (404, 60, 40)
    assert all(tag == 1 for tag in acks)
    confirming.send(1, spec.Channel.CloseOk())
    confirming.open_channel(1)


@pytest.mark.parametrize("body", [b"", b"in a frame of its own"])
def test_an_error_names_the_publish_that_came_in_pieces(confirming, scratch, body):
    confirming.open_channel(2)
    confirming.send(1, spec.Basic.Publish(exchange=scratch.name(), routing_key="k"))
    confirming.call(2, spec.Basic.Qos())
    confirming.send_header(1, len(body))
    if body:
        confirming.call(2, spec.Basic.Qos())
        confirming.send_body(1, body)
    close = confirming.read_method(spec.Channel.Close)
    assert (close.reply_code, close.class_id, close.method_id) == (404, 60, 40)


def test_confirms_still_come_for_a_queue_that_is_purged_or_deleted(confirming, scratch):
    queue = scratch.name()
    confirming.call(1, spec.Queue.Declare(queue=queue, durable=True))
    for number in range(100):
        confirming.publish(1, "", queue, b"x" * 100, pika.BasicProperties(delivery_mode=2))
        if number == 50:
            confirming.send(1, spec.Queue.Purge(queue=queue, nowait=True))
    confirming.send(1, spec.Queue.Delete(queue=queue, nowait=True))
    assert set(confirms_of(confirming, 100).values()) == {"ack"}


def test_a_full_queue_that_rejects_nacks(channel, scratch):
    queue = scratch.queue(channel, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
    channel.confirm_delivery()
    for _ in range(2):
        channel.basic_publish("", queue, b"x")
    with pytest.raises(pika.exceptions.NackError):
        channel.basic_publish("", queue, b"too many")
    channel.basic_get(queue, auto_ack=True)
    channel.basic_publish("", queue, b"fits again")


def test_consumer_acks_and_publisher_confirms_do_not_mix(confirming):
    """Both use delivery tags, each its own count."""
    queue = confirming.call(1, spec.Queue.Declare(queue="", exclusive=True)).queue
    confirming.publish(1, "", queue, b"x")
    assert confirming.read_method(spec.Basic.Ack).delivery_tag == 1
    got = confirming.call(1, spec.Basic.Get(queue=queue))
    confirming.read_content()
    confirming.send(1, spec.Basic.Ack(got.delivery_tag))
    confirming.publish(1, "", queue, b"y")
    assert confirming.read_method(spec.Basic.Ack).delivery_tag == 2


def test_validated_user_id(channel):
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.basic_publish("", queue, b"x", pika.BasicProperties(user_id="guest"))
    assert channel.basic_get(queue, auto_ack=True)[1].user_id == "guest"


def test_publishing_to_an_internal_exchange_through_a_binding(channel, scratch):
    internal = scratch.exchange(channel, "fanout", internal=True)
    front = scratch.exchange(channel, "fanout")
    channel.exchange_bind(internal, front)
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, internal)
    channel.basic_publish(front, "", b"x")
    assert channel.basic_get(queue, auto_ack=True)[2] == b"x"
