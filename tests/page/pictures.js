'use strict';
// Pictures of the views for the documentation: LEVERET_BIN=target/release/leveret node tests/page/pictures.js. Takes five
// minutes, for a queue to grow. Wants Debian's fonts-inter and fonts-jetbrains-mono.

const fs = require('node:fs');
const path = require('node:path');
const {setTimeout: pause} = require('node:timers/promises');

const {closeBrowser, openTab, pageBroker} = require('./browser');
const {open} = require('./shop');

const OUT = path.join(__dirname, '../../docs/page');
const MINUTES = Number(process.env.PICTURES_MIN || 5);

async function picture(broker, name, look, hash, work = async () => {}, from) {
  const tab = from || (await openTab(broker, look));
  await tab.go(hash);
  await tab.page.waitForTimeout(2500);
  await work(tab.page);
  await tab.page.waitForTimeout(700);
  await tab.page.screenshot({path: path.join(OUT, `${name}.png`)});
  if (!from) await tab.context.close();
}

async function main() {
  fs.mkdirSync(OUT, {recursive: true});
  const broker = await pageBroker();
  const fonts = ['Inter, sans-serif', '"JetBrains Mono", monospace'];
  const light = {width: 1280, theme: 'light', fonts};
  const dark = {width: 1280, theme: 'dark', fonts};
  const phone = {width: 390, theme: 'dark', fonts};
  await picture(broker, 'first-start', light, '');
  const close = await open(broker);
  // Somebody looks all the time: what is drawn over time is what was seen.
  const long = await openTab(broker, light);
  const longDark = await openTab(broker, dark);
  await longDark.go('queues/%2F/webhooks.outgoing');
  await pause(MINUTES * 60000);
  await picture(broker, 'overview', light, '', undefined, long);
  await picture(broker, 'queue', dark, 'queues/%2F/webhooks.outgoing', undefined, longDark);
  await picture(broker, 'overview-dark', dark, '');
  await picture(broker, 'queues', light, 'queues');
  await picture(broker, 'topology', light, 'topology/%2F/orders', (page) => page.fill('.filter input', 'order.us.paid'));
  await picture(broker, 'dead-letters', light, 'dead-letters', (page) => page.click('button:text-is("Look")'));
  await picture(broker, 'palette', dark, 'queues', async (page) => {
    await page.keyboard.press('Control+k');
    await page.keyboard.type('pay');
  });
  await picture(broker, 'confirm', light, 'queues/%2F/orders.dead', async (page) => {
    await page.click('[aria-label^="More:"]');
    await page.click('[role=menuitem]:text-is("Purge")');
    await page.fill('[role=dialog] input', 'orders.de');
  });
  await picture(broker, 'policy', light, 'policies', async (page) => {
    await page.click('button:text-is("New") >> nth=0');
    await page.fill('[role=dialog] label:has-text("Name") input', 'hooks');
    await page.fill('[role=dialog] label:has-text("Pattern") input', '^(webhooks|orders)\\.');
    await page.fill('[role=dialog] textarea', 'message-ttl=600000\ndead-letter-exchange=orders.dlx');
  });
  await picture(broker, 'connections', light, 'connections');
  await picture(broker, 'phone-queues', phone, 'queues');
  await picture(broker, 'phone-overview', {...phone, theme: 'light'}, '');
  await close();
  await broker.remove();
  await closeBrowser();
}
main();
