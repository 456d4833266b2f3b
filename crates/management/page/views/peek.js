// The messages at the head of a queue, list left and message right.
import {html, useEffect, useState} from '../lib.js';
import {ask, path, refresh} from '../api.js';
import {bytes, count, plural} from '../format.js';
import {Empty, Facts, Head, Seg, Table, toast} from '../parts.js';

const LIMIT = 65536;
const decode = (message) => {
  if (message.payload_encoding !== 'base64') return new TextEncoder().encode(message.payload);
  return Uint8Array.from(atob(message.payload), (letter) => letter.charCodeAt(0));
};
async function unpack(packed, encoding) {
  if (!/gzip/.test(encoding || '') || !('DecompressionStream' in globalThis)) return packed;
  try {
    return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
  } catch {
    return packed;
  }
}
const hex = (body) => {
  const lines = [];
  for (let at = 0; at < Math.min(body.length, 4096); at += 16) {
    const row = [...body.slice(at, at + 16)];
    lines.push(`${at.toString(16).padStart(6, '0')}  ${row.map((it) => it.toString(16).padStart(2, '0')).join(' ').padEnd(47)}  ${row.map((it) => (it > 31 && it < 127 ? String.fromCharCode(it) : '.')).join('')}`);
  }
  return lines.join('\n') + (body.length > 4096 ? `\n… ${count(body.length - 4096)} more bytes` : '');
};
const text = (body) => {
  try {
    return new TextDecoder('utf-8', {fatal: true}).decode(body);
  } catch {
    return null;
  }
};
const pretty = (it) => {
  try {
    return JSON.stringify(JSON.parse(it), null, 2);
  } catch {
    return null;
  }
};
// Names, texts and the rest of JSON each in their colour.
function Json({of}) {
  const parts = [];
  const find = /("(?:[^"\\]|\\.)*")(\s*:)?|[^"]+/g;
  for (const [whole, string, colon] of of.matchAll(find)) {
    if (!string) parts.push(html`<span>${whole}</span>`);
    else if (colon) parts.push(html`<span class="k">${string}</span>${colon}`);
    else parts.push(html`<span class="s">${string}</span>`);
  }
  return parts;
}

export function Body({message}) {
  const [body, setBody] = useState(null);
  const [as, setAs] = useState('');
  const [all, setAll] = useState(false);
  useEffect(() => {
    let current = true;
    unpack(decode(message), message.properties?.content_encoding).then((it) => current && setBody(it));
    setAs('');
    setAll(false);
    return () => (current = false);
  }, [message]);
  if (!body) return html`<pre class="body" tabindex="0"> </pre>`;
  const plain = text(body);
  const json = plain != null && pretty(plain);
  const kind = as || (json ? 'json' : plain != null ? 'text' : 'hex');
  const options = [json && ['json', 'JSON'], plain != null && ['text', 'Text'], ['hex', 'Hex']].filter(Boolean);
  const shown = kind === 'json' ? json : kind === 'text' ? plain : hex(body);
  const cut = !all && shown.length > LIMIT;
  const copy = () => navigator.clipboard?.writeText(plain ?? message.payload).then(() => toast('Copied'));
  return html`<div class="head"><${Seg} label="Show body as" options=${options} value=${kind} onChange=${setAs}/><span class="grow"></span><button type="button" class="btn quiet" onClick=${copy}>Copy</button></div><pre class="body" tabindex="0" aria-label="Body">${body.length === 0 ? html`<span class="c">empty</span>` : kind === 'json' && !cut ? html`<${Json} of=${shown}/>` : cut ? shown.slice(0, LIMIT) : shown}</pre>${cut && html`<button type="button" class="btn" onClick=${() => setAll(true)}>Show all ${bytes(shown.length)}</button>`}`;
}

export const Properties = ({message, more = []}) => {
  const {headers = {}, ...properties} = message.properties || {};
  const mode = {1: 'transient', 2: 'persistent'}[properties.delivery_mode];
  const rest = Object.entries(properties).filter(([name]) => name !== 'delivery_mode').map(([name, value]) => `${name}=${value}`);
  return html`<${Facts} rows=${[
    ['Published', html`to ${message.exchange ? html`<b>${message.exchange}</b>` : 'the default exchange'} with <span class="mono">${message.routing_key || 'no key'}</span>`],
    ['Properties', html`<span class="mono">${[mode, ...rest].filter(Boolean).join(', ') || 'none'}</span>`],
    Object.keys(headers).length > 0 && ['Headers', html`<span class="mono">${Object.entries(headers).map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`).join(', ')}</span>`],
    ...more,
  ]}/>`;
};

export function Peek({vhost, name, row}) {
  const [messages, setMessages] = useState(null);
  const [at, setAt] = useState(0);
  const [refused, setRefused] = useState('');
  const stream = row.type === 'stream';
  const look = async (take) => {
    try {
      const got = await ask('POST', path('queues', vhost, name, 'get'), {count: take || 25, ackmode: take ? 'ack_requeue_false' : 'ack_requeue_true', encoding: 'auto', ...(!take && {truncate: LIMIT * 8})});
      setRefused('');
      setMessages(got);
      setAt(0);
      refresh();
      if (take) toast(`${plural(got.length, 'message')} taken`);
    } catch (error) {
      setRefused(error.message);
    }
  };
  useEffect(() => {
    setMessages(null);
  }, [vhost, name]);
  const shown = messages?.[at];
  return html`<section id="peek"><${Head} title="Peek" note=${stream ? '' : 'the first 25; they go back to their places, marked as redelivered'}>${messages && html`<button type="button" class="btn quiet" onClick=${() => look()}>Look again</button>`}<//><div class="panel">${stream ? html`<${Empty} title="A stream is read by a consumer">Its messages are not taken out, and the API has no way to show them.<//>` : refused ? html`<${Empty} title="Not yours to see">${refused}<//>` : !messages ? html`<${Empty} title=${row.ready ? `${plural(row.ready, 'message')} to look at` : 'Nothing is ready'} action=${row.ready > 0 && html`<button type="button" class="btn" onClick=${() => look()}>Look</button>`}>${row.ready ? '' : 'What comes will be here.'}<//>` : !messages.length ? html`<${Empty} title="Nothing is ready" action=${html`<button type="button" class="btn" onClick=${() => look()}>Look again</button>`}/>` : html`<div class="split"><${Table} caption="Messages, the oldest first" cards=${false} rows=${messages.map((message, number) => ({...message, number}))} id=${(it) => String(it.number)} open=${(it) => setAt(it.number)} chosen=${(it) => it.number === at} columns=${[
    {label: 'Key', cls: 'mono', of: (it) => html`<button type="button" class="plain" onClick=${() => setAt(it.number)}>${it.routing_key || '–'}</button>`},
    {label: 'Body', cls: 'name mono faint desk', of: (it) => (it.payload_encoding === 'base64' ? '(binary)' : it.payload.slice(0, 80))},
    {label: 'Size', num: true, of: (it) => bytes(it.payload_bytes)},
  ]}/><div class="pk">${shown && html`<${Body} message=${shown}/><${Properties} message=${shown} more=${[shown.redelivered && ['Redelivered', 'yes']]}/><div class="sendto"><span class="grow"></span><button type="button" class="btn bad" onClick=${() => look(1)}>Take the first</button></div>`}</div></div>`}</div></section>`;
}
