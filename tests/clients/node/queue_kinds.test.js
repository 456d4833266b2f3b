'use strict';
// Queue types and their arguments through amqplib.

const assert = require('node:assert/strict');
const {randomUUID} = require('node:crypto');
const {after, before, test} = require('node:test');
const {sharedBroker} = require('./broker');
const {count, declare, drain, open, publish, refusal} = require('./features');

let broker, connection, channel;
before(async () => {
  broker = await sharedBroker();
  ({connection, channel} = await open(broker));
});
after(async () => {
  await connection.close();
  await broker.stop();
});

const kind = (type) => ({'x-queue-type': type});

test('what quorum queues and streams refuse', async () => {
  for (const type of ['quorum', 'stream']) {
    for (const [options, property] of [[{durable: false}, 'non-durable'], [{exclusive: true}, 'exclusive-owner'],
      [{autoDelete: true}, 'auto-delete']]) {
      const [code, text] = await refusal(connection, (other) => declare(other, kind(type), options));
      assert.equal(code, 406);
      assert.match(text, new RegExp(`invalid property '${property}' for queue`));
    }
  }
  const [code, text] = await refusal(connection, (other) => declare(other, {...kind('quorum'), 'x-max-priority': 5}));
  assert.equal(code, 406);
  assert.match(text, /invalid arg 'x-max-priority' for queue .* of queue type rabbit_quorum_queue/);
});

test('another type for the same name is inequivalent', async () => {
  const queue = await declare(channel, kind('quorum'));
  const [code, text] = await refusal(connection, (other) => other.assertQueue(queue, {durable: true}));
  assert.equal(code, 406);
  assert.match(text, /inequivalent arg 'x-queue-type' .* current is the value 'quorum' of type 'longstr'/);
});

test('arguments that are accepted, and unknown ones', async () => {
  const args = {'x-queue-mode': 'lazy', 'x-queue-version': 2, 'x-queue-leader-locator': 'balanced', 'x-unheard-of': 1};
  const queue = await declare(channel, args);
  await channel.assertQueue(queue, {durable: true, arguments: {...args, 'x-unheard-of': 2}});
});

test('priorities', async () => {
  const queue = await declare(channel, {}, {maxPriority: 255});
  for (const priority of [0, 200, 255, 1]) await publish(channel, queue, [priority], {priority});
  assert.deepEqual(await drain(channel, queue), ['255', '200', '1', '0']);
});

test('transient queues that are not exclusive, and global qos', async () => {
  const queue = await declare(channel, {}, {durable: false});
  const {connection: mine, channel: limited} = await open(broker);
  await limited.prefetch(1, true);
  await publish(channel, queue, [1, 2]);
  const got = await new Promise((resolve) => limited.consume(queue, (message) => resolve(String(message.content))));
  assert.equal(got, '1');
  await mine.close();
});

test('a long queue is purged and deleted with its count', async () => {
  const queue = await declare(channel);
  await publish(channel, queue, Array.from({length: 20000}, (_, number) => number), {persistent: true});
  assert.equal((await channel.purgeQueue(queue)).messageCount, 20000);
  await publish(channel, queue, [1, 2, 3]);
  assert.equal((await channel.deleteQueue(queue)).messageCount, 3);
  const again = await channel.assertQueue(queue, {durable: true});
  assert.equal(again.messageCount, 0);
  assert.equal(await count(channel, queue), 0);
});

test('deleting if unused or empty', async () => {
  const queue = await declare(channel);
  await publish(channel, queue, [1]);
  const [code] = await refusal(connection, (other) => other.deleteQueue(queue, {ifEmpty: true}));
  assert.equal(code, 406);
  await channel.deleteQueue(`not-there-${randomUUID()}`);
});
