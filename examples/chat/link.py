"""The bridge's way to the broker: one connection, made again whenever it is lost."""

import asyncio
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import NamedTuple

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS

from topology import declare

RECONNECT_S = 0.2
CONNECT_TIMEOUT_S = 10
# Being away, or (as an OSError) not answering in time.
LOST = CONNECTION_EXCEPTIONS


class Link(NamedTuple):
    connection: AbstractConnection
    chat: AbstractExchange


class Broker:
    def __init__(self, options: Namespace, topics: Sequence[str]):
        self.options, self.topics = options, topics
        self.now: Link | None = None
        self.up = asyncio.Event()

    async def keep_connected(self) -> None:
        """Never returns. Whatever is declared is declared with each connection: the broker may be a new one."""
        while True:
            try:
                await self.connected_once()
            except LOST as error:
                print(f"no connection: {error!r}", file=sys.stderr, flush=True)
            await asyncio.sleep(RECONNECT_S)

    async def connected_once(self) -> None:
        connection = await aio_pika.connect(host=self.options.host, port=self.options.port, timeout=CONNECT_TIMEOUT_S,
                                            heartbeat=30)
        async with connection:
            channel = await connection.channel()
            self.now = Link(connection, await declare(channel, self.topics))
            self.up.set()
            try:
                await channel.closed()
            finally:
                self.up.clear()
                self.now = None
        raise ConnectionError("the broker has closed the connection")

    async def link(self) -> Link:
        """The connection, once there is one."""
        while self.now is None:
            await self.up.wait()
        return self.now
