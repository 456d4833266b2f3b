'use strict';
// The page with a broker behind it: who may come in, what is shown of what happens, what can be done.

const assert = require('node:assert/strict');
const {after, before, test} = require('node:test');
const {amqp, api, closeBrowser, eventually, freshTab, inEachLook, openTab, pageBroker} = require('./browser');

let broker;
let connection;
let channel;

before(async () => {
  broker = await pageBroker();
  connection = await amqp.connect(broker.url);
  channel = await connection.createConfirmChannel();
});
after(async () => {
  await connection.close();
  await broker.remove();
  await closeBrowser();
});

const publish = async (queue, count, body = 'x') => {
  for (let number = 0; number < count; number++) channel.sendToQueue(queue, Buffer.from(body));
  await channel.waitForConfirms();
};
const depth = async (queue) => (await channel.checkQueue(queue)).messageCount;

test('who gives the wrong password stays outside, who gives the right one comes in', async () => {
  const tab = await freshTab(broker);
  await tab.logIn('guest', 'wrong');
  await tab.page.waitForSelector('[role=alert]');
  assert.match(await tab.page.textContent('[role=alert]'), /not known/);
  await tab.isAccessible();
  await tab.logIn();
  await tab.shows('Message rates');
  const [cookie] = await tab.context.cookies();
  assert.ok(cookie.httpOnly && cookie.sameSite === 'Strict', JSON.stringify(cookie));
  await tab.page.reload();
  await tab.shows('Message rates');
  await tab.page.click('button:text-is("Log out")');
  await tab.page.waitForSelector('[name=username]');
  await tab.close();
});

test('rates and depths move while messages come', async () => {
  await channel.assertQueue('moving', {durable: true});
  const tab = await openTab(broker);
  await tab.go('queues?filter=moving');
  const cell = (label) => tab.page.textContent(`tr:has-text("moving") td[data-l="${label}"]`);
  await eventually(async () => (await cell('Ready')) === '0', 'no message');
  await publish('moving', 250);
  await eventually(async () => (await cell('Ready')) === '250', '250 messages');
  await eventually(async () => Number((await cell('In/s')).replace(',', '')) > 5, 'a rate');
  await tab.close();
});

test('10,000 queues are filtered by the broker, and the page shows a hundred', async () => {
  const many = await pageBroker();
  const definitions = {vhosts: [{name: '/'}], queues: Array.from({length: 10000}, (_, number) => ({name: `tenant.${String(number).padStart(5, '0')}`, vhost: '/', durable: true, auto_delete: false, arguments: {}}))};
  await api(many, 'POST', 'definitions', definitions);
  const tab = await openTab(many);
  await tab.go('queues');
  await tab.shows('1 to 100 of 10,000');
  assert.equal(await tab.page.locator('tbody tr').count(), 100);
  await tab.page.fill('.filter input', '/^tenant\\.0042\\d$/');
  await tab.shows('1 to 10 of 10');
  await tab.page.fill('.filter input', 'tenant ready>0');
  await tab.shows('No queue matches');
  await tab.page.click('button:text-is("Clear the filter")');
  await tab.shows('1 to 100 of 10,000');
  await tab.page.fill('.filter input', 'redy>0');
  await tab.shows("'redy' is no number of a queue");
  tab.allowed.push(/status of 400/);
  await tab.close();
  await many.remove();
});

test('a message is published, looked at and taken, and a queue is purged by typing its name', async () => {
  await channel.assertQueue('post', {durable: true});
  const tab = await openTab(broker);
  const {page} = tab;
  await tab.go('queues/%2F/post');
  await tab.shows('Nothing is ready');
  await page.keyboard.press('w');
  await page.fill('[role=dialog] textarea >> nth=0', '{"order": 17}');
  await page.fill('[role=dialog] textarea >> nth=1', 'x-tenant=41');
  await tab.isAccessible();
  await page.click('[role=dialog] button:text-is("Publish")');
  await eventually(async () => (await depth('post')) === 1, 'the message');
  await page.click('button:text-is("Look")');
  await tab.shows('"order": 17');
  await tab.shows('x-tenant=41');
  assert.equal(await depth('post'), 1);
  await publish('post', 5);
  await tab.shows(/Ready6/);
  await page.click('[aria-label^="More:"]');
  await page.click('[role=menuitem]:text-is("Purge")');
  const button = page.locator('[role=dialog] button.danger');
  assert.equal(await button.textContent(), 'Purge 6 messages');
  assert.ok(await button.isDisabled());
  await page.fill('[role=dialog] input', 'pos');
  assert.ok(await button.isDisabled());
  await page.fill('[role=dialog] input', 'post');
  await button.click();
  await eventually(async () => (await depth('post')) === 0, 'the purge');
  await tab.shows(/Ready0/);
  await tab.close();
});

test('the page waits for a broker that is gone, and goes on when it is back', async () => {
  const own = await pageBroker();
  const tab = await openTab(own);
  await tab.shows('Nothing has connected yet');
  tab.allowed.push(/ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY/);
  await own.kill();
  await tab.page.waitForSelector('.live.warn');
  assert.match(await tab.page.textContent('.live'), /Numbers are from/);
  await tab.shows('Nothing has connected yet');
  const port = new URL(own.page).port;
  own.arguments = ['--management-listen', `127.0.0.1:${port}`];
  await own.start();
  await tab.page.click('.live');
  // Nobody is logged in on a broker that was started anew.
  await tab.page.waitForSelector('[name=username]');
  await tab.logIn();
  await tab.shows('Nothing has connected yet');
  await tab.close();
  await own.remove();
});

// Every view, and a word that is on it when it is whole.
const VIEWS = [
  ['', 'Queued messages'], ['queues', 'seen'], ['queues/%2F/seen', 'In force'], ['exchanges', 'amq.topic'], ['exchanges/%2F/shop', 'order.*'],
  ['topology', 'shop'], ['topology/%2F/shop', 'Where would a message go?'], ['streams', 'stream'], ['dead-letters', 'Rejected'], ['delayed', 'later'],
  ['connections', 'onnect'], ['channels', 'hannel'], ['consumers', 'onsume'], ['policies', 'short'], ['users', 'guest'], ['vhosts', '/'],
  ['limits', 'Of users'], ['definitions', 'Export'], ['audit', 'audit'], ['nodes', 'Listens at'], ['more', 'Definitions'],
];

test('each view is shown in each size and theme, within WCAG', async () => {
  await channel.assertExchange('shop', 'topic');
  await channel.assertExchange('shop.dlx', 'fanout');
  await channel.assertExchange('later', 'x-delayed-message', {arguments: {'x-delayed-type': 'direct'}});
  await channel.assertQueue('seen', {durable: true, arguments: {'x-dead-letter-exchange': 'shop.dlx', 'x-max-length': 100}});
  await channel.assertQueue('seen.dead', {durable: true});
  await channel.bindQueue('seen', 'shop', 'order.*');
  await channel.bindQueue('seen.dead', 'shop.dlx', '');
  await api(broker, 'PUT', 'policies/%2F/short', {pattern: '^seen', definition: {'message-ttl': 3600000}, 'apply-to': 'queues'});
  await publish('seen', 3, '{"order": 17, "lines": [{"sku": "B-7714", "qty": 2}]}');
  channel.nack(await channel.get('seen'), false, false);
  channel.publish('later', 'k', Buffer.from('x'), {headers: {'x-delay': 3600000}});
  await channel.waitForConfirms();
  await inEachLook(broker, async (tab) => {
    for (const [hash, text] of VIEWS) {
      await tab.go(hash);
      if (hash === 'dead-letters') await tab.page.click('button:text-is("Look")');
      await tab.shows(text);
      await tab.fits();
      await tab.isAccessible();
    }
  });
});

test('a policy says which queues it takes before it is saved', async () => {
  for (const name of ['jobs.a', 'jobs.b', 'other']) await channel.assertQueue(name, {durable: true});
  const tab = await openTab(broker);
  const {page} = tab;
  await tab.go('policies');
  await page.click('section:has-text("Policies") button:text-is("New") >> nth=0');
  await page.fill('[role=dialog] label:has-text("Name") input', 'jobs');
  await page.fill('[role=dialog] label:has-text("Pattern") input', '^jobs\\.');
  await page.waitForSelector('[role=dialog] :text("jobs.a, jobs.b")');
  await tab.isAccessible();
  await page.fill('[role=dialog] textarea', 'message-ttl=60000');
  await page.click('[role=dialog] button:text-is("Save")');
  await tab.shows('message-ttl=60000');
  await tab.go('queues/%2F/jobs.a');
  await tab.shows('policy jobs');
  await tab.close();
});

test('the topology says where a message would go, and publishes none', async () => {
  await channel.assertExchange('routes', 'topic');
  for (const [queue, key] of [['routes.all', '#'], ['routes.eu', 'order.eu.*']]) {
    await channel.assertQueue(queue);
    await channel.bindQueue(queue, 'routes', key);
  }
  const tab = await openTab(broker);
  await tab.go('topology/%2F/routes');
  await tab.page.fill('.filter input', 'order.eu.paid');
  await tab.shows('2 queues get a copy');
  await tab.page.fill('.filter input', 'order.us.paid');
  await tab.shows('1 queue gets a copy');
  assert.equal(await depth('routes.all'), 0);
  await tab.close();
});

test('who may do less is shown less', async () => {
  await api(broker, 'PUT', 'users/eve', {password: 'eve', tags: 'management'});
  await api(broker, 'PUT', 'permissions/%2F/eve', {configure: '', write: '', read: '.*'});
  await channel.assertQueue('readable', {durable: true});
  const tab = await freshTab(broker);
  await tab.logIn('eve', 'eve');
  await tab.shows('Message rates');
  const side = await tab.page.textContent('.side');
  for (const absent of ['Users', 'Policies', 'Definitions', 'Node', 'Audit']) assert.ok(!side.includes(absent), absent);
  await tab.go('queues/%2F/readable');
  await tab.shows('In force');
  assert.equal(await tab.page.locator('button:has-text("Publish")').count(), 0);
  // To purge is to read.
  assert.equal(await tab.page.getAttribute('[aria-label^="More:"]', 'aria-label'), 'More: purge');
  assert.equal(await tab.page.locator('button:has-text("Unbind")').count(), 0);
  await tab.close();
});

test('a file of definitions says what it would change, then changes it', async () => {
  const tab = await openTab(broker);
  await tab.go('definitions');
  const queues = [{name: 'from.file', vhost: '/', durable: true, auto_delete: false, arguments: {}}];
  await tab.page.setInputFiles('input[type=file]', {name: 'new.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify({vhosts: [{name: '/'}], queues}))});
  await tab.shows('1 new, 0 changed');
  await tab.isAccessible();
  await tab.page.click('button:text-is("Apply 1 change")');
  await eventually(() => api(broker, 'GET', 'queues/%2F/from.file').then(() => true, () => false), 'the queue of the file');
  await tab.close();
});

test('keys go to views, find queues and turn the theme', async () => {
  await channel.assertQueue('needle.in.haystack', {durable: true});
  const tab = await openTab(broker);
  const {page} = tab;
  await tab.shows('Message rates');
  await page.keyboard.press('g');
  await page.keyboard.press('e');
  await tab.shows('amq.topic');
  await page.keyboard.press('Control+k');
  await page.keyboard.type('needle');
  await page.waitForSelector('[role=option]:has-text("needle.in.haystack")');
  await tab.isAccessible();
  await page.keyboard.press('Enter');
  await tab.shows('In force');
  await page.keyboard.press('t');
  assert.equal(await page.getAttribute('html', 'data-theme'), 'light');
  await page.keyboard.press('t');
  assert.equal(await page.getAttribute('html', 'data-theme'), 'dark');
  await page.keyboard.press('Space');
  assert.match(await page.textContent('.live'), /Paused/);
  await page.keyboard.press('?');
  await page.waitForSelector('[role=dialog]:has-text("Keys")');
  await page.keyboard.press('Escape');
  assert.equal(await page.locator('[role=dialog]').count(), 0);
  await tab.close();
});

test('a change by cookie needs the header of the page', async () => {
  const logIn = await fetch(`${broker.page}/api/leveret/login`, {method: 'POST', headers: {'x-leveret': 'page'}, body: '{"name": "guest", "password": "guest"}'});
  const cookie = logIn.headers.get('set-cookie').split(';')[0];
  const make = (headers) => fetch(`${broker.page}/api/queues/%2F/forged`, {method: 'PUT', headers, body: '{}'});
  assert.equal((await make({cookie})).status, 403);
  assert.equal((await make({cookie, 'x-leveret': 'page'})).status, 201);
  assert.equal((await make({cookie: `${cookie}x`, 'x-leveret': 'page'})).status, 401);
});

test('the files of the page are cached by their tags and keep everything else out', async () => {
  const first = await fetch(`${broker.page}/`);
  assert.match(first.headers.get('content-security-policy'), /^default-src 'none'; script-src 'self'/);
  const etag = first.headers.get('etag');
  const again = await fetch(`${broker.page}/`, {headers: {'if-none-match': etag}});
  assert.equal(again.status, 304);
});
