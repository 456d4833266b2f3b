"""The life of a message, in its corners: expiration, x-death and what goes with it, limits, delivery counts."""

import datetime

import pika
import pytest

from support.queues import await_message, bodies, count, deaths, reject_next
from support.waiting import eventually


@pytest.fixture
def declare(channel, scratch):
    """Declares a queue with arguments given as keywords (`x_message_ttl=1`) and returns its name."""
    channel.confirm_delivery()

    def make(suffix="q", durable=False, **arguments):
        queue = scratch.name(suffix)
        table = {key.replace("_", "-"): value for key, value in arguments.items()}
        channel.queue_declare(queue, durable=durable, arguments=table)
        return queue
    return make


def publish(channel, queue, body=b"m", exchange="", **properties):
    channel.basic_publish(exchange, queue, body, pika.BasicProperties(**properties))


@pytest.mark.parametrize("text, why", [
    ("", "no_integer"), ("soon", "no_integer"), ("-1", "{value_negative,-1}"),
    ("315360000001", "{value_too_large,315360000001}"), ("1.5", '{leftover_string,<<".5">>}'),
    ("10ms", '{leftover_string,<<"ms">>}')])
def test_bad_expirations_are_406(connection, declare, channel, text, why):
    queue = declare()
    other = connection.channel()
    other.confirm_delivery()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        publish(other, queue, expiration=text)
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406, f"PRECONDITION_FAILED - invalid expiration '{text}': {why}")
    assert count(channel, queue) == 0


def test_the_longest_expiration_is_accepted(declare, channel):
    queue = declare()
    publish(channel, queue, expiration="4294967295")
    assert await_message(channel, queue)[1].expiration == "4294967295"


def test_the_lower_of_both_times_to_live_counts(declare, channel):
    slow_queue, fast_queue = declare(x_message_ttl=60_000), declare(x_message_ttl=30)
    publish(channel, slow_queue, expiration="30")
    publish(channel, fast_queue, expiration="60000")
    eventually(lambda: count(channel, slow_queue) == count(channel, fast_queue) == 0)


def test_messages_expire_at_the_head_and_are_never_delivered_late(declare, channel):
    """One that is over behind one that is not still counts, but nobody gets it."""
    letters = declare("letters")
    queue = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, b"stays")
    publish(channel, queue, b"goes", expiration="1")
    publish(channel, queue, b"probe-of-time", expiration="20")
    probe = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, probe, b"time has passed", expiration="20")
    assert await_message(channel, letters)[2] == b"time has passed"
    assert count(channel, queue) == 3
    assert await_message(channel, queue)[2] == b"stays"
    assert channel.basic_get(queue)[0] is None
    eventually(lambda: count(channel, letters) == 2)
    assert bodies(channel, letters) == [b"goes", b"probe-of-time"]


def test_a_requeued_message_keeps_its_time_to_live(declare, channel):
    queue = declare()
    publish(channel, queue, expiration="300")
    tag = await_message(channel, queue, auto_ack=False)[0].delivery_tag
    channel.basic_nack(tag, requeue=True)
    eventually(lambda: count(channel, queue) == 0)


def test_what_stands_in_x_death(declare, channel):
    letters = declare("letters")
    queue = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    before = datetime.datetime.now(datetime.timezone.utc).timestamp()
    publish(channel, queue, expiration="20", headers={"mine": "stays"}, delivery_mode=2, message_id="id")
    method, properties, _ = await_message(channel, letters)
    death, = properties.headers["x-death"]
    # pika decodes timestamps as UTC without a zone
    time = death.pop("time").replace(tzinfo=datetime.timezone.utc).timestamp()
    assert int(before) <= time <= before + 30
    assert death == {"count": 1, "reason": "expired", "queue": queue, "exchange": "", "routing-keys": [queue],
                     "original-expiration": "20"}
    assert (method.exchange, method.routing_key) == ("", letters)
    assert (properties.expiration, properties.delivery_mode, properties.message_id) == (None, 2, "id")
    assert {key: value for key, value in properties.headers.items() if key != "x-death"} == {
        "mine": "stays",
        "x-first-death-queue": queue, "x-first-death-reason": "expired", "x-first-death-exchange": "",
        "x-last-death-queue": queue, "x-last-death-reason": "expired", "x-last-death-exchange": ""}


def test_deaths_are_merged_by_queue_and_reason_the_newest_first(declare, channel, scratch):
    exchange = scratch.exchange(channel, "direct")
    one = declare("one", x_dead_letter_exchange=exchange, x_dead_letter_routing_key="two")
    two = declare("two", x_dead_letter_exchange=exchange, x_dead_letter_routing_key="one")
    channel.queue_bind(one, exchange, "one")
    channel.queue_bind(two, exchange, "two")
    publish(channel, one)
    reject_next(channel, one)
    first = await_message(channel, two, auto_ack=False)
    assert deaths(first[1]) == [(one, "rejected", 1)]
    channel.basic_reject(first[0].delivery_tag, requeue=False)
    second = await_message(channel, one, auto_ack=False)
    assert deaths(second[1]) == [(two, "rejected", 1), (one, "rejected", 1)]
    channel.basic_reject(second[0].delivery_tag, requeue=False)
    _, properties, _ = await_message(channel, two)
    assert deaths(properties) == [(one, "rejected", 2), (two, "rejected", 1)]
    # exchange and keys are those of the first death of each queue
    assert [(death["exchange"], death["routing-keys"]) for death in properties.headers["x-death"]] == [
        ("", [one]), (exchange, ["two"])]
    assert {key: properties.headers[f"x-{key}"] for key in (
        "first-death-queue", "first-death-exchange", "last-death-queue", "last-death-exchange")} == {
        "first-death-queue": one, "first-death-exchange": "",
        "last-death-queue": one, "last-death-exchange": exchange}


def test_two_reasons_in_one_queue_are_two_deaths(declare, channel):
    letters = declare("letters")
    queue = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, expiration="1")
    _, properties, body = await_message(channel, letters)
    assert deaths(properties) == [(queue, "expired", 1)]
    again = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=queue)
    loop = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=again, x_message_ttl=1)
    # expires, is rejected, and comes to the first queue to be rejected there as well
    publish(channel, loop)
    reject_next(channel, again)
    reject_next(channel, queue)
    _, properties, _ = await_message(channel, letters)
    assert deaths(properties) == [(queue, "rejected", 1), (again, "rejected", 1), (loop, "expired", 1)]


@pytest.mark.leveret_only("RabbitMQ from 4.0 on; 3.x goes on counting")
def test_what_a_client_publishes_as_x_death_is_not_believed(declare, channel):
    """An application that publishes a dead letter again starts its history anew."""
    letters = declare("letters")
    queue = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue)
    reject_next(channel, queue)
    _, properties, body = await_message(channel, letters)
    channel.basic_publish("", queue, body, properties)
    method, seen, _ = await_message(channel, queue, auto_ack=False)
    assert seen.headers == properties.headers
    channel.basic_reject(method.delivery_tag, requeue=False)
    assert deaths(await_message(channel, letters)[1]) == [(queue, "rejected", 1)]
    forged = {"x-death": "not even a list", "x-first-death-queue": "elsewhere", "x-last-death-reason": "boredom"}
    publish(channel, queue, headers=forged)
    reject_next(channel, queue)
    _, properties, _ = await_message(channel, letters)
    assert deaths(properties) == [(queue, "rejected", 1)]
    assert properties.headers["x-first-death-queue"] == queue
    assert properties.headers["x-last-death-reason"] == "rejected"


@pytest.mark.leveret_only("RabbitMQ from 4.0 on; in 3.x a forged x-death drops the message")
def test_a_forged_x_death_makes_no_cycle(declare, channel):
    letters = declare("letters")
    queue = declare(x_message_ttl=1, x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    death = {"queue": letters, "reason": "expired", "count": 1, "exchange": "", "routing-keys": [letters]}
    publish(channel, queue, headers={"x-death": [death]})
    assert deaths(await_message(channel, letters)[1]) == [(queue, "expired", 1)]


def test_dead_letters_go_to_all_keys_of_the_message(declare, channel, scratch):
    """Without a key of the queue's own: its routing key, CC and BCC; BCC is never shown."""
    exchange = scratch.exchange(channel, "direct")
    queue = declare(x_dead_letter_exchange=exchange)
    found = {key: declare(key) for key in ("cc", "bcc", "key")}
    for key, letters in found.items():
        channel.queue_bind(letters, exchange, queue if key == "key" else key)
    publish(channel, queue, headers={"CC": ["cc"], "BCC": ["bcc"]})
    reject_next(channel, queue)
    for letters in found.values():
        method, properties, _ = await_message(channel, letters)
        assert method.routing_key == queue
        assert properties.headers["CC"] == ["cc"]
        assert "BCC" not in properties.headers
        assert properties.headers["x-death"][0]["routing-keys"] == [queue, "cc"]


def test_a_dead_letter_routing_key_replaces_all_keys_and_takes_cc_away(declare, channel, scratch):
    exchange = scratch.exchange(channel, "direct")
    queue = declare(x_dead_letter_exchange=exchange, x_dead_letter_routing_key="own")
    elsewhere, own = declare("elsewhere"), declare("own")
    channel.queue_bind(own, exchange, "own")
    for key in (queue, "cc", "bcc"):
        channel.queue_bind(elsewhere, exchange, key)
    publish(channel, queue, headers={"CC": ["cc"], "BCC": ["bcc"]})
    reject_next(channel, queue)
    method, properties, _ = await_message(channel, own)
    assert method.routing_key == "own" and "CC" not in properties.headers
    assert properties.headers["x-death"][0]["routing-keys"] == [queue, "cc"]
    assert count(channel, elsewhere) == 0


def test_a_cycle_with_a_rejection_goes_on(declare, channel, scratch):
    work, wait = scratch.name("work"), scratch.name("wait")
    channel.queue_declare(work, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": wait})
    channel.queue_declare(wait, arguments={
        "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    publish(channel, work)
    for _ in range(3):
        reject_next(channel, work)
    _, properties, _ = await_message(channel, work)
    assert deaths(properties) == [(wait, "expired", 3), (work, "rejected", 3)]


def test_a_cycle_of_several_queues_without_a_rejection_ends(declare, channel, scratch):
    names = [scratch.name(f"hop{hop}") for hop in range(3)]
    for name, following in zip(names, names[1:] + names[:1]):
        channel.queue_declare(name, arguments={
            "x-message-ttl": 1, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": following})
    publish(channel, names[0])
    probe = declare("probe", x_message_ttl=200, x_dead_letter_exchange="", x_dead_letter_routing_key="nowhere")
    publish(channel, probe)
    eventually(lambda: count(channel, probe) == 0)
    assert [count(channel, name) for name in names] == [0, 0, 0]


def test_a_missing_dead_letter_exchange_loses_them_silently(declare, channel, scratch):
    exchange = scratch.name("later")
    queue = declare(x_dead_letter_exchange=exchange)
    publish(channel, queue, b"lost")
    reject_next(channel, queue)
    channel.exchange_declare(exchange, "fanout")
    letters = declare("letters")
    channel.queue_bind(letters, exchange)
    publish(channel, queue, b"found")
    reject_next(channel, queue)
    assert await_message(channel, letters)[2] == b"found"


def test_purge_delete_and_expiry_of_a_queue_make_no_dead_letters(declare, channel):
    letters = declare("letters")
    arguments = {"x_dead_letter_exchange": "", "x_dead_letter_routing_key": letters}
    purged, deleted, expired = declare(**arguments), declare(**arguments), declare(**arguments, x_expires=50)
    for queue in (purged, deleted, expired):
        publish(channel, queue)
    channel.queue_purge(purged)
    channel.queue_delete(deleted)
    probe = declare(**arguments, x_message_ttl=150)
    publish(channel, probe, b"last")
    assert await_message(channel, letters)[2] == b"last"
    assert count(channel, letters) == 0


def test_dead_letters_go_through_exchanges_of_every_kind(declare, channel, scratch):
    alternate, hashing = scratch.exchange(channel, "fanout"), scratch.exchange(channel, "x-consistent-hash")
    letters, hashed = declare("letters"), declare("hashed")
    channel.queue_bind(letters, alternate)
    channel.queue_bind(hashed, hashing, "1")
    unbound = scratch.exchange(channel, "topic", arguments={"alternate-exchange": alternate})
    for exchange, target in ((unbound, letters), (hashing, hashed)):
        queue = declare(x_dead_letter_exchange=exchange)
        publish(channel, queue)
        reject_next(channel, queue)
        assert deaths(await_message(channel, target)[1]) == [(queue, "rejected", 1)]


def test_max_length_counts_ready_messages_only(declare, channel):
    queue = declare(x_max_length=2)
    for body in (b"1", b"2"):
        publish(channel, queue, body)
    held = [await_message(channel, queue, auto_ack=False)[0].delivery_tag for _ in range(2)]
    for body in (b"3", b"4"):
        publish(channel, queue, body)
    assert count(channel, queue) == 2
    channel.basic_nack(held[-1], multiple=True, requeue=True)
    # back at the head they are the first to go
    assert bodies(channel, queue) == [b"3", b"4"]


def test_max_length_bytes_counts_bodies_not_headers(declare, channel):
    queue = declare(x_max_length_bytes=10)
    for body in (b"aaaaa", b"bbbbb"):
        publish(channel, queue, body, headers={"long": "x" * 1000})
    assert bodies(channel, queue) == [b"aaaaa", b"bbbbb"]


@pytest.mark.parametrize("limit", ["x_max_length", "x_max_length_bytes"])
def test_a_limit_of_nothing_keeps_nothing(declare, channel, connection, limit):
    queue = declare(**{limit: 0})
    publish(channel, queue)
    assert count(channel, queue) == 0
    # RabbitMQ: a consumer that waits gets it all the same
    received = []
    channel.basic_consume(queue, lambda _c, _m, _p, body: received.append(body), auto_ack=True)
    publish(channel, queue, b"seen")
    eventually(lambda: connection.process_data_events(0.02) or received)


def test_reject_publish_dlx_nacks_and_dead_letters(declare, channel):
    letters = declare("letters")
    queue = declare(x_max_length=1, x_overflow="reject-publish-dlx",
                    x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, b"first")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, queue, b"second")
    _, properties, body = await_message(channel, letters)
    assert (body, deaths(properties)) == (b"second", [(queue, "maxlen", 1)])
    assert bodies(channel, queue) == [b"first"]


def test_reject_publish_nacks_and_dead_letters_nothing(declare, channel):
    letters = declare("letters")
    queue = declare(x_max_length_bytes=5, x_overflow="reject-publish",
                    x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, b"12345")
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, queue, b"6")
    assert (bodies(channel, queue), count(channel, letters)) == ([b"12345"], 0)


def test_one_of_several_queues_that_refuses_nacks_the_publish(declare, channel, scratch):
    exchange = scratch.exchange(channel, "fanout")
    full, free = declare(x_max_length=0, x_overflow="reject-publish"), declare()
    for queue in (full, free):
        channel.queue_bind(queue, exchange)
    with pytest.raises(pika.exceptions.NackError):
        publish(channel, "", exchange=exchange)
    assert count(channel, free) == 1


def requeue_until_gone(channel, queue, most):
    """Requeues the next message over and over; how often it was delivered, at most `most` times."""
    for delivered in range(most):
        method = channel.basic_get(queue)[0]
        if method is None:
            return delivered
        channel.basic_nack(method.delivery_tag, requeue=True)
    return most


@pytest.mark.leveret_only("RabbitMQ from 4.0 on")
def test_quorum_queues_give_up_after_20_returns_by_default(declare, channel):
    letters = declare("letters")
    queue = declare(durable=True, x_queue_type="quorum",
                    x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue)
    assert requeue_until_gone(channel, queue, 50) == 21
    assert deaths(await_message(channel, letters)[1]) == [(queue, "delivery_limit", 1)]


@pytest.mark.leveret_only("RabbitMQ from 4.0 on")
def test_a_negative_delivery_limit_is_none(declare, channel):
    queue = declare(durable=True, x_queue_type="quorum", x_delivery_limit=-1)
    publish(channel, queue)
    assert requeue_until_gone(channel, queue, 60) == 60
    assert await_message(channel, queue)[1].headers["x-delivery-count"] == 60


def test_a_delivery_limit_of_0_gives_one_try(declare, channel):
    queue = declare(durable=True, x_queue_type="quorum", x_delivery_limit=0)
    publish(channel, queue)
    assert requeue_until_gone(channel, queue, 5) == 1


def test_a_closed_channel_counts_as_a_delivery(declare, channel, connection):
    letters = declare("letters")
    queue = declare(durable=True, x_queue_type="quorum", x_delivery_limit=1,
                    x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, b"poison")
    for _ in range(2):
        crashing = connection.channel()
        await_message(crashing, queue, auto_ack=False)
        crashing.close()
    assert await_message(channel, letters)[2] == b"poison"


def test_classic_queues_know_no_delivery_limit(declare, channel):
    queue = declare()
    publish(channel, queue)
    assert requeue_until_gone(channel, queue, 40) == 40


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_dead_lettering_from_and_to_both_kinds(declare, channel, kind):
    letters = declare("letters", durable=True, x_queue_type=kind)
    for source in ("classic", "quorum"):
        queue = declare(durable=True, x_queue_type=source, x_max_length=1,
                        x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
        for body in (b"1", b"2"):
            publish(channel, queue, body, delivery_mode=2)
        _, properties, body = await_message(channel, letters)
        assert (body, deaths(properties)) == (b"1", [(queue, "maxlen", 1)])


def test_dead_letters_go_into_streams(declare, channel, connection):
    letters = declare("letters", durable=True, x_queue_type="stream")
    queue = declare(x_dead_letter_exchange="", x_dead_letter_routing_key=letters)
    publish(channel, queue, b"kept")
    reject_next(channel, queue)
    reader, got = connection.channel(), []
    reader.basic_qos(prefetch_count=1)
    reader.basic_consume(letters, lambda _c, _m, properties, body: got.append((deaths(properties), body)),
                         arguments={"x-stream-offset": "first"})
    eventually(lambda: connection.process_data_events(0.02) or got)
    assert got == [([(queue, "rejected", 1)], b"kept")]
