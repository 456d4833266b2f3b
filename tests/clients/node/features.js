'use strict';
// What the tests of a paragraph share: a connection with a confirm channel, names, and looking into queues.

const {randomUUID} = require('node:crypto');
const amqp = require('amqplib');
const {eventually} = require('./broker');

// A connection with a confirm channel; errors of either reject nothing by themselves.
async function open(broker) {
  const connection = await amqp.connect(broker.url);
  connection.on('error', () => {});
  return {connection, channel: await openChannel(connection)};
}

async function openChannel(connection) {
  const channel = await connection.createConfirmChannel();
  channel.failed = new Promise((resolve) => channel.on('error', resolve));
  return channel;
}

// Declares a queue of its own name; answers the name.
async function declare(channel, args = {}, options = {}) {
  const {queue} = await channel.assertQueue(`t-${randomUUID()}`, {durable: true, ...options, arguments: args});
  return queue;
}

async function publish(channel, queue, bodies, options = {}) {
  for (const body of bodies) channel.sendToQueue(queue, Buffer.from(String(body)), options);
  await channel.waitForConfirms();
}

const count = async (channel, queue) => (await channel.checkQueue(queue)).messageCount;

// The next message, waited for.
const next = (channel, queue, options = {noAck: true}) => eventually(() => channel.get(queue, options), 'a message');

// The bodies of everything that is ready.
async function drain(channel, queue) {
  const found = [];
  for (let message; (message = await channel.get(queue, {noAck: true}));) found.push(message.content.toString());
  return found;
}

// [[queue, reason, count]] of x-death.
const deaths = (message) => message.properties.headers['x-death'].map((it) => [it.queue, it.reason, it.count]);

// [code, text] with which a channel ends that `step` uses.
async function refusal(connection, step) {
  const channel = await openChannel(connection);
  await step(channel).catch(() => {});
  const error = await channel.failed;
  return [error.code, error.message];
}

module.exports = {count, deaths, declare, drain, next, open, openChannel, publish, refusal};
