// Dead letters: where they lie, where and why they died, and what they are.
import {html, useEffect, useState} from '../lib.js';
import {ask, path, refresh, useLive} from '../api.js';
import {bytes, clock, count, plural, rate, span} from '../format.js';
import {route, setQuery, to} from '../router.js';
import {Shell, vhost} from '../shell.js';
import {Chip, Empty, Head, Missing, Table} from '../parts.js';
import {Body, Properties} from './peek.js';
import {purge} from './deeds.js';

const reasons = {rejected: 'Rejected', expired: 'Expired', maxlen: 'Max length', delivery_limit: 'Delivery limit'};
const death = (message) => message.properties?.headers?.['x-death']?.[0] || {};
const errorOf = (message) => message.properties?.headers?.['x-error'] || message.properties?.headers?.['x-exception-message'] || '';

// By where they died and why.
function groups(messages) {
  const all = new Map();
  for (const message of messages) {
    const it = death(message);
    const key = [it.queue || '(not told)', it.reason || '', it.exchange || '', it['routing-keys']?.[0] || ''].join('\n');
    if (!all.has(key)) all.set(key, {key, it, messages: []});
    all.get(key).messages.push(message);
  }
  return [...all.values()].sort((a, b) => b.messages.length - a.messages.length);
}

function Life({message}) {
  const deaths = message.properties?.headers?.['x-death'] || [];
  const first = deaths.at(-1);
  if (!first) return html`<p class="dim small">Its headers do not tell where it died.</p>`;
  return html`<ol class="steps"><li><span>Published to ${first.exchange ? html`<b>${first.exchange}</b>` : 'the default exchange'} with <span class="mono">${first['routing-keys']?.[0] || 'no key'}</span></span><span></span></li>${[...deaths].reverse().map((it, at) => html`<li class=${at === deaths.length - 1 ? 'end' : ''}><span>${reasons[it.reason] || it.reason} in <b>${it.queue}</b>${it.count > 1 ? `, ${count(it.count)} times` : ''}</span><span class="faint">${it.time ? clock(it.time * 1000) : ''}</span></li>`)}</ol>`;
}

function Letters({queue}) {
  const [messages, setMessages] = useState(null);
  const [group, setGroup] = useState('');
  const [at, setAt] = useState(0);
  const [refused, setRefused] = useState('');
  const look = () => ask('POST', path('queues', queue.vhost, queue.name, 'get'), {count: 100, ackmode: 'ack_requeue_true', encoding: 'auto', truncate: 65536}).then((got) => {
    setMessages(got);
    setGroup('');
    setAt(0);
    refresh();
  }, (error) => setRefused(error.message));
  useEffect(() => setMessages(null), [queue.vhost, queue.name]);
  if (refused) return html`<div class="panel"><${Empty} title="Not yours to see">${refused}<//></div>`;
  if (!messages) return html`<div class="panel"><${Empty} title=${`${plural(queue.ready, 'message')} in ${queue.name}`} action=${queue.ready > 0 && html`<button type="button" class="btn" onClick=${look}>Look</button>`}>${queue.ready ? 'The first 100 are read and go back to their places, marked as redelivered.' : 'None waits for anybody.'}<//></div>`;
  const all = groups(messages);
  const chosen = all.find((it) => it.key === group) || all[0];
  const shown = chosen?.messages[at] || chosen?.messages[0];
  if (!chosen) return html`<div class="panel"><${Empty} title="Nothing is ready"/></div>`;
  const died = death(chosen.messages[0]);
  return html`<section><${Head} title=${plural(messages.length, 'message')} note=${`of ${count(queue.ready)}, by where they died and why`}><button type="button" class="btn quiet" onClick=${look}>Look again</button><//><div class="panel"><${Table} caption="Groups" even rows=${all} id=${(it) => it.key} open=${(it) => {
    setGroup(it.key);
    setAt(0);
  }} chosen=${(it) => it === chosen} columns=${[
    {label: 'Died in', cls: 'name full', of: ({it, key}) => html`<button type="button" class="plain strong" onClick=${() => {
      setGroup(key);
      setAt(0);
    }}>${it.queue || '(not told)'}</button>`},
    {label: 'Why', phone: true, cls: 'state2', of: ({it}) => reasons[it.reason] || it.reason || '–'},
    {label: 'Published to', cls: 'desk lo', of: ({it}) => it.exchange ?? '–'},
    {label: 'Key', cls: 'mono desk', of: ({it}) => it['routing-keys']?.[0] || '–'},
    {label: 'Last', num: true, phone: true, cls: 'dim', of: ({messages: some}) => (death(some.at(-1)).time ? `${span(Date.now() - death(some.at(-1)).time * 1000)} ago` : '–')},
    {label: 'Messages', num: true, phone: true, cls: 'strong', of: ({messages: some}) => count(some.length)},
  ]}/></div></section>
<section class="panel"><div class="split dls"><div><div class="tools ph"><b>${died.queue || queue.name}${died.reason ? `, ${(reasons[died.reason] || died.reason).toLowerCase()}` : ''}</b><span class="faint small">${count(chosen.messages.length)}</span></div><${Table} caption="Messages of the group" cards=${false} rows=${chosen.messages.map((message, number) => ({message, number}))} id=${(it) => String(it.number)} open=${(it) => setAt(it.number)} chosen=${(it) => it.message === shown} columns=${[
    {label: 'Died', cls: 'dim', of: ({message, number}) => html`<button type="button" class="plain" onClick=${() => setAt(number)}>${death(message).time ? clock(death(message).time * 1000) : `No. ${number + 1}`}</button>`},
    {label: 'What', cls: 'name', of: ({message}) => errorOf(message) || (message.payload_encoding === 'string' ? message.payload.slice(0, 80) : '(binary)')},
    {label: 'Size', num: true, of: ({message}) => bytes(message.payload_bytes)},
  ]}/></div><div class="pk"><${Life} message=${shown}/><${Body} message=${shown}/><${Properties} message=${shown}/></div></div></section>`;
}

export function DeadLetters() {
  const params = new URLSearchParams({page: 1, page_size: 100, sort: 'ready', filter: 'is:dead', ...(vhost.value && {vhost: vhost.value})});
  const live = useLive(`/api/leveret/queues?${params}`, 2);
  const rows = live?.status === 200 ? live.body.items : undefined;
  const {query} = route.value;
  const wanted = query.get('queue');
  const chosen = rows?.find((row) => `${row.vhost}/${row.name}` === wanted) || rows?.find((row) => row.ready) || rows?.[0];
  if (!rows) return html`<${Shell} title="Dead letters"><${Missing} live=${live} what="Dead letters"/><//>`;
  if (!rows.length) return html`<${Shell} title="Dead letters"><div class="panel"><${Empty} title="No queue keeps dead letters">A queue with a dead letter exchange sends there what is rejected, expires or does not fit; a queue behind it keeps that.<//></div><//>`;
  const total = rows.reduce((sum, row) => sum + row.ready, 0);
  const id = (row) => `${row.vhost}/${row.name}`;
  return html`<${Shell} title="Dead letters"><section><${Head} title=${plural(total, 'message')} note=${`in ${plural(rows.length, 'queue')} behind dead letter exchanges`}/><div class="panel"><${Table} caption="Queues of dead letters" rows=${rows} id=${id} chosen=${(row) => row === chosen} open=${(row) => setQuery({queue: id(row)})} columns=${[
    {label: 'Kept in', cls: 'name', of: (row) => html`<a href=${to('queues', row.vhost, row.name)}>${row.name}</a>`},
    {label: 'State', cls: 'state', of: (row) => html`<${Chip} state=${row.state}/>`},
    {label: 'Deaths, 1 h', num: true, phone: true, of: (row) => count(row.deaths)},
    {label: 'In/s', num: true, phone: true, of: (row) => rate(row.in)},
    {label: 'Messages', num: true, phone: true, cls: 'strong', of: (row) => count(row.ready)},
    {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (row) => html`<button type="button" class="btn quiet" aria-label=${`Look into ${row.name}`} onClick=${() => setQuery({queue: id(row)})}>Look into</button><button type="button" class="btn quiet" disabled=${!row.ready} aria-label=${`Purge ${row.name}`} onClick=${() => purge(row)}>Purge</button>`},
  ]}/></div></section>${chosen && html`<${Letters} key=${id(chosen)} queue=${chosen}/>`}<//>`;
}
