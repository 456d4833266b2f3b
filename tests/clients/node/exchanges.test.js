'use strict';
// Exchanges through amqplib: bound to each other, alternate, internal, auto-delete, hashing and random ones.

const assert = require('node:assert/strict');
const {randomUUID} = require('node:crypto');
const {after, before, test} = require('node:test');
const {sharedBroker} = require('./broker');
const {count, declare, drain, open, refusal} = require('./features');

let broker, connection, channel;
before(async () => {
  broker = await sharedBroker();
  ({connection, channel} = await open(broker));
});
after(async () => {
  await connection.close();
  await broker.stop();
});

const exchange = async (type, options = {}) => (await channel.assertExchange(`x-${randomUUID()}`, type, options)).exchange;

async function send(to, keys, options = {}) {
  for (const key of keys) channel.publish(to, key, Buffer.from(key), {mandatory: true, ...options});
  await channel.waitForConfirms();
}

// A queue for each key, bound to the exchange.
async function bind(source, keys) {
  const queues = [];
  for (const key of keys) {
    const queue = await declare(channel);
    await channel.bindQueue(queue, source, key);
    queues.push(queue);
  }
  return queues;
}

const keys = Array.from({length: 60}, (_, number) => `key-${number}`);

test('x-consistent-hash: weights, the same key to the same queue, header and property', async () => {
  const hashing = await exchange('x-consistent-hash');
  const queues = await bind(hashing, ['1', '2']);
  await send(hashing, keys);
  await send(hashing, keys);
  const found = await Promise.all(queues.map((queue) => drain(channel, queue)));
  assert.equal(found[0].length + found[1].length, 120);
  for (const some of found) assert.equal(new Set(some).size * 2, some.length);
  for (const [args, options] of [[{'hash-header': 'who'}, {headers: {who: 'a'}}],
    [{'hash-property': 'correlation_id'}, {correlationId: 'a'}]]) {
    const by = await exchange('x-consistent-hash', {arguments: args});
    const three = await bind(by, ['1', '1', '1']);
    await send(by, keys, options);
    const counts = await Promise.all(three.map((queue) => count(channel, queue)));
    assert.deepEqual(counts.sort((a, b) => a - b), [0, 0, 60]);
  }
});

test('x-random, x-local-random and x-modulus-hash choose one queue', async () => {
  for (const type of ['x-random', 'x-local-random', 'x-modulus-hash']) {
    const choosing = await exchange(type);
    const queues = await bind(choosing, ['', '']);
    await send(choosing, keys);
    const counts = await Promise.all(queues.map((queue) => count(channel, queue)));
    assert.equal(counts[0] + counts[1], 60);
    assert.ok(counts[0] > 0 && counts[1] > 0, `${type} ${counts}`);
  }
});

test('exchange bindings, internal and alternate exchanges', async () => {
  const inner = await exchange('topic', {internal: true});
  const spare = await exchange('fanout');
  const outer = await exchange('fanout', {});
  const front = await exchange('direct', {alternateExchange: spare});
  await channel.bindExchange(outer, front, 'in');
  await channel.bindExchange(inner, outer, '');
  const [[queue], [lost]] = [await bind(inner, ['#']), await bind(spare, [''])];
  await send(front, ['in', 'out']);
  assert.deepEqual([await drain(channel, queue), await drain(channel, lost)], [['in'], ['out']]);
  const [code] = await refusal(connection, async (other) => {
    other.publish(inner, 'x', Buffer.from('x'));
    await other.waitForConfirms();
  });
  assert.equal(code, 403);
});

test('an auto-delete exchange goes with its last binding', async () => {
  const going = await exchange('fanout', {autoDelete: true});
  const [queue] = await bind(going, ['']);
  await channel.unbindQueue(queue, going, '');
  const [code] = await refusal(connection, (other) => other.checkExchange(going));
  assert.equal(code, 404);
});
