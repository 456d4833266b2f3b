// The node, and what was done on it.
import {html} from '../lib.js';
import {useLive} from '../api.js';
import {bytes, clock, count, span} from '../format.js';
import {OVERVIEW, Shell} from '../shell.js';
import {Empty, Facts, Head, Meter, Missing, Table} from '../parts.js';

export function Node() {
  const live = useLive('/api/nodes', 5);
  const seen = useLive(OVERVIEW);
  const about = useLive('/api/overview?columns=listeners,rabbitmq_version,product_version,cluster_name,exchange_types', 30);
  const flags = useLive('/api/feature-flags', 60);
  const it = live?.status === 200 ? live.body[0] : undefined;
  if (!it) return html`<${Shell} title="Node"><${Missing} live=${live} what="The node"/><//>`;
  const more = about?.status === 200 ? about.body : {};
  const used = (part, of, shown = count, cls = '') => html`<dd><${Meter} part=${part / of} cls=${cls}/></dd><dd class="num">${shown(part)} <span class="faint">of ${shown(of)}</span></dd>`;
  return html`<${Shell} title=${['Node', it.name].slice(0, 1)}>
<div class="cols"><section class="card"><${Head} title="Takes" note=${it.name}/><dl class="meters"><dt>Memory</dt>${used(it.mem_used, it.mem_limit, bytes)}<dt>Descriptors</dt>${used(it.fd_used, it.fd_total, count, it.fd_used > 0.8 * it.fd_total ? 'warn' : '')}<dt>Connections</dt>${used(it.sockets_used, it.sockets_total)}${it.disk_free != null && html`<dt>Disk free</dt><dd><${Meter} part=${it.disk_free_limit / it.disk_free} cls=${it.disk_free < 2 * it.disk_free_limit ? 'bad' : ''}/></dd><dd class="num">${bytes(it.disk_free)} <span class="faint">needs ${bytes(it.disk_free_limit)}</span></dd>`}</dl></section>
<section class="card"><${Head} title="Is"/><${Facts} rows=${[['Up', span(it.uptime)], ['Version', seen?.body?.version || more.product_version], ['Told to clients as', `RabbitMQ ${more.rabbitmq_version || ''}`], ['Process', it.os_pid], ['Processors', count(it.processors)], ['Publishers', it.mem_alarm || it.disk_free_alarm ? 'wait' : 'are taken', null, it.mem_alarm || it.disk_free_alarm ? 'bad' : '']]}/></section></div>
<div class="cols"><section><${Head} title="Listens at"/><div class="panel">${more.listeners?.length ? html`<${Table} caption="Listeners" cards=${false} rows=${more.listeners} id=${(row) => `${row.ip_address} ${row.port}`} columns=${[{label: 'Protocol', of: (row) => row.protocol}, {label: 'Address', cls: 'name mono', of: (row) => row.ip_address}, {label: 'Port', num: true, of: (row) => String(row.port)}]}/>` : html`<${Empty} title="Not told"/>`}</div></section>
<section><${Head} title="Feature flags" note="all are on"/><div class="panel flags" tabindex="0" role="group" aria-label="Feature flags">${flags?.status === 200 ? html`<ul class="walk small">${flags.body.map((flag) => html`<li><span class="mono">${flag.name}</span> <span class="faint">${flag.desc}</span></li>`)}</ul>` : html`<${Empty} title="Not told"/>`}</div></section></div><//>`;
}

export function Audit() {
  const live = useLive('/api/leveret/audit', 5);
  const all = live?.status === 200 ? live.body.items || live.body : undefined;
  const missing = live && [404, 501].includes(live.status);
  return html`<${Shell} title="Audit log">${missing ? html`<div class="panel"><${Empty} title="The audit log is in the broker's log">Each administrative change is a line there: who, from where, what, and whether it was done.<//></div>` : !all ? html`<${Missing} live=${live} what="The audit log"/>` : html`<div class="panel">${all.length ? html`<${Table} caption="Changes, the latest first" rows=${all} id=${(it) => `${it.at} ${it.what}`} columns=${[{label: 'When', of: (it) => clock(it.at)}, {label: 'Who', phone: true, of: (it) => it.user}, {label: 'From', cls: 'mono desk', of: (it) => it.from}, {label: 'What', cls: 'name', of: (it) => it.what}, {label: 'Done', cls: 'state', of: (it) => (it.done ? 'done' : html`<span class="chip c-warn">refused</span>`)}]}/>` : html`<${Empty} title="Nothing was changed yet"/>`}</div>`}<//>`;
}
