"""Direct reply-to: answers without a queue."""

import contextlib
import re

import pika
import pytest

from support.waiting import drive_until

PSEUDO_QUEUE = "amq.rabbitmq.reply-to"


@pytest.fixture
def server(connect, scratch):
    """(connection, channel, queue) of an answering service; its requests are taken with basic.get."""
    connection = connect()
    channel = connection.channel()
    return connection, channel, scratch.queue(channel)


def request(channel, queue, replies, body=b"question"):
    channel.basic_consume(PSEUDO_QUEUE, lambda _c, method, properties, reply: replies.append(
        (method, properties, reply)), auto_ack=True)
    channel.confirm_delivery()
    channel.basic_publish("", queue, body, pika.BasicProperties(reply_to=PSEUDO_QUEUE, correlation_id="7"))


def test_request_and_reply(connection, channel, server):
    _, service, queue = server
    replies = []
    request(channel, queue, replies)
    method, properties, body = service.basic_get(queue, auto_ack=True)
    assert body == b"question"
    assert re.fullmatch(r"amq\.rabbitmq\.reply-to\.[^.]+\.[^.]+", properties.reply_to), properties.reply_to
    service.basic_publish("", properties.reply_to, b"answer", pika.BasicProperties(correlation_id="7"))
    drive_until(connection, lambda: replies)
    method, properties, body = replies[0]
    assert (body, properties.correlation_id, method.exchange, method.redelivered) == (b"answer", "7", "", False)


def test_many_requests_one_consumer(connection, channel, server):
    _, service, queue = server
    replies = []
    request(channel, queue, replies, b"0")
    for number in range(1, 50):
        channel.basic_publish("", queue, str(number), pika.BasicProperties(reply_to=PSEUDO_QUEUE))
    for _ in range(50):
        _, properties, body = service.basic_get(queue, auto_ack=True)
        service.basic_publish("", properties.reply_to, body)
    drive_until(connection, lambda: len(replies) == 50)
    assert [int(body) for _, _, body in replies] == list(range(50))


def test_the_address_is_declared_passively_while_the_consumer_is_there(channel, server):
    connection, service, queue = server
    request(channel, queue, [])
    address = service.basic_get(queue, auto_ack=True)[1].reply_to
    found = service.queue_declare(address, passive=True).method
    assert (found.queue, found.message_count, found.consumer_count) == (address, 0, 1)
    channel.close()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        service.queue_declare(address, passive=True)
    assert closed.value.reply_code == 404


def test_a_tampered_address_is_not_found(channel, server):
    _, service, queue = server
    request(channel, queue, [])
    address = service.basic_get(queue, auto_ack=True)[1].reply_to
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        service.queue_declare(address[:-2] + ("AA" if not address.endswith("AA") else "BB"), passive=True)
    assert closed.value.reply_code == 404


def test_a_reply_to_nobody_is_dropped_or_returned(channel, server):
    _, service, queue = server
    request(channel, queue, [])
    address = service.basic_get(queue, auto_ack=True)[1].reply_to
    channel.close()
    service.confirm_delivery()
    service.basic_publish("", address, b"too late")
    with pytest.raises(pika.exceptions.UnroutableError):
        service.basic_publish("", address, b"too late", mandatory=True)


def test_a_mandatory_reply_arrives(connection, channel, server):
    """Up to 4.1 RabbitMQ returns it as well, since the address is no queue."""
    _, service, queue = server
    replies = []
    request(channel, queue, replies)
    address = service.basic_get(queue, auto_ack=True)[1].reply_to
    service.confirm_delivery()
    with contextlib.suppress(pika.exceptions.UnroutableError):
        service.basic_publish("", address, b"answer", mandatory=True)
    drive_until(connection, lambda: replies)
    assert [body for _, _, body in replies] == [b"answer"]


def test_only_one_reply_consumer_per_channel(channel):
    channel.basic_consume(PSEUDO_QUEUE, lambda *_: None, auto_ack=True)
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_consume(PSEUDO_QUEUE, lambda *_: None, auto_ack=True)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406, "PRECONDITION_FAILED - reply consumer already set")


def test_after_cancel_a_new_reply_consumer_may_come(channel, server):
    for _ in range(3):
        channel.basic_cancel(channel.basic_consume(PSEUDO_QUEUE, lambda *_: None, auto_ack=True))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        channel.basic_publish("", server[2], b"x", pika.BasicProperties(reply_to=PSEUDO_QUEUE))
        channel.basic_qos()
    assert closed.value.reply_text == "PRECONDITION_FAILED - fast reply consumer does not exist"
