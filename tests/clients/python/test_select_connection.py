"""pika's SelectConnection: everything by callback."""

import pika
import pytest

from conftest import parameters


class Loop:
    """Runs a SelectConnection until the test calls `done`, at most `deadline_s` seconds."""

    def __init__(self, broker, on_open, deadline_s=10, **options):
        self.result, self.failure = None, None
        self.closed_with = None
        self.on_open = on_open
        self.connection = pika.SelectConnection(
            parameters(broker, **options), on_open_callback=lambda _: on_open(self),
            on_open_error_callback=self._opening_failed, on_close_callback=self._closed)
        self.connection.ioloop.call_later(deadline_s, self._late)

    def _late(self):
        self.failure = self.failure or "the deadline passed"
        self.connection.ioloop.stop()

    def _opening_failed(self, _connection, error):
        self.failure = repr(error)
        self.connection.ioloop.stop()

    def _closed(self, _connection, reason):
        self.closed_with = reason
        self.connection.ioloop.stop()

    def done(self, result):
        self.result = result
        self.connection.close()

    def run(self):
        self.connection.ioloop.start()
        assert self.failure is None, self.failure
        return self.result


def test_declare_publish_consume_and_close(broker):
    def opened(loop):
        loop.connection.channel(on_open_callback=lambda channel: channel.queue_declare(
            "", exclusive=True, callback=lambda frame: consume(loop, channel, frame.method.queue)))

    def consume(loop, channel, queue):
        received = []

        def on_message(_channel, method, _properties, body):
            channel.basic_ack(method.delivery_tag)
            received.append(int(body))
            if len(received) == 100:
                loop.done(received)
        channel.basic_consume(queue, on_message, callback=lambda _: [
            channel.basic_publish("", queue, str(number)) for number in range(100)])

    loop = Loop(broker, opened)
    assert loop.run() == list(range(100))
    assert isinstance(loop.closed_with, pika.exceptions.ConnectionClosedByClient)


def test_confirms_by_callback(broker):
    """Every tag from 1 to 1,000 is confirmed, singly or with `multiple`, none twice."""
    confirmed = set()

    def opened(loop):
        def confirm(frame):
            assert isinstance(frame.method, pika.spec.Basic.Ack)
            tag = frame.method.delivery_tag
            new = set(range(max(confirmed, default=0) + 1 if frame.method.multiple else tag, tag + 1)) - confirmed
            assert new
            confirmed.update(new)
            if len(confirmed) == 1000:
                loop.done(True)

        def on_channel(channel):
            channel.confirm_delivery(ack_nack_callback=confirm, callback=lambda _: publish(channel))

        def publish(channel):
            for number in range(1000):
                channel.basic_publish("", "nowhere", str(number))
        loop.connection.channel(on_open_callback=on_channel)

    assert Loop(broker, opened).run()
    assert confirmed == set(range(1, 1001))


def test_channel_error_reaches_the_callback(broker):
    def opened(loop):
        def on_channel(channel):
            channel.add_on_close_callback(lambda _, reason: loop.done((reason.reply_code, reason.reply_text)))
            channel.queue_declare("none here", passive=True)
        loop.connection.channel(on_open_callback=on_channel)

    assert Loop(broker, opened).run() == (404, "NOT_FOUND - no queue 'none here' in vhost '/'")


def test_connection_error_reaches_the_callback(broker):
    def opened(loop):
        loop.connection.channel(on_open_callback=lambda channel: channel.basic_qos(prefetch_size=1))

    loop = Loop(broker, opened)
    loop.run()
    assert (loop.closed_with.reply_code, loop.closed_with.reply_text) == (540, "NOT_IMPLEMENTED - prefetch_size!=0 (1)")


@pytest.mark.parametrize("options", [{"frame_max": 4096}, {"channel_max": 1}, {"heartbeat": 1}], ids=str)
def test_tuned_connections(broker, options):
    def opened(loop):
        def on_channel(channel):
            channel.basic_consume("amq.rabbitmq.reply-to", lambda *_: None, auto_ack=True,
                                  callback=lambda _: loop.done(True))
        loop.connection.channel(on_open_callback=on_channel)
    assert Loop(broker, opened, **options).run()


def test_cancel_notify_by_callback(broker, scratch):
    queue = scratch.name()

    def opened(loop):
        def on_channel(channel):
            channel.add_on_cancel_callback(lambda frame: loop.done(frame.method.consumer_tag))
            channel.queue_declare(queue, callback=lambda _: channel.basic_consume(
                queue, lambda *_: None, consumer_tag="c", callback=lambda _: channel.queue_delete(queue)))
        loop.connection.channel(on_open_callback=on_channel)
    assert Loop(broker, opened).run() == "c"
