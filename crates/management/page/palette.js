// Ctrl K: queues, exchanges, users and views by a part of their name, and what can be done.
import {html, useEffect, useState} from './lib.js';
import {get, is} from './api.js';
import {Chip, Dialog, Glass, dialog} from './parts.js';
import {go, to} from './router.js';
import {count} from './format.js';

const EACH = 8;
const views = [['Overview'], ['Queues', 'queues'], ['Exchanges', 'exchanges'], ['Topology', 'topology'], ['Streams', 'streams'], ['Dead letters', 'dead-letters'], ['Delayed', 'delayed'], ['Connections', 'connections'], ['Channels', 'channels'], ['Consumers', 'consumers'], ['Policies', 'policies'], ['Users', 'users'], ['Virtual hosts', 'vhosts'], ['Limits', 'limits'], ['Definitions', 'definitions'], ['Audit log', 'audit'], ['Node', 'nodes']];

function Found({text, part}) {
  const at = text.toLowerCase().indexOf(part.toLowerCase());
  return part && at >= 0 ? html`<span>${text.slice(0, at)}<mark>${text.slice(at, at + part.length)}</mark>${text.slice(at + part.length)}</span>` : html`<span>${text}</span>`;
}

async function search(part) {
  const name = encodeURIComponent(part);
  const [queues, exchanges, users] = await Promise.all([
    get(`/api/leveret/queues?page=1&page_size=${EACH}&filter=${encodeURIComponent(part.split(/\s+/).join(' '))}`).catch(() => ({items: []})),
    get(`/api/exchanges?page=1&page_size=${EACH}&columns=name,vhost,type&name=${name}`).catch(() => ({items: []})),
    part && is() ? get('/api/users').catch(() => []) : [],
  ]);
  const has = (text) => text.toLowerCase().includes(part.toLowerCase());
  const first = queues.items[0];
  return [
    ['Queues', queues.items.map((it) => ({text: it.name, note: `${count(it.ready)} ready`, chip: ['steady', 'idle'].includes(it.state) ? null : it.state, hash: to('queues', it.vhost, it.name)}))],
    ['Exchanges', exchanges.items.filter((it) => it.name).map((it) => ({text: it.name, tag: it.type, hash: to('exchanges', it.vhost, it.name)}))],
    ['Users', users.filter((it) => has(it.name)).slice(0, EACH).map((it) => ({text: it.name, note: it.tags.join(', '), hash: to('users')}))],
    ['Views', views.filter(([text]) => part && has(text)).map(([text, ...parts]) => ({text, hash: to(...parts)}))],
    ['Do', part && first ? [['Peek at', 'E', 'peek'], ['Publish to', 'W', 'publish']].map(([deed, key, name]) => ({text: `${deed} ${first.name}`, key, hash: `${to('queues', first.vhost, first.name)}?do=${name}`})) : []],
  ].filter(([, items]) => items.length);
}

function Palette() {
  const [part, setPart] = useState('');
  const [groups, setGroups] = useState([]);
  const [at, setAt] = useState(0);
  useEffect(() => {
    let current = true;
    const timer = setTimeout(async () => {
      const found = await search(part.trim());
      if (!current) return;
      setGroups(found);
      setAt(0);
    }, 80);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [part]);
  const all = groups.flatMap(([, items]) => items);
  const open = (item) => {
    dialog.value = null;
    if (item) go(item.hash);
  };
  const keys = (event) => {
    const by = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (by) {
      event.preventDefault();
      setAt((at + by + all.length) % Math.max(1, all.length));
    } else if (event.key === 'Enter') {
      event.preventDefault();
      open(all[at]);
    }
  };
  let number = -1;
  return html`<${Dialog} title="Search or jump to" wide><div class="pal" onKeyDown=${keys}><label class="q"><${Glass}/><input autofocus role="combobox" aria-expanded="true" aria-controls="found" aria-activedescendant=${all.length ? `found-${at}` : undefined} aria-label="Search or jump to" autocomplete="off" spellcheck="false" placeholder="A queue, exchange, user or view" value=${part} onInput=${(event) => setPart(event.target.value)}/></label><div id="found" role="listbox" aria-label="Results">${groups.map(([name, items]) => html`<div role="group" aria-label=${name}><h2 aria-hidden="true">${name}</h2>${items.map((item) => {
    const mine = ++number;
    return html`<div role="option" id=${`found-${mine}`} class="opt" aria-selected=${String(mine === at)} onMouseMove=${() => setAt(mine)} onClick=${() => open(item)}><${Found} text=${item.text} part=${part.trim()}/>${item.tag && html`<span class="tag">${item.tag}</span>`}${item.chip && html`<${Chip} state=${item.chip}/>`}<span class="grow"></span>${item.note && html`<span class="faint">${item.note}</span>`}${item.key && html`<kbd>${item.key}</kbd>`}</div>`;
  })}</div>`)}${!groups.length && html`<p class="none dim">${part ? 'Nothing is called like that.' : 'Nothing here yet.'}</p>`}</div></div><//>`;
}
export const palette = () => {
  dialog.value = html`<${Palette}/>`;
};
