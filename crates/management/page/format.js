// Numbers and times as people read them: one number, one unit.
const whole = new Intl.NumberFormat('en-US', {maximumFractionDigits: 0});

// Three digits that count.
const three = (n) => (n >= 100 ? whole.format(Math.round(n)) : n >= 10 ? String(Math.round(n)) : String(Math.round(n * 10) / 10));

export const count = (n) => (n == null ? '–' : n >= 1e10 ? `${three(n / 1e9)} G` : n >= 1e7 ? `${(n / 1e6).toFixed(1)} M` : whole.format(n));
export const rate = (n) => (n == null ? '–' : n > -0.05 && n < 0.05 ? '0' : n < 0 ? `-${three(-n)}` : three(n));
export const perSecond = (n) => `${rate(n)}/s`;

const sizes = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
// [number, unit]
export function bytes2(n) {
  if (n == null) return ['–', ''];
  let at = 0;
  while (n >= 1000 && at < sizes.length - 1) [n, at] = [n / 1000, at + 1];
  return [at ? (n >= 100 ? Math.round(n) : n.toFixed(1)) : n, sizes[at]].map(String);
}
export const bytes = (n) => bytes2(n).join(' ').trim();

const trim = (n) => (n >= 10 ? String(Math.round(n)) : n.toFixed(1));
export function span2(ms) {
  if (ms == null || !isFinite(ms)) return ['–', ''];
  if (ms < 1) return ['0', 's'];
  if (ms < 1000) return [String(Math.round(ms)), 'ms'];
  const s = ms / 1000;
  if (s < 60) return [trim(s), 's'];
  if (s < 3600) return [trim(s / 60), 'min'];
  if (s < 86400) return [trim(s / 3600), 'h'];
  return [trim(s / 86400), 'd'];
}
export const span = (ms) => span2(ms).join(' ').trim();

const two = (n) => String(n).padStart(2, '0');
export function clock(at, millis) {
  const d = new Date(at);
  const day = d.toDateString() === new Date().toDateString() ? '' : `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} `;
  return `${day}${two(d.getHours())}:${two(d.getMinutes())}:${two(d.getSeconds())}${millis ? `.${String(d.getMilliseconds()).padStart(3, '0')}` : ''}`;
}
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;
