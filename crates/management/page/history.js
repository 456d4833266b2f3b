// What the charts show: samples that the broker keeps, and what this tab has seen since.
import {onEvent, link} from './api.js';
import {signal} from './lib.js';

const EVERY = 5000;
const KEPT = 17280; // a day
const lines = new Map(); // address -> [{t, ...numbers}]
const last = new Map(); // address -> the numbers now
export const tick = signal(0);
export const range = signal(localStorage.getItem('leveret.range') || '1h');
export const ranges = {'10min': 600, '1h': 3600, '24h': 86400};
export const setRange = (name) => {
  range.value = name;
  localStorage.setItem('leveret.range', name);
};

onEvent((address, {status, body}) => {
  if (status !== 200 || !address.startsWith('/api/leveret/') || typeof body?.ready !== 'number') return;
  const {ready, unacknowledged} = body;
  const point = {ready, unacknowledged, in: body.in, out: body.out};
  if (!last.has(address)) add(address, point);
  last.set(address, point);
});
function add(address, point) {
  if (!lines.has(address)) lines.set(address, []);
  const line = lines.get(address);
  line.push({t: Date.now() / 1000, ...point});
  if (line.length > KEPT) line.shift();
}
setInterval(() => {
  if (link.value.state !== 'live') {
    last.clear();
    return;
  }
  for (const [address, point] of last) add(address, point);
  if (last.size) tick.value++;
  if (last.size > 20) last.delete(last.keys().next().value);
}, EVERY);

// Columns for a chart: times, then one of each name. A gap of more than three samples is a gap.
export function columns(address, names) {
  const from = Date.now() / 1000 - ranges[range.value];
  const points = (lines.get(address) || []).filter((point) => point.t >= from);
  const out = [[], ...names.map(() => [])];
  let before = 0;
  for (const point of points) {
    if (before && point.t - before > 16) {
      out[0].push(before + 1);
      names.forEach((_, at) => out[at + 1].push(null));
    }
    before = point.t;
    out[0].push(point.t);
    names.forEach((name, at) => out[at + 1].push(point[name] ?? null));
  }
  return out;
}
