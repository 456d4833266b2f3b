// Connections, channels, consumers: who is there and what it does.
import {html, useState} from '../lib.js';
import {path, refresh, useLive, is} from '../api.js';
import {bytes, clock, count, rate, span} from '../format.js';
import {go, route, setQuery, to} from '../router.js';
import {Shell, vhost} from '../shell.js';
import {Empty, Facts, Glass, Head, Loading, Missing, Pages, Table, sheet} from '../parts.js';

const SIZE = 100;

// What a list of the API is asked for: a page, filtered by name and sorted by the broker.
export function useList(parts, {sort = '', seconds = 5} = {}) {
  const {query} = route.value;
  const page = Math.max(1, +query.get('page') || 1);
  const name = query.get('filter') || '';
  const by = query.get('sort') || sort;
  const reverse = query.get('sort_reverse') === 'true';
  const params = new URLSearchParams({page, page_size: SIZE, ...(name && {name, use_regex: String(/^\/.*\/$/.test(name))}), ...(by && {sort: by, sort_reverse: String(reverse)})});
  if (/^\/.+\/$/.test(name)) params.set('name', name.slice(1, -1));
  else if (name) params.set('name', name);
  const live = useLive(`${path(...parts)}?${params}`, seconds);
  const body = live?.status === 200 ? live.body : undefined;
  // Some lists of RabbitMQ have no pages.
  const rows = Array.isArray(body) ? body : body?.items;
  return {live, rows, body, page, name, sort: {by, reverse}, onSort: (next) => setQuery({sort: next, sort_reverse: next === by && !reverse ? 'true' : '', page: ''})};
}

export function ListTools({list, what, children}) {
  const [text, setText] = useState(list.name);
  const on = (event) => {
    setText(event.target.value);
    clearTimeout(ListTools.timer);
    const value = event.target.value;
    ListTools.timer = setTimeout(() => setQuery({filter: value, page: ''}), 200);
  };
  return html`<div class="tools"><label class="filter"><span class="sr">Filter ${what}</span><${Glass}/><input value=${text} autocomplete="off" spellcheck="false" placeholder="Filter: a part of the name, or /a regular expression/" onInput=${on}/><kbd class="desk">/</kbd></label>${children}</div>`;
}
export function Listed({list, what, empty, columns, id, open, caption}) {
  const {live, rows, body, page, name} = list;
  if (!rows) return html`<${Missing} live=${live} what=${what}/>`;
  const total = body.total_count ?? rows.length;
  if (!rows.length) return html`<div class="panel">${name ? html`<${Empty} title=${html`Nothing matches <span class="mono">${name}</span>`} action=${html`<button type="button" class="btn" onClick=${() => setQuery({filter: '', page: ''})}>Clear the filter</button>`}>${count(total)} looked at.<//>` : empty}</div>`;
  return html`<div class="panel"><${Table} caption=${caption || what} columns=${columns} rows=${rows} id=${id} open=${open} sort=${list.sort} onSort=${list.onSort}/></div><${Pages} page=${page} size=${SIZE} filtered=${body.filtered_count ?? rows.length} total=${total} what=${what.toLowerCase()} onPage=${(next) => setQuery({page: next > 1 ? String(next) : ''})}/>`;
}

const client = (it) => it.client_properties?.connection_name || it.user_provided_name || it.name;
const detail = (it, name) => it?.[`${name}_details`]?.rate;
const stateOf = (it) => (['blocked', 'blocking', 'flow'].includes(it.state) ? html`<span class="chip c-warn">${it.state}</span>` : it.state || 'running');

export const close = (it, after) => sheet({
  title: `Close ${client(it)}`, word: 'Close the connection', intro: 'Its channels end, what it holds goes back to its queues, and most clients connect again.',
  fields: [{name: 'reason', label: 'Reason, which the client is told', value: ''}],
  work: async ({reason}) => {
    const answer = await fetch(path('connections', it.name), {method: 'DELETE', headers: {'x-leveret': 'page', ...(reason && {'x-reason': reason})}});
    if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).reason || `HTTP ${answer.status}`);
    refresh();
    after?.();
  },
});

export function Connections() {
  const list = useList(vhost.value ? ['vhosts', vhost.value, 'connections'] : ['connections']);
  return html`<${Shell} title="Connections"><${ListTools} list=${list} what="connections"/><${Listed} list=${list} what="Connections" id=${(it) => it.name} open=${(it) => go(to('connections', it.name))} empty=${html`<${Empty} title="Nobody is connected">Clients come by AMQP 0-9-1.<//>`} columns=${[
    {label: 'Client', cls: 'name', of: (it) => html`<a href=${to('connections', it.name)} title=${it.name}>${client(it)}</a><span class="tag">${it.vhost}</span>`},
    {label: 'User', sort: 'user', phone: true, of: (it) => it.user},
    {label: 'From', cls: 'mono dim desk', of: (it) => `${it.peer_host}:${it.peer_port}`},
    {label: 'TLS', cls: 'lo', of: (it) => (it.ssl ? it.ssl_protocol || 'yes' : '–')},
    {label: 'Channels', sort: 'channels', num: true, phone: true, of: (it) => count(it.channels ?? 0)},
    {label: 'From client', num: true, cls: 'lo', of: (it) => (detail(it, 'recv_oct') == null ? '–' : `${bytes(detail(it, 'recv_oct'))}/s`)},
    {label: 'To client', num: true, cls: 'lo', of: (it) => (detail(it, 'send_oct') == null ? '–' : `${bytes(detail(it, 'send_oct'))}/s`)},
    {label: 'State', cls: 'state', of: stateOf},
    {label: 'Age', num: true, sort: 'connected_at', phone: true, of: (it) => (it.connected_at ? span(Date.now() - it.connected_at) : '–')},
  ]}/><//>`;
}

export function Connection({name}) {
  const live = useLive(path('connections', name), 2);
  const channels = useLive(path('connections', name, 'channels'), 5);
  const it = live?.status === 200 ? live.body : undefined;
  const crumbs = [['Connections', to('connections')], it ? client(it) : name];
  if (!it) return html`<${Shell} title=${crumbs}><${Missing} live=${live} what=${name}/><//>`;
  const props = it.client_properties || {};
  return html`<${Shell} title=${crumbs}><div class="tools"><span>${stateOf(it)}</span><span class="dim small mono">${it.name}</span><span class="grow"></span><button type="button" class="btn bad" onClick=${() => close(it, () => go(to('connections')))}>Close</button></div>
<div class="cols"><section class="card"><${Head} title="Connection"/><${Facts} rows=${[['User', it.user], ['Virtual host', it.vhost], ['From', html`<span class="mono">${it.peer_host}:${it.peer_port}</span>`], ['Connected', it.connected_at ? `${clock(it.connected_at)}, ${span(Date.now() - it.connected_at)} ago` : '–'], ['TLS', it.ssl ? `${it.ssl_protocol || 'yes'} ${it.ssl_cipher || ''}` : 'no'], ['Heartbeat', it.timeout ? span(it.timeout * 1000) : 'none'], ['Frame max', it.frame_max && bytes(it.frame_max)], ['Channels', `${count(it.channels ?? 0)} of ${count(it.channel_max || 65535)}`], ['Received', it.recv_oct != null && bytes(it.recv_oct)], ['Sent', it.send_oct != null && bytes(it.send_oct)]].filter(([, value]) => value)}/></section>
<section class="card"><${Head} title="Client"/><${Facts} rows=${Object.entries(props).filter(([, value]) => typeof value !== 'object').map(([key, value]) => [key, String(value)])}/></section></div>
<section><${Head} title="Channels"/>${channels?.status === 200 ? (channels.body.length ? html`<div class="panel"><${Table} caption="Channels" columns=${channelColumns} rows=${channels.body} id=${(row) => row.name} open=${(row) => go(to('channels', row.name))}/></div>` : html`<div class="panel"><${Empty} title="No channel is open"/></div>`) : html`<${Missing} live=${channels} what="The channels"/>`}</section><//>`;
}

const channelColumns = [
  {label: 'Channel', cls: 'name', of: (it) => html`<a href=${to('channels', it.name)}>${it.name}</a>`},
  {label: 'User', phone: true, of: (it) => it.user},
  {label: 'Mode', cls: 'lo', of: (it) => [it.confirm && 'confirms', it.transactional && 'transactions'].filter(Boolean).join(', ') || '–'},
  {label: 'Consumers', sort: 'consumer_count', num: true, phone: true, of: (it) => count(it.consumer_count ?? 0)},
  {label: 'Prefetch', sort: 'prefetch_count', num: true, cls: 'lo', of: (it) => (it.prefetch_count ? count(it.prefetch_count) : '–')},
  {label: 'Unacked', sort: 'messages_unacknowledged', num: true, phone: true, of: (it) => count(it.messages_unacknowledged ?? 0)},
  {label: 'Unconfirmed', sort: 'messages_unconfirmed', num: true, cls: 'lo', of: (it) => count(it.messages_unconfirmed ?? 0)},
  {label: 'In/s', num: true, cls: 'lo', of: (it) => rate(detail(it.message_stats, 'publish') ?? null)},
  {label: 'Out/s', num: true, cls: 'lo', of: (it) => rate(detail(it.message_stats, 'deliver_get') ?? null)},
  {label: 'State', cls: 'state', of: stateOf},
];
export function Channels() {
  const list = useList(vhost.value ? ['vhosts', vhost.value, 'channels'] : ['channels']);
  return html`<${Shell} title="Channels"><${ListTools} list=${list} what="channels"/><${Listed} list=${list} what="Channels" id=${(it) => it.name} open=${(it) => go(to('channels', it.name))} empty=${html`<${Empty} title="No channel is open">Clients open channels on their connections.<//>`} columns=${channelColumns}/><//>`;
}
export function Channel({name}) {
  const live = useLive(path('channels', name), 2);
  const it = live?.status === 200 ? live.body : undefined;
  const crumbs = [['Channels', to('channels')], name];
  if (!it) return html`<${Shell} title=${crumbs}><${Missing} live=${live} what=${name}/><//>`;
  return html`<${Shell} title=${crumbs}><div class="tools"><span>${stateOf(it)}</span></div><section class="card"><${Facts} rows=${[['Connection', it.connection_details ? html`<a href=${to('connections', it.connection_details.name)}>${it.connection_details.name}</a>` : '–'], ['User', it.user], ['Virtual host', it.vhost], ['Mode', [it.confirm && 'confirms', it.transactional && 'transactions'].filter(Boolean).join(', ') || 'plain'], ['Prefetch', it.prefetch_count ? count(it.prefetch_count) : 'no limit'], ['Prefetch of the channel', it.global_prefetch_count ? count(it.global_prefetch_count) : 'no limit'], ['Unacked', count(it.messages_unacknowledged ?? 0)], ['Unconfirmed', count(it.messages_unconfirmed ?? 0)], ['Uncommitted', count(it.messages_uncommitted ?? 0)]]}/></section>${it.consumer_details?.length > 0 && html`<section><${Head} title="Consumers"/><div class="panel"><${Table} caption="Consumers" columns=${consumerColumns} rows=${it.consumer_details} id=${(row) => row.consumer_tag}/></div></section>`}<//>`;
}

const consumerColumns = [
  {label: 'Consumer', cls: 'name', of: (it) => html`<span title=${it.consumer_tag}>${it.consumer_tag}</span>`},
  {label: 'Queue', phone: true, of: (it) => (it.queue ? html`<a href=${to('queues', it.queue.vhost, it.queue.name)}>${it.queue.name}</a>` : '–')},
  {label: 'Channel', cls: 'dim desk', of: (it) => (it.channel_details?.name ? html`<a href=${to('channels', it.channel_details.name)}>${it.channel_details.name}</a>` : '–')},
  {label: 'Acks', phone: true, of: (it) => (it.ack_required ? 'yes' : 'no')},
  {label: 'Prefetch', num: true, phone: true, of: (it) => (it.prefetch_count ? count(it.prefetch_count) : '–')},
  {label: 'State', cls: 'state', of: (it) => it.activity_status || (it.active === false ? 'waiting' : 'up')},
];
export function AllConsumers() {
  const list = useList(vhost.value ? ['consumers', vhost.value] : ['consumers']);
  return html`<${Shell} title="Consumers"><${Listed} list=${list} what="Consumers" id=${(it) => `${it.consumer_tag} ${it.channel_details?.name}`} empty=${html`<${Empty} title="Nobody consumes">Consumers take messages from queues as they come.<//>`} columns=${consumerColumns}/><//>`;
}

// Those of one queue.
export function Consumers({rows, number}) {
  if (!rows) return html`<div class="panel"><${Loading} rows=${Math.min(8, Math.max(2, number))}/></div>`;
  if (!rows.length) return html`<div class="panel"><${Empty} title="Nobody consumes">Messages wait until somebody does.<//></div>`;
  return html`<div class="panel"><${Table} caption="Consumers" rows=${rows.slice(0, 100)} id=${(it) => `${it.consumer_tag} ${it.channel_details?.name}`} columns=${[
    {label: 'Consumer', cls: 'name full', of: (it) => html`<span title=${it.consumer_tag}>${it.consumer_tag}</span>`},
    {label: 'From', cls: 'dim mono desk', of: (it) => (it.channel_details?.connection_name ? html`<a href=${to('channels', it.channel_details.name)}>${it.channel_details.peer_host}:${it.channel_details.peer_port}</a>` : '–')},
    {label: 'User', phone: true, cls: 'lo', of: (it) => it.channel_details?.user || '–'},
    {label: 'Acks', phone: true, of: (it) => (it.ack_required ? 'yes' : 'no')},
    {label: 'Prefetch', num: true, phone: true, of: (it) => (it.prefetch_count ? count(it.prefetch_count) : '–')},
    {label: 'State', phone: true, of: (it) => ({single_active: 'active', waiting: 'waits'})[it.activity_status] || it.activity_status || 'up'},
  ]}/></div>${rows.length > 100 && html`<p class="small faint">100 of ${count(rows.length)} are shown.</p>`}`;
}
