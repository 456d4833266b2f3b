'use strict';
// Consumers through amqplib: priority, exclusive, single active, cancellation, timeouts, prefetch of both kinds.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const {eventually, sharedBroker} = require('./broker');
const {count, declare, open, openChannel, publish, refusal} = require('./features');

let broker, connection, channel;
before(async () => {
  broker = await sharedBroker();
  ({connection, channel} = await open(broker));
});
after(async () => {
  await connection.close();
  await broker.stop();
});

// A consumer on a channel of its own, and what it got.
async function listen(queue, {prefetch = 0, ...options} = {}) {
  const own = await openChannel(connection);
  if (prefetch) await own.prefetch(prefetch);
  const got = [];
  await own.consume(queue, (message) => got.push(message && String(message.content)), options);
  return {channel: own, got};
}

test('x-priority: the higher one first, the rest to others', async () => {
  const queue = await declare(channel);
  const low = await listen(queue, {prefetch: 2});
  const high = await listen(queue, {prefetch: 2, priority: 10});
  await publish(channel, queue, [1, 2, 3]);
  await eventually(() => low.got.length === 1);
  assert.deepEqual([high.got, low.got], [['1', '2'], ['3']]);
});

test('an exclusive consumer is alone', async () => {
  const queue = await declare(channel);
  const alone = await listen(queue, {exclusive: true});
  const [code, text] = await refusal(connection, (other) => other.consume(queue, () => {}));
  assert.equal(code, 403);
  assert.match(text, /in exclusive use/);
  await alone.channel.close();
  await listen(queue);
});

test('single active consumers follow in the order they came', async () => {
  const queue = await declare(channel, {'x-single-active-consumer': true});
  const all = [await listen(queue, {prefetch: 9}), await listen(queue, {prefetch: 9}), await listen(queue)];
  for (let place = 0; place < all.length; place++) {
    await publish(channel, queue, [place]);
    await eventually(() => all[place].got.includes(String(place)));
    // the next one gets what this one had, in its place
    assert.deepEqual(all[place].got, Array.from({length: place + 1}, (_, number) => String(number)));
    await all[place].channel.close();
  }
});

test('consumers are told with null when their queue goes', async () => {
  const queue = await declare(channel);
  const listener = await listen(queue);
  await channel.deleteQueue(queue);
  await eventually(() => listener.got.length === 1);
  assert.equal(listener.got[0], null);
});

test('prefetch of consumer and channel together', async () => {
  const [one, two] = [await declare(channel), await declare(channel)];
  await publish(channel, one, [1, 2, 3, 4]);
  await publish(channel, two, [1, 2, 3, 4]);
  const limited = await openChannel(connection);
  await limited.prefetch(3, false);
  await limited.prefetch(5, true);
  const got = [];
  for (const queue of [one, two]) await limited.consume(queue, () => got.push(queue));
  await eventually(() => got.length === 5);
  await channel.checkQueue(one);
  assert.equal(got.length, 5);
  assert.ok(got.filter((queue) => queue === one).length <= 3);
  assert.equal(await count(channel, one) + await count(channel, two), 3);
});

test('consumer timeout of a queue closes the channel with 406',
  {skip: Boolean(process.env.AMQP_TEST_URL)}, async () => {
    const queue = await declare(channel, {'x-consumer-timeout': 100});
    const listener = await listen(queue, {prefetch: 1});
    await publish(channel, queue, ['held']);
    const error = await listener.channel.failed;
    assert.equal(error.code, 406);
    assert.match(error.message, /delivery acknowledgement on channel \d+ timed out\. Timeout value used: 100 ms/);
    await eventually(async () => (await count(channel, queue)) === 1);
  });
