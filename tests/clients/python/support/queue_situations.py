"""The situations of rabbitmq-replies.json that are about queues: declaring, redeclaring, deleting."""

from support.situations import case, situation


def redeclared(name, before=None, after=None, first=None, then=None):
    """A queue declared with one set of arguments or flags, then with another."""
    @situation(name)
    def _(stage):
        stage.declare(before, **(first or {}))
        stage.declare(after, **(then or {}))


def refused(name, **arguments):
    """A first declare with arguments that are not accepted."""
    case(name, lambda stage: stage.declare({key.replace("_", "-"): value for key, value in arguments.items()}))


QUORUM = {"x-queue-type": "quorum"}

case("queue.declare amq.*", lambda stage: stage.channel.queue_declare("amq.nope"))
case("queue.declare passive, missing", lambda stage: stage.declare(passive=True))
case("queue.delete missing", lambda stage: stage.channel.queue_delete(stage.queue))
case("queue.purge missing", lambda stage: stage.channel.queue_purge(stage.queue))

redeclared("queue.declare added unknown x-arg", None, {"x-unheard-of": 1})
redeclared("queue.declare added x-message-ttl", None, {"x-message-ttl": 1000})
redeclared("queue.declare changed x-message-ttl", {"x-message-ttl": 1000}, {"x-message-ttl": 1001})
redeclared("queue.declare dropped x-message-ttl", {"x-message-ttl": 1000}, None)
redeclared("queue.declare changed x-dead-letter-exchange",
           {"x-dead-letter-exchange": "a"}, {"x-dead-letter-exchange": "b"})
redeclared("queue.declare other durable", then={"durable": True})
redeclared("queue.declare other auto_delete", then={"auto_delete": True})
redeclared("queue.declare other exclusive", then={"exclusive": True})
redeclared("queue.declare classic over quorum", QUORUM, None, {"durable": True}, {"durable": True})

refused("queue.declare x-dead-letter-exchange int", x_dead_letter_exchange=1)
refused("queue.declare x-dead-letter-routing-key alone", x_dead_letter_routing_key="k")
refused("queue.declare x-delivery-limit on classic", x_delivery_limit=3)
refused("queue.declare x-expires 0", x_expires=0)
refused("queue.declare x-expires string", x_expires="1000")
refused("queue.declare x-max-length negative", x_max_length=-1)
refused("queue.declare x-max-length string", x_max_length="1")
refused("queue.declare x-max-length-bytes negative", x_max_length_bytes=-5)
refused("queue.declare x-max-priority 256", x_max_priority=256)
refused("queue.declare x-max-priority string", x_max_priority="1")
refused("queue.declare x-message-ttl negative", x_message_ttl=-1)
refused("queue.declare x-message-ttl string", x_message_ttl="1")
refused("queue.declare x-message-ttl too large", x_message_ttl=2 ** 40)
refused("queue.declare x-overflow bad", x_overflow="bad")
refused("queue.declare x-queue-mode bad", x_queue_mode="bad")
refused("queue.declare x-queue-type bad", x_queue_type="bad")
refused("queue.declare x-queue-type int", x_queue_type=1)
refused("queue.declare x-single-active-consumer string", x_single_active_consumer="true")


@situation("queue.delete if-empty")
def _(stage):
    stage.declare(exclusive=True)
    stage.publish()
    stage.channel.queue_delete(stage.queue, if_empty=True)


@situation("queue.delete if-unused")
def _(stage):
    stage.declare(exclusive=True)
    stage.consume()
    stage.channel.queue_delete(stage.queue, if_unused=True)


# Another connection's exclusive queue

def locked(name, step):
    @situation(f"exclusive queue, other connection: {name}")
    def _(stage):
        stage.declare(exclusive=True)
        step(stage, stage.open_connection().channel())


locked("declare", lambda stage, other: other.queue_declare(stage.queue, exclusive=True))
locked("passive", lambda stage, other: other.queue_declare(stage.queue, passive=True))
locked("bind", lambda stage, other: other.queue_bind(stage.queue, "amq.direct", "k"))
locked("consume", lambda stage, other: other.basic_consume(stage.queue, lambda *_: None))
locked("get", lambda stage, other: other.basic_get(stage.queue))
locked("delete", lambda stage, other: other.queue_delete(stage.queue))


# Quorum queues

case("quorum: auto_delete", lambda stage: stage.declare(QUORUM, durable=True, auto_delete=True))
case("quorum: exclusive", lambda stage: stage.declare(QUORUM, durable=True, exclusive=True))
case("quorum: not durable", lambda stage: stage.declare(QUORUM))
case("quorum: x-max-priority", lambda stage: stage.declare({**QUORUM, "x-max-priority": 3}, durable=True))


@situation("quorum: global qos consume")
def _(stage):
    stage.declare(QUORUM, durable=True)
    stage.channel.basic_qos(prefetch_count=1, global_qos=True)
    stage.consume()
