'use strict';
// What amqplib was promised survives kill -9.

const assert = require('node:assert/strict');
const {test} = require('node:test');
const amqp = require('amqplib');
const {ownBroker} = require('./broker');

async function open(broker) {
  const connection = await amqp.connect(broker.url);
  connection.on('error', () => {});
  return {connection, channel: await connection.createConfirmChannel()};
}

test('confirmed messages survive kill -9, in order; unacknowledged ones are flagged', async (t) => {
  const broker = await ownBroker();
  if (!broker) return t.skip('needs a broker of its own');
  try {
    let {connection, channel} = await open(broker);
    await channel.assertExchange('logs', 'topic', {durable: true});
    await channel.assertQueue('kept', {durable: true});
    await channel.bindQueue('kept', 'logs', 'a.#');
    for (let number = 0; number < 500; number++) {
      channel.publish('logs', 'a.b', Buffer.from(String(number)), {persistent: true});
    }
    await channel.waitForConfirms();
    for (let number = 0; number < 3; number++) await channel.get('kept');
    await broker.kill();
    await broker.start();
    ({connection, channel} = await open(broker));
    assert.equal((await channel.checkQueue('kept')).messageCount, 500);
    for (let number = 0; number < 500; number++) {
      const message = await channel.get('kept', {noAck: true});
      assert.equal(Number(message.content), number);
      if (number < 3) assert.equal(message.fields.redelivered, true);
    }
    await connection.close();
  } finally {
    await broker.remove();
  }
});

test('a client that is connected when the broker dies sees its connection close', async (t) => {
  const broker = await ownBroker();
  if (!broker) return t.skip('needs a broker of its own');
  try {
    const {connection} = await open(broker);
    const closed = new Promise((resolve) => connection.once('close', resolve));
    await broker.kill();
    await closed;
  } finally {
    await broker.remove();
  }
});
