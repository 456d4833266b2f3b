// The broker's API, and the one stream by which this tab is told what it shows.
import {signal, useEffect, effect} from './lib.js';

export const user = signal(undefined); // undefined: not known yet; null: nobody
export const is = (...tags) => !!user.value && user.value.tags.some((tag) => tag === 'administrator' || tags.includes(tag));
export const path = (...parts) => `/api/${parts.map(encodeURIComponent).join('/')}`;

const own = {'x-leveret': 'page'};

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

// What cannot be reached is told as what the broker refuses.
export async function ask(method, address, body) {
  let answer;
  try {
    answer = await fetch(address, {
      method,
      headers: body === undefined ? own : {...own, 'content-type': 'application/json'},
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
    });
  } catch {
    throw new Refused(0, 'the broker does not answer');
  }
  const text = await answer.text();
  let said = null;
  try {
    said = text && JSON.parse(text);
  } catch {
    said = {reason: text};
  }
  if (answer.ok) return said;
  if (answer.status === 401 && said?.error === 'not_authorized' && user.value) user.value = null;
  throw new Refused(answer.status, said?.reason || `HTTP ${answer.status}`);
}
export const get = (address) => ask('GET', address);

export async function logIn(name, password) {
  user.value = await ask('POST', '/api/leveret/login', {name, password});
}
export async function logOut() {
  await ask('DELETE', '/api/leveret/login');
  user.value = null;
}
export const whoAmI = async () => {
  try {
    user.value = await get('/api/leveret/login');
  } catch (error) {
    user.value = null;
    if (error.status !== 401) link.value = {...link.value, state: 'lost', retry: Date.now() + 4000};
  }
};

// How the stream is: live, paused (by whoever looks), lost (since `at`, asked again at `retry`).
export const link = signal({state: 'live', at: Date.now(), retry: 0});
const seen = new Map(); // address -> signal of {status, body}
const wanted = new Map(); // who wants it -> [seconds, address]
const heard = new Set(); // told of each event

const cell = (address) => {
  if (!seen.has(address)) {
    if (seen.size > 200) seen.delete(seen.keys().next().value);
    seen.set(address, signal(undefined));
  }
  return seen.get(address);
};
export const onEvent = (listener) => {
  heard.add(listener);
  return () => heard.delete(listener);
};

// What is at an address, as it is now and changes: undefined until it is known, then {status, body}.
export function useLive(address, seconds = 1) {
  useEffect(() => {
    if (!address) return undefined;
    const me = {};
    wanted.set(me, [seconds, address]);
    reopen();
    return () => {
      wanted.delete(me);
      reopen();
    };
  }, [address, seconds]);
  return address ? cell(address).value : undefined;
}
// Looks at once, after a change was made.
export const refresh = () => reopen(true);

let stream = null; // the AbortController of the one that is open
let open = '';
let timer = 0;
let failures = 0;

function reopen(always) {
  clearTimeout(timer);
  timer = setTimeout(() => start(always), 0);
}

function start(always) {
  clearTimeout(timer);
  const asked = [...new Map([...wanted.values()].map(([every, address]) => [address, every]))].slice(0, 8);
  const query = asked.map(([address, every]) => `${every}=${encodeURIComponent(address)}`).join('&');
  if (query === open && stream && !always) return;
  stream?.abort();
  stream = null;
  open = '';
  if (!query || !user.value || link.value.state === 'paused' || hidden) return;
  open = query;
  stream = new AbortController();
  follow(query, asked.map(([address]) => address), stream);
}

async function follow(query, addresses, mine) {
  const begun = Date.now();
  let guard;
  // The broker says something every 5 s.
  const watch = () => {
    clearTimeout(guard);
    guard = setTimeout(() => mine.abort(), 9000);
  };
  try {
    watch();
    const answer = await fetch(`/api/leveret/live?${query}`, {headers: own, signal: mine.signal});
    if (answer.status === 401) {
      user.value = null;
      return;
    }
    if (!answer.ok) throw new Error();
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    for (;;) {
      const {value, done} = await reader.read();
      if (done) break;
      watch();
      failures = 0;
      if (stream === mine) link.value = {state: 'live', at: Date.now(), retry: 0};
      const events = (rest + value).split('\n\n');
      rest = events.pop();
      for (const event of events) {
        const said = /^event: (\d+)\ndata: (.*)$/.exec(event);
        if (!said) continue;
        const data = JSON.parse(said[2]);
        const address = addresses[+said[1]];
        cell(address).value = data;
        for (const listener of heard) listener(address, data);
      }
    }
  } catch {
    // Told below, unless this stream was given up for another.
  }
  clearTimeout(guard);
  if (stream !== mine) return;
  stream = null;
  open = '';
  if (Date.now() - begun > 30000 && !mine.signal.aborted) return reopen();
  const wait = Math.min(30, 2 ** failures++) * 1000;
  link.value = {state: 'lost', at: link.value.at, retry: Date.now() + wait};
  timer = setTimeout(start, wait);
}

export function pause() {
  const paused = link.value.state === 'paused';
  link.value = {state: paused ? 'live' : 'paused', at: Date.now(), retry: 0};
  reopen();
}
export const askNow = () => (user.value === null ? whoAmI() : start(true));

let hidden = false;
let hiding = 0;
document.addEventListener('visibilitychange', () => {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      hidden = true;
      start();
    }, 30000);
  } else {
    hidden = false;
    start();
  }
});
effect(() => {
  if (user.value) reopen();
});
