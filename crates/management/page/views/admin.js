// What an administrator sets: policies, users, virtual hosts, limits.
import {html, useEffect, useState} from '../lib.js';
import {ask, get, is, path, refresh, useLive, user} from '../api.js';
import {count, plural} from '../format.js';
import {route, setQuery, to} from '../router.js';
import {Shell, vhost} from '../shell.js';
import {Empty, Head, Menu, Missing, Table, confirm, deed, sheet, toast} from '../parts.js';
import {parseArguments} from './deeds.js';

const rows = (live) => (live?.status === 200 ? live.body.items || live.body : undefined);
const lines = (it) => Object.entries(it || {}).map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`);
const vhostOptions = async () => (await get('/api/vhosts?columns=name')).map((it) => [it.name, it.name]);

// Which queues a policy would take, before it is saved.
function Matches({values}) {
  const [said, setSaid] = useState(null);
  useEffect(() => {
    if (!values.pattern) {
      setSaid(null);
      return undefined;
    }
    let current = true;
    const timer = setTimeout(async () => {
      try {
        const filter = encodeURIComponent(`/${values.pattern.replaceAll(' ', '\\s')}/`);
        const found = await get(`/api/leveret/queues?vhost=${encodeURIComponent(values.vhost)}&filter=${filter}&page=1&page_size=6&sort=name`);
        if (current) setSaid(found);
      } catch (error) {
        if (current) setSaid({wrong: error.message});
      }
    }, 150);
    return () => {
      current = false;
      clearTimeout(timer);
    };
  }, [values.pattern, values.vhost]);
  if (!said || values.to === 'exchanges') return html`<p class="dim small" aria-live="polite">${values.to === 'exchanges' ? '' : 'Type a pattern to see which queues it takes.'}</p>`;
  if (said.wrong) return html`<p class="wrong small">${said.wrong}</p>`;
  return html`<div class="small" aria-live="polite"><b>${plural(said.filtered_count, 'queue')}</b> <span class="dim">of ${count(said.total_count)} would match${said.items.length ? `: ${said.items.map((it) => it.name).join(', ')}${said.filtered_count > said.items.length ? ' …' : ''}` : ''}</span></div>`;
}

async function editPolicy(kind, it) {
  const operator = kind === 'operator-policies';
  const vhosts = await vhostOptions();
  sheet({
    title: it ? `Policy ${it.name}` : operator ? 'New operator policy' : 'New policy', word: 'Save', extra: Matches,
    fields: [{name: 'name', label: 'Name', required: true, value: it?.name, fixed: !!it}, {name: 'vhost', label: 'Virtual host', kind: 'choice', options: vhosts, value: it?.vhost || vhost.value || '/'}, {name: 'pattern', label: 'Pattern, a regular expression on names', kind: 'mono', required: true, value: it?.pattern ?? '^'}, {name: 'to', label: 'Applies to', kind: 'choice', value: it?.['apply-to'] || 'queues', options: (operator ? ['queues', 'classic_queues', 'quorum_queues', 'streams'] : ['queues', 'classic_queues', 'quorum_queues', 'streams', 'exchanges', 'all']).map((name) => [name, name.replace('_', ' ')])}, {name: 'priority', label: 'Priority, the highest wins', kind: 'number', value: String(it?.priority ?? 0)}, {name: 'definition', label: 'What it sets, one a line', kind: 'long', value: lines(it?.definition).join('\n'), hint: 'message-ttl=600000, max-length=100000, dead-letter-exchange=dlx'}],
    work: async (values) => {
      await ask('PUT', path(kind, values.vhost, values.name), {pattern: values.pattern, 'apply-to': values.to, priority: Number(values.priority), definition: parseArguments(values.definition)});
      toast(html`Policy <b>${values.name}</b> is in force`);
      refresh();
    },
  });
}
const dropPolicy = (kind, it) => confirm({
  title: `Delete policy ${it.name}`, name: it.name, deed: 'Delete the policy', text: `What it sets (${lines(it.definition).join(', ')}) is no more in force in any queue or exchange that matches ${it.pattern}.`,
  work: () => deed(html`Policy <b>${it.name}</b> is deleted`, async () => {
    await ask('DELETE', path(kind, it.vhost, it.name));
    refresh();
  }),
});

function PolicyList({kind, title, may}) {
  const live = useLive(vhost.value ? path(kind, vhost.value) : path(kind), 5);
  const all = rows(live);
  return html`<section><${Head} title=${title}>${may && html`<button type="button" class="btn" onClick=${() => editPolicy(kind)}>New</button>`}<//>${!all ? html`<${Missing} live=${live} what=${title}/>` : html`<div class="panel">${all.length ? html`<${Table} caption=${title} rows=${all} id=${(it) => `${it.vhost}\n${it.name}`} open=${may ? (it) => editPolicy(kind, it) : undefined} columns=${[
    {label: 'Name', cls: 'name', of: (it) => html`<b class="strong">${it.name}</b><span class="tag">${it.vhost}</span>`},
    {label: 'Pattern', cls: 'mono', phone: true, of: (it) => it.pattern},
    {label: 'Applies to', phone: true, of: (it) => it['apply-to']},
    {label: 'Sets', cls: 'mono desk', of: (it) => lines(it.definition).join(', ')},
    {label: 'Priority', num: true, phone: true, of: (it) => count(it.priority)},
    may && {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (it) => html`<${Menu} cls="btn quiet sq" label=${`Do with ${it.name}`} items=${[['Edit', () => editPolicy(kind, it)], ['Delete', () => dropPolicy(kind, it), true]]}>⋯<//>`},
  ].filter(Boolean)}/>` : html`<${Empty} title=${`No ${title.toLowerCase()} yet`}>${kind === 'policies' ? 'A policy sets limits, times to live and dead letters of all queues whose names match.' : 'An operator policy caps what policies and arguments may ask for.'}<//>`}</div>`}</section>`;
}
export const Policies = () => html`<${Shell} title="Policies"><${PolicyList} kind="policies" title="Policies" may=${is('policymaker')}/><${PolicyList} kind="operator-policies" title="Operator policies" may=${is()}/><//>`;

const tags = ['administrator', 'monitoring', 'policymaker', 'management', 'impersonator'];
const editUser = (it) => sheet({
  title: it ? `User ${it.name}` : 'New user', word: 'Save',
  fields: [{name: 'name', label: 'Name', required: true, value: it?.name, fixed: !!it}, {name: 'password', label: it ? 'New password; empty: it stays' : 'Password', kind: 'password', required: !it}, {name: 'tag', label: 'What it may do on this page', kind: 'choice', value: it ? it.tags[0] || '' : '', options: [['', 'nothing: AMQP alone'], ...tags.map((tag) => [tag, tag])]}, ...(it ? [] : [{name: 'grant', label: 'May do everything in the virtual host /', kind: 'flag', value: true}])],
  work: async ({name, password, tag, grant}) => {
    const rest = (it?.tags || []).slice(1);
    await ask('PUT', path('users', name), {...(password ? {password} : {password_hash: it.password_hash, hashing_algorithm: it.hashing_algorithm}), tags: [tag, ...rest].filter(Boolean).join(',')});
    if (grant) await ask('PUT', path('permissions', '/', name), {configure: '.*', write: '.*', read: '.*'});
    toast(html`User <b>${name}</b> is saved`);
    refresh();
  },
});
async function editPermission(name, it) {
  const vhosts = await vhostOptions();
  sheet({
    title: `What ${name} may do`, word: 'Save', intro: 'Each is a regular expression on the names of queues and exchanges; empty: none.',
    fields: [{name: 'vhost', label: 'Virtual host', kind: 'choice', options: vhosts, value: it?.vhost || '/'}, ...['configure', 'write', 'read'].map((field) => ({name: field, label: {configure: 'Configure: declare and delete', write: 'Write: publish and bind to', read: 'Read: consume and bind from'}[field], kind: 'mono', value: it ? it[field] : '.*'}))],
    work: async ({vhost: where, ...permission}) => {
      await ask('PUT', path('permissions', where, name), permission);
      refresh();
    },
  });
}
const dropUser = (it) => confirm({
  title: `Delete user ${it.name}`, name: it.name, deed: 'Delete the user', text: 'It can not log in any more, and its permissions are gone.',
  work: () => deed(html`User <b>${it.name}</b> is deleted`, async () => {
    await ask('DELETE', path('users', it.name));
    refresh();
  }),
});
export function Users() {
  const live = useLive('/api/users', 5);
  const granted = useLive('/api/permissions', 5);
  const all = rows(live);
  const wanted = route.value.query.get('do');
  useEffect(() => {
    if (wanted !== 'new') return;
    setQuery({do: ''});
    editUser();
  }, [wanted]);
  const of = (name) => (rows(granted) || []).filter((it) => it.user === name);
  return html`<${Shell} title="Users"><div class="tools"><span class="grow"></span><button type="button" class="btn main" onClick=${() => editUser()}>New user</button></div>${!all ? html`<${Missing} live=${live} what="Users"/>` : html`<div class="panel"><${Table} caption="Users" rows=${all} id=${(it) => it.name} open=${editUser} columns=${[
    {label: 'Name', cls: 'name', of: (it) => html`<b class="strong">${it.name}</b>`},
    {label: 'May do here', phone: true, of: (it) => it.tags.join(', ') || '–'},
    {label: 'Password', phone: true, of: (it) => (it.password_hash ? 'set' : 'none')},
    {label: 'Permissions', cls: 'perms', of: (it) => (of(it.name).length ? of(it.name).map((grant) => html`<button type="button" class="plain" onClick=${() => editPermission(it.name, grant)}>${grant.vhost} <span class="mono faint">${[grant.configure, grant.write, grant.read].map((text) => text || '–').join('  ')}</span></button>`) : html`<span class="faint">in no virtual host</span>`)},
    {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (it) => html`<${Menu} cls="btn quiet sq" label=${`Do with ${it.name}`} items=${[['Edit', () => editUser(it)], ['Permissions', () => editPermission(it.name)], ...of(it.name).map((grant) => [`Take ${grant.vhost} away`, () => deed(html`<b>${it.name}</b> may not enter ${grant.vhost} any more`, async () => {
      await ask('DELETE', path('permissions', grant.vhost, it.name));
      refresh();
    }, {label: 'Give back', action: () => deed('', async () => {
      await ask('PUT', path('permissions', grant.vhost, it.name), {configure: grant.configure, write: grant.write, read: grant.read});
      refresh();
    })})]), it.name !== user.value.name && ['Delete', () => dropUser(it), true]]}>⋯<//>`},
  ]}/></div>`}<//>`;
}

const newVhost = () => sheet({
  title: 'New virtual host', word: 'Make it', fields: [{name: 'name', label: 'Name', required: true}, {name: 'type', label: 'Type of queues that do not ask for one', kind: 'choice', value: 'classic', options: [['classic', 'classic'], ['quorum', 'quorum'], ['stream', 'stream']]}],
  work: async ({name, type}) => {
    await ask('PUT', path('vhosts', name), {default_queue_type: type});
    await ask('PUT', path('permissions', name, user.value.name), {configure: '.*', write: '.*', read: '.*'});
    toast(html`<b>${name}</b> is made, and you may do everything in it`);
    refresh();
  },
});
const dropVhost = async (it) => {
  const seen = await get(`/api/leveret/queues?page=1&page_size=1&vhost=${encodeURIComponent(it.name)}`).catch(() => null);
  confirm({
    title: `Delete virtual host ${it.name}`, name: it.name, deed: 'Delete the virtual host', text: `${seen ? `Its ${plural(seen.total_count, 'queue')}` : 'Its queues'} with all messages, its exchanges, bindings, policies and permissions are gone for good; its connections are closed.`,
    work: () => deed(html`<b>${it.name}</b> is deleted`, async () => {
      await ask('DELETE', path('vhosts', it.name));
      refresh();
    }, {failed: 'Not deleted'}),
  });
};
export function Vhosts() {
  const live = useLive('/api/vhosts', 5);
  const all = rows(live);
  return html`<${Shell} title="Virtual hosts"><div class="tools"><span class="grow"></span><button type="button" class="btn main" onClick=${newVhost}>New virtual host</button></div>${!all ? html`<${Missing} live=${live} what="Virtual hosts"/>` : html`<div class="panel"><${Table} caption="Virtual hosts" rows=${all} id=${(it) => it.name} columns=${[
    {label: 'Name', cls: 'name', of: (it) => html`<a href=${`${to('queues')}?vhost=${encodeURIComponent(it.name)}`}>${it.name}</a>`},
    {label: 'Default type', phone: true, of: (it) => (it.default_queue_type && it.default_queue_type !== 'undefined' ? it.default_queue_type : '–')},
    {label: 'Messages', num: true, phone: true, of: (it) => (it.messages == null ? '–' : count(it.messages))},
    {label: 'Traced', phone: true, of: (it) => (it.tracing ? 'yes' : '–')},
    {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (it) => html`<${Menu} cls="btn quiet sq" label=${`Do with ${it.name}`} items=${[[it.tracing ? 'Trace no more' : 'Trace messages', () => deed(it.tracing ? 'Traced no more' : html`Each message of <b>${it.name}</b> is copied to amq.rabbitmq.trace`, async () => {
      await ask('PUT', path('vhosts', it.name), {tracing: !it.tracing});
      refresh();
    })], ['Delete', () => dropVhost(it), true]]}>⋯<//>`},
  ]}/></div>`}<//>`;
}

const limitNames = {'max-connections': 'Connections', 'max-queues': 'Queues', 'max-channels': 'Channels'};
const editLimit = (kind, names) => sheet({
  title: 'Limit', word: 'Save', fields: [{name: 'of', label: kind === 'user-limits' ? 'User' : 'Virtual host', kind: 'choice', options: names.map((name) => [name, name]), value: names[0]}, {name: 'name', label: 'Of what', kind: 'choice', value: 'max-connections', options: (kind === 'user-limits' ? ['max-connections', 'max-channels'] : ['max-connections', 'max-queues']).map((name) => [name, limitNames[name]])}, {name: 'value', label: 'At most', kind: 'number', required: true}],
  work: async ({of, name, value}) => {
    await ask('PUT', path(kind, of, name), {value: Number(value)});
    refresh();
  },
});
function LimitList({kind, title, field, from}) {
  const live = useLive(path(kind), 5);
  const all = rows(live);
  const flat = all?.flatMap((it) => Object.entries(it.value).map(([name, value]) => ({of: it[field], name, value})));
  const add = async () => editLimit(kind, (await get(from)).map((it) => it.name));
  return html`<section><${Head} title=${title}><button type="button" class="btn" onClick=${add}>Set a limit</button><//>${!flat ? html`<${Missing} live=${live} what=${title}/>` : html`<div class="panel">${flat.length ? html`<${Table} caption=${title} rows=${flat} id=${(it) => `${it.of} ${it.name}`} columns=${[{label: 'Of', cls: 'name', of: (it) => html`<b class="strong">${it.of}</b>`}, {label: 'What', phone: true, of: (it) => limitNames[it.name] || it.name}, {label: 'At most', num: true, phone: true, of: (it) => count(it.value)}, {label: html`<span class="sr">Deeds</span>`, cls: 'act', of: (it) => html`<button type="button" class="btn quiet" onClick=${() => deed('No limit any more', async () => {
    await ask('DELETE', path(kind, it.of, it.name));
    refresh();
  }, {label: 'Set again', action: () => deed('', async () => {
    await ask('PUT', path(kind, it.of, it.name), {value: it.value});
    refresh();
  })})}>Lift</button>`}]}/>` : html`<${Empty} title="No limits"/>`}</div>`}</section>`;
}
export const Limits = () => html`<${Shell} title="Limits"><${LimitList} kind="vhost-limits" title="Of virtual hosts" field="vhost" from="/api/vhosts"/><${LimitList} kind="user-limits" title="Of users" field="user" from="/api/users"/><//>`;
