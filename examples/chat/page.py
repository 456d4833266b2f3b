"""One open page, as the bridge sees it: what it says goes to the broker, what its queue gets goes to it."""

import asyncio
import json
import sys
import traceback
import uuid
from collections.abc import Sequence
from datetime import datetime, timezone

import aio_pika
from aio_pika.abc import AbstractIncomingMessage
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from frames import NAME_MAX, TEXT_MAX, Join, Refused, Say, parse
from link import LOST, RECONNECT_S, Broker
from topology import declare_page

CONFIRM_TIMEOUT_S = 10
# Written to the page and not yet acknowledged: a page that does not read holds up nobody else.
PREFETCH = 50


def is_room(topic: str) -> bool:
    return "*" not in topic and "#" not in topic


def matches(topic: str, room: str) -> bool:
    """Whether the broker would give a message to `room` to one who listens to `topic`."""
    def words(pattern: list[str], rest: list[str]) -> bool:
        if not pattern:
            return not rest
        if pattern[0] == "#":
            return words(pattern[1:], rest) or (bool(rest) and words(pattern, rest[1:]))
        return bool(rest) and pattern[0] in ("*", rest[0]) and words(pattern[1:], rest[1:])
    return words(topic.split("."), room.split("."))


def rooms_by_topic(topics: Sequence[str]) -> list[dict]:
    rooms = [topic for topic in topics if is_room(topic)]
    return [{"topic": topic, "rooms": [room for room in rooms if matches(topic, room)]} for topic in topics]


class Page:
    def __init__(self, socket: ServerConnection, broker: Broker):
        self.socket, self.broker = socket, broker
        self.joined: Join | None = None
        self.listening: asyncio.Task | None = None
        self.announced = False

    async def serve(self) -> None:
        """Until the page has gone."""
        try:
            await self.send("welcome", topics=rooms_by_topic(self.broker.topics), text_max=TEXT_MAX,
                            name_max=NAME_MAX)
            async for frame in self.socket:
                try:
                    await self.take(parse(frame))
                except Refused as refusal:
                    await self.send("refused", reason=str(refusal), id=refusal.id)
        except ConnectionClosed:
            pass  # the page has gone without saying so, or its frame was too large
        finally:
            await self.leave()

    async def send(self, kind: str, **fields: object) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def take(self, frame: Join | Say) -> None:
        if isinstance(frame, Join):
            await self.join(frame)
        else:
            await self.say(frame)

    async def join(self, join: Join) -> None:
        if join.topic not in self.broker.topics:
            raise Refused("there is no such topic")
        await self.leave()
        self.joined = join
        self.listening = asyncio.create_task(self.listen(join.topic))

    async def leave(self) -> None:
        if self.listening is None:
            return
        self.listening.cancel()
        await asyncio.wait([self.listening])
        self.listening = None
        if self.announced:
            self.announced = False
            await self.announce("left")

    async def say(self, say: Say) -> None:
        if self.joined is None:
            raise Refused("join first", say.id)
        if not is_room(say.room) or say.room not in self.broker.topics:
            raise Refused("there is no such room", say.id)
        # Not confirmed means unknown: the page sends it again, and the broker knows the id if it has the message.
        confirmed = await self.publish("said", say.room, say.id, text=say.text)
        await self.send("sent" if confirmed else "unsent", id=say.id)

    async def announce(self, what: str) -> None:
        """Tells the others in a room that this one came or left; of no interest to those who come later."""
        if is_room(self.joined.topic):
            await self.publish(what, self.joined.topic, uuid.uuid4().hex, keep=False)

    async def publish(self, what: str, room: str, id: str, keep: bool = True, **fields: str) -> bool:
        """Whether the broker has confirmed it: then it is on disk, if it is to be kept."""
        if self.broker.now is None:
            return False
        at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        message = aio_pika.Message(
            json.dumps({"what": what, "name": self.joined.name, "at": at, **fields}).encode(),
            message_id=id, content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT if keep else aio_pika.DeliveryMode.NOT_PERSISTENT,
            headers={} if keep else {"x-recent-history-no-store": True})
        try:
            await self.broker.now.chat.publish(message, room, timeout=CONFIRM_TIMEOUT_S)
        except LOST as error:
            print(f"not confirmed: {error!r}", file=sys.stderr, flush=True)
            return False
        return True

    async def listen(self, topic: str) -> None:
        """Passes on what comes; begins anew, with the last messages, whenever the broker is lost."""
        try:
            while True:
                try:
                    await self.listen_once(topic)
                except LOST as error:
                    print(f"not listening: {error!r}", file=sys.stderr, flush=True)
                await self.send("waiting")
                await asyncio.sleep(RECONNECT_S)
        except ConnectionClosed:
            pass  # the page has gone: serve() sees that, too
        except Exception:
            traceback.print_exc()
            await self.socket.close(1011)

    async def listen_once(self, topic: str) -> None:
        link = await self.broker.link()
        async with link.connection.channel(publisher_confirms=False) as channel:
            await channel.set_qos(prefetch_count=PREFETCH)
            queue = await declare_page(channel, topic)
            await self.send("joined", topic=topic)
            if not self.announced:
                self.announced = True
                await self.announce("came")
            async with queue.iterator() as messages:
                async for message in messages:
                    await self.pass_on(message)
                    await message.ack()

    async def pass_on(self, message: AbstractIncomingMessage) -> None:
        try:
            fields = {key: str(value) for key, value in json.loads(message.body).items()}
        except (ValueError, RecursionError, AttributeError):
            print(f"not from a bridge: {message.message_id!r} in {message.routing_key}", file=sys.stderr, flush=True)
            return
        await self.socket.send(json.dumps({**fields, "type": "message", "id": message.message_id,
                                          "room": message.routing_key}))
