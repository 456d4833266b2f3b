"""The exchanges of the chat, and the queue of one page.

    bridge -> (chat, topic) -> (chat.history.lobby)  -> queue of each page that listens to "lobby"
                            -> (chat.history.help.@) -> queue of each page that listens to "help.*"

A room is a routing key. A topic is what a page listens to: a binding key, that is a room or a pattern of rooms."""

from collections.abc import Sequence

from aio_pika.abc import AbstractChannel, AbstractExchange, AbstractQueue

CHAT = "chat"
HISTORY_LENGTH = 50
WAITING_MAX = 1000
DEDUP_WINDOW_MS = 10 * 60 * 1000


def history_of(topic: str) -> str:
    # aio-pika refuses names with a *; no room has an @ in its name.
    return f"chat.history.{topic.replace('*', '@')}"


async def declare(channel: AbstractChannel, topics: Sequence[str]) -> AbstractExchange:
    """All exchanges; the one to publish to."""
    # A message that a page sends again (its id is the message-id) is confirmed, but not passed on a second time.
    chat = await channel.declare_exchange(CHAT, "topic", durable=True,
                                          arguments={"x-dedup-window-ms": DEDUP_WINDOW_MS})
    for topic in topics:
        # Whoever binds a queue to it gets the last messages first, and misses none after them.
        history = await channel.declare_exchange(history_of(topic), "x-recent-history", durable=True, internal=True,
                                                 arguments={"x-recent-history-length": HISTORY_LENGTH})
        await history.bind(chat, topic)
    return chat


async def declare_page(channel: AbstractChannel, topic: str) -> AbstractQueue:
    """The queue of one page: gone with the connection, and bounded, should the page read too slowly."""
    queue = await channel.declare_queue(exclusive=True, arguments={"x-max-length": WAITING_MAX})
    await queue.bind(history_of(topic))
    return queue
