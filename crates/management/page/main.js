// The page: who is it, where is it, and what stands there.
import {html, render, useEffect, useRef} from './lib.js';
import {user, whoAmI} from './api.js';
import {route} from './router.js';
import './history.js';
import './keys.js';
import {Shell, More} from './shell.js';
import {Empty} from './parts.js';
import {Login} from './views/login.js';
import {Overview} from './views/overview.js';
import {Queues} from './views/queues.js';
import {Queue} from './views/queue.js';
import {DeadLetters} from './views/dead.js';
import {Definitions} from './views/definitions.js';
import {Delayed} from './views/delayed.js';
import {Exchanges, Topology} from './views/exchanges.js';
import {Audit, Node} from './views/node.js';
import {Limits, Policies, Users, Vhosts} from './views/admin.js';
import {AllConsumers, Channel, Channels, Connection, Connections} from './views/clients.js';

const views = {
  overview: () => html`<${Overview}/>`,
  queues: ([, vhost, name]) => (name === undefined ? html`<${Queues} key="queues"/>` : html`<${Queue} key=${`${vhost}\n${name}`} vhost=${vhost} name=${name}/>`),
  streams: () => html`<${Queues} key="streams" only="stream"/>`,
  exchanges: ([, vhost, name]) => (name === undefined ? html`<${Exchanges} key="exchanges"/>` : html`<${Topology} key=${`${vhost}\n${name}`} vhost=${vhost} name=${name} plain/>`),
  topology: ([, vhost, name]) => (name === undefined ? html`<${Exchanges} key="topology" topology/>` : html`<${Topology} key=${`${vhost}\n${name}`} vhost=${vhost} name=${name}/>`),
  'dead-letters': () => html`<${DeadLetters}/>`,
  delayed: () => html`<${Delayed}/>`,
  policies: () => html`<${Policies}/>`,
  users: () => html`<${Users}/>`,
  vhosts: () => html`<${Vhosts}/>`,
  limits: () => html`<${Limits}/>`,
  definitions: () => html`<${Definitions}/>`,
  audit: () => html`<${Audit}/>`,
  nodes: () => html`<${Node}/>`,
  'feature-flags': () => html`<${Node}/>`,
  connections: ([, name]) => (name === undefined ? html`<${Connections}/>` : html`<${Connection} key=${name} name=${name}/>`),
  channels: ([, name]) => (name === undefined ? html`<${Channels}/>` : html`<${Channel} key=${name} name=${name}/>`),
  consumers: () => html`<${AllConsumers}/>`,
  more: () => html`<${Shell} title="More"><${More}/><//>`,
};

function Page() {
  const before = useRef('');
  const {parts} = route.value;
  const at = parts.join('\n');
  useEffect(() => scrollTo(0, 0), [at]);
  if (user.value === undefined) return null;
  if (user.value === null) return html`<${Login} before=${before.current}/>`;
  before.current = user.value.name;
  const show = views[parts[0] || 'overview'];
  return show ? show(parts) : html`<${Shell} title="Nothing here"><div class="panel"><${Empty} title="There is no such view">The address may be of another version.<//></div><//>`;
}

const root = document.createElement('div');
root.id = 'root';
document.body.append(root);
render(html`<${Page}/>`, root);
whoAmI();
