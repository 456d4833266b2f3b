"""Between browsers and the broker: serves the page, and carries its messages over a WebSocket."""

import argparse
import asyncio
import re
import signal
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from broker import argument_parser
from frames import FRAME_BYTES_MAX
from link import Broker
from page import Page

FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
SOCKET = "/socket"
PAGES_MAX = 1000
TOPICS = ["lobby", "help.printers", "help.network", "help.*", "#"]
# Words with dots between them; a word may be * (any one word) or # (any number of words).
TOPIC = re.compile(r"([a-z0-9-]+|[*#])(\.([a-z0-9-]+|[*#]))*")


def same_origin(request: Request) -> bool:
    """Whether the page came from here. Other sites' pages could speak in the name of whoever looks at them."""
    origin = request.headers.get("Origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("Host")


def file_response(path: str) -> Response:
    name, content_type = FILES[path]
    body = Path(__file__).with_name(name).read_bytes()
    return Response(HTTPStatus.OK.value, HTTPStatus.OK.phrase, Headers({
        "Content-Type": content_type,
        "Content-Length": str(len(body)),
        "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
        "Connection": "close",
    }), body)


def answer(socket: ServerConnection, request: Request) -> Response | None:
    """A file, or None where the WebSocket may open."""
    path = urlsplit(request.path).path
    if path in FILES:
        return file_response(path)
    if path != SOCKET:
        return socket.respond(HTTPStatus.NOT_FOUND, "not found\n")
    if not same_origin(request):
        return socket.respond(HTTPStatus.FORBIDDEN, "this page is from elsewhere\n")
    if len(socket.server.connections) >= PAGES_MAX:
        return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many pages are open\n")
    return None


def topic(text: str) -> str:
    if len(text) > 100 or not TOPIC.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no topic")
    return text


def arguments() -> argparse.Namespace:
    parser = argument_parser(__doc__)
    parser.add_argument("--http-host", default="127.0.0.1", help="address for browsers")
    parser.add_argument("--http-port", type=int, default=8080, help="port for browsers; 0 takes a free one")
    parser.add_argument("--topics", type=topic, nargs="+", default=TOPICS, metavar="TOPIC",
                        help="rooms, and patterns of rooms to listen to")
    return parser.parse_args()


async def run(options: argparse.Namespace, topics: Sequence[str]) -> None:
    """Serves until a signal says stop."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    broker = Broker(options, topics)
    connecting = asyncio.create_task(broker.keep_connected())
    # If the connecting ends, it is by an error in the program.
    connecting.add_done_callback(lambda _: stop.set())
    async with serve(lambda socket: Page(socket, broker).serve(), options.http_host, options.http_port,
                     process_request=answer, max_size=FRAME_BYTES_MAX, compression=None) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"http://{f'[{host}]' if ':' in host else host}:{port}/", flush=True)
        await stop.wait()
    if connecting.done():
        connecting.result()
    connecting.cancel()
    await asyncio.wait([connecting])


def main() -> None:
    options = arguments()
    asyncio.run(run(options, list(dict.fromkeys(options.topics))))


if __name__ == "__main__":
    main()
