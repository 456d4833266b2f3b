// What x-delayed-message exchanges hold back: the earliest first.
import {html, useState} from '../lib.js';
import {ask, path, refresh, useLive} from '../api.js';
import {bytes, clock, plural, span} from '../format.js';
import '../router.js';
import {Shell, vhost} from '../shell.js';
import {Empty, Head, Missing, Table, confirm, deed} from '../parts.js';
import {newExchange} from './deeds.js';

function Held({it}) {
  const [after, setAfter] = useState('');
  const live = useLive(`${path('exchanges', it.vhost, it.name, 'delayed')}?limit=100${after ? `&after=${after}` : ''}`, 2);
  const body = live?.status === 200 ? live.body : undefined;
  const cancel = (message) => confirm({
    title: `Cancel message ${message.id}`, name: String(message.id), deed: 'Cancel the message', text: `A message of ${bytes(message.body_bytes)}, due ${clock(message.due_at)}, is deleted for good.`,
    work: () => deed('Cancelled', async () => {
      await ask('DELETE', path('exchanges', it.vhost, it.name, 'delayed', String(message.id)));
      refresh();
    }, {failed: 'Not cancelled'}),
  });
  return html`<section><${Head} title=${it.name} note=${body ? plural(body.count, 'message') : ''}>${it.vhost !== '/' && html`<span class="faint small">${it.vhost}</span>`}<//>${!body ? html`<${Missing} live=${live} what=${it.name}/>` : html`<div class="panel">${body.messages.length ? html`<${Table} caption=${`Held by ${it.name}`} rows=${body.messages} id=${(row) => String(row.id)} columns=${[
    {label: 'Due', phone: true, of: (row) => html`<span title=${new Date(row.due_at).toISOString()}>${clock(row.due_at)}</span>`},
    {label: 'In', num: true, phone: true, of: (row) => span(row.delay_left_ms)},
    {label: 'Key', cls: 'name mono', of: (row) => row.routing_key ?? '–'},
    {label: 'Size', num: true, phone: true, of: (row) => (row.body_bytes == null ? '–' : bytes(row.body_bytes))},
    {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (row) => html`<button type="button" class="btn quiet" aria-label=${`Cancel message ${row.id}`} onClick=${() => cancel(row)}>Cancel</button>`},
  ]}/>` : html`<${Empty} title="Nothing is held back"/>`}</div>${(body.next || after) && html`<div class="foot-row"><span></span><span class="pages">${after && html`<button type="button" class="btn quiet" onClick=${() => setAfter('')}>First</button>`}${body.next && html`<button type="button" class="btn quiet" onClick=${() => setAfter(body.next)}>Next</button>`}</span></div>`}`}</section>`;
}

export function Delayed() {
  const live = useLive(`${vhost.value ? path('exchanges', vhost.value) : path('exchanges')}?columns=name,vhost,type,messages_delayed`, 5);
  const all = live?.status === 200 ? live.body.filter((it) => it.messages_delayed != null) : undefined;
  return html`<${Shell} title="Delayed">${!all ? html`<${Missing} live=${live} what="Delayed messages"/>` : all.length ? all.map((it) => html`<${Held} key=${`${it.vhost}\n${it.name}`} it=${it}/>`) : html`<div class="panel"><${Empty} title="No exchange delays messages" action=${html`<button type="button" class="btn" onClick=${() => newExchange(vhost.value)}>New exchange</button>`}>One of type x-delayed-message holds each message for as long as its x-delay header says.<//></div>`}<//>`;
}
