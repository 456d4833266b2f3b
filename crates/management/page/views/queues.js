// All queues: those that need attention first, a hundred at a time, filtered and sorted by the broker.
import {html, useEffect, useRef, useState, signal} from '../lib.js';
import {ask, path, refresh, useLive} from '../api.js';
import {count, rate, span, plural} from '../format.js';
import {go, route, setQuery, to} from '../router.js';
import {Shell, vhost} from '../shell.js';
import {Chip, Empty, Glass, Menu, Missing, Pages, Spark, Table, confirm, deed} from '../parts.js';
import {newQueue} from './deeds.js';

const SIZE = 100;
const chosen = signal(new Set());
const kept = () => JSON.parse(localStorage.getItem('leveret.views') || '[]');
const keep = (views) => localStorage.setItem('leveret.views', JSON.stringify(views));

// The depth of each row, as this tab has seen it: 30 points.
const depths = new Map();
function depth(row) {
  const id = `${row.vhost}\n${row.name}`;
  const line = depths.get(id) || [];
  const now = Date.now();
  if (!line.length || now - line.at(-1)[0] > 2000) line.push([now, row.ready]);
  if (line.length > 30) line.shift();
  depths.set(id, line);
  if (depths.size > 1000) depths.delete(depths.keys().next().value);
  return line.map(([, y]) => y);
}

export function emptyIn(row) {
  if (['paused', 'idle'].includes(row.state) || row.type === 'stream') return '–';
  if (row.ready === 0 || row.ready < row.out) return '0 s';
  return row.empty_in == null || row.growth >= 0 ? 'never' : span(row.empty_in * 1000);
}

function useHeld(live, key) {
  // While the pointer or focus is in the table rows stay where they are; at most each 10 s the order is done anew.
  const held = useRef({key: '', order: [], at: 0});
  const body = live?.status === 200 ? live.body : undefined;
  if (!body) return [undefined, 0];
  const id = (row) => `${row.vhost}\n${row.name}`;
  const now = Date.now();
  const inside = document.querySelector('main table:hover, main table:focus-within');
  if (held.current.key !== key || (!inside && now - held.current.at > 10000)) held.current = {key, at: now, order: body.items.map(id)};
  const rows = new Map(body.items.map((row) => [id(row), row]));
  const items = held.current.order.map((name) => rows.get(name)).filter(Boolean);
  const fresh = body.items.filter((row) => !held.current.order.includes(id(row)));
  return [items, fresh.length, () => (held.current = {key: '', order: [], at: 0})];
}

export function Queues({only}) {
  const {query} = route.value;
  const own = query.get('filter') || '';
  const [text, setText] = useState(own);
  const page = Math.max(1, +query.get('page') || 1);
  const sort = query.get('sort') || 'state';
  const reverse = query.get('sort_reverse') === 'true';
  const filter = `${own}${only ? ` type:${only}` : ''}`.trim();
  const params = new URLSearchParams({page, page_size: SIZE, sort, ...(reverse && {sort_reverse: 'true'}), ...(filter && {filter}), ...(vhost.value && {vhost: vhost.value})});
  const address = `/api/leveret/queues?${params}`;
  const live = useLive(address);
  const last = useRef();
  if (live?.status === 200) last.current = live;
  const wrong = live && live.status === 400 ? live.body.reason : '';
  const shown = live?.status === 200 ? live : last.current;
  const [items, fresh, again] = useHeld(shown, `${params}${shown?.body.filtered_count}`);
  const [, redraw] = useState(0);
  useEffect(() => setText(own), [own]);
  useEffect(() => {
    if (text === own) return undefined;
    const timer = setTimeout(() => setQuery({filter: text, page: ''}), 200);
    return () => clearTimeout(timer);
  }, [text]);
  const body = shown?.body;
  const title = only ? 'Streams' : 'Queues';
  const id = (row) => `${row.vhost}\n${row.name}`;
  const many = chosen.value;
  const choose = (row, on) => {
    const next = new Set(many);
    on ? next.add(id(row)) : next.delete(id(row));
    chosen.value = next;
  };
  const rows = items || [];
  const manyVhosts = new Set(rows.map((row) => row.vhost)).size > 1;
  const columns = [
    {label: html`<input type="checkbox" aria-label="Select all shown" checked=${rows.length > 0 && rows.every((row) => many.has(id(row)))} onChange=${(event) => (chosen.value = new Set(event.target.checked ? rows.map(id) : []))}/>`, cls: 'desk', of: (row) => html`<input type="checkbox" aria-label=${`Select ${row.name}`} checked=${many.has(id(row))} onChange=${(event) => choose(row, event.target.checked)}/>`},
    {label: 'Name', sort: 'name', cls: 'name', of: (row) => html`<a href=${to('queues', row.vhost, row.name)} title=${row.name}>${row.name}</a>${row.type !== 'classic' && !only && html`<span class="tag">${row.type}</span>`}${manyVhosts && html`<span class="tag">${row.vhost}</span>`}`},
    {label: 'State', sort: 'state', cls: 'state', of: (row) => html`<${Chip} state=${row.state}/>`},
    {label: 'Depth', cls: 'sp', of: (row) => html`<${Spark} values=${depth(row)} floor=${Math.max(100, row.out * 1.6)}/>`},
    {label: only ? 'Messages' : 'Ready', sort: 'ready', num: true, phone: true, of: (row) => count(row.ready)},
    !only && {label: 'Unacked', sort: 'unacknowledged', num: true, cls: 'lo', of: (row) => count(row.unacknowledged)},
    {label: 'In/s', sort: 'in', num: true, phone: true, of: (row) => rate(row.in)},
    {label: 'Out/s', sort: 'out', num: true, phone: true, of: (row) => rate(row.out)},
    !only && {label: 'Empty in', sort: 'empty_in', num: true, cls: 'lo', of: (row) => (emptyIn(row) === 'never' ? html`<b class="never">never</b>` : emptyIn(row)), zero: (row) => ['–', '0 s'].includes(emptyIn(row))},
    {label: only ? 'Readers' : 'Consumers', sort: 'consumers', num: true, cls: 'lo', of: (row) => count(row.consumers)},
  ].filter(Boolean);
  const counts = body?.counts;
  const tabs = [['All', '', body?.total_count], ['Needs attention', 'state:attention', counts?.attention], ['Growing', 'state:growing', counts?.growing], ['No consumers', 'state:no_consumers', counts?.no_consumers], ['Idle', 'state:idle', counts?.idle], ['Streams', 'type:stream', counts?.streams], ...kept().map((saved) => [saved, saved, null])];
  const save = () => {
    keep([...new Set([...kept(), own])]);
    redraw((n) => n + 1);
  };
  const drop = () => {
    keep(kept().filter((saved) => saved !== own));
    redraw((n) => n + 1);
  };
  const picked = rows.filter((row) => many.has(id(row)));
  const all = (word, done, work, total) => confirm({
    title: `${word} ${plural(picked.length, 'queue')}`, name: String(picked.length), deed: `${word} ${plural(picked.length, 'queue')}`,
    text: `${picked.map((row) => row.name).slice(0, 6).join(', ')}${picked.length > 6 ? ` and ${picked.length - 6} more` : ''}: ${plural(total, 'message')} ${total === 1 ? 'is' : 'are'} deleted for good.`,
    work: () => deed(`${plural(picked.length, 'queue')} ${done}`, async () => {
      for (const row of picked) await work(row);
      chosen.value = new Set();
      refresh();
    }),
  });
  const sum = picked.reduce((so, row) => so + row.ready, 0);
  return html`<${Shell} title=${title}>
<div class="tools"><label class=${`filter ${wrong ? 'is-wrong' : ''}`}><span class="sr">Filter ${title.toLowerCase()}</span><${Glass}/><input value=${text} aria-invalid=${wrong ? 'true' : undefined} aria-describedby=${wrong ? 'wrong' : undefined} autocomplete="off" spellcheck="false" placeholder="Filter: a name, or ready>1000 in<1 type:quorum policy:ha" onInput=${(event) => setText(event.target.value)}/><kbd class="desk">/</kbd></label>${picked.length > 0 && html`<${Menu} label="Do with the selected" items=${[[`Purge ${plural(picked.length, 'queue')}`, () => all('Purge', 'purged', (row) => ask('DELETE', path('queues', row.vhost, row.name, 'contents')), sum), true], [`Delete ${plural(picked.length, 'queue')}`, () => all('Delete', 'deleted', (row) => ask('DELETE', path('queues', row.vhost, row.name)), sum), true]]}>${count(picked.length)} selected ⋯<//>`}<button type="button" class="btn main" onClick=${() => newQueue(vhost.value || '/', only || 'classic')}>${only ? 'New stream' : 'New queue'}</button></div>
${wrong && html`<p class="wrong" id="wrong" role="alert">${wrong}</p>`}
${!only && html`<nav class="views" aria-label="Saved views">${tabs.map(([name, value, number]) => html`<a href=${`${to('queues')}${value ? `?filter=${encodeURIComponent(value)}` : ''}`} aria-current=${value === own ? 'page' : undefined}>${name}${number != null && html`<span>${count(number)}</span>`}</a>`)}${own && !tabs.some(([, value]) => value === own) && html`<button type="button" class="plain faint" onClick=${save}>+ Save view</button>`}${own && kept().includes(own) && html`<button type="button" class="plain faint" onClick=${drop}>Forget this view</button>`}</nav>`}
${fresh > 0 && html`<p class="small"><button type="button" class="btn quiet" onClick=${() => {
    again();
    redraw((n) => n + 1);
  }}>${count(fresh)} new</button></p>`}
${!shown ? html`<${Missing} live=${live?.status === 400 ? undefined : live} what=${title}/>` : !rows.length ? html`<div class="panel">${body.total_count && filter && !(only && !own) ? html`<${Empty} title=${html`No queue matches <span class="mono">${own || filter}</span>`} action=${html`<button type="button" class="btn" onClick=${() => setQuery({filter: '', page: ''})}>Clear the filter</button>`}>${plural(body.total_count, 'queue')} looked at.<//>` : html`<${Empty} title=${only ? 'No streams yet' : 'No queues yet'} action=${html`<button type="button" class="btn" onClick=${() => newQueue(vhost.value || '/', only || 'classic')}>${only ? 'New stream' : 'New queue'}</button>`}>${only ? 'A stream keeps its messages and is read from any point.' : 'A queue keeps messages until a consumer has taken them.'}<//>`}</div>` : html`<div class="panel"><${Table} caption="Queues, those that need attention first" columns=${columns} rows=${rows} id=${id} open=${(row) => go(to('queues', row.vhost, row.name))} chosen=${(row) => many.has(id(row))} sort=${{by: sort, reverse}} onSort=${(by) => {
    setQuery({sort: by === 'state' ? '' : by, sort_reverse: by === sort && !reverse ? 'true' : '', page: ''});
  }}/></div><${Pages} page=${page} size=${SIZE} filtered=${body.filtered_count} total=${body.total_count} what=${title.toLowerCase()} onPage=${(next) => setQuery({page: next > 1 ? String(next) : ''})} hint="J K move · Enter open · X select · ? all keys"/>`}<//>`;
}
