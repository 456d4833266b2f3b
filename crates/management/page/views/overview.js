// Is anything wrong, where, since when; then the broker in numbers.
import {html, useRef} from '../lib.js';
import {ask, is, useLive, refresh} from '../api.js';
import {count, rate, perSecond, span, span2, bytes, plural} from '../format.js';
import {to} from '../router.js';
import {Chart} from '../chart.js';
import {columns, ranges, range} from '../history.js';
import {OVERVIEW, Shell} from '../shell.js';
import {Mark, Meter, Menu, Missing, Range, Spark, Stat, Unit, deed, states} from '../parts.js';
import {FirstStart} from './first-start.js';

const SHOWN = 7;
const since = (item, now) => (item.since ? html` for ${span(now - item.since)}` : '');

// What is said of a thing that needs attention: [object, sentence, number, unit, deed, hash]
function told(item, now) {
  const {kind} = item;
  const queue = to('queues', item.vhost || '/', item.name || '');
  if (kind === 'no_consumers') return [item.name, html`<b>No consumers</b>${since(item, now)}, ${item.in > 0.05 ? `${perSecond(item.in)} still coming in` : 'nothing is coming in now'}`, count(item.ready), 'ready', 'Open', queue];
  if (kind === 'growing') return [item.name, html`<b>Growing</b>${since(item, now)}: ${perSecond(item.in)} in, ${perSecond(item.out)} out`, count(item.ready), 'ready', 'Open', queue];
  if (kind === 'stuck') return [item.name, html`<b>Stuck</b>${since(item, now)}: ${plural(item.consumers, 'consumer')} ${item.consumers === 1 ? 'holds' : 'hold'} ${plural(item.unacknowledged, 'message')} and ack nothing`, count(item.unacknowledged), 'held', 'See who', queue];
  if (kind === 'dead_letters') return [item.name, html`<b>${plural(item.deaths, 'new dead letter')}</b> in the last hour`, count(item.ready), 'dead', 'Review', to('dead-letters')];
  if (kind === 'disk') return ['Disk', html`${item.full_in_hours != null ? html`<b>Full in ${span(item.full_in_hours * 3.6e6)}</b> at this rate; ` : html`<b>Nearly full</b>; `}publishers stop at ${bytes(item.limit)} free`, bytes(item.free), 'free', 'What uses it', to('nodes')];
  if (kind === 'blocked') return ['Publishers', html`<b>Blocked</b>: ${item.reason}`, '', '', 'Why', to('nodes')];
  return ['Descriptors', html`<b>${Math.round((item.used / item.total) * 100)} %</b> of ${count(item.total)} are in use`, count(item.used), 'used', 'Open', to('nodes')];
}
const isBad = (kind) => ['no_consumers', 'blocked', 'disk'].includes(kind);

const mute = (item, until) => deed(`${item.name || item.kind} is muted`, async () => {
  await ask('POST', '/api/leveret/attention/mute', {key: item.key, until, number: item.number});
  refresh();
}, {label: 'Unmute', action: () => deed('', async () => {
  await ask('POST', '/api/leveret/attention/unmute', {key: item.key});
  refresh();
})});

function Attention({body, depths, more}) {
  const now = Date.now();
  const {attention, muted, over} = body;
  if (!attention.length) {
    const last = over && html` <span class="faint">Last: ${span(now - over.ended)} ago, <a href=${to('queues', over.vhost, over.name)}>${over.name}</a> was ${states[over.state][2].toLowerCase()} for ${span(over.ended - over.began)}.</span>`;
    return html`<p class="calm"><b>Nothing needs attention.</b>${last}${muted.length > 0 && html` <span class="faint">${count(muted.length)} muted.</span>`}</p>`;
  }
  return html`<section aria-labelledby="attention"><div class="head"><h2 id="attention">Needs attention</h2><span class="faint small">${count(attention.length)} now${muted.length > 0 && `, ${count(muted.length)} muted`}</span></div><ul class="panel att">${attention.slice(0, SHOWN).map((item) => {
    const [object, text, number, unit, word, hash] = told(item, now);
    return html`<li key=${item.key}><${Mark} is=${isBad(item.kind) ? 'diamond' : 'up'} cls=${isBad(item.kind) ? 'bad' : 'warn'}/><a class="obj" href=${hash} title=${object}>${object}</a><span class="what">${text}</span><span class="spark"><${Spark} values=${depths(item)} width=${96} height=${22}/></span><span class="num">${number} <span class="faint un">${unit}</span></span><span class="acts"><a class="btn quiet" href=${hash} aria-label=${`${word}: ${object}`}>${word}</a><${Menu} cls="btn quiet sq" label=${`Mute ${object}`} items=${[['Mute for 1 h', () => mute(item, '1h')], ['Mute for 1 d', () => mute(item, '1d')], item.number != null && ['Mute until it gets worse', () => mute(item, 'worse')]]}>⋯<//></span></li>`;
  })}</ul>${attention.length > SHOWN && html`<p class="small"><a class="dim" href=${`${to('queues')}?filter=state:attention`}>${count(attention.length - SHOWN)} more</a></p>`}</section>`;
}

// How it was at the beginning of the range.
const ago = (name) => {
  const line = columns(OVERVIEW, [name]);
  const first = line[0][0];
  return first && Date.now() / 1000 - first > ranges[range.value] * 0.9 ? `${range.value.replace('min', ' min').replace('h', ' h')} ago ${perSecond(line[1][0])}` : '';
};

export function Overview() {
  const live = useLive(OVERVIEW);
  const body = live?.status === 200 ? live.body : undefined;
  const started = useRef(false);
  const seen = useRef(new Map());
  if (!body) return html`<${Shell} title="Overview"><${Missing} live=${live} what="The overview"/><//>`;
  if (body.queues || body.connections || body.ready) started.current = true;
  if (!started.current && is()) return html`<${Shell} title="Overview"><${FirstStart} body=${body}/><//>`;
  // The depth of what needs attention, as this tab has seen it.
  const depths = (item) => {
    if (item.number == null) return null;
    const line = seen.current.get(item.key) || [];
    const at = Date.now();
    if (!line.length || at - line.at(-1)[0] > 4000) line.push([at, item.number]);
    seen.current.set(item.key, line.slice(-60));
    return line.map(([, y]) => y);
  };
  const growing = body.growth > 0.5;
  const slow = (it) => it && html`<a href=${to('queues', it.vhost, it.queue)}>${it.queue}</a>`;
  const late = (it) => it && it.p99_ms > 60000;
  return html`<${Shell} title="Overview" ranges>
<${Attention} body=${body} depths=${depths}/>
<dl class="stats">
<${Stat} label="In" sub=${ago('in')}>${rate(body.in)}<small>/s</small><//>
<${Stat} label="Out" sub=${`acked ${perSecond(body.acknowledged)}`}>${rate(body.out)}<small>/s</small><//>
<${Stat} label="Ready" sub=${Math.abs(body.growth) > 0.05 ? `${growing ? '+' : ''}${perSecond(body.growth)}` : bytes(body.bytes)} warn=${growing && body.attention.length > 0}>${count(body.ready)}<//>
<${Stat} label="Unacked" sub=${body.waiting ? `${count(body.waiting)} wait for a retry` : `${plural(body.consumers, 'consumer')}`}>${count(body.unacknowledged)}<//>
<${Stat} label="Time in queue, p99" sub=${body.time_in_queue ? body.time_in_queue.queue : 'nothing delivered'}><${Unit} of=${span2(body.time_in_queue?.p99_ms)}/><//>
<${Stat} label="Redelivered" sub=${body.redelivered > 0 ? 'came back to be delivered' : 'none now'}>${rate(body.redelivered)}<small>/s</small><//>
</dl>
<div class="cols"><section class="card"><${Title} name="Message rates" note="per second"/><${Chart} address=${OVERVIEW} lines=${[['in', 'In'], ['out', 'Out']]} pad=${34} label=${`Messages a second: in ${rate(body.in)}, out ${rate(body.out)}`}/></section>
<section class="card"><${Title} name="Queued messages" note="all queues"/><${Chart} address=${OVERVIEW} lines=${[['ready', 'Ready'], ['unacknowledged', 'Unacked']]} fill label=${`Messages: ${count(body.ready)} ready, ${count(body.unacknowledged)} unacknowledged`}/></section></div>
<div class="cols"><section class="card"><${Title} name="Latency" note="slowest queue; bar from p50 to p99, log scale"/><dl class="meters">${[['Time in queue', body.time_in_queue], ['Deliver to ack', body.time_to_ack]].map(([name, it]) => html`<dt>${name} <span class="faint">${slow(it)}</span></dt><dd><${Range} p50=${it?.p50_ms ?? 0} p99=${it?.p99_ms} cls=${late(it) ? 'warn' : ''}/></dd><dd class="num">${it ? html`${span(it.p50_ms)} <span class="faint">to</span> <span class=${late(it) ? 'warn' : ''}>${span(it.p99_ms)}</span>` : html`<span class="faint">nothing yet</span>`}</dd>`)}</dl></section>
${body.memory_used != null && html`<section class="card"><${Title} name="Node" sub=${body.node} note=${body.disk_limit ? `publishers stop at ${bytes(body.disk_limit)} free` : ''}/><dl class="meters">
<dt>Disk free</dt><dd>${body.disk_free != null && html`<${Meter} part=${body.disk_limit / body.disk_free} cls=${body.disk_free < 2 * body.disk_limit ? 'bad' : ''}/>`}</dd><dd class="num">${body.disk_free == null ? html`<span class="faint">nothing durable</span>` : html`${bytes(body.disk_free)} <span class="faint">needs ${bytes(body.disk_limit)}</span>`}</dd>
<dt>Memory</dt><dd><${Meter} part=${body.memory_used / body.memory_total}/></dd><dd class="num">${bytes(body.memory_used)} <span class="faint">of ${bytes(body.memory_total)}</span></dd>
<dt>Connections</dt><dd><${Meter} part=${body.connections / body.sockets_total}/></dd><dd class="num">${count(body.connections)} <span class="faint">of ${count(body.sockets_total)}</span></dd>
<dt>Descriptors</dt><dd><${Meter} part=${body.descriptors_used / body.descriptors_total} cls=${body.descriptors_used > 0.8 * body.descriptors_total ? 'warn' : ''}/></dd><dd class="num">${count(body.descriptors_used)} <span class="faint">of ${count(body.descriptors_total)}</span></dd></dl></section>`}</div><//>`;
}
const Title = ({name, sub, note}) => html`<div class="head"><h2>${name}</h2>${sub && html`<span class="faint small">${sub}</span>`}<span class="grow"></span><span class="faint small">${note}</span></div>`;
