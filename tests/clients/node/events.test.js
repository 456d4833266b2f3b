'use strict';
// The event exchange through amqplib: what an auditor sees of a client that comes, works and goes.

const assert = require('node:assert/strict');
const {test} = require('node:test');
const amqp = require('amqplib');
const {eventually, ownBroker} = require('./broker');
const {open} = require('./features');

test('amq.rabbitmq.event tells what happens', async (t) => {
  const broker = await ownBroker();
  if (!broker) return t.skip('a plugin there, which must be enabled');
  t.after(() => broker.remove());
  const {connection, channel} = await open(broker);
  const {queue} = await channel.assertQueue('', {exclusive: true});
  const events = [];
  await channel.consume(queue, ({fields, content, properties}) => {
    assert.equal(content.length, 0);
    assert.equal(properties.deliveryMode, 2);
    events.push([fields.routingKey, properties.headers]);
  }, {noAck: true});
  await channel.bindQueue(queue, 'amq.rabbitmq.event', '#');

  const other = await amqp.connect(broker.url);
  const work = await other.createChannel();
  await work.assertQueue('orders', {durable: true, arguments: {'x-max-length': 5}});
  await work.bindQueue('orders', 'amq.topic', 'order.#');
  await work.deleteQueue('orders');
  await work.close();
  await other.close();

  await eventually(() => events.some(([key]) => key === 'connection.closed'), 'the last event');
  assert.deepEqual(events.map(([key]) => key), [
    'binding.created', 'user.authentication.success', 'connection.created', 'channel.created', 'queue.created',
    'binding.created', 'binding.deleted', 'queue.deleted', 'channel.closed', 'connection.closed']);
  const [, created] = events[4];
  assert.equal(created.name, 'orders');
  assert.equal(created.user_who_performed_action, 'guest');
  assert.match(created.arguments[0], /^{<<"x-max-length">>,[a-z]+,5}$/);
  assert.equal(events[9][1].pid, events[2][1].pid);
  assert.ok(Math.abs(events[0][1].timestamp_in_ms - Date.now()) < 60000);
  await connection.close();
});
