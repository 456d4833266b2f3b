// Definitions: all of them in a file, and what a file would change before it does.
import {html, useState} from '../lib.js';
import {ask, get} from '../api.js';
import {count, plural} from '../format.js';
import {Shell, vhost} from '../shell.js';
import {Empty, Head, deed} from '../parts.js';

const kinds = {vhosts: ['name'], users: ['name'], permissions: ['vhost', 'user'], topic_permissions: ['vhost', 'user', 'exchange'], policies: ['vhost', 'name'], parameters: ['vhost', 'component', 'name'], global_parameters: ['name'], queues: ['vhost', 'name'], exchanges: ['vhost', 'name'], bindings: ['vhost', 'source', 'destination_type', 'destination', 'routing_key', 'arguments']};
const stable = (it) => JSON.stringify(it, (_, value) => (value && typeof value === 'object' && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value));
const name = (kind, it) => kinds[kind].map((field) => (typeof it[field] === 'object' ? stable(it[field]) : it[field] ?? '')).join(' ').trim();

export function differences(now, next) {
  const out = [];
  for (const kind of Object.keys(kinds)) {
    const have = new Map((now[kind] || []).map((it) => [name(kind, it), it]));
    for (const it of next[kind] || []) {
      const there = have.get(name(kind, it));
      if (!there) out.push({kind, what: name(kind, it), is: 'new'});
      else {
        const fields = Object.keys(it).filter((field) => field in there && stable(it[field]) !== stable(there[field]));
        if (fields.length) out.push({kind, what: name(kind, it), is: ['queues', 'exchanges'].includes(kind) ? 'refused' : 'changed', fields, from: there, to: it});
      }
    }
  }
  return out;
}

export function Definitions() {
  const [file, setFile] = useState(null);
  const [found, setFound] = useState(null);
  const [wrong, setWrong] = useState('');
  const address = vhost.value ? `/api/definitions/${encodeURIComponent(vhost.value)}` : '/api/definitions';
  const save = async () => {
    const all = await get(address);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob([JSON.stringify(all, null, 2)], {type: 'application/json'}));
    link.download = `leveret-definitions-${new Date().toISOString().slice(0, 10)}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  const choose = async (event) => {
    const [chosen] = event.target.files;
    event.target.value = '';
    if (!chosen) return;
    setFound(null);
    setWrong('');
    try {
      const next = JSON.parse(await chosen.text());
      setFile({name: chosen.name, next});
      setFound(differences(await get(address), next));
    } catch (error) {
      setFile(null);
      setWrong(`${chosen.name}: ${error.message}`);
    }
  };
  const apply = () => deed(html`<b>${file.name}</b> is applied`, async () => {
    await ask('POST', address, file.next);
    setFound(null);
    setFile(null);
  }, {failed: 'Nothing is changed'});
  const of = (is) => (found || []).filter((it) => it.is === is);
  return html`<${Shell} title="Definitions">
<div class="cols"><section class="card"><${Head} title="Export"/><p class="dim">${vhost.value ? html`Queues, exchanges, bindings and policies of <b>${vhost.value}</b>.` : 'Users, virtual hosts, permissions, policies, queues, exchanges and bindings of the whole broker, as RabbitMQ reads them.'}</p><p class="pad0"><button type="button" class="btn" onClick=${save}>Save a file</button></p></section>
<section class="card"><${Head} title="Import"/><p class="dim">A definitions file of Leveret or RabbitMQ. You see what would change before it does; it is applied as a whole or not at all.</p><p class="pad0"><label class="btn">Choose a file<input class="sr" type="file" accept="application/json,.json" onChange=${choose}/></label></p>${wrong && html`<p class="wrong" role="alert">${wrong}</p>`}</section></div>
${found && html`<section aria-live="polite"><${Head} title=${file.name} note=${`${count(of('new').length)} new, ${count(of('changed').length)} changed, ${count(of('refused').length)} not as they are here`}><button type="button" class="btn" onClick=${() => setFound(null)}>Leave it</button> <button type="button" class="btn main" disabled=${!found.length} onClick=${apply}>Apply ${plural(found.length, 'change')}</button><//><div class="panel">${found.length ? html`<ul class="walk">${found.slice(0, 500).map((it) => html`<li><span class=${`chip ${it.is === 'refused' ? 'c-warn' : 'c-line'}`}>${it.is}</span> <span class="faint">${it.kind.replace('_', ' ')}</span> <b>${it.what}</b>${it.fields && html`<p class="mono small dim">${it.fields.map((field) => `${field}: ${field.includes('password') ? 'another' : `${stable(it.from[field])} → ${stable(it.to[field])}`}`).join('; ')}</p>`}</li>`)}</ul>` : html`<${Empty} title="Nothing would change">All of it is here already.<//>`}</div>${found.length > 500 && html`<p class="small faint">500 of ${count(found.length)} are shown.</p>`}</section>`}<//>`;
}
