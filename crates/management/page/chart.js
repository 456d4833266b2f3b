// Lines over time, drawn by uPlot: from zero, names at the ends of lines, a gap where nothing is known.
import {html, useLayoutEffect, useRef, useState, effect, signal} from './lib.js';
import {clock, count, rate} from './format.js';
import {columns, range, ranges, seed, tick} from './history.js';

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const two = (n) => String(n).padStart(2, '0');
const unit = (top) => (top >= 1e7 ? [1e6, ' M'] : top >= 1e4 ? [1e3, ' k'] : [1, '']);
export const theme = signal(0);
addEventListener('leveret-theme', () => theme.value++);
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => theme.value++);

// The top of an axis, and its lines: at most five.
function scale(most) {
  const top = Math.max(most * 1.12, 10);
  const rough = top / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= rough && (power > 1 || n % 1 === 0)) || 10 * power;
  const splits = [];
  for (let at = 0; at <= top; at += step) splits.push(at);
  return [top, splits];
}

function draw(box, data, names, fill, pad) {
  const sans = css('--sans').split(',')[0];
  const font = `11px ${sans}, sans-serif`;
  const most = Math.max(0, ...data.slice(1).flat().filter((y) => y != null));
  const [top, splits] = scale(most);
  const [by, word] = unit(top);
  const now = Date.now() / 1000;
  const first = data[0][0] ?? now;
  const from = Math.max(now - ranges[range.value], Math.min(first, now - 120));
  const axis = {font, stroke: css('--ink-3'), ticks: {show: false}, gap: 6};
  const styles = [
    {stroke: css('--data'), width: 1.75, fill: fill ? css('--data-soft') : undefined},
    {stroke: css('--data-2'), width: 1.5, dash: [5, 3]},
  ];
  const ends = (plot) => {
    const c = plot.ctx;
    const r = devicePixelRatio;
    c.save();
    c.font = `500 ${11 * r}px ${sans}, sans-serif`;
    c.textBaseline = 'middle';
    c.textAlign = 'left';
    const tops = data.slice(1).map((line) => plot.valToPos(line.findLast((y) => y != null) ?? 0, 'y', true));
    const gap = 13 * r;
    if (tops.length > 1 && Math.abs(tops[0] - tops[1]) < gap) {
      const middle = (tops[0] + tops[1]) / 2;
      const up = tops[0] <= tops[1] ? -1 : 1;
      tops[0] = middle + (up * gap) / 2;
      tops[1] = middle - (up * gap) / 2;
    }
    const floor = plot.bbox.top + plot.bbox.height - 6 * r;
    const over = Math.max(0, Math.max(...tops) - floor);
    names.forEach((name, at) => {
      c.fillStyle = css(at ? '--ink-2' : '--data');
      c.fillText(name, plot.bbox.left + plot.bbox.width + 6 * r, tops[at] - over);
    });
    c.restore();
  };
  return new uPlot({
    width: box.clientWidth,
    height: box.clientHeight,
    padding: [10, pad, 0, 0],
    legend: {show: false},
    cursor: {show: false},
    scales: {x: {range: () => [from, now]}, y: {range: () => [0, top]}},
    series: [{}, ...names.map((_, at) => ({...styles[at], points: {show: false}, spanGaps: false}))],
    axes: [
      {...axis, size: 20, grid: {show: false}, space: 80, values: (_, ts) => ts.map((t) => {
        const d = new Date(t * 1000);
        return `${two(d.getHours())}:${two(d.getMinutes())}${now - from < 600 ? `:${two(d.getSeconds())}` : ''}`;
      })},
      {...axis, size: 46, grid: {stroke: css('--line'), width: 1}, splits: () => splits, values: (_, ys) => ys.map((y) => (y ? (y / by).toLocaleString('en-US') + word : '0'))},
    ],
    hooks: {draw: [ends]},
  }, data, box);
}

// The same in numbers: a dozen points of what is drawn.
function Numbers({address, lines}) {
  const [open, setOpen] = useState(false);
  tick.value;
  const data = open && columns(address, lines.map(([name]) => name));
  const every = data && Math.max(1, Math.ceil(data[0].length / 12));
  const shown = (name, y) => (y == null ? '–' : ['in', 'out'].includes(name) ? rate(y) : count(y));
  return html`<details class="numbers" onToggle=${(event) => setOpen(event.currentTarget.open)}><summary>as table</summary>${open && html`<table><thead><tr><th>When</th>${lines.map(([, name]) => html`<th class="num">${name}</th>`)}</tr></thead><tbody>${data[0].map((t, at) => (data[0].length - 1 - at) % every === 0 && html`<tr><td>${clock(t * 1000)}</td>${lines.map(([name], line) => html`<td class="num">${shown(name, data[line + 1][at])}</td>`)}</tr>`)}</tbody></table>`}</details>`;
}

// `lines`: [[name in the samples, name on the chart]]; `label`: a sentence of what it says.
export function Chart({address, lines, fill, tall, label, pad = 58}) {
  const box = useRef();
  const key = lines.map(([, name]) => name).join();
  useLayoutEffect(() => {
    let plot;
    const again = () => {
      if (!box.current) return;
      plot?.destroy();
      plot = draw(box.current, columns(address, lines.map(([name]) => name)), lines.map(([, name]) => name), fill, pad);
    };
    const stop = effect(() => {
      tick.value;
      range.value;
      theme.value;
      again();
    });
    const sow = effect(() => {
      range.value;
      seed(address);
    });
    const watch = new ResizeObserver(again);
    watch.observe(box.current);
    return () => {
      stop();
      sow();
      watch.disconnect();
      plot?.destroy();
    };
  }, [address, key]);
  return html`<figure class=${`chart ${tall ? 'tall' : ''}`} role="img" aria-label=${label} ref=${box}></figure><${Numbers} address=${address} lines=${lines}/>`;
}
