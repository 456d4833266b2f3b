"""The situations of rabbitmq-replies.json: each provokes one reply of the broker.

A situation is a function of a `Stage`. What it raises, or that it raises nothing, is compared with the file."""

import pika

SITUATIONS = {}


def situation(name):
    """Registers a function under the name that the file has for it."""
    def register(function):
        assert name not in SITUATIONS, name
        SITUATIONS[name] = function
        return function
    return register


def case(name, steps):
    """Registers a one-line situation."""
    situation(name)(steps)


class Stage:
    """A channel, a queue name and an exchange name, and second connections on demand."""

    def __init__(self, connection, open_connection, scratch):
        self.connection = connection
        self.channel = connection.channel()
        self.open_connection = open_connection
        self.queue = scratch.name("queue")
        self.exchange = scratch.name("exchange")

    def declare(self, arguments=None, **options):
        return self.channel.queue_declare(self.queue, arguments=arguments, **options)

    def declare_exchange(self, kind="direct", **options):
        self.channel.exchange_declare(self.exchange, exchange_type=kind, **options)

    def publish(self, exchange="", routing_key=None, body=b"x", mandatory=False, **properties):
        """Publishes, and waits for what comes of it."""
        self.channel.basic_publish(exchange, routing_key or self.queue, body,
                                   pika.BasicProperties(**properties), mandatory)
        self.sync()

    def sync(self):
        """Returns once the broker has handled all that was sent before."""
        self.channel.basic_qos(prefetch_count=0)

    def consume(self, queue=None, **options):
        return self.channel.basic_consume(self.queue if queue is None else queue, lambda *_: None, **options)

    def get_one(self):
        """Puts a message into a new queue and takes it, unacknowledged."""
        self.declare(exclusive=True)
        self.publish()
        return self.channel.basic_get(self.queue)[0].delivery_tag


# Settling

@situation("ack 0 multiple, nothing unacked")
def _(stage):
    stage.channel.basic_ack(0, multiple=True)
    stage.sync()


@situation("ack 0 single")
def _(stage):
    stage.channel.basic_ack(0)
    stage.sync()


@situation("ack twice")
def _(stage):
    tag = stage.get_one()
    stage.channel.basic_ack(tag)
    stage.channel.basic_ack(tag)
    stage.sync()


@situation("ack unknown tag")
def _(stage):
    stage.channel.basic_ack(999)
    stage.sync()


@situation("nack unknown tag")
def _(stage):
    stage.channel.basic_nack(999)
    stage.sync()


@situation("reject unknown tag")
def _(stage):
    stage.channel.basic_reject(999)
    stage.sync()


case("recover requeue=false", lambda stage: stage.channel.basic_recover(requeue=False))


# Consumers

@situation("cancel unknown tag")
def _(stage):
    # the blocking channel answers an unknown tag itself: ask below it
    answered = []
    stage.channel._impl._rpc(pika.spec.Basic.Cancel(consumer_tag="nobody"), answered.append,
                             [(pika.spec.Basic.CancelOk, {"consumer_tag": "nobody"})])
    while not answered:
        stage.connection.process_data_events(time_limit=0.05)


@situation("consume duplicate tag")
def _(stage):
    # the blocking channel refuses a known tag itself: ask below it
    stage.declare(exclusive=True)
    for _ in range(2):
        stage.channel._impl._send_method(pika.spec.Basic.Consume(queue=stage.queue, consumer_tag="dup", no_ack=True))
    stage.sync()


case("consume missing queue", lambda stage: stage.consume())


@situation("consume x-priority string")
def _(stage):
    stage.declare(exclusive=True)
    stage.consume(arguments={"x-priority": "high"})


@situation("exclusive consumer, second consumer")
def _(stage):
    stage.declare(exclusive=True)
    stage.consume(exclusive=True)
    stage.connection.channel().basic_consume(stage.queue, lambda *_: None)


@situation("second consumer exclusive")
def _(stage):
    stage.declare(exclusive=True)
    stage.consume()
    stage.connection.channel().basic_consume(stage.queue, lambda *_: None, exclusive=True)


case("empty queue name, none declared", lambda stage: stage.consume(""))
case("get missing queue", lambda stage: stage.channel.basic_get(stage.queue))
case("qos prefetch_size", lambda stage: stage.channel.basic_qos(prefetch_size=10))
case("reply-to consume with acks", lambda stage: stage.consume("amq.rabbitmq.reply-to"))


@situation("reply-to declared passively")
def _(stage):
    stage.consume("amq.rabbitmq.reply-to", auto_ack=True)
    stage.channel.queue_declare("amq.rabbitmq.reply-to", passive=True)


case("reply-to without consumer", lambda stage: stage.publish(reply_to="amq.rabbitmq.reply-to"))


# Publishing

case("publish missing exchange", lambda stage: stage.publish(stage.exchange))
case("publish wrong user_id", lambda stage: stage.publish(user_id="nobody"))
case("publish bad expiration", lambda stage: stage.publish(expiration="abc"))
case("publish negative expiration", lambda stage: stage.publish(expiration="-1"))
case("publish CC not a list", lambda stage: stage.publish(headers={"CC": "not a list"}))


@situation("publish internal exchange")
def _(stage):
    stage.declare_exchange(internal=True)
    stage.publish(stage.exchange)


@situation("publish immediate")
def _(stage):
    publish = pika.spec.Basic.Publish(exchange="", routing_key=stage.queue, immediate=True)
    stage.channel._impl._send_method(publish, (pika.BasicProperties(), b"x"))
    stage.sync()


# Transactions

case("tx.commit without select", lambda stage: stage.channel.tx_commit())
case("tx.rollback without select", lambda stage: stage.channel.tx_rollback())


@situation("confirm.select on tx channel")
def _(stage):
    stage.channel.tx_select()
    stage.channel.confirm_delivery()


@situation("tx.select on confirm channel")
def _(stage):
    stage.channel.confirm_delivery()
    stage.channel.tx_select()


# Exchanges

case("exchange.declare amq.*", lambda stage: stage.channel.exchange_declare("amq.nope"))
case("exchange.declare default name", lambda stage: stage.channel.exchange_declare(""))
case("exchange.declare passive, missing", lambda stage: stage.declare_exchange(passive=True))
case("exchange.declare unknown type", lambda stage: stage.declare_exchange("zz"))
case("exchange.delete amq.direct", lambda stage: stage.channel.exchange_delete("amq.direct"))
case("exchange.delete default", lambda stage: stage.channel.exchange_delete(""))
case("exchange.delete missing", lambda stage: stage.channel.exchange_delete(stage.exchange))
case("exchange.bind default", lambda stage: stage.channel.exchange_bind("amq.fanout", ""))
case("exchange.bind missing source", lambda stage: stage.channel.exchange_bind("amq.fanout", stage.exchange))


@situation("exchange.delete if-unused, bound")
def _(stage):
    stage.declare_exchange()
    stage.declare(exclusive=True)
    stage.channel.queue_bind(stage.queue, stage.exchange, "k")
    stage.channel.exchange_delete(stage.exchange, if_unused=True)


def redeclared_exchange(name, kind="direct", **options):
    @situation(name)
    def _(stage):
        stage.declare_exchange()
        stage.declare_exchange(kind, **options)


redeclared_exchange("exchange.declare other auto_delete", auto_delete=True)
redeclared_exchange("exchange.declare other durable", durable=True)
redeclared_exchange("exchange.declare other internal", internal=True)
redeclared_exchange("exchange.declare other type", "topic")


# Bindings

@situation("queue.bind default exchange")
def _(stage):
    stage.declare(exclusive=True)
    stage.channel.queue_bind(stage.queue, "", "k")


@situation("queue.unbind default exchange")
def _(stage):
    stage.declare(exclusive=True)
    stage.channel.queue_unbind(stage.queue, "", "k")


@situation("queue.bind headers bad x-match")
def _(stage):
    stage.declare(exclusive=True)
    stage.channel.queue_bind(stage.queue, "amq.headers", arguments={"x-match": "zz", "a": 1})


@situation("queue.bind missing exchange")
def _(stage):
    stage.declare(exclusive=True)
    stage.channel.queue_bind(stage.queue, stage.exchange, "k")


@situation("queue.bind missing queue")
def _(stage):
    stage.channel.queue_bind(stage.queue, "amq.direct", "k")


@situation("queue.unbind missing binding")
def _(stage):
    stage.declare(exclusive=True)
    stage.channel.queue_unbind(stage.queue, "amq.direct", "never bound")
