"""A web server that answers /PRODUCT with its price, from memory, and from Redis where its memory has none."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import redis
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import INVALIDATIONS, declare


class Prices:
    """Prices in memory, in front of Redis."""

    def __init__(self, cache: redis.Redis):
        self.cache = cache
        self.lock = threading.Lock()
        self.known: dict[str, str] = {}
        self.invalidations = 0
        self.listening = False

    def get(self, product: str) -> tuple[str | None, str]:
        """The price, and where it comes from."""
        with self.lock:
            if product in self.known:
                return self.known[product], "memory"
            before = self.invalidations
        price = self.cache.hget(f"price:{product}", "price")
        with self.lock:
            # What was invalidated while it was read may be old already; unheard invalidations make all doubtful.
            if price is not None and self.listening and before == self.invalidations:
                self.known[product] = price
        return price, "redis"

    def forget(self, product: str) -> None:
        with self.lock:
            self.invalidations += 1
            self.known.pop(product, None)

    def forget_all(self, listening: bool) -> None:
        with self.lock:
            self.invalidations += 1
            self.known.clear()
            self.listening = listening


def listen(channel: BlockingChannel, stop: Stop, prices: Prices) -> None:
    declare(channel)
    # A queue of its own, gone with its connection: whatever came before it was bound is forgotten.
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.queue_bind(queue, INVALIDATIONS)
    prices.forget_all(listening=True)
    try:
        for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.2):
            if stop.asked:
                return
            if method is not None:
                prices.forget(body.decode())
    finally:
        prices.forget_all(listening=False)


def web_server(port: int, prices: Prices) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                price, source = prices.get(self.path.strip("/"))
            except (redis.ConnectionError, redis.TimeoutError) as error:
                print(f"no Redis: {error!r}", file=sys.stderr, flush=True)
                self.send_error(503)
                return
            answer = json.dumps({"price": price, "from": source}).encode()
            self.send_response(200 if price is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    parser.add_argument("--http-port", type=int, default=8000)
    options = parser.parse_args()
    prices = Prices(redis.Redis.from_url(options.redis, decode_responses=True))
    server = web_server(options.http_port, prices)
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    keep_working(options, lambda channel, stop: listen(channel, stop, prices))
    server.shutdown()


if __name__ == "__main__":
    main()
