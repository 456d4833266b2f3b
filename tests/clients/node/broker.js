'use strict';
// The broker under test: the binary in LEVERET_BIN, one process for each test file, or the one at AMQP_TEST_URL.

const {spawn} = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const {setTimeout: pause} = require('node:timers/promises');
const {once} = require('node:events');

const START_DEADLINE_MS = Number(process.env.BROKER_START_DEADLINE_S || 15) * 1000;

// Answers the first true value of `condition()`, asked again and again until the deadline.
async function eventually(condition, what = 'the condition', deadlineMs = 10000) {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what} did not come about within ${deadlineMs} ms`);
    await pause(10);
  }
}

// Brokers outlive neither their test nor this process.
const running = new Set();
process.on('exit', () => {
  for (const child of running) process.kill(-child.pid, 'SIGKILL');
});

class Broker {
  constructor(args = []) {
    this.arguments = args;
    this.directory = fs.mkdtempSync(path.join(os.tmpdir(), 'leveret-node-'));
  }

  async start() {
    const ready = path.join(this.directory, 'ready.json');
    fs.rmSync(ready, {force: true});
    const log = fs.openSync(path.join(this.directory, 'broker.log'), 'a');
    const environment = Object.entries(process.env).filter(([name]) => !name.startsWith('LEVERET_'));
    this.process = spawn(process.env.LEVERET_BIN, ['--listen', '127.0.0.1:0', '--data-dir',
      path.join(this.directory, 'data'), '--ready-file', ready, ...this.arguments],
    {stdio: ['ignore', log, log], detached: true, env: Object.fromEntries(environment), cwd: this.directory});
    fs.closeSync(log);
    const child = this.process;
    running.add(child);
    this.ended = once(child, 'exit').finally(() => running.delete(child));
    await eventually(() => {
      if (this.process.exitCode !== null) throw new Error(`the broker ended: ${this.log()}`);
      return fs.existsSync(ready);
    }, 'the ready file', START_DEADLINE_MS);
    this.url = JSON.parse(fs.readFileSync(ready, 'utf8')).listeners[0].url.replace(/\/$/, '');
    return this;
  }

  async kill() {
    if (this.process.exitCode === null && this.process.signalCode === null) process.kill(-this.process.pid, 'SIGKILL');
    await this.ended;
  }

  async remove() {
    await this.kill();
    fs.rmSync(this.directory, {recursive: true, force: true});
  }

  log() {
    return fs.readFileSync(path.join(this.directory, 'broker.log'), 'utf8').slice(-2000);
  }

  // How often a text is in the log.
  logged(text) {
    return fs.readFileSync(path.join(this.directory, 'broker.log'), 'utf8').split(text).length - 1;
  }
}

// A broker of the test's own; null where only somebody else's broker is at hand.
async function ownBroker(...args) {
  if (process.env.AMQP_TEST_URL || !process.env.LEVERET_BIN) return null;
  return new Broker(args).start();
}

// {url, stop}: the broker that the tests of a file share.
async function sharedBroker() {
  if (process.env.AMQP_TEST_URL) return {url: process.env.AMQP_TEST_URL, stop: async () => {}};
  if (!process.env.LEVERET_BIN) throw new Error('set LEVERET_BIN, or AMQP_TEST_URL');
  const broker = await new Broker().start();
  return {
    url: broker.url,
    stop: async () => {
      const alive = broker.process.exitCode === null && broker.process.signalCode === null;
      const log = broker.log();
      await broker.remove();
      if (!alive) throw new Error(`the broker ended by itself: ${log}`);
    },
  };
}

module.exports = {Broker, eventually, ownBroker, sharedBroker};
