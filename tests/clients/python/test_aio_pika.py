"""aio-pika: the asyncio client, plain and robust."""

import asyncio

import aio_pika
import pytest
from aio_pika.exceptions import ChannelClosed, ChannelNotFoundEntity, ChannelPreconditionFailed, DeliveryError

DEADLINE_S = 20


def url(broker):
    return f"amqp://guest:guest@{broker.host}:{broker.port}/"


def run(coroutine):
    """Runs a test's coroutine with a deadline."""
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


def test_publish_and_get(broker):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue(exclusive=True)
            await channel.default_exchange.publish(
                aio_pika.Message(b"hello", headers={"n": 1, "s": "t"}, content_type="text/plain",
                                 delivery_mode=aio_pika.DeliveryMode.PERSISTENT), queue.name)
            message = await queue.get(timeout=5)
            await message.ack()
            return message.body, dict(message.headers), message.content_type, message.delivery_mode
    assert run(main()) == (b"hello", {"n": 1, "s": "t"}, "text/plain", 2)


def test_iterating_over_a_queue(broker):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=10)
            queue = await channel.declare_queue(exclusive=True)
            for number in range(100):
                await channel.default_exchange.publish(aio_pika.Message(str(number).encode()), queue.name)
            received = []
            async with queue.iterator() as messages:
                async for message in messages:
                    async with message.process():
                        received.append(int(message.body))
                    if len(received) == 100:
                        return received
    assert run(main()) == list(range(100))


def test_many_publishes_at_once_are_all_confirmed(broker):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel(publisher_confirms=True)
            queue = await channel.declare_queue(exclusive=True)
            await asyncio.gather(*(channel.default_exchange.publish(
                aio_pika.Message(str(number).encode()), queue.name) for number in range(1000)))
            return (await channel.declare_queue(queue.name, passive=True)).declaration_result.message_count
    assert run(main()) == 1000


def test_an_unroutable_message_is_returned_before_its_confirm(broker):
    """aiormq takes the return for the message that the next ack belongs to."""
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
            with pytest.raises(DeliveryError):
                await channel.default_exchange.publish(aio_pika.Message(b"x"), "nowhere", mandatory=True)
            results = await asyncio.gather(*(channel.default_exchange.publish(
                aio_pika.Message(b"x"), "nowhere", mandatory=True) for _ in range(50)), return_exceptions=True)
            return {isinstance(result, DeliveryError) for result in results}
    assert run(main()) == {True}


def test_errors_have_their_own_exceptions(broker, scratch):
    name = scratch.name()

    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            with pytest.raises(ChannelNotFoundEntity):
                await (await connection.channel()).declare_queue(name, passive=True)
            await (await connection.channel()).declare_queue(name)
            with pytest.raises(ChannelPreconditionFailed):
                await (await connection.channel()).declare_queue(name, durable=True)
            with pytest.raises(ChannelClosed):
                await (await connection.channel()).get_exchange("none here")
            await (await connection.channel()).declare_queue(name, passive=True)
    run(main())


def test_topic_exchange_and_headers(broker, scratch):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(scratch.name(), aio_pika.ExchangeType.TOPIC)
            queue = await channel.declare_queue(exclusive=True)
            await queue.bind(exchange, "logs.*.error")
            for key in ("logs.a.error", "logs.a.info", "logs.b.error"):
                await exchange.publish(aio_pika.Message(key.encode()), key)
            return [(await queue.get()).body for _ in range(2)], await queue.get(fail=False)
    assert run(main()) == ([b"logs.a.error", b"logs.b.error"], None)


def test_transactions(broker):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel(publisher_confirms=False)
            queue = await channel.declare_queue(exclusive=True)
            async with channel.transaction():
                await channel.default_exchange.publish(aio_pika.Message(b"kept"), queue.name)
            with pytest.raises(ValueError):
                async with channel.transaction():
                    await channel.default_exchange.publish(aio_pika.Message(b"dropped"), queue.name)
                    raise ValueError
            first = await queue.get()
            return first.body, await queue.get(fail=False)
    assert run(main()) == (b"kept", None)


def test_remote_calls_by_direct_reply_to(broker, scratch):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            channel = await connection.channel()
            service = await channel.declare_queue(scratch.name(), auto_delete=True)

            async def answer(message):
                async with message.process():
                    await channel.default_exchange.publish(
                        aio_pika.Message(message.body.upper(), correlation_id=message.correlation_id),
                        message.reply_to)
            await service.consume(answer)
            caller = await connection.channel()
            answered = asyncio.get_running_loop().create_future()
            pseudo = aio_pika.Queue(caller, "amq.rabbitmq.reply-to", False, False, False, None)

            async def take(message):
                answered.set_result(message.body)
            await pseudo.consume(take, no_ack=True)
            await caller.default_exchange.publish(
                aio_pika.Message(b"shout", reply_to="amq.rabbitmq.reply-to", correlation_id="1"), service.name)
            return await answered
    assert run(main()) == b"SHOUT"


def test_update_secret(broker):
    async def main():
        async with await aio_pika.connect(url(broker)) as connection:
            await connection.update_secret("new", reason="because")
            await connection.channel()
    run(main())


def test_robust_connection_goes_on_after_a_kill(own_broker):
    """The robust client comes back by itself, declares its things again and goes on consuming."""
    own = own_broker()

    async def main():
        connection = await aio_pika.connect_robust(url(own), reconnect_interval=0.05)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("robust", durable=True)
            received = asyncio.Queue()
            await queue.consume(lambda message: received.put(message.body), no_ack=True)
            await channel.default_exchange.publish(aio_pika.Message(b"before"), "robust")
            assert await received.get() == b"before"
            await asyncio.to_thread(own.restart_after_kill, True)
            await connection.connected.wait()
            while True:
                try:
                    await channel.default_exchange.publish(aio_pika.Message(b"after"), "robust", timeout=2)
                    break
                except (aio_pika.exceptions.AMQPError, asyncio.TimeoutError, ConnectionError, RuntimeError):
                    await asyncio.sleep(0.05)
            assert await received.get() == b"after"
    run(main())
