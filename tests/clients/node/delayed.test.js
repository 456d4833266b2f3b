'use strict';
// x-delayed-message with amqplib: delays, order, the negated header, kill -9.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const amqp = require('amqplib');
const {eventually, ownBroker, sharedBroker} = require('./broker');

let broker;
let connection;

before(async () => {
  broker = await sharedBroker();
  connection = await amqp.connect(broker.url);
  connection.on('error', () => {});
});

after(async () => {
  await connection.close();
  await broker.stop();
});

async function declare(channel, suffix, durable = true) {
  const [exchange, queue] = [`later-${suffix}`, `due-${suffix}`];
  await channel.assertExchange(exchange, 'x-delayed-message', {durable, arguments: {'x-delayed-type': 'direct'}});
  await channel.assertQueue(queue, {durable: true});
  await channel.bindQueue(queue, exchange, 'k');
  return {exchange, queue};
}

function publish(channel, exchange, delay, body) {
  channel.publish(exchange, 'k', Buffer.from(body), {persistent: true, headers: {'x-delay': delay}});
}

async function take(channel, queue, count) {
  const taken = [];
  await eventually(async () => {
    const message = await channel.get(queue, {noAck: true});
    if (message) taken.push(message);
    return taken.length === count;
  }, `${count} messages`);
  return taken;
}

test('the delayed type must be a type', async () => {
  const channel = await connection.createChannel();
  channel.on('error', () => {});
  await assert.rejects(channel.assertExchange('x', 'x-delayed-message', {arguments: {'x-delayed-type': 'zz'}}),
    /406 \(PRECONDITION-FAILED\).*'x-delayed-type' must be an existing exchange type/);
});

test('messages go on in the order of their times, not before, with the delay negated', async () => {
  const channel = await connection.createConfirmChannel();
  const {exchange, queue} = await declare(channel, 'order');
  const begun = Date.now();
  for (const delay of [600, 200, 400]) publish(channel, exchange, delay, String(delay));
  publish(channel, exchange, -1, 'now');
  await channel.waitForConfirms();
  const taken = await take(channel, queue, 4);
  assert.deepEqual(taken.map((message) => message.content.toString()), ['now', '200', '400', '600']);
  assert.ok(Date.now() - begun >= 599);
  assert.deepEqual(taken.map((message) => message.properties.headers['x-delay']), [-1, -200, -400, -600]);
});

test('a consumer gets what becomes due', async () => {
  const channel = await connection.createChannel();
  const {exchange, queue} = await declare(channel, 'consumer');
  const got = [];
  await channel.consume(queue, (message) => got.push(message.content.toString()), {noAck: true});
  for (let number = 0; number < 200; number++) publish(channel, exchange, 100 + number, String(number));
  await eventually(() => got.length === 200, '200 deliveries');
  assert.deepEqual(got, Array.from({length: 200}, (_, number) => String(number)));
});

test('delayed messages survive kill -9', async (t) => {
  const own = await ownBroker();
  if (!own) return t.skip('needs a broker of its own');
  try {
    const first = await amqp.connect(own.url);
    first.on('error', () => {});
    let channel = await first.createConfirmChannel();
    const {exchange, queue} = await declare(channel, 'kept');
    for (let number = 0; number < 100; number++) publish(channel, exchange, 10 + number * 20, String(number));
    await channel.waitForConfirms();
    await own.kill();
    await own.start();
    const second = await amqp.connect(own.url);
    channel = await second.createChannel();
    const taken = await take(channel, queue, 100);
    assert.deepEqual(taken.map((message) => Number(message.content)), Array.from({length: 100}, (_, number) => number));
    await second.close();
  } finally {
    await own.remove();
  }
});
