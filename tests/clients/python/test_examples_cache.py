"""examples/cache_update: Redis and the memory of two web servers follow the changes."""

import json
import re
import urllib.error
import urllib.request

import pytest

from support.examples import run_example
from support.services import free_port
from support.waiting import eventually


def test_caches_follow_the_changes(own_broker, start_example, redis_server):
    own = own_broker()
    at = ["--redis", redis_server.url()]
    writer = start_example(own, "cache_update/cache_writer.py", *at)
    shops = [start_example(own, "cache_update/shop.py", *at, "--http-port", 0) for _ in range(2)]

    def ask(shop):
        url = re.match("http://.*", shop.printed())[0]
        with urllib.request.urlopen(url + "tea", timeout=10) as answer:
            fields = json.load(answer)
        return fields["price"], fields["from"]

    def all_answer(price, source):
        return all(ask(shop) == (price, source) for shop in shops)

    def change(price, *options):
        run_example(own, "cache_update/change_price.py", "tea", price, *options)

    for shop in shops:
        shop.wait_for("http://")
    change("3.20")
    writer.wait_for("tea 3.20")
    eventually(lambda: all_answer("3.20", "memory"), what="3.20 in memory")
    change("3.50")
    eventually(lambda: all_answer("3.50", "memory"), what="3.50 in memory")
    change("1.00", "--version", "1")
    writer.wait_for("tea 1.00 is out of date")
    eventually(lambda: all_answer("3.50", "memory"), what="3.50 still")
    # A change made while the writer is away, and a restart of the broker.
    writer.kill()
    change("4.00")
    own.restart_after_kill(keep_port=True)
    start_example(own, "cache_update/cache_writer.py", *at).wait_for("tea 4.00")
    eventually(lambda: all_answer("4.00", "memory"), what="4.00 in memory")
    assert all(shop.stop() == 0 for shop in shops)


def test_a_shop_without_redis_says_so(own_broker, start_example):
    shop = start_example(own_broker(), "cache_update/shop.py", "--redis", f"redis://127.0.0.1:{free_port()}/0",
                         "--http-port", 0)
    shop.wait_for("http://")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(shop.lines()[0] + "tea", timeout=30)
    assert refused.value.code == 503
    assert shop.stop() == 0
