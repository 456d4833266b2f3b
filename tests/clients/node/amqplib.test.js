'use strict';
// amqplib's promise API against the broker.

const assert = require('node:assert/strict');
const {randomUUID} = require('node:crypto');
const {after, afterEach, before, beforeEach, test} = require('node:test');
const amqp = require('amqplib');
const {eventually, sharedBroker} = require('./broker');

let broker;
let connection;
let channel;

before(async () => {
  broker = await sharedBroker();
});
after(() => broker.stop());

beforeEach(async () => {
  connection = await amqp.connect(broker.url);
  connection.on('error', () => {});
  channel = await connection.createChannel();
  channel.on('error', () => {});
});
afterEach(() => connection.close().catch(() => {}));

const anonymousQueue = async (options) => (await channel.assertQueue('', {exclusive: true, ...options})).queue;

// Collects `count` messages from a queue.
async function collect(from, queue, count, options = {noAck: true}) {
  const messages = [];
  await from.consume(queue, (message) => messages.push(message), options);
  await eventually(() => messages.length >= count, `${count} messages`);
  return messages;
}

test('server properties reach the client', () => {
  const properties = connection.connection.serverProperties;
  assert.equal(properties.product, 'RabbitMQ');
  assert.equal(properties.capabilities.publisher_confirms, true);
  assert.equal(properties.capabilities['basic.nack'], true);
});

for (const options of ['frameMax=4096', 'channelMax=1', 'heartbeat=1', 'frameMax=8192&channelMax=10&heartbeat=5']) {
  test(`connects with ${options}`, async () => {
    const tuned = await amqp.connect(`${broker.url}?${options}`);
    const own = await tuned.createChannel();
    const {queue} = await own.assertQueue('', {exclusive: true});
    const body = Buffer.alloc(100000, 'x');
    own.sendToQueue(queue, body);
    assert.ok((await collect(own, queue, 1))[0].content.equals(body));
    await tuned.close();
  });
}

test('a wrong password is refused with 403', async () => {
  const url = broker.url.replace(/\/\/([^@/]*@)?/, '//guest:wrong@');
  await assert.rejects(amqp.connect(url), /403.*ACCESS[-_]REFUSED/);
});

test('an unknown virtual host is refused', async () => {
  const url = `${broker.url}/no-such-vhost`;
  await assert.rejects(amqp.connect(url), /ConnectionClose/);
});

test('publish and consume in order, with acks', async () => {
  const queue = await anonymousQueue();
  for (let number = 0; number < 200; number++) channel.sendToQueue(queue, Buffer.from(String(number)));
  const messages = await collect(channel, queue, 200, {noAck: false});
  assert.deepEqual(messages.map((message) => Number(message.content)), [...Array(200).keys()]);
  channel.ack(messages[99], true);
  for (const message of messages.slice(100)) channel.ack(message);
  await channel.close();
  channel = await connection.createChannel();
  assert.equal((await channel.checkQueue(queue)).messageCount, 0);
});

test('properties and headers arrive as they were sent', async () => {
  const queue = await anonymousQueue();
  const options = {
    contentType: 'text/plain', contentEncoding: 'utf-8', persistent: true, priority: 3, correlationId: 'c',
    replyTo: 'r', expiration: '60000', messageId: 'm', timestamp: 1700000000, type: 't', userId: 'guest', appId: 'a',
    headers: {text: 'ü', integer: 7, negative: -7, large: 2 ** 40, double: 1.5, yes: true, no: false, nothing: null,
      list: [1, 'two', [3]], table: {a: {b: 'c'}}},
  };
  channel.sendToQueue(queue, Buffer.from('x'), options);
  const [{properties}] = await collect(channel, queue, 1);
  const {headers, ...rest} = options;
  assert.deepEqual({...properties.headers}, headers);
  delete rest.persistent;
  for (const [name, value] of Object.entries(rest)) assert.equal(properties[name], value, name);
  assert.equal(properties.deliveryMode, 2);
});

test('nack and reject: requeued messages come back in their place, flagged', async () => {
  const queue = await anonymousQueue();
  for (const text of 'abcd') channel.sendToQueue(queue, Buffer.from(text));
  const taken = [];
  for (let number = 0; number < 4; number++) taken.push(await channel.get(queue));
  channel.nack(taken[2]);
  channel.reject(taken[0], true);
  channel.nack(taken[1], false, false);
  channel.ack(taken[3]);
  const back = await collect(channel, queue, 2);
  assert.deepEqual(back.map((message) => [message.content.toString(), message.fields.redelivered]),
    [['a', true], ['c', true]]);
});

test('nackAll, ackAll and recover', async () => {
  const queue = await anonymousQueue();
  for (const text of 'abc') channel.sendToQueue(queue, Buffer.from(text));
  for (let number = 0; number < 3; number++) await channel.get(queue);
  channel.nackAll(true);
  for (let number = 0; number < 3; number++) assert.ok((await channel.get(queue)).fields.redelivered);
  await channel.recover();
  for (let number = 0; number < 3; number++) await channel.get(queue);
  channel.ackAll();
  assert.equal(await channel.get(queue), false);
});

test('get on an empty queue answers false', async () => {
  assert.equal(await channel.get(await anonymousQueue()), false);
});

test('confirm channel: every publish is confirmed', async () => {
  const confirming = await connection.createConfirmChannel();
  const {queue} = await confirming.assertQueue('', {exclusive: true});
  let confirmed = 0;
  for (let number = 0; number < 1000; number++) {
    confirming.sendToQueue(queue, Buffer.from(String(number)), {persistent: number % 2 === 0}, (error) => {
      assert.equal(error, null);
      confirmed++;
    });
  }
  await confirming.waitForConfirms();
  assert.equal(confirmed, 1000);
  assert.equal((await confirming.checkQueue(queue)).messageCount, 1000);
});

test('confirm channel: a full queue that rejects nacks', async () => {
  const confirming = await connection.createConfirmChannel();
  const {queue} = await confirming.assertQueue('', {exclusive: true, maxLength: 1, arguments: {
    'x-overflow': 'reject-publish'}});
  const publish = () => new Promise((resolve) => {
    confirming.sendToQueue(queue, Buffer.from('x'), {}, resolve);
  });
  assert.equal(await publish(), null);
  assert.ok(await publish() instanceof Error);
});

test('a mandatory miss is returned before its confirm', async () => {
  const confirming = await connection.createConfirmChannel();
  const events = [];
  confirming.on('return', (message) => events.push(['return', message.fields.replyCode, message.fields.replyText]));
  await new Promise((resolve) => {
    confirming.publish('', 'nowhere', Buffer.from('x'), {mandatory: true}, () => {
      events.push(['confirm']);
      resolve();
    });
  });
  assert.deepEqual(events, [['return', 312, 'NO_ROUTE'], ['confirm']]);
});

test('errors close the channel with code and text', async () => {
  const name = `none-${randomUUID()}`;
  const closed = new Promise((resolve) => channel.once('error', resolve));
  await assert.rejects(channel.checkQueue(name), (error) => {
    assert.equal(error.code, 404);
    assert.match(error.message, new RegExp(`NOT_FOUND - no queue '${name}' in vhost '/'`));
    return true;
  });
  assert.equal((await closed).code, 404);
  await connection.createChannel();
});

test('inequivalent arguments are 406', async () => {
  const name = `node-${randomUUID()}`;
  await channel.assertQueue(name, {autoDelete: false, durable: false});
  try {
    await assert.rejects(channel.assertQueue(name, {durable: true}), /406 \(PRECONDITION[-_]FAILED\).*inequivalent arg 'durable'/);
  } finally {
    await (await connection.createChannel()).deleteQueue(name);
  }
});

test('a connection error closes the connection with code and text', async () => {
  const failing = await amqp.connect(broker.url);
  const closed = new Promise((resolve) => failing.once('error', resolve));
  const own = await failing.createChannel();
  own.on('error', () => {});
  await assert.rejects(own.assertExchange('x', 'no-such-type'));
  const error = await closed;
  assert.equal(error.code, 503);
  assert.match(error.message, /COMMAND_INVALID - unknown exchange type 'no-such-type'/);
});

test('a consumer is told with null when its queue is deleted', async () => {
  const queue = await anonymousQueue();
  const told = new Promise((resolve) => channel.consume(queue, resolve));
  await (await connection.createChannel()).deleteQueue(queue);
  assert.equal(await told, null);
});

test('cancel stops deliveries', async () => {
  const queue = await anonymousQueue();
  const {consumerTag} = await channel.consume(queue, () => assert.fail('delivered after cancel'));
  await channel.cancel(consumerTag);
  channel.sendToQueue(queue, Buffer.from('x'));
  assert.equal((await channel.get(queue)).content.toString(), 'x');
});

test('prefetch limits each consumer, or the channel when global', async () => {
  for (const [global, expected] of [[false, 6], [true, 3]]) {
    const own = await connection.createChannel();
    const {queue} = await own.assertQueue('', {exclusive: true});
    await own.prefetch(3, global);
    let delivered = 0;
    for (let number = 0; number < 2; number++) await own.consume(queue, () => delivered++);
    for (let number = 0; number < 20; number++) own.sendToQueue(queue, Buffer.from('x'));
    await eventually(() => delivered === expected, 'the prefetched messages');
    const left = await eventually(async () => {
      const {messageCount} = await own.checkQueue(queue);
      return messageCount === 20 - expected && messageCount;
    }, 'the rest in the queue');
    assert.equal(delivered, 20 - left);
    await own.close();
  }
});

test('exchanges of every type, and exchange bindings', async () => {
  const base = `node-${randomUUID()}`;
  const queue = await anonymousQueue();
  for (const [type, pattern, key, args, headers] of [
    ['direct', 'k', 'k', {}, {}], ['fanout', '', 'any', {}, {}], ['topic', 'a.*.#', 'a.b.c', {}, {}],
    ['headers', '', '', {'x-match': 'any', n: 1, s: 't'}, {s: 't'}],
  ]) {
    const exchange = `${base}-${type}`;
    const outer = `${exchange}-outer`;
    await channel.assertExchange(exchange, type, {autoDelete: true, durable: false});
    await channel.assertExchange(outer, 'fanout', {autoDelete: true, durable: false});
    await channel.bindQueue(queue, exchange, pattern, args);
    await channel.bindExchange(exchange, outer, '');
    channel.publish(exchange, key, Buffer.from('inner'), {headers});
    channel.publish(outer, key, Buffer.from('outer'), {headers});
    for (const text of ['inner', 'outer']) {
      const message = await channel.get(queue, {noAck: true});
      assert.equal(message.content.toString(), text, type);
      assert.equal(message.fields.routingKey, key);
    }
    await channel.unbindExchange(exchange, outer, '');
    await channel.unbindQueue(queue, exchange, pattern, args);
  }
});

test('bodies of every size arrive whole', async () => {
  const queue = await anonymousQueue();
  for (const size of [0, 1, 131063, 131064, 131065, 131072, 10 * 2 ** 20]) {
    const body = Buffer.alloc(size, 'abcdefg');
    channel.sendToQueue(queue, body);
    const message = await channel.get(queue, {noAck: true});
    assert.ok(message.content.equals(body), `${size} bytes`);
  }
});

test('direct reply-to', async () => {
  const queue = await anonymousQueue();
  await channel.consume(queue, (message) => {
    channel.sendToQueue(message.properties.replyTo, Buffer.from(message.content.toString().toUpperCase()));
  }, {noAck: true});
  const caller = await connection.createChannel();
  const answered = new Promise((resolve) => caller.consume('amq.rabbitmq.reply-to', resolve, {noAck: true}));
  caller.sendToQueue(queue, Buffer.from('shout'), {replyTo: 'amq.rabbitmq.reply-to'});
  assert.equal((await answered).content.toString(), 'SHOUT');
});

test('update-secret is answered', async () => {
  await connection.updateSecret(Buffer.from('new secret'), 'because');
  await connection.createChannel();
});

test('purge, delete and their counts', async () => {
  const confirming = await connection.createConfirmChannel();
  const {queue} = await confirming.assertQueue('', {exclusive: true});
  for (let number = 0; number < 5; number++) confirming.sendToQueue(queue, Buffer.from('x'));
  await confirming.waitForConfirms();
  assert.equal((await confirming.purgeQueue(queue)).messageCount, 5);
  confirming.sendToQueue(queue, Buffer.from('x'));
  await confirming.waitForConfirms();
  assert.equal((await confirming.deleteQueue(queue)).messageCount, 1);
});

test('many channels and a close of the connection', async () => {
  const many = await amqp.connect(broker.url);
  const channels = await Promise.all(Array.from({length: 200}, () => many.createChannel()));
  assert.equal(channels.length, 200);
  const closed = new Promise((resolve) => many.once('close', resolve));
  await many.close();
  assert.equal(await closed, undefined);
});
