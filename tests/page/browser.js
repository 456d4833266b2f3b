'use strict';
// A browser on the page: what it says on its console, asks of others than its broker or shows against WCAG is a failure.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const amqp = require('amqplib');
const {chromium} = require('playwright-core');
const {Broker, eventually} = require('../clients/node/broker');

const AXE = fs.readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--disable-dev-shm-usage'];

// Each size with each theme.
const LOOKS = [1280, 390].flatMap((width) => ['light', 'dark'].map((theme) => ({width, theme})));

let browser;
const theBrowser = async () => {
  browser ??= await chromium.launch({executablePath: process.env.CHROMIUM || '/usr/bin/chromium', args: FLAGS});
  return browser;
};
const closeBrowser = async () => {
  await browser?.close();
};

// A broker with the page, and an AMQP connection to it.
async function pageBroker() {
  const broker = await new Broker(['--management-listen', '127.0.0.1:0']).start();
  const {listeners} = JSON.parse(fs.readFileSync(`${broker.directory}/ready.json`, 'utf8'));
  broker.page = listeners.map((it) => it.url).find((url) => url.startsWith('http:')).replace(/\/$/, '');
  return broker;
}

const basic = `Basic ${Buffer.from('guest:guest').toString('base64')}`;
async function api(broker, method, path, body) {
  const answer = await fetch(`${broker.page}/api/${path}`, {method, headers: {authorization: basic}, body: body && JSON.stringify(body)});
  const text = await answer.text();
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return text && JSON.parse(text);
}

class Tab {
  constructor(broker, context, page) {
    Object.assign(this, {broker, context, page, wrong: [], allowed: []});
    page.on('console', (message) => message.type() === 'error' && this.wrong.push(message.text()));
    page.on('pageerror', (error) => this.wrong.push(error.stack));
    page.on('request', (request) => {
      if (!request.url().startsWith(`${broker.page}/`) && !request.url().startsWith('data:')) this.wrong.push(`asks for ${request.url()}`);
    });
  }

  // Goes to a view: "queues/%2F/q".
  async go(hash) {
    await this.page.goto(`${this.broker.page}/#/${hash}`);
  }

  async logIn(name = 'guest', password = 'guest') {
    await this.page.fill('[name=username]', name);
    await this.page.fill('[name=password]', password);
    await this.page.click('button:text-is("Log in")');
  }

  // The text of what is shown.
  text() {
    return this.page.textContent('main');
  }

  async shows(text) {
    const is = async () => {
      const shown = await this.text().catch(() => '');
      return text instanceof RegExp ? text.test(shown) : shown.includes(text);
    };
    await eventually(is, `"${text}" on ${this.page.url()}`).catch(async (error) => {
      throw new Error(`${error.message}; there is: ${(await this.text()).slice(0, 1500)}`);
    });
  }

  async isAccessible() {
    const page = await this.page.evaluate(`${AXE}; axe.run()`);
    const found = page.violations.map((it) => `${it.id}: ${it.help}; ${it.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')}`);
    assert.deepEqual(found, [], this.page.url());
  }

  async fits() {
    const over = await this.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(over <= 0, `${this.page.url()} is ${over} px too wide`);
  }

  // A wait for what is refused, or is not there, is told by the browser itself.
  async close() {
    await this.context.close();
    const wrong = this.wrong.filter((text) => !this.allowed.some((allowed) => allowed.test(text)));
    assert.deepEqual(wrong, []);
  }
}

const REFUSED = /status of 401/;

// A tab that nobody is logged in on.
async function freshTab(broker, {width = 1280, theme = 'light', fonts} = {}) {
  const it = await theBrowser();
  const context = await it.newContext({viewport: {width, height: width < 500 ? 844 : 800}, colorScheme: theme, locale: 'en-GB'});
  // Debian's own system-ui is DejaVu; pictures look as on a desktop.
  if (fonts) {
    await context.addInitScript(([sans, mono]) => addEventListener('DOMContentLoaded', () => {
      document.documentElement.style.setProperty('--sans', sans);
      document.documentElement.style.setProperty('--mono', mono);
    }), fonts);
  }
  const tab = new Tab(broker, context, await context.newPage());
  // It asks who it is before anybody has logged in.
  tab.allowed.push(REFUSED);
  await tab.page.goto(`${broker.page}/`);
  await tab.page.waitForSelector('[name=username]');
  return tab;
}
async function openTab(broker, look) {
  const tab = await freshTab(broker, look);
  await tab.logIn();
  await tab.page.waitForSelector('#main');
  return tab;
}
// Runs `work` with a tab in each look.
async function inEachLook(broker, work) {
  for (const look of LOOKS) {
    const tab = await openTab(broker, look);
    await work(tab, look);
    await tab.close();
  }
}

module.exports = {LOOKS, amqp, api, closeBrowser, eventually, freshTab, inEachLook, openTab, pageBroker};
