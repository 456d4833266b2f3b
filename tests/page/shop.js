'use strict';
// A shop in trouble: queues that grow, that nobody reads, that are stuck, and dead letters; for pictures of the page.

const {amqp} = require('./browser');

const QUEUES = {
  'orders.created': 'quorum', 'webhooks.outgoing': 'quorum', 'payments.capture': 'quorum', 'fraud.score': 'quorum', 'shipments.labels': 'quorum',
  'invoices.render': 'quorum', 'orders.dead': 'classic', 'emails.bulk': 'classic', celery: 'classic', 'search.index': 'classic', 'images.resize': 'classic', 'audit.events': 'stream',
};
const DEAD = ['orders.created', 'webhooks.outgoing', 'payments.capture', 'shipments.labels', 'invoices.render'];
const BINDINGS = [['order.*.created', 'orders.created'], ['order.eu.created', 'fraud.score'], ['order.us.paid', 'payments.capture'], ['order.*.paid', 'webhooks.outgoing'], ['order.*.shipped', 'webhooks.outgoing'], ['order.#', 'audit.events'], ['order.*.shipped', 'shipments.labels']];

const connect = (broker, name) => amqp.connect(broker.url, {clientProperties: {connection_name: name}});

async function make(broker) {
  const connection = await connect(broker, 'shop-api');
  const channel = await connection.createChannel();
  await channel.assertExchange('orders', 'topic');
  await channel.assertExchange('orders.dlx', 'fanout');
  for (const [queue, kind] of Object.entries(QUEUES)) {
    const args = {'x-queue-type': kind};
    if (DEAD.includes(queue)) args['x-dead-letter-exchange'] = 'orders.dlx';
    if (queue === 'webhooks.outgoing') Object.assign(args, {'x-message-ttl': 600000, 'x-max-length': 1000000});
    if (queue === 'celery') args['x-max-priority'] = 10;
    await channel.assertQueue(queue, {durable: true, arguments: args});
  }
  for (const [key, queue] of BINDINGS) await channel.bindQueue(queue, 'orders', key);
  await channel.bindQueue('orders.dead', 'orders.dlx', '');
  for (let number = 1; number <= 40; number++) await channel.assertQueue(`tenant.${String(number).padStart(4, '0')}.jobs`, {durable: true});
  return {connection, channel};
}

// Acknowledges so many a second, and rejects some.
async function consume(broker, queue, tag, perSecond, rejects = 0) {
  const connection = await connect(broker, tag);
  const channel = await connection.createChannel();
  await channel.prefetch(50);
  let waiting = [];
  await channel.consume(queue, (message) => waiting.push(message), {consumerTag: tag});
  const timer = setInterval(() => {
    for (const message of waiting.splice(0, Math.ceil(perSecond / 10))) Math.random() < rejects ? channel.reject(message, false) : channel.ack(message);
  }, 100);
  return async () => {
    clearInterval(timer);
    await connection.close();
  };
}

// Runs until it is told to stop.
async function open(broker) {
  const {connection, channel} = await make(broker);
  const stops = await Promise.all([['orders.created', 'worker-3', 400, 0.01], ['webhooks.outgoing', 'worker-7', 30], ['webhooks.outgoing', 'worker-2', 30], ['fraud.score', 'scorer-1', 400], ['celery', 'celery-1', 400], ['search.index', 'indexer-1', 400], ['shipments.labels', 'labels-1', 200], ['emails.bulk', 'mailer-1', 20], ['invoices.render', 'worker-9', 0]].map((it) => consume(broker, ...it)));
  let order = 20610000;
  const send = (exchange, key) => channel.publish(exchange, key, Buffer.from(JSON.stringify({event: key || 'task', order: `A-${order++}`, total: 129.9, currency: 'EUR', attempt: 1})), {persistent: true, contentType: 'application/json', headers: {'x-tenant': order % 90}});
  for (let number = 0; number < 6000; number++) send('', 'emails.bulk');
  for (let number = 0; number < 80; number++) send('', 'invoices.render');
  const timer = setInterval(() => {
    const wave = 1 + 0.15 * Math.sin(Date.now() / 9000);
    for (const [key, count] of [['order.eu.created', 8], ['order.us.created', 4], ['order.us.paid', 2], ['order.eu.paid', 4], ['order.eu.shipped', 2]]) {
      for (let number = 0; number < Math.round(count * wave); number++) send('orders', key);
    }
    for (let number = 0; number < 9; number++) send('', 'celery');
    for (let number = 0; number < 12 * wave; number++) send('', 'search.index');
  }, 100);
  return async () => {
    clearInterval(timer);
    for (const stop of stops) await stop();
    await connection.close();
  };
}

module.exports = {open};
