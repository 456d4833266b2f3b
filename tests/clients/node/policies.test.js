'use strict';
// Policies, operator policies and limits through amqplib: from a definitions file, changed on SIGHUP.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {after, before, test} = require('node:test');
const amqp = require('amqplib');
const {eventually, ownBroker} = require('./broker');
const {count, drain, open, publish, refusal} = require('./features');

const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'leveret-policies-'));
const file = path.join(directory, 'definitions.json');
const write = (definitions) => fs.writeFileSync(file, JSON.stringify(definitions));

let broker, connection, channel;
before(async () => {
  write({users: [{name: 'ann', password: 'pw', limits: {'max-channels': 1}}],
    permissions: [{user: 'ann', vhost: '/', configure: '.*', write: '.*', read: '.*'}]});
  broker = await ownBroker('--definitions', file);
  if (broker) ({connection, channel} = await open(broker));
});
after(async () => {
  if (broker) {
    await connection.close();
    await broker.remove();
  }
  fs.rmSync(directory, {recursive: true, force: true});
});

const policy = (definition, fields = {}) =>
  ({vhost: '/', name: 'policy', pattern: '^p', 'apply-to': 'all', priority: 0, definition, ...fields});

const operator = (definition, pattern = '^p') => ({vhost: '/', component: 'operator_policy', name: 'operators',
  value: {pattern, 'apply-to': 'queues', priority: 0, definition}});

async function reload(definitions) {
  const before = broker.logged('definitions imported');
  write(definitions);
  process.kill(broker.process.pid, 'SIGHUP');
  await eventually(() => broker.logged('definitions imported') > before, 'the import');
}

// Nothing is deleted by a file: the policy now matches nothing.
const takeOff = () => reload({policies: [policy({'max-length': 1}, {pattern: '^nothing$'})],
  parameters: [operator({'max-length': 1}, '^nothing$')]});

test('a policy limits what exists, sends the rest to the dead letters, and goes', async (t) => {
  if (!broker) return t.skip('needs LEVERET_BIN');
  await channel.assertQueue('p-limited');
  await channel.assertQueue('dead');
  await publish(channel, 'p-limited', [1, 2, 3]);
  await reload({policies: [policy({'max-length': 1, 'dead-letter-exchange': '', 'dead-letter-routing-key': 'dead'})]});
  assert.equal(await count(channel, 'p-limited'), 1);
  assert.deepEqual(await drain(channel, 'dead'), ['1', '2']);
  await takeOff();
  await publish(channel, 'p-limited', [4, 5]);
  assert.deepEqual(await drain(channel, 'p-limited'), ['3', '4', '5']);
});

test('an operator policy lowers the limit of policies and arguments, and raises none', async (t) => {
  if (!broker) return t.skip('needs LEVERET_BIN');
  await channel.assertQueue('p-lowered', {arguments: {'x-max-length': 4}});
  await channel.assertQueue('p-low', {arguments: {'x-max-length': 1}});
  await reload({policies: [policy({'max-length': 3})], parameters: [operator({'max-length': 2})]});
  for (const queue of ['p-lowered', 'p-low']) await publish(channel, queue, [1, 2, 3, 4]);
  assert.deepEqual(await drain(channel, 'p-lowered'), ['3', '4']);
  assert.deepEqual(await drain(channel, 'p-low'), ['4']);
  await takeOff();
});

test('a policy for exchanges gives them an alternate exchange', async (t) => {
  if (!broker) return t.skip('needs LEVERET_BIN');
  await channel.assertExchange('px', 'direct');
  await channel.assertQueue('caught');
  await channel.bindQueue('caught', 'amq.fanout', '');
  await reload({policies: [policy({'alternate-exchange': 'amq.fanout'}, {'apply-to': 'exchanges'})]});
  channel.publish('px', 'nowhere', Buffer.from('kept'));
  await channel.waitForConfirms();
  await takeOff();
  channel.publish('px', 'nowhere', Buffer.from('lost'));
  await channel.waitForConfirms();
  assert.deepEqual(await drain(channel, 'caught'), ['kept']);
});

test('limits of users and of virtual hosts', async (t) => {
  if (!broker) return t.skip('needs LEVERET_BIN');
  const anns = await amqp.connect(broker.url.replace('guest:guest@', '').replace('://', '://ann:pw@'));
  const failed = new Promise((resolve) => anns.on('error', resolve));
  await anns.createChannel();
  await assert.rejects(anns.createChannel());
  assert.match((await failed).message, /530 .*maximum allowed user limit of \(1\)/);
  await reload({parameters: [{vhost: '/', component: 'vhost-limits', name: 'limits', value: {'max-queues': 0}}]});
  const [code, text] = await refusal(connection, (other) => other.assertQueue('one-more'));
  assert.equal(code, 406);
  assert.match(text, /queue limit in vhost '\/' \(0\) is reached/);
});
