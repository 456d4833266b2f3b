'use strict';
// Publisher deduplication through amqplib: the plugin's exchange and queue, windows, producers' numbers, kill -9.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const {randomUUID} = require('node:crypto');
const {ownBroker} = require('./broker');
const {declare, drain, open} = require('./features');

const LONG_MS = 3600000;
const skip = (process.env.AMQP_TEST_URL || !process.env.LEVERET_BIN) && 'needs a broker of its own';
let broker, connection, channel;

async function reconnect() {
  ({connection, channel} = await open(broker));
}

before(async () => {
  if (skip) return;
  broker = await ownBroker();
  await reconnect();
});
after(async () => {
  if (skip) return;
  await connection.close();
  await broker.remove();
});

// Publishes a message; answers what its confirm says.
const send = (exchange, key, body, options) => new Promise((resolve) => {
  channel.publish(exchange, key, Buffer.from(body), {persistent: true, ...options},
    (error) => resolve(error ? 'nack' : 'ack'));
});

// An exchange and a queue behind it.
async function behind(kind, args) {
  const exchange = `t-${randomUUID()}`;
  await channel.assertExchange(exchange, kind, {durable: true, arguments: args});
  const queue = await declare(channel);
  await channel.bindQueue(queue, exchange, 'k');
  return {exchange, queue};
}

const keyed = (value) => ({headers: {'x-deduplication-header': value}});
const numbered = (producer, sequence) => ({headers: {'x-producer': producer, 'x-sequence': sequence}});

test('the plugin\'s exchange: values by type, duplicates confirmed', {skip}, async () => {
  const {exchange, queue} = await behind('x-message-deduplication', {'x-cache-size': 100});
  const values = ['1', 1, 2, 1.5, 2.5, true, false];
  for (const value of [...values, ...values]) {
    assert.equal(await send(exchange, 'k', String(value), keyed(value)), 'ack');
  }
  assert.deepEqual(await drain(channel, queue), values.map(String));
});

test('the plugin\'s queue holds no two of a kind', {skip}, async () => {
  const queue = await declare(channel, {'x-message-deduplication': true});
  for (const body of ['a', 'again']) await send('', queue, body, keyed('1'));
  assert.deepEqual(await drain(channel, queue), ['a']);
  await send('', queue, 'b', keyed('1'));
  assert.deepEqual(await drain(channel, queue), ['b']);
});

test('a mandatory duplicate is confirmed and not returned', {skip}, async () => {
  const {exchange, queue} = await behind('direct', {'x-dedup-window-ms': LONG_MS});
  const returned = [];
  channel.on('return', (message) => returned.push(String(message.content)));
  await send(exchange, 'k', 'a', {messageId: '1', mandatory: true});
  await channel.unbindQueue(queue, exchange, 'k');
  assert.equal(await send(exchange, 'k', 'again', {messageId: '1', mandatory: true}), 'ack');
  assert.equal(await send(exchange, 'k', 'b', {messageId: '2', mandatory: true}), 'ack');
  assert.deepEqual([returned, await drain(channel, queue)], [['b'], ['a']]);
});

test('windows and numbers survive kill -9', {skip}, async () => {
  const {exchange, queue} = await behind('direct', {'x-dedup-window-ms': LONG_MS});
  const counted = await declare(channel);
  await send(exchange, 'k', 'a', {messageId: '1'});
  for (const [sequence, fate] of [[1, 'ack'], [1, 'ack'], [3, 'nack'], [2, 'ack']]) {
    assert.equal(await send('', counted, String(sequence), numbered('me', sequence)), fate);
  }
  await broker.kill();
  await broker.start();
  await reconnect();
  assert.equal(await send(exchange, 'k', 'again', {messageId: '1'}), 'ack');
  for (const [sequence, fate] of [[2, 'ack'], [4, 'nack'], [3, 'ack']]) {
    assert.equal(await send('', counted, String(sequence), numbered('me', sequence)), fate);
  }
  assert.deepEqual(await drain(channel, queue), ['a']);
  assert.deepEqual(await drain(channel, counted), ['1', '2', '3']);
});
