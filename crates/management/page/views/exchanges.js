// Exchanges, and where each sends what it gets.
import {html, useEffect, useLayoutEffect, useMemo, useState} from '../lib.js';
import {ask, get, path, useLive} from '../api.js';
import {count, plural} from '../format.js';
import {go, to} from '../router.js';
import {Shell, vhost} from '../shell.js';
import {Chip, Empty, Facts, Glass, Head, Menu, Missing, states} from '../parts.js';
import {Listed, ListTools, useList} from './clients.js';
import {own} from '../keys.js';
import {bindTo, deleteExchange, newExchange, publish, unbind} from './deeds.js';

const shownName = (name) => name || '(default)';
const where = (it) => to('exchanges', it.vhost, it.name || 'amq.default');

export function Exchanges({topology}) {
  const list = useList(vhost.value ? ['exchanges', vhost.value] : ['exchanges']);
  const many = new Set((list.rows || []).map((it) => it.vhost)).size > 1;
  const open = (it) => (topology ? to('topology', it.vhost, it.name || 'amq.default') : where(it));
  return html`<${Shell} title=${topology ? 'Topology' : 'Exchanges'}>${topology && html`<p class="dim">Which exchange's messages? It shows its bindings, the queues behind them, and where dead letters go.</p>`}<${ListTools} list=${list} what="exchanges"><button type="button" class="btn main" onClick=${() => newExchange(vhost.value)}>New exchange</button><//><${Listed} list=${list} what="Exchanges" id=${(it) => `${it.vhost}\n${it.name}`} open=${(it) => go(open(it))} empty=${html`<${Empty} title="No exchange"/>`} columns=${[
    {label: 'Name', sort: 'name', cls: 'name', of: (it) => html`<a href=${open(it)}>${shownName(it.name)}</a>${many && html`<span class="tag">${it.vhost}</span>`}`},
    {label: 'Type', sort: 'type', phone: true, of: (it) => it.type},
    {label: 'Features', cls: 'dim lo', of: (it) => [it.durable ? 'durable' : 'transient', it.internal && 'internal', it.auto_delete && 'auto-delete', it.arguments['alternate-exchange'] && `alternate ${it.arguments['alternate-exchange']}`].filter(Boolean).join(', ')},
    {label: 'Policy', phone: true, of: (it) => it.policy || it.operator_policy || '–'},
    {label: 'Held back', num: true, cls: 'lo', of: (it) => (it.messages_delayed == null ? '–' : count(it.messages_delayed))},
  ]}/><//>`;
}

// What is behind an exchange: each queue with its state, and where its dead letters go.
function useQueues(at, names) {
  const [known, setKnown] = useState({});
  const key = names.join('\n');
  useEffect(() => {
    let current = true;
    const look = async () => {
      const found = await Promise.all(names.slice(0, 40).map(async (name) => {
        try {
          const [row, full] = await Promise.all([get(path('leveret', 'queues', at, name)), get(`${path('queues', at, name)}?columns=arguments,effective_policy_definition`)]);
          const dead = full.arguments['x-dead-letter-exchange'] ?? full.effective_policy_definition?.['dead-letter-exchange'];
          return [name, {...row, dead}];
        } catch {
          return [name, null];
        }
      }));
      if (current) setKnown(Object.fromEntries(found));
    };
    look();
    const timer = setInterval(look, 10000);
    return () => {
      current = false;
      clearInterval(timer);
    };
  }, [at, key]);
  return known;
}
function useDead(at, names) {
  const [known, setKnown] = useState({});
  const key = names.join('\n');
  useEffect(() => {
    let current = true;
    Promise.all(names.map(async (name) => [name, await get(path('exchanges', at, name, 'bindings', 'source')).catch(() => [])])).then((all) => current && setKnown(Object.fromEntries(all.map(([name, bindings]) => [name, [...new Set(bindings.map((it) => it.destination))]]))));
    return () => (current = false);
  }, [at, key]);
  return known;
}

const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const Box = ({x, y, w, cls = '', href, children}) => html`<a href=${href}><g class=${`node ${cls}`}><rect x=${x + 0.5} y=${y - 24.5} width=${w} height="49" rx="6"/>${children}</g></a>`;

function Drawing({exchange, bindings, queues, dead, hit, chosen, onChoose}) {
  const names = [...new Set(bindings.map((it) => it.destination))];
  const graves = [...new Set(names.map((name) => queues[name]?.dead).filter((it) => it))];
  const last = [...new Set(graves.flatMap((name) => dead[name] || []))];
  const rows = Math.max(bindings.length, 1);
  const height = Math.max(rows * 44, names.length * 62, last.length * 62, 62) + 40;
  const spread = (number, of) => 28 + (height - 40) * ((number + 0.5) / of);
  const ky = (number) => spread(number, bindings.length);
  const qy = (name) => spread(names.indexOf(name), names.length);
  const gy = (name) => spread(graves.indexOf(name), graves.length);
  const ly = (name) => spread(last.indexOf(name), last.length);
  const middle = spread(0, 1);
  const width = (name) => Math.min(7, 1.25 + Math.log10(1 + (queues[name]?.in || 0)) * 1.6);
  const isHit = (it) => hit && hit.includes(it.destination) && it.on;
  return html`<svg class="topo" viewBox=${`0 0 1032 ${height}`} role="group" aria-label=${`${shownName(exchange.name)} with ${plural(bindings.length, 'binding')} to ${plural(names.length, 'queue or exchange', 'queues or exchanges')}`}>
${['Exchange', 'Binding key', 'Sends to', graves.length > 0 && 'Dead letters to'].map((text, at) => text && html`<text class="t3" x=${[0, 238, 490, 790][at]} y="12">${text}</text>`)}
${bindings.map((it, at) => html`<path class=${`edge ${isHit(it) ? 'on' : ''}`} stroke-width=${width(it.destination)} d=${`M156 ${middle}C206 ${middle} 190 ${ky(at)} 232 ${ky(at)}H420C456 ${ky(at)} 446 ${qy(it.destination)} 490 ${qy(it.destination)}`}/>`)}
${names.filter((name) => queues[name]?.dead).map((name) => html`<path class="edge dead" stroke-width="1.25" d=${`M696 ${qy(name)}C750 ${qy(name)} 736 ${gy(queues[name].dead)} 790 ${gy(queues[name].dead)}`}/>`)}
${graves.flatMap((name) => (dead[name] || []).map((queue) => html`<path class="edge dead" stroke-width="1.25" d=${`M896 ${gy(name)}C912 ${gy(name)} 908 ${ly(queue)} 924 ${ly(queue)}`}/>`))}
${bindings.map((it, at) => html`<g role="button" tabindex="0" class=${`key-of ${chosen === it ? 'on' : ''}`} onClick=${() => onChoose(it)} onKeyDown=${(event) => event.key === 'Enter' && onChoose(it)}><rect class="lab" x="230" y=${ky(at) - 11} width=${16 + 7.3 * Math.min(23, (it.routing_key || (Object.keys(it.arguments).length ? 'by headers' : '(no key)')).length)} height="22" rx="4"/><text class="mono" x="238" y=${ky(at) + 4} font-weight=${isHit(it) ? 600 : undefined}><title>${it.routing_key}</title>${cut(it.routing_key || (Object.keys(it.arguments).length ? 'by headers' : '(no key)'), 23)}</text></g>`)}
<g class="node on"><rect x=".5" y=${middle - 28.5} width="156" height="57" rx="6"/><text class="b" x="12" y=${middle - 5}><title>${exchange.name}</title>${cut(shownName(exchange.name), 18)}</text><text class="t2" x="12" y=${middle + 15}>${exchange.type}</text></g>
${names.map((name) => {
  const row = queues[name];
  const is = bindings.find((it) => it.destination === name).destination_type;
  const y = qy(name);
  const tone = row && states[row.state][3];
  return html`<${Box} x=${490} y=${y} w=${206} cls=${hit?.includes(name) ? 'hit' : ''} href=${is === 'queue' ? to('queues', exchange.vhost, name) : to('topology', exchange.vhost, name)}><text class="b" x="502" y=${y - 3}><title>${name}</title>${cut(name, 25)}</text><text class="t2" x="502" y=${y + 15}>${is !== 'queue' ? 'exchange' : row ? `${count(row.ready)} ready` : ''}</text>${row && (tone ? html`<text class=${`t2 r ${tone}`} x="686" y=${y + 15}>${tone === 'bad' ? '◆' : '▲'} ${states[row.state][2]}</text>` : html`<text class="t3 r" x="686" y=${y + 15}>${row.type}</text>`)}<//>`;
})}
${graves.map((name) => html`<${Box} x=${790} y=${gy(name)} w=${106} href=${to('topology', exchange.vhost, name)}><text class="b" x="802" y=${gy(name) + 4}><title>${name}</title>${cut(name, 12)}</text><//>`)}
${last.map((name) => html`<${Box} x=${924} y=${ly(name)} w=${106} href=${to('queues', exchange.vhost, name)}><text class="b" x="936" y=${ly(name) + 4}><title>${name}</title>${cut(name, 12)}</text><//>`)}
</svg>`;
}

export function Topology({vhost: at, name, plain}) {
  const real = name === 'amq.default' ? '' : name;
  const live = useLive(path('exchanges', at, name), 5);
  const bound = useLive(`${path('exchanges', at, name, 'bindings', 'source')}?page=1&page_size=60`, 5);
  const into = useLive(path('exchanges', at, name, 'bindings', 'destination'), 10);
  const [key, setKey] = useState('');
  const [hit, setHit] = useState(null);
  const [chosen, setChosen] = useState(null);
  const exchange = live?.status === 200 ? live.body : undefined;
  const page = bound?.status === 200 ? bound.body : undefined;
  const bindings = useMemo(() => (page?.items || (Array.isArray(page) ? page : [])).slice(0, 60), [page]);
  const names = useMemo(() => [...new Set(bindings.filter((it) => it.destination_type === 'queue').map((it) => it.destination))], [bindings]);
  const queues = useQueues(at, names);
  const graves = [...new Set(names.map((queue) => queues[queue]?.dead).filter((it) => it))];
  const dead = useDead(at, graves);
  useLayoutEffect(() => {
    own.value = {w: () => publish(at, real, key)};
    return () => (own.value = {});
  }, [at, real, key]);
  useEffect(() => {
    if (!key) {
      setHit(null);
      return undefined;
    }
    let current = true;
    const timer = setTimeout(() => ask('POST', path('leveret', 'routes', at, name), {routing_key: key}).then((said) => current && setHit(said.queues), () => current && setHit(null)), 120);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [key, at, name, page]);
  const crumbs = [plain ? ['Exchanges', to('exchanges')] : ['Topology', to('topology')], shownName(real)];
  if (!exchange || !page) return html`<${Shell} title=${crumbs}><${Missing} live=${live?.status === 200 ? bound : live} what=${name}/><//>`;
  const total = page.filtered_count ?? bindings.length;
  const marked = bindings.map((it) => Object.assign(it, {on: hit?.includes(it.destination) && matches(exchange.type, it.routing_key, key)}));
  const lonely = hit?.filter((queue) => queues[queue] && !queues[queue].consumers) || [];
  const system = !real || real.startsWith('amq.');
  return html`<${Shell} title=${crumbs}>
<div class="tools wrap tw"><label class="field grow"><span>Where would a message go? Type a routing key. Nothing is published.</span><span class="filter"><${Glass}/><input class="mono" autocomplete="off" spellcheck="false" value=${key} onInput=${(event) => setKey(event.target.value)}/></span></label><span class="try">${hit ? html`<b>${plural(hit.length, 'queue')}</b> <span class="dim">${hit.length === 1 ? 'gets a copy' : hit.length ? 'get a copy' : 'would get it: it is dropped'}${lonely.length > 0 && `; ${lonely.length === 1 ? 'one has' : `${lonely.length} have`} no consumers`}</span>` : ''}</span><button type="button" class="btn" onClick=${() => publish(at, real, key)}>Publish <kbd class="desk">W</kbd></button>${real && html`<button type="button" class="btn" onClick=${() => bindTo(at, real)}>Bind</button>`}${!system && html`<${Menu} cls="btn sq" label="More: delete" items=${[['Delete', () => deleteExchange(exchange, total), true]]}>⋯<//>`}</div>
${!bindings.length ? html`<div class="panel"><${Empty} title=${`${shownName(real)} sends nowhere`} action=${real && html`<button type="button" class="btn" onClick=${() => bindTo(at, real)}>Bind</button>`}>${real ? 'Without a binding what is published to it is dropped.' : 'It sends to the queue whose name is the routing key.'}<//></div>` : html`<div class="desk scroll"><${Drawing} exchange=${exchange} bindings=${marked} queues=${queues} dead=${dead} hit=${hit} chosen=${chosen} onChoose=${setChosen}/></div>${total > bindings.length && html`<p class="small faint">${count(bindings.length)} of ${count(total)} bindings are drawn.</p>`}
<section><${Head} title="Bindings"/><div class="panel"><ul class="walk">${marked.map((it) => html`<li class=${`in1 ${it.on ? 'on' : ''} ${chosen === it ? 'is-chosen' : ''}`}><span class="mono">${it.routing_key || '(no key)'}</span>${Object.keys(it.arguments).length > 0 && html` <span class="mono faint">${JSON.stringify(it.arguments)}</span>`} <span class="faint">to</span> <a href=${it.destination_type === 'queue' ? to('queues', it.vhost, it.destination) : to('topology', it.vhost, it.destination)}><b>${it.destination}</b></a>${queues[it.destination] && html` <span class="faint">${count(queues[it.destination].ready)} ready</span> ${states[queues[it.destination].state][3] && html`<${Chip} state=${queues[it.destination].state}/>`}`}<span class="grow"></span>${real && html`<button type="button" class="btn quiet" aria-label=${`Unbind ${it.destination}`} onClick=${() => unbind(it)}>Unbind</button>`}</li>`)}</ul></div></section>`}
<section class="card"><${Head} title="In force"/><${Facts} rows=${[['Type', `${exchange.type}${exchange.durable ? ', durable' : ', gone at a restart'}${exchange.internal ? ', internal' : ''}${exchange.auto_delete ? ', auto-delete' : ''}`], ...Object.entries(exchange.arguments).map(([field, value]) => [field, typeof value === 'object' ? JSON.stringify(value) : String(value), 'argument']), ...Object.entries(exchange.effective_policy_definition || {}).map(([field, value]) => [field, String(value), `policy ${exchange.policy || exchange.operator_policy}`]), into?.status === 200 && into.body.length > 0 && ['Gets from', into.body.map((it) => `${it.source} with ${it.routing_key || '(no key)'}`).join(', ')], exchange.messages_delayed != null && ['Holds back', html`<a href=${to('delayed')}>${plural(exchange.messages_delayed, 'message')}</a>`]]}/></section><//>`;
}

// Which of the bindings to a queue that gets a copy the key goes by.
function matches(kind, pattern, key) {
  if (kind === 'fanout' || kind === 'headers') return true;
  if (kind !== 'topic') return pattern === key;
  const walk = (p, k) => {
    if (!p.length) return !k.length;
    if (p[0] === '#') return walk(p.slice(1), k) || (k.length > 0 && walk(p, k.slice(1)));
    return k.length > 0 && (p[0] === '*' || p[0] === k[0]) && walk(p.slice(1), k.slice(1));
  };
  return walk(pattern.split('.'), key.split('.'));
}
