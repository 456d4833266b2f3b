"""Producers that number what they publish (x-producer, x-sequence): order, duplicates, gaps, crashes, transactions."""

import threading

import pika
import pytest

from support.deduplication import Way, behind, numbered, straight_to
from support.management import Management
from support.queues import bodies, count

pytestmark = pytest.mark.leveret_only("Leveret's own headers")


def ways(channel, name):
    """Each kind of exchange that keeps numbers; nothing is declared for that."""
    def by_amq_direct():
        queue = name("q")
        channel.queue_declare(queue, durable=True)
        channel.queue_bind(queue, "amq.direct", queue)
        return Way(channel, queue, "amq.direct")
    return {
        "default": lambda: straight_to(channel, name("q")),
        "own": lambda: behind(channel, name("q"), name("x"), "topic"),
        "amq": by_amq_direct,
    }


WAYS = list(ways(None, None))


@pytest.fixture(params=WAYS)
def own_way(request, own_broker, open_connection):
    """(broker, way) on a broker that may be killed. Each of these tests has numbers of its own."""
    broker = own_broker("--management-listen", "127.0.0.1:0")
    return broker, ways(open_connection(broker).channel(), str)[request.param]()


def send_all(way, *sequences, producer="me"):
    """What became of messages with these numbers, each its own body."""
    return [way.publish(str(sequence), numbered(producer, sequence)) for sequence in sequences]


# Each message on its own

def test_numbers_go_up_and_duplicates_are_acked(own_way):
    _, way = own_way
    assert send_all(way, 1, 2, 2, 1, 3, 3, 0) == ["ack"] * 7
    assert way.bodies() == ["1", "2", "3"]


def test_gaps_are_nacked_until_what_is_missing_has_come(own_way):
    _, way = own_way
    assert send_all(way, 1, 3, 4, 2, 3, 4, 2 ** 40) == ["ack", "nack", "nack", "ack", "ack", "ack", "nack"]
    assert way.bodies() == ["1", "2", "3", "4"]


def test_a_producer_may_begin_anywhere(own_way):
    _, way = own_way
    assert send_all(way, 2 ** 62, 2 ** 62 + 1, 2 ** 62) == ["ack"] * 3
    assert send_all(way, 0, 0, 1, producer="other") == ["ack"] * 3
    assert way.bodies() == [str(2 ** 62), str(2 ** 62 + 1), "0", "1"]


def test_without_confirms_a_gap_is_taken(own_way):
    broker, way = own_way
    for sequence in (1, 4, 3, 5):
        way.send(str(sequence), numbered("me", sequence))
    assert way.bodies() == ["1", "4", "5"]
    assert counts(broker, way) == {"duplicates": 1, "gaps": 1, "keys": 0, "producers": 1, "producers_forgotten": 0}


@pytest.mark.parametrize("own_way", ["own", "amq"], indirect=True)
def test_mandatory_duplicates_are_not_returned(own_way):
    _, way = own_way
    assert send_all(way, 1) == ["ack"]
    way.channel.queue_unbind(way.queue, way.exchange, way.key)
    assert way.publish("again", numbered("me", 1), mandatory=True) == "ack"
    assert way.publish("nowhere", numbered("me", 2), mandatory=True) == "returned"
    assert way.publish("again", numbered("me", 2), mandatory=True) == "ack"


def test_a_refused_message_holds_up_those_behind_it(channel, scratch):
    way = straight_to(channel, scratch.name(), {"x-max-length": 1, "x-overflow": "reject-publish"})
    assert send_all(way, 1, 2, 1) == ["ack", "nack", "ack"]
    assert way.bodies() == ["1"]
    assert send_all(way, 3, 2) == ["nack", "ack"]
    assert way.bodies() == ["2"]


def test_queues_of_the_default_exchange_count_apart(channel, scratch):
    one, other = straight_to(channel, scratch.name()), straight_to(channel, scratch.name())
    assert send_all(one, 1, 2) + send_all(other, 1, 1) == ["ack"] * 4
    assert (one.bodies(), other.bodies()) == (["1", "2"], ["1"])


def test_an_exchange_counts_for_all_its_queues(channel, scratch):
    way = behind(channel, scratch.name(), scratch.name())
    other = scratch.queue(channel)
    channel.queue_bind(other, way.exchange, "other")
    elsewhere = Way(channel, other, way.exchange, "other")
    assert send_all(way, 1) + send_all(elsewhere, 2) + send_all(way, 3, 2) == ["ack"] * 4
    assert (way.bodies(), elsewhere.bodies()) == (["1", "3"], ["2"])


@pytest.mark.parametrize("headers", [
    {"x-producer": "me"}, {"x-sequence": 1}, {"x-producer": "me", "x-sequence": -1},
    {"x-producer": "me", "x-sequence": "1"}, {"x-producer": 1, "x-sequence": 1},
    {"x-producer": "me", "x-sequence": None},
], ids=str)
def test_what_makes_no_sense_is_no_number(channel, scratch, headers):
    way = straight_to(channel, scratch.name())
    for _ in range(2):
        assert way.publish("a", pika.BasicProperties(headers=headers)) == "ack"
    assert way.bodies() == ["a", "a"]


def test_streams_keep_numbers_too(channel, scratch):
    way = straight_to(channel, scratch.name(), {"x-queue-type": "stream"})
    assert send_all(way, 1, 1, 3, 2) == ["ack", "ack", "nack", "ack"]
    assert way.count() == 2


def test_of_two_that_use_one_name_each_number_is_there_once(broker, scratch, channel, open_connection):
    """As after a network partition: the old instance of a producer still sends what the new one sends again."""
    way = straight_to(channel, scratch.name())
    numbers, failures = 200, []

    def run():
        try:
            own = way.over(open_connection(broker).channel())
            for sequence in range(numbers):
                # The other one may be ahead, and never by more than what this one is about to send.
                assert own.publish(str(sequence), numbered("me", sequence)) == "ack"
        except Exception as failure:  # noqa: BLE001 - shown by the test
            failures.append(failure)
    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert way.bodies() == [str(sequence) for sequence in range(numbers)]


# Crashes

def test_numbers_survive_kill_9_with_their_messages(own_way, open_connection):
    broker, way = own_way
    assert send_all(way, 1, 2) == ["ack", "ack"]
    assert send_all(way, 7, producer="other") == ["ack"]
    for round_number in (3, 4):
        broker.restart_after_kill()
        way = way.over(open_connection(broker).channel())
        assert send_all(way, 1, round_number - 1, round_number + 1, round_number) == ["ack", "ack", "nack", "ack"]
    assert send_all(way, 7, 9, 8, producer="other") == ["ack", "nack", "ack"]
    assert way.bodies() == ["1", "2", "7", "3", "4", "8"]


def test_a_producer_that_begins_again_after_kill_9_loses_and_doubles_nothing(own_way, open_connection):
    broker, way = own_way
    total = 400
    blind = way.over(open_connection(broker).channel())
    for sequence in range(total // 2):
        blind.send(str(sequence), numbered("me", sequence))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    # It does not know how far it came: it begins at the beginning.
    assert send_all(way, *range(total)) == ["ack"] * total
    assert way.bodies() == [str(sequence) for sequence in range(total)]


# Transactions

def test_a_transaction_counts_when_it_commits(own_way):
    _, way = own_way
    own = way.over(way.channel.connection.channel())
    own.channel.tx_select()
    own.send("rolled back", numbered("me", 1))
    own.channel.tx_rollback()
    for sequence in (1, 1, 2):
        own.send(str(sequence), numbered("me", sequence))
    assert way.count() == 0
    own.channel.tx_commit()
    assert send_all(way, 2, 3) == ["ack", "ack"]
    assert way.bodies() == ["1", "2", "3"]


def test_a_gap_in_a_transaction_is_406_and_nothing_of_it_happens(own_way):
    _, way = own_way
    send_all(way, 1)
    assert way.bodies() == ["1"]
    own = way.over(way.channel.connection.channel())
    own.channel.tx_select()
    own.send("2", numbered("me", 2))
    own.send("not numbered", pika.BasicProperties())
    own.send("4", numbered("me", 4))
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as closed:
        own.channel.tx_commit()
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406, "PRECONDITION_FAILED - x-sequence 4 leaves out numbers after 2")
    assert way.count() == 0
    assert send_all(way, 2, 3) == ["ack", "ack"]
    assert way.bodies() == ["2", "3"]


def test_numbers_of_a_committed_transaction_survive_kill_9(own_way, open_connection):
    broker, way = own_way
    own = way.over(way.channel.connection.channel())
    own.channel.tx_select()
    own.send("1", numbered("me", 1))
    own.channel.tx_commit()
    own.send("never committed", numbered("me", 2))
    broker.restart_after_kill()
    way = way.over(open_connection(broker).channel())
    assert send_all(way, 1, 2) == ["ack", "ack"]
    assert way.bodies() == ["1", "2"]


# What is counted, and the limit

def counts(broker, way):
    shown = ("exchanges", "/", way.exchange) if way.exchange else ("queues", "/", way.queue)
    return Management(broker.management()).get(*shown)["leveret"]["deduplication"]


def test_duplicates_and_gaps_are_counted(own_way):
    broker, way = own_way
    send_all(way, 1, 1, 3, 2, 1)
    send_all(way, 1, producer="other")
    assert counts(broker, way) == {"duplicates": 2, "gaps": 1, "keys": 0, "producers": 2, "producers_forgotten": 0}


def test_the_producer_silent_for_longest_is_forgotten(own_broker, open_connection):
    broker = own_broker("--dedup-producers-max", "2", "--management-listen", "127.0.0.1:0")
    way = straight_to(open_connection(broker).channel(), "q")
    for producer, sequence in (("a", 1), ("b", 1), ("a", 2), ("c", 1)):
        send_all(way, sequence, producer=producer)
    counted = counts(broker, way)
    assert (counted["producers"], counted["producers_forgotten"]) == (2, 1)
    broker.restart_after_kill()
    channel = open_connection(broker).channel()
    way = way.over(channel)
    assert send_all(way, 2, producer="a") + send_all(way, 1, producer="c") == ["ack", "ack"]
    assert count(channel, "q") == 4, "both are known still"
    assert send_all(way, 1, producer="b") == ["ack"]
    assert bodies(channel, "q") == [b"1", b"1", b"2", b"1", b"1"]
