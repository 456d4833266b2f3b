// One queue: how it is, in words and numbers; what is in it; what is in force and where that comes from.
import {html, useEffect, useLayoutEffect} from '../lib.js';
import {path, useLive} from '../api.js';
import {bytes, count, perSecond, plural, rate, span, span2} from '../format.js';
import {go, route, setQuery, to} from '../router.js';
import {Shell} from '../shell.js';
import {Chart} from '../chart.js';
import {Chip, Facts, Head, Loading, Menu, Missing, Stat, Unit} from '../parts.js';
import {own} from '../keys.js';
import {bindTo, deleteQueue, publish, purge, unbind} from './deeds.js';
import {emptyIn} from './queues.js';
import {Peek} from './peek.js';
import {Consumers} from './clients.js';
import {inForce} from './origin.js';

const words = {
  no_consumers: (row) => `nobody takes what comes in${row.in > 0.05 ? `, ${perSecond(row.in)}` : ''}`,
  growing: (row) => `${perSecond(row.growth)} more come in than go out`,
  stuck: (row) => `${plural(row.unacknowledged, 'message')} are held and nothing is acked`,
  dead_letters: (row) => `${plural(row.deaths, 'dead letter')} came in the last hour`,
  draining: (row) => `empty in ${emptyIn(row)}`,
  idle: () => 'nothing came or went for 10 min',
  steady: () => '',
  paused: () => 'deliveries are held back',
};

function Bindings({row, live, dead}) {
  if (live?.status !== 200) return html`<${Missing} live=${live} what="The bindings"/>`;
  const made = live.body.filter((it) => it.source);
  const next = dead && html`<p class="small dim">Dead letters to <b>${dead.exchange || 'the default exchange'}</b>${dead.key && html` with <span class="mono">${dead.key}</span>`}.</p>`;
  if (!made.length) return html`<div class="card"><p class="dim">No exchange sends to it but the default one, with the key <span class="mono">${row.name}</span>.</p>${next}</div>`;
  return html`<div class="panel"><ul class="walk">${made.map((it) => html`<li class="in1"><a href=${to('exchanges', it.vhost, it.source)}><b>${it.source}</b></a> <span class="mono">${it.routing_key || '(no key)'}</span>${Object.keys(it.arguments).length > 0 && html` <span class="faint mono">${JSON.stringify(it.arguments)}</span>`}<span class="grow"></span>${row.may.write && html`<button type="button" class="btn quiet" onClick=${() => unbind(it)}>Unbind</button>`}</li>`)}</ul>${next && html`<div class="pad">${next}</div>`}</div>`;
}

export function Queue({vhost, name}) {
  const address = path('leveret', 'queues', vhost, name);
  const live = useLive(address);
  const facts = useLive(path('queues', vhost, name), 5);
  const bound = useLive(path('queues', vhost, name, 'bindings'), 5);
  const row = live?.status === 200 ? live.body : undefined;
  const full = facts?.status === 200 ? facts.body : undefined;
  const wanted = route.value.query.get('do');
  const jump = (id) => document.getElementById(id)?.scrollIntoView({block: 'start'});
  // The keys of a view are there as soon as the view is.
  useLayoutEffect(() => {
    own.value = {
      ...(row?.may.write && {w: () => publish(vhost, '', name)}), e: () => jump('peek'),
      1: () => jump('depth'), 2: () => jump('consumers'), 3: () => jump('force'), 4: () => jump('bindings'), 5: () => jump('peek'),
    };
    return () => (own.value = {});
  }, [vhost, name, row?.may.write]);
  useEffect(() => {
    if (!row || !wanted) return;
    setQuery({do: ''});
    if (wanted === 'publish') publish(vhost, '', name);
    else setTimeout(() => jump('peek'), 50);
  }, [!row, wanted]);
  const crumbs = [['Queues', to('queues')], name];
  if (!row) return html`<${Shell} title=${crumbs}><${Missing} live=${live} what=${name}/><//>`;
  const stats = full?.leveret;
  const stream = row.type === 'stream';
  const {may} = row;
  const deeds = [may.write && ['Bind', () => bindTo(vhost, '', name)], may.read && !stream && ['Purge', () => purge(row), true], may.configure && ['Delete', () => deleteQueue(row), true]].filter(Boolean);
  const never = emptyIn(row) === 'never';
  const time = stats?.time_in_queue;
  const ack = stats?.time_to_ack;
  const ttl = full && inForce(full).find(([key]) => key === 'message-ttl');
  const dead = full && inForce(full).find(([key]) => key === 'dead-letter-exchange');
  const deadKey = full && inForce(full).find(([key]) => key === 'dead-letter-routing-key');
  const since = row.since ? `for ${span(Date.now() - row.since)}` : '';
  const word = words[row.state]?.(row);
  return html`<${Shell} title=${crumbs} ranges>
<div class="tools wrap"><span><${Chip} state=${row.state}/></span><span class="dim small">${[since, word].filter(Boolean).join(', ')}</span><span class="grow"></span>${may.write && html`<button type="button" class="btn" onClick=${() => publish(vhost, '', name)}>Publish <kbd class="desk">W</kbd></button>`}${may.read && html`<button type="button" class="btn" onClick=${() => jump('peek')}>Peek <kbd class="desk">E</kbd></button>`}${deeds.length > 0 && html`<${Menu} cls="btn sq" label=${`More: ${deeds.map(([text]) => text.toLowerCase()).join(', ')}`} items=${deeds}>⋯<//>`}</div>
<dl class="stats">
<${Stat} label=${stream ? 'Messages' : 'Ready'} sub=${Math.abs(row.growth) > 0.05 ? `${row.growth > 0 ? '+' : ''}${perSecond(row.growth)}` : bytes(row.bytes)} warn=${row.state === 'growing' || row.state === 'no_consumers'}>${count(row.ready)}<//>
<${Stat} label="Unacked" sub=${row.waiting ? `${count(row.waiting)} wait for a retry` : `held by ${plural(row.consumers, 'consumer')}`}>${count(row.unacknowledged)}<//>
<${Stat} label="In" sub=${stats ? `${count(stats.totals.published)} so far` : ''}>${rate(row.in)}<small>/s</small><//>
<${Stat} label="Out" sub=${stats ? `redelivered ${perSecond(stats.rates.redelivered)}` : ''}>${rate(row.out)}<small>/s</small><//>
<${Stat} label="Time in queue, p99" sub=${ttl ? `of ${span(ttl[1])} TTL` : time?.count ? `p50 ${span(time.p50_ms)}` : 'nothing delivered'}><${Unit} of=${span2(time?.count ? time.p99_ms : null)}/><//>
<${Stat} label="Empty in" bad=${never && row.state !== 'steady'} sub=${never && row.consumers ? `${perSecond(row.growth)} too many` : never ? 'no consumers' : ''}>${emptyIn(row)}<//>
</dl>
<div class="cols w"><div class="stack"><section class="card" id="depth"><${Head} title="Depth"><span class="faint small">messages ready</span><//><${Chart} address=${address} lines=${[['ready', stream ? 'Messages' : 'Ready']]} fill tall pad=${54} label=${`${count(row.ready)} messages are ready`}/></section>
<section class="card"><${Head} title="Rates"><span class="faint small">messages per second</span><//><${Chart} address=${address} lines=${[['in', 'In'], ['out', 'Out']]} tall pad=${34} label=${`Messages a second: in ${rate(row.in)}, out ${rate(row.out)}`}/></section></div>
<section class="card"><${Head} title="Time"><span class="faint small">since the start</span><//>${!stats ? html`<${Loading}/>` : html`<${Facts} rows=${[
    ['In the queue: half within', time.count ? span(time.p50_ms) : '–'], ['90 in 100 within', time.count ? span(time.p90_ms) : '–'], ['99 in 100 within', time.count ? span(time.p99_ms) : '–'], ['The longest', time.count ? span(time.max_ms) : '–'],
    ['To ack: half within', ack.count ? span(ack.p50_ms) : '–'], ['99 in 100 within', ack.count ? span(ack.p99_ms) : '–'],
    ['Acknowledged', count(stats.totals.acknowledged)], ['Came back', count(stats.totals.requeued)], ['Expired', count(stats.totals.dead_lettered.expired + stats.totals.discarded.expired)],
    stats.forecast.full_in_seconds != null && ['Full in', span(stats.forecast.full_in_seconds * 1000), null, 'warn'],
  ]}/>`}</section></div>
<div class="cols w"><section id="consumers"><${Head} title="Consumers" note=${plural(row.consumers, stream ? 'reader' : 'consumer')}/><${Consumers} rows=${full?.consumer_details} number=${row.consumers}/></section>
<section id="force"><${Head} title="In force" note="and where it comes from"/><div class="card">${full ? html`<${Facts} rows=${[['Type', `${full.type}${full.durable ? ', durable' : ', gone at a restart'}${full.exclusive ? ', exclusive' : ''}${full.auto_delete ? ', auto-delete' : ''}`], ...inForce(full).map(([, value, origin, label, shown]) => [label, shown, origin])]}/>` : html`<${Loading}/>`}</div></section></div>
<section id="bindings"><${Head} title="Bindings">${may.write && html`<button type="button" class="btn quiet" onClick=${() => bindTo(vhost, '', name)}>Bind</button>`}<//><${Bindings} row=${row} live=${bound} dead=${dead && {exchange: dead[1], key: deadKey?.[1]}}/></section>
${may.read && html`<${Peek} vhost=${vhost} name=${name} row=${row}/>`}<//>`;
}
