'use strict';
// Streams through amqplib.

const assert = require('node:assert/strict');
const {randomUUID} = require('node:crypto');
const {after, before, test} = require('node:test');
const amqp = require('amqplib');
const {eventually, ownBroker, sharedBroker} = require('./broker');

let broker;
before(async () => {
  broker = await sharedBroker();
});
after(() => broker.stop());

// A connection with a confirm channel; errors of either reject nothing by themselves.
async function open(where = broker) {
  const connection = await amqp.connect(where.url);
  connection.on('error', () => {});
  const channel = await connection.createConfirmChannel();
  channel.on('error', () => {});
  return {connection, channel};
}

async function publish(channel, queue, from, until, options = {}) {
  for (let number = from; number < until; number++) channel.sendToQueue(queue, Buffer.from(String(number)), options);
  await channel.waitForConfirms();
}

// [offset, number] of the next `count` messages from an offset on.
async function read(where, queue, offset, count, more = {}) {
  const {connection, channel} = await open(where);
  await channel.prefetch(20);
  const got = [];
  await channel.consume(queue, (message) => {
    got.push([message.properties.headers['x-stream-offset'], Number(message.content)]);
    channel.ack(message);
  }, {arguments: {'x-stream-offset': offset, ...more}});
  await eventually(() => got.length >= count, `${count} messages`);
  await connection.close();
  return got;
}

const numbered = (from, until) => Array.from({length: until - from}, (_, place) => [from + place, from + place]);
const stream = {durable: true, arguments: {'x-queue-type': 'stream'}};

test('a stream is read from anywhere, as often as one likes', async () => {
  const queue = `stream-${randomUUID()}`;
  const {connection, channel} = await open();
  await channel.assertQueue(queue, stream);
  await publish(channel, queue, 0, 200);
  for (let round = 0; round < 2; round++) assert.deepEqual(await read(broker, queue, 'first', 200), numbered(0, 200));
  assert.deepEqual(await read(broker, queue, 150, 50), numbered(150, 200));
  assert.deepEqual(await read(broker, queue, 'last', 1), numbered(199, 200));
  assert.deepEqual(await read(broker, queue, {'!': 'timestamp', value: 1}, 200), numbered(0, 200));
  const filtered = {'x-stream-filter': 'even', 'x-stream-match-unfiltered': false};
  await publish(channel, queue, 200, 201, {headers: {'x-stream-filter-value': 'even'}});
  assert.deepEqual((await read(broker, queue, 'first', 1, filtered)).at(-1), [200, 200]);
  await channel.deleteQueue(queue);
  await connection.close();
});

test('a consumer without prefetch is refused with 406, one without acknowledgements with 540', async () => {
  const queue = `stream-${randomUUID()}`;
  const {connection, channel} = await open();
  await channel.assertQueue(queue, stream);
  await assert.rejects(channel.consume(queue, () => {}), /406/);
  const other = await open();
  await other.channel.prefetch(1);
  const failed = new Promise((resolve) => other.connection.once('error', resolve));
  await assert.rejects(other.channel.consume(queue, () => {}, {noAck: true}));
  assert.match((await failed).message, /540/);
  const last = await connection.createChannel();
  await last.deleteQueue(queue);
  await connection.close();
});

test('confirmed messages keep their offsets over kill -9', async (t) => {
  const own = await ownBroker();
  if (!own) return t.skip('needs a broker of its own');
  try {
    let {channel} = await open(own);
    await channel.assertQueue('kept', stream);
    await publish(channel, 'kept', 0, 300);
    await own.kill();
    await own.start();
    ({channel} = await open(own));
    await publish(channel, 'kept', 300, 310);
    assert.deepEqual(await read(own, 'kept', 'first', 310), numbered(0, 310));
  } finally {
    await own.remove();
  }
});
