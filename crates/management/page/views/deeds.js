// What can be done to queues and exchanges, from wherever it is offered.
import {html} from '../lib.js';
import {ask, path, refresh} from '../api.js';
import {confirm, deed, sheet, toast} from '../parts.js';
import {count, plural} from '../format.js';
import {go, to} from '../router.js';

// `x-max-length=10`, one a line: values are numbers, true, false, JSON or text.
export function parseArguments(text) {
  const out = {};
  for (const line of text.split('\n').map((it) => it.trim()).filter(Boolean)) {
    const at = line.indexOf('=');
    if (at < 1) throw new Error(`"${line}": write name=value`);
    const value = line.slice(at + 1).trim();
    let parsed = value;
    if (/^(-?\d+(\.\d+)?|true|false|\[.*\]|\{.*\}|".*")$/.test(value)) {
      try {
        parsed = JSON.parse(value);
      } catch {
        parsed = value;
      }
    }
    out[line.slice(0, at).trim()] = parsed;
  }
  return out;
}
const vhostField = (value) => ({name: 'vhost', label: 'Virtual host', value: value || '/', required: true});
const args = {name: 'arguments', label: 'Arguments, one a line', kind: 'long', rows: 4, hint: 'x-message-ttl=600000, x-max-length=100000, x-dead-letter-exchange=dlx'};

export const newQueue = (vhost, kind = 'classic') => sheet({
  title: 'New queue', word: 'Make the queue',
  fields: [{name: 'name', label: 'Name', required: true}, vhostField(vhost), {name: 'type', label: 'Type', kind: 'choice', value: kind, options: [['classic', 'classic'], ['quorum', 'quorum'], ['stream', 'stream']]}, {name: 'durable', label: 'Durable: it is there after a restart', kind: 'flag', value: true}, args],
  work: async ({name, vhost: where, type, durable, arguments: text}) => {
    await ask('PUT', path('queues', where, name), {durable, arguments: {'x-queue-type': type, ...parseArguments(text)}});
    toast(html`<b>${name}</b> is made`);
    go(to('queues', where, name));
  },
});
export const newExchange = (vhost) => sheet({
  title: 'New exchange', word: 'Make the exchange',
  fields: [{name: 'name', label: 'Name', required: true}, vhostField(vhost), {name: 'type', label: 'Type', kind: 'choice', value: 'topic', options: ['direct', 'fanout', 'topic', 'headers', 'x-delayed-message', 'x-consistent-hash', 'x-modulus-hash', 'x-random', 'x-recent-history'].map((it) => [it, it])}, {name: 'durable', label: 'Durable: it is there after a restart', kind: 'flag', value: true}, {name: 'internal', label: 'Internal: only other exchanges publish to it', kind: 'flag'}, {...args, hint: 'alternate-exchange=unrouted'}],
  work: async ({name, vhost: where, type, durable, internal, arguments: text}) => {
    await ask('PUT', path('exchanges', where, name), {type, durable, internal, arguments: parseArguments(text)});
    toast(html`<b>${name}</b> is made`);
    go(to('exchanges', where, name));
  },
});
export const publish = (vhost, exchange, key) => sheet({
  title: 'Publish', word: 'Publish', intro: html`To ${exchange ? html`<b>${exchange}</b>` : html`<b>${key}</b>, by the default exchange`}.`,
  fields: [{name: 'key', label: 'Routing key', kind: 'mono', value: key, fixed: !exchange}, {name: 'payload', label: 'Body', kind: 'long', rows: 7}, {name: 'type', label: 'Content type', kind: 'mono', value: 'application/json'}, {name: 'headers', label: 'Headers, one a line', kind: 'long', rows: 3, hint: 'x-tenant=41'}, {name: 'persistent', label: 'Persistent: it is there after a restart', kind: 'flag', value: true}],
  work: async (values) => {
    const headers = parseArguments(values.headers);
    const {routed} = await ask('POST', path('exchanges', vhost, exchange || 'amq.default', 'publish'), {
      routing_key: values.key, payload: values.payload, payload_encoding: 'string',
      properties: {delivery_mode: values.persistent ? 2 : 1, ...(values.type && {content_type: values.type}), ...(Object.keys(headers).length && {headers})},
    });
    toast(routed ? html`Published, with <b>${values.key || 'no key'}</b>` : html`Published, but no binding wanted <b>${values.key || 'no key'}</b>`, {bad: !routed});
    refresh();
  },
});
export const purge = (queue) => confirm({
  title: `Purge ${queue.name}`, name: queue.name, deed: `Purge ${plural(queue.ready, 'message')}`,
  text: `${plural(queue.ready, 'ready message')} ${queue.ready === 1 ? 'is' : 'are'} deleted for good.${queue.unacknowledged ? ` The ${count(queue.unacknowledged)} that consumers hold stay.` : ''}`,
  work: () => deed(html`<b>${queue.name}</b> is empty`, async () => {
    await ask('DELETE', path('queues', queue.vhost, queue.name, 'contents'));
    refresh();
  }, {failed: 'Not purged'}),
});
export const deleteQueue = (queue) => confirm({
  title: `Delete ${queue.name}`, name: queue.name, deed: queue.ready + queue.unacknowledged ? `Delete it and ${plural(queue.ready + queue.unacknowledged, 'message')}` : 'Delete the queue',
  text: `The queue, its bindings and ${queue.ready + queue.unacknowledged ? `${plural(queue.ready + queue.unacknowledged, 'message')}` : 'what comes to it'} are gone for good.${queue.consumers ? ` ${plural(queue.consumers, 'consumer')} lose${queue.consumers === 1 ? 's' : ''} it.` : ''}`,
  work: async () => {
    if (await deed(html`<b>${queue.name}</b> is deleted`, () => ask('DELETE', path('queues', queue.vhost, queue.name)), {failed: 'Not deleted'})) go(to('queues'));
  },
});
export const deleteExchange = (exchange, bindings) => confirm({
  title: `Delete ${exchange.name}`, name: exchange.name, deed: 'Delete the exchange',
  text: `The exchange and its ${plural(bindings, 'binding')} are gone for good. Whoever publishes to it gets its channel closed.`,
  work: async () => {
    if (await deed(html`<b>${exchange.name}</b> is deleted`, () => ask('DELETE', path('exchanges', exchange.vhost, exchange.name)), {failed: 'Not deleted'})) go(to('exchanges'));
  },
});
export const bindTo = (vhost, from, destination) => sheet({
  title: 'Bind', word: 'Bind',
  fields: [{name: 'source', label: 'From the exchange', value: from || '', required: true}, {name: 'kind', label: 'To', kind: 'choice', value: 'q', options: [['q', 'a queue'], ['e', 'an exchange']], when: () => !destination}, {name: 'destination', label: 'Its name', value: destination || '', required: true}, {name: 'key', label: 'Binding key', kind: 'mono'}, {...args, hint: 'for headers exchanges: x-match=all'}],
  work: async (values) => {
    const kind = destination ? 'q' : values.kind;
    await ask('POST', `/api/bindings/${encodeURIComponent(vhost)}/e/${encodeURIComponent(values.source)}/${kind}/${encodeURIComponent(values.destination)}`, {routing_key: values.key, arguments: parseArguments(values.arguments)});
    toast(html`<b>${values.source}</b> sends <span class="mono">${values.key || 'everything without a key'}</span> to <b>${values.destination}</b>`);
    refresh();
  },
});
export const unbind = (binding) => deed(html`Unbound`, async () => {
  await ask('DELETE', `/api/bindings/${encodeURIComponent(binding.vhost)}/e/${encodeURIComponent(binding.source)}/${binding.destination_type[0]}/${encodeURIComponent(binding.destination)}/${encodeURIComponent(binding.properties_key)}`);
  refresh();
}, {label: 'Bind again', action: () => deed('Bound again', async () => {
  await ask('POST', `/api/bindings/${encodeURIComponent(binding.vhost)}/e/${encodeURIComponent(binding.source)}/${binding.destination_type[0]}/${encodeURIComponent(binding.destination)}`, {routing_key: binding.routing_key, arguments: binding.arguments});
  refresh();
})});
