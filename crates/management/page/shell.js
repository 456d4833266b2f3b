// What stands around each view: where one can go, what is searched, how live it is.
import {html, useEffect, useState, computed} from './lib.js';
import {user, is, link, pause, askNow, logOut, useLive} from './api.js';
import {route, view, to, go} from './router.js';
import {count, clock, span} from './format.js';
import {range, setRange} from './history.js';
import {Hare, Glass, Mark, Seg, dialog, Toasts} from './parts.js';
import {palette} from './palette.js';
import {keysSheet, turnTheme} from './keys.js';

export const OVERVIEW = '/api/leveret/overview';
export const vhost = computed(() => route.value.query.get('vhost') || sessionStorage.getItem('leveret.vhost') || '');
const setVhost = (name) => {
  sessionStorage.setItem('leveret.vhost', name);
  const query = new URLSearchParams(route.value.query);
  query.delete('vhost');
  query.delete('page');
  if (name) query.set('vhost', name);
  go(`#/${route.value.parts.slice(0, 1).join('/')}${String(query) ? `?${query}` : ''}`);
};

const places = () => [
  ['', [['overview', 'Overview', []]]],
  ['Messages', [
    ['queues', 'Queues', ['queues'], 'queues'],
    ['exchanges', 'Exchanges', ['exchanges'], 'exchanges'],
    ['topology', 'Topology', ['topology']],
    ['streams', 'Streams', ['streams'], 'streams'],
    ['dead-letters', 'Dead letters', ['dead-letters'], 'dead_letters'],
    ['delayed', 'Delayed', ['delayed']],
  ]],
  ['Clients', [
    ['connections', 'Connections', ['connections'], 'connections'],
    ['channels', 'Channels', ['channels'], 'channels'],
    ['consumers', 'Consumers', ['consumers'], 'consumers'],
  ]],
  ['Admin', [
    is('policymaker') && ['policies', 'Policies', ['policies']],
    is() && ['users', 'Users', ['users']],
    is() && ['vhosts', 'Virtual hosts', ['vhosts']],
    is() && ['limits', 'Limits', ['limits']],
    is() && ['definitions', 'Definitions', ['definitions']],
    is() && ['audit', 'Audit log', ['audit']],
    is('monitoring') && ['nodes', 'Node', ['nodes']],
  ].filter(Boolean)],
];

const Side = ({body, current}) => html`<nav class="side" aria-label="Main"><a class="brand" href="#/"><${Hare}/>Leveret</a>
${body && body.vhosts.length > 1 && html`<label class="vhost"><span class="faint">vhost</span><select aria-label="Virtual host" value=${vhost.value} onChange=${(event) => setVhost(event.target.value)}><option value="">all</option>${body.vhosts.map((name) => html`<option value=${name} selected=${name === vhost.value}>${name}</option>`)}</select></label>`}
${places().map(([group, items]) => items.length > 0 && html`${group && html`<h2>${group}</h2>`}${items.map(([name, text, parts, field]) => {
  const number = field && body?.[field];
  return html`<a href=${to(...parts)} aria-current=${name === current ? 'page' : undefined}>${text}${number != null && html`<span class=${name === 'dead-letters' && number ? 'warn' : ''}>${count(number)}</span>`}</a>`;
})}`)}
<div class="foot">${body?.node || ''}${body && html` · up ${span(body.uptime_ms) === '–' || body.uptime_ms < 60000 ? 'under 1 min' : span(body.uptime_ms)}`}<br/>${user.value.name}${user.value.tags[0] ? ` · ${user.value.tags[0]}` : ''}<br/><button type="button" class="plain" onClick=${turnTheme}>Theme</button> · <button type="button" class="plain" onClick=${keysSheet}>Keys</button> · <button type="button" class="plain" onClick=${logOut}>Log out</button></div></nav>`;

const icons = {
  overview: 'M3 11 10 4l7 7M5 9.5V16h10V9.5',
  queues: 'M3 5h14M3 10h14M3 15h9',
  topology: 'M6.3 9l7.4-3.7M6.3 11l7.4 3.7M4.5 8a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM15.5 2.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4zM15.5 13.5a2 2 0 1 0 0 4 2 2 0 0 0 0-4z',
  'dead-letters': 'M3 6h14v9H3zM3 6l7 5 7-5',
  more: 'M3.5 10h1M9.5 10h1M15.5 10h1',
};
const Bottom = ({current}) => html`<nav class="bottom" aria-label="Main, phone">${[['overview', 'Overview', to()], ['queues', 'Queues', to('queues')], ['topology', 'Topology', to('topology')], ['dead-letters', 'Dead letters', to('dead-letters')], ['more', 'More', to('more')]].map(([name, text, href]) => html`<a href=${href} aria-current=${name === current ? 'page' : undefined}><svg viewBox="0 0 20 20" aria-hidden="true"><path d=${icons[name]}/></svg>${text}</a>`)}</nav>`;

export const More = () => html`<div class="panel more">${places().map(([group, items]) => items.length > 0 && html`${group && html`<h2>${group}</h2>`}${items.map(([, text, parts]) => html`<a href=${to(...parts)}>${text}</a>`)}`)}<h2>${user.value.name}</h2><button type="button" class="plain" onClick=${turnTheme}>Theme</button><button type="button" class="plain" onClick=${logOut}>Log out</button></div>`;

function Live() {
  const {state, at, retry} = link.value;
  const [, again] = useState(0);
  useEffect(() => {
    if (state !== 'lost') return undefined;
    const timer = setInterval(() => again((n) => n + 1), 1000);
    return () => clearInterval(timer);
  }, [state]);
  if (state === 'paused') return html`<button type="button" class="live" title="Go on (Space)" onClick=${pause}><${Mark} is="pause"/>Paused ${clock(at)}</button>`;
  if (state === 'lost') return html`<button type="button" class="live warn" onClick=${askNow}><${Mark} is="up"/><span>Numbers are from ${clock(at)}<span class="desk">, asking again in ${Math.max(0, Math.ceil((retry - Date.now()) / 1000))} s</span></span> <u>Ask now</u></button>`;
  return html`<button type="button" class="live" title="Pause (Space)" onClick=${pause}><i></i>Live</button>`;
}

// `title`: text, or what leads to it as [[text, hash], ..., text]
export function Shell({title, ranges, children}) {
  const seen = useLive(OVERVIEW);
  const body = seen?.status === 200 ? seen.body : undefined;
  const crumbs = Array.isArray(title) ? title : [title];
  const plain = crumbs.at(-1);
  const current = view.value;
  useEffect(() => {
    document.title = `${plain} · Leveret`;
  }, [plain]);
  return html`<a class="skip" href="#main" onClick=${(event) => {
    event.preventDefault();
    document.getElementById('main').focus();
  }}>To the content</a><div class="app"><${Side} body=${body} current=${current}/><div class="main"><header class="top"><h1>${crumbs.slice(0, -1).map(([text, hash]) => html`<a class="desk" href=${hash}>${text}</a><span class="desk faint" aria-hidden="true">/</span>`)}<span>${plain}</span></h1><span class="grow"></span>
${ranges && html`<span class="desk"><${Seg} label="Time range" options=${[['10min', '10 min'], ['1h', '1 h'], ['24h', '24 h']]} value=${range.value} onChange=${setRange}/></span>`}
<button type="button" class="jump desk" onClick=${palette}><${Glass}/><span>Search or jump to</span><kbd>Ctrl K</kbd></button><button type="button" class="btn quiet sq phone" aria-label="Search or jump to" onClick=${palette}><${Glass}/></button><${Live}/></header>
<main id="main" tabindex="-1" class=${link.value.state === 'lost' ? 'stale' : ''}>${children}</main></div></div><${Bottom} current=${current}/>${dialog.value}<${Toasts}/>`;
}
