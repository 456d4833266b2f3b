'use strict';
// Publishers through amqplib: CC and BCC, user-id, direct reply-to, mandatory, confirms of every fate.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const {eventually, sharedBroker} = require('./broker');
const {declare, drain, next, open, openChannel, publish, refusal} = require('./features');

let broker, connection, channel;
before(async () => {
  broker = await sharedBroker();
  ({connection, channel} = await open(broker));
});
after(async () => {
  await connection.close();
  await broker.stop();
});

test('CC and BCC go to further keys; BCC is not shown', async () => {
  const [to, cc, bcc] = [await declare(channel), await declare(channel), await declare(channel)];
  await publish(channel, to, ['x'], {CC: [cc], BCC: [bcc]});
  for (const queue of [to, cc, bcc]) {
    const {headers} = (await next(channel, queue)).properties;
    assert.deepEqual([headers.CC, headers.BCC], [[cc], undefined]);
  }
});

test('user-id must be the name one logged in with', async () => {
  const queue = await declare(channel);
  await publish(channel, queue, ['mine'], {userId: 'guest'});
  assert.equal((await next(channel, queue)).properties.userId, 'guest');
  const [code, text] = await refusal(connection, async (other) => {
    other.sendToQueue(queue, Buffer.from('x'), {userId: 'somebody'});
    await other.waitForConfirms();
  });
  assert.equal(code, 406);
  assert.match(text, /user_id property set to 'somebody' but authenticated user was 'guest'/);
});

test('direct reply-to: many requests, no-ack only, a mandatory reply to nobody comes back', async () => {
  const requests = await declare(channel);
  const asking = await openChannel(connection);
  const replies = [];
  await asking.consume('amq.rabbitmq.reply-to', (message) => replies.push(String(message.content)), {noAck: true});
  for (let number = 0; number < 5; number++) {
    asking.sendToQueue(requests, Buffer.from(String(number)), {replyTo: 'amq.rabbitmq.reply-to'});
  }
  let address;
  await channel.consume(requests, (message) => {
    address = message.properties.replyTo;
    channel.sendToQueue(address, Buffer.from(`re: ${message.content}`), {mandatory: true});
    channel.ack(message);
  });
  await eventually(() => replies.length === 5);
  assert.deepEqual(replies, [0, 1, 2, 3, 4].map((number) => `re: ${number}`));
  await asking.close();
  const returned = new Promise((resolve) => channel.once('return', resolve));
  channel.sendToQueue(address, Buffer.from('too late'), {mandatory: true});
  assert.equal((await returned).fields.replyText, 'NO_ROUTE');
  const [code, text] = await refusal(connection, (other) => other.consume('amq.rabbitmq.reply-to', () => {}));
  assert.equal(code, 406);
  assert.match(text, /reply consumer cannot acknowledge/);
});

test('confirms of good, unroutable and refused publishes in one go', async () => {
  const good = await declare(channel);
  const full = await declare(channel, {'x-max-length': 0, 'x-overflow': 'reject-publish'});
  const fates = [];
  let returns = 0;
  channel.on('return', () => returns++);
  const wants = ['good', 'full', 'nowhere', 'good', 'full'];
  await Promise.all(wants.map((want) => new Promise((resolve) => {
    const queue = {good, full, nowhere: 'nowhere-at-all'}[want];
    channel.sendToQueue(queue, Buffer.from('x'), {mandatory: true, persistent: true}, (error) => {
      fates.push([want, error === null]);
      resolve();
    });
  })));
  assert.deepEqual(fates.filter(([want]) => want === 'full'), [['full', false], ['full', false]]);
  assert.deepEqual(fates.filter(([, ok]) => ok).map(([want]) => want).sort(), ['good', 'good', 'nowhere']);
  assert.equal(returns, 1);
  assert.equal((await drain(channel, good)).length, 2);
});
