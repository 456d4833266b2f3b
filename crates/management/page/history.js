// What the charts show: samples that the broker keeps, and what this tab has seen since.
import {get, onEvent, link} from './api.js';
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

// What the broker has kept since before this tab looked, in RabbitMQ's form: the newest first, messages counted from the
// start, of which rates are made.
const steps = {'10min': 5, '1h': 30, '24h': 600};
const before = new Map(); // address and range -> [{t, ...numbers}]
export async function seed(address) {
  const name = range.value;
  const [age, step] = [ranges[name], steps[name]];
  const at = address === '/api/leveret/overview' ? '/api/overview' : address.replace('/api/leveret/', '/api/');
  const asked = `lengths_age=${age}&lengths_incr=${step}&msg_rates_age=${age}&msg_rates_incr=${step}`;
  const said = await get(`${at}?${asked}&columns=queue_totals,message_stats,messages_ready_details,messages_unacknowledged_details`).catch(() => ({}));
  const depths = said.queue_totals || said;
  const series = {
    ready: depths.messages_ready_details?.samples, unacknowledged: depths.messages_unacknowledged_details?.samples,
    in: rates(said.message_stats?.publish_details?.samples), out: rates(said.message_stats?.deliver_get_details?.samples),
  };
  const points = new Map();
  for (const [field, samples] of Object.entries(series)) {
    for (const {timestamp, sample} of samples || []) {
      const t = timestamp / 1000;
      points.set(t, {...points.get(t), t, [field]: sample});
    }
  }
  if (!points.size) return;
  before.set(`${address} ${name}`, [...points.values()].sort((one, other) => one.t - other.t));
  if (before.size > 20) before.delete(before.keys().next().value);
  tick.value++;
}
const rates = (samples) => samples?.slice(0, -1).map((it, at) => ({timestamp: it.timestamp, sample: Math.max(0, it.sample - samples[at + 1].sample) / ((it.timestamp - samples[at + 1].timestamp) / 1000)}));

// Columns for a chart: times, then one of each name. A gap of more than three samples is a gap.
export function columns(address, names) {
  const from = Date.now() / 1000 - ranges[range.value];
  const own = (lines.get(address) || []).filter((point) => point.t >= from);
  const old = (before.get(`${address} ${range.value}`) || []).filter((point) => point.t >= from && (!own.length || point.t < own[0].t - 1));
  const points = [...old, ...own];
  const out = [[], ...names.map(() => [])];
  let earlier = 0;
  for (const point of points) {
    const gap = own.length && earlier >= own[0].t ? 16 : 3 * steps[range.value];
    if (earlier && point.t - earlier > Math.max(16, gap)) {
      out[0].push(earlier + 1);
      names.forEach((_, at) => out[at + 1].push(null));
    }
    earlier = point.t;
    out[0].push(point.t);
    names.forEach((name, at) => out[at + 1].push(point[name] ?? null));
  }
  return out;
}
