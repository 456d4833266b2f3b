'use strict';
// Message life through amqplib: expiration, dead letters and their headers, limits, delivery counts.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const {eventually, sharedBroker} = require('./broker');
const {count, deaths, declare, drain, next, open, publish, refusal} = require('./features');

let broker, connection, channel;
before(async () => {
  broker = await sharedBroker();
  ({connection, channel} = await open(broker));
});
after(async () => {
  await connection.close();
  await broker.stop();
});

const deadTo = (queue) => ({'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue});

test('expiration: bad values are 406, good ones expire', async () => {
  const queue = await declare(channel);
  const [code, text] = await refusal(connection, async (other) => {
    other.sendToQueue(queue, Buffer.from('x'), {expiration: 'soon'});
    await other.waitForConfirms();
  });
  assert.equal(code, 406);
  assert.match(text, /invalid expiration 'soon': no_integer/);
  await publish(channel, queue, ['x'], {expiration: '20'});
  await eventually(async () => (await count(channel, queue)) === 0);
});

test('x-message-ttl and x-expires', async () => {
  const expiring = await declare(channel, {}, {messageTtl: 20});
  await publish(channel, expiring, ['x']);
  await eventually(async () => (await count(channel, expiring)) === 0);
  const gone = await declare(channel, {}, {expires: 50});
  // looking would renew it
  await new Promise((resolve) => setTimeout(resolve, 60));
  await eventually(async () => {
    const [code] = await Promise.race([refusal(connection, (other) => other.bindQueue(gone, 'amq.direct', 'k')),
      new Promise((resolve) => setTimeout(resolve, 50, [0]))]);
    return code === 404;
  });
});

test('x-death, x-first-death and x-last-death', async () => {
  const letters = await declare(channel);
  const queue = await declare(channel, deadTo(letters));
  await publish(channel, queue, ['late'], {expiration: '1', headers: {mine: 'stays'}});
  const message = await next(channel, letters);
  const {time, ...death} = message.properties.headers['x-death'][0];
  assert.deepEqual(death, {count: 1, reason: 'expired', queue, exchange: '', 'routing-keys': [queue],
    'original-expiration': '1'});
  assert.equal(time['!'], 'timestamp');
  const {headers, expiration} = message.properties;
  assert.equal(expiration, undefined);
  assert.equal(headers.mine, 'stays');
  for (const which of ['first', 'last']) {
    assert.deepEqual(['queue', 'reason', 'exchange'].map((key) => headers[`x-${which}-death-${key}`]),
      [queue, 'expired', '']);
  }
});

test('rejected, over and over: one death with a count; CC goes along, BCC is not seen', async () => {
  const back = await declare(channel, {'x-dead-letter-exchange': 'amq.direct'});
  const [copy, blind] = [await declare(channel), await declare(channel)];
  await channel.bindQueue(back, 'amq.direct', back);
  await channel.bindQueue(copy, 'amq.direct', copy);
  await channel.bindQueue(blind, 'amq.direct', blind);
  channel.sendToQueue(back, Buffer.from('x'), {CC: [copy], BCC: [blind]});
  await channel.waitForConfirms();
  await channel.purgeQueue(copy);
  await channel.purgeQueue(blind);
  for (let round = 0; round < 3; round++) channel.reject(await next(channel, back, {}), false);
  assert.deepEqual(deaths(await next(channel, back)), [[back, 'rejected', 3]]);
  assert.equal(await count(channel, copy), 3);
  assert.equal(await count(channel, blind), 3);
  const {headers} = (await next(channel, blind)).properties;
  assert.deepEqual([headers.CC, headers.BCC, headers['x-death'][0]['routing-keys']], [[copy], undefined, [back, copy]]);
});

test('x-max-length with each overflow', async () => {
  const letters = await declare(channel);
  const head = await declare(channel, {'x-max-length': 2, ...deadTo(letters)});
  await publish(channel, head, [1, 2, 3]);
  assert.deepEqual(await drain(channel, head), ['2', '3']);
  assert.deepEqual(deaths(await next(channel, letters)), [[head, 'maxlen', 1]]);
  for (const [overflow, dead] of [['reject-publish', 0], ['reject-publish-dlx', 1]]) {
    const full = await declare(channel, {'x-max-length-bytes': 1, 'x-overflow': overflow, ...deadTo(letters)});
    await publish(channel, full, [1]);
    await assert.rejects(publish(channel, full, [2]));
    assert.deepEqual(await drain(channel, full), ['1']);
    assert.equal((await drain(channel, letters)).length, dead);
  }
});

test('x-delivery-limit and x-delivery-count', async () => {
  const letters = await declare(channel);
  const queue = await declare(channel, {'x-queue-type': 'quorum', 'x-delivery-limit': 2, ...deadTo(letters)});
  await publish(channel, queue, ['poison']);
  const counts = [];
  for (let round = 0; round < 3; round++) {
    const message = await next(channel, queue, {});
    counts.push(message.properties.headers['x-delivery-count']);
    channel.nack(message);
  }
  assert.deepEqual(counts, [undefined, 1, 2]);
  assert.deepEqual(deaths(await next(channel, letters)), [[queue, 'delivery_limit', 1]]);
});

test('x-retry-delays: back after each delay, then dead', {skip: Boolean(process.env.AMQP_TEST_URL)}, async () => {
  const letters = await declare(channel);
  const queue = await declare(channel, {'x-retry-delays': [20, 60], ...deadTo(letters)});
  await publish(channel, queue, ['work'], {persistent: true});
  const came = [];
  for (let round = 0; round < 3; round++) {
    channel.nack(await next(channel, queue, {}));
    came.push(Date.now());
  }
  assert.ok(came[1] - came[0] >= 19 && came[2] - came[1] >= 59, String(came));
  assert.deepEqual(deaths(await next(channel, letters)), [[queue, 'delivery_limit', 1]]);
});
