"""Writes each new price to Redis, and then tells every web server to forget the old one."""

import json

import pika
import redis
from pika.adapters.blocking_connection import BlockingChannel

from broker import Stop, argument_parser, keep_working
from topology import CACHE_QUEUE, INVALIDATIONS, declare

# A change that comes twice or late must not undo a later one: only a higher version is written.
WRITE_IF_NEWER = """
if tonumber(redis.call('HGET', KEYS[1], 'version') or 0) >= tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'price', ARGV[1], 'version', ARGV[2])
return 1
"""


def write(channel: BlockingChannel, stop: Stop, cache: redis.Redis) -> None:
    declare(channel)
    channel.basic_qos(prefetch_count=50)
    write_if_newer = cache.register_script(WRITE_IF_NEWER)
    for method, _, body in channel.consume(CACHE_QUEUE, inactivity_timeout=0.2):
        if stop.asked:
            return
        if method is None:
            continue
        change = json.loads(body)
        product = change["product"]
        newer = write_if_newer(keys=[f"price:{product}"], args=[change["price"], change["version"]])
        print(f"{product} {change['price']}" if newer else f"{product} {change['price']} is out of date", flush=True)
        # Also for what was written before: the writer may have died between the two.
        channel.basic_publish(INVALIDATIONS, "", product, pika.BasicProperties())
        channel.basic_ack(method.delivery_tag)


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--redis", default="redis://localhost:6379/0")
    options = parser.parse_args()
    cache = redis.Redis.from_url(options.redis, decode_responses=True)
    keep_working(options, lambda channel, stop: write(channel, stop, cache), 
                 lost=(redis.ConnectionError, redis.TimeoutError))


if __name__ == "__main__":
    main()
