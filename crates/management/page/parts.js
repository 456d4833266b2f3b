// What the views are made of.
import {html, signal, useEffect, useLayoutEffect, useRef, useState} from './lib.js';
import {count, span2} from './format.js';

const shapes = {
  diamond: 'M5 .3 9.7 5 5 9.7.3 5z',
  up: 'M5 1.2 9.4 8.8H.6z',
  down: 'M5 8.8.6 1.2h8.8z',
  pause: 'M1.5 1h2.5v8H1.5zM6 1h2.5v8H6z',
  ring: 'M5 1a4 4 0 1 0 0 8 4 4 0 0 0 0-8zm0 1.4a2.6 2.6 0 1 1 0 5.2 2.6 2.6 0 0 1 0-5.2z',
  dot: 'M5 2.8a2.2 2.2 0 1 0 0 4.4 2.2 2.2 0 0 0 0-4.4z',
};
export const Mark = ({is, cls = ''}) => html`<svg class=${`ico ${cls}`} width="10" height="10" viewBox="0 0 10 10" aria-hidden="true"><path d=${shapes[is]}/></svg>`;
export const Glass = () => html`<svg width="14" height="14" viewBox="0 0 14 14" fill="none" stroke="currentColor" stroke-width="1.5" aria-hidden="true"><circle cx="6" cy="6" r="4.2"/><path d="m9.3 9.3 3.4 3.4"/></svg>`;
export const Hare = ({size = 22}) => html`<svg width=${size} height=${size} viewBox="0 0 22 22" aria-hidden="true"><path fill="currentColor" d="M8.6 10.6C6.9 8.4 5.5 4.6 6.1 1.9c.2-.9 1.2-1.1 1.8-.4 1.7 2 2.6 5.1 2.9 8 .4-2.9 1.6-5.9 3.5-7.6.7-.6 1.6-.3 1.7.6.3 2.6-1.4 6.1-3.3 8.2 2.5.9 4.2 3 4.2 5.3 0 3-2.7 4.8-6.1 4.8S4.8 19 4.8 16c0-2.4 1.5-4.5 3.8-5.4z"/><circle cx="8.6" cy="15" r="1.1" fill="var(--bg)"/><circle cx="13" cy="15" r="1.1" fill="var(--bg)"/></svg>`;

// Each state is a mark, a word and, where somebody should look, a colour.
export const states = {
  no_consumers: ['c-bad', 'diamond', 'No consumers', 'bad'],
  growing: ['c-warn', 'up', 'Growing', 'warn'],
  stuck: ['c-warn', 'up', 'Stuck', 'warn'],
  dead_letters: ['c-warn', 'up', 'Dead letters', 'warn'],
  draining: ['c-plain', 'down', 'Draining'],
  paused: ['c-line', 'pause', 'Paused'],
  idle: ['c-plain faint', 'ring', 'Idle'],
  steady: ['c-plain', 'dot', 'Steady'],
};
export function Chip({state}) {
  const [cls, mark, word] = states[state] || states.steady;
  return html`<span class=${`chip ${cls}`}><${Mark} is=${mark}/>${word}</span>`;
}

export const Unit = ({of: [number, unit]}) => html`${number}${unit && html`<small> ${unit}</small>`}`;
export const Stat = ({label, children, sub, warn, bad}) => html`<div class="stat"><dt>${label}</dt><dd class=${bad ? 'warn' : ''}>${children}</dd><dd class=${`sub ${warn ? 'warn' : ''}`}>${sub || '\u00a0'}</dd></div>`;
export const SpanStat = ({ms, ...rest}) => html`<${Stat} ...${rest}><${Unit} of=${span2(ms)}/><//>`;

export const Meter = ({part, cls = '', tick}) => html`<svg height="6" viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="track" width="100" height="6"/><rect class=${`fill ${cls}`} width=${Math.min(100, Math.max(0, part * 100)) || 0} height="6"/>${tick != null && html`<rect class="tick" x=${Math.min(99.2, tick * 100)} width=".8" height="6"/>`}</svg>`;

// p50 to p99 on one log scale, 0.1 ms to 10 min.
const place = (ms) => (Math.min(6.8, Math.max(0, Math.log10(Math.max(ms, 0.1)) + 1)) / 6.8) * 200;
export const Range = ({p50, p99, cls = ''}) => html`<svg height="12" viewBox="0 0 200 12" preserveAspectRatio="none" aria-hidden="true"><rect class="track" y="5" width="200" height="2"/>${p99 != null && html`<rect class=${`fill ${cls}`} x=${place(p50)} y="4" width=${Math.max(2, place(p99) - place(p50))} height="4"/>`}</svg>`;

// From zero; its top is at least `floor`, so that noise is drawn flat.
export function Spark({values, floor = 100, width = 72, height = 20}) {
  if (!values || values.length < 2) return html`<svg class="spark" width=${width} height=${height} aria-hidden="true"/>`;
  const top = Math.max(floor, ...values);
  const points = values.map((y, at) => `${((at / (values.length - 1)) * (width - 4) + 1).toFixed(1)} ${(height - 2 - (y / top) * (height - 5)).toFixed(1)}`);
  const [x, y] = points.at(-1).split(' ');
  return html`<svg class="spark" width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`} aria-hidden="true"><path d=${`M${points.join('L')}`} fill="none" stroke="var(--ink-3)" stroke-width="1.25" stroke-linejoin="round"/><circle cx=${x} cy=${y} r="1.8" fill="var(--ink-3)"/></svg>`;
}

export const Bar = ({rows = 6}) => html`<div class="sk" aria-hidden="true">${Array.from({length: rows}, (_, at) => html`<svg width="100%" height="36"><rect class="track" x="14" y="13" width=${[150, 120, 176, 132][at % 4]} height="10" rx="3"/><rect class="track" x="70%" y="13" width="70" height="10" rx="3"/></svg>`)}</div>`;
// Nothing for 300 ms, then bars in the places of the rows.
export function Loading({rows}) {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), 300);
    return () => clearTimeout(timer);
  }, []);
  return late ? html`<${Bar} rows=${rows}/>` : html`<div class="sk"/>`;
}
export const Empty = ({title, children, action}) => html`<div class="em"><b>${title}</b>${children && html`<p class="dim">${children}</p>`}${action}</div>`;

// What a view shows instead of what it has not got: loading, refused, missing.
export function Missing({live, what}) {
  if (!live) return html`<div class="panel"><${Loading}/></div>`;
  const {status, body} = live;
  const reason = body?.reason || '';
  if (status === 404) return html`<div class="panel"><${Empty} title=${`${what} is not there`}>It was deleted, or never made.<//></div>`;
  if (status === 401) return html`<div class="panel"><${Empty} title="Not yours to see">${reason}<//></div>`;
  if (status === 501) return html`<div class="panel"><${Empty} title=${`Nothing to show for ${what} yet`}>This broker's API does not tell of it.<//></div>`;
  return html`<div class="panel"><${Empty} title="It did not work">${reason || `HTTP ${status}`}<//></div>`;
}

export const Seg = ({label, options, value, onChange}) => html`<span class="seg" role="group" aria-label=${label}>${options.map(([name, text]) => html`<button type="button" aria-pressed=${String(name === value)} onClick=${() => onChange(name)}>${text}</button>`)}</span>`;

// A list in a real table; on a phone each row is a card. `columns`: {label, of, num, cls, phone, sort, zero}
export function Table({caption, columns, rows, id, open, sort, onSort, chosen, cards = true, even}) {
  const head = columns.map((column) => {
    const is = sort && column.sort === sort.by;
    const cls = `${column.num ? 'num' : ''} ${column.cls || ''}`;
    const inner = column.sort && onSort ? html`<button type="button" class="sort" onClick=${() => onSort(column.sort)}>${column.label}${is && html`\u00a0${sort.reverse ? '↑' : '↓'}`}</button>` : column.label;
    return html`<th role="columnheader" class=${cls} aria-sort=${is ? (sort.reverse ? 'ascending' : 'descending') : undefined}>${inner}</th>`;
  });
  return html`<table class=${`${cards ? 'cards' : ''} ${even ? 'even' : ''}`} role="table"><caption class="sr">${caption}</caption><thead role="rowgroup"><tr role="row">${head}</tr></thead><tbody role="rowgroup">${rows.map((row) => html`<tr role="row" key=${id(row)} data-id=${id(row)} aria-selected=${chosen ? String(chosen(row)) : undefined} onClick=${open ? (event) => !event.target.closest('a,button,input,label') && !String(getSelection()) && open(row) : undefined} class=${open ? 'opens' : ''}>${columns.map((column) => {
    const shown = column.of(row);
    const zero = column.zero ? column.zero(row) : shown === '0' || shown === '–';
    return html`<td role="cell" class=${`${column.num ? 'num' : ''} ${column.cls || ''} ${zero ? 'zero' : ''}`} data-l=${column.phone ? (column.phone === true ? column.label : column.phone) : undefined}>${shown}</td>`;
  })}</tr>`)}</tbody></table>`;
}

// Name and value, with where the value comes from.
export const Facts = ({rows, cls = ''}) => html`<dl class=${`kv ${cls}`}>${rows.filter(Boolean).map(([name, value, origin, tone]) => html`<div><dt>${name}</dt><dd class=${tone || ''}>${value}${origin && html`<small>${origin}</small>`}</dd></div>`)}</dl>`;

export const Head = ({title, note, children, id}) => html`<div class="head"><h2 id=${id}>${title}</h2>${note && html`<span class="faint small">${note}</span>`}<span class="grow"></span>${children}</div>`;

// What floats: one dialog at a time, and what was done.
export const dialog = signal(null);
export const toasts = signal([]);
let toastId = 0;
export function toast(text, {bad, action, label} = {}) {
  const id = ++toastId;
  toasts.value = [...toasts.value, {id, text, bad, action, label}];
  if (!bad) setTimeout(() => gone(id), 6000);
}
const held = new Set();
function gone(id) {
  if (held.has(id)) return setTimeout(() => gone(id), 1000);
  toasts.value = toasts.value.filter((it) => it.id !== id);
  return undefined;
}
// Does something and says so; what is refused stays to be read.
export async function deed(text, work, options = {}) {
  try {
    const said = await work();
    if (text) toast(typeof text === 'function' ? text(said) : text, options);
    return true;
  } catch (error) {
    toast(options.failed ? `${options.failed}: ${error.message}` : error.message, {bad: true});
    return false;
  }
}

export function Toasts() {
  return html`<div class="toasts" role="status" aria-live="polite">${toasts.value.map((it) => html`<div key=${it.id} class="toast" onMouseEnter=${() => held.add(it.id)} onMouseLeave=${() => held.delete(it.id)}><span>${it.bad && html`<${Mark} is="diamond" cls="bad"/> `}${it.text}</span>${it.action && html`<button type="button" class="btn quiet" onClick=${() => {
    it.action();
    gone(it.id);
  }}>${it.label}</button>`}<button type="button" class="btn quiet" aria-label="Close this message" onClick=${() => {
    held.delete(it.id);
    gone(it.id);
  }}>Close</button></div>`)}</div>`;
}

// Keeps the focus inside, and gives it back. The next key that is pressed is its own already: it has the focus as soon as it
// is drawn, not a frame later.
export function Dialog({title, children, act, side, wide, onClose = () => (dialog.value = null)}) {
  const box = useRef();
  useLayoutEffect(() => {
    const before = document.activeElement;
    const first = box.current.querySelector('[autofocus]') || box.current.querySelector('input,select,textarea,button');
    first?.focus();
    return () => before?.focus?.();
  }, []);
  const keys = (event) => {
    if (event.key === 'Escape') {
      event.stopPropagation();
      onClose();
    }
    if (event.key !== 'Tab') return;
    const all = [...box.current.querySelectorAll('a[href],button:not([disabled]),input:not([disabled]),select,textarea,[tabindex="0"]')];
    const at = all.indexOf(document.activeElement);
    const next = event.shiftKey ? (at <= 0 ? all.length - 1 : -1) : at === all.length - 1 ? 0 : -1;
    if (next >= 0) {
      event.preventDefault();
      all[next]?.focus();
    }
  };
  return html`<div class=${`veil ${side ? 'aside' : ''}`} onMouseDown=${(event) => event.target === event.currentTarget && onClose()} onKeyDown=${keys}><div class=${`dialog ${side ? 'sheet' : ''} ${wide ? 'wide' : ''}`} role="dialog" aria-modal="true" aria-label=${title} ref=${box}>${children}${act && html`<div class="act">${act}</div>`}</div></div>`;
}

// Says what is lost, in numbers, and has the name typed.
export function confirm({title, text, name, deed: word, work}) {
  const Sheet = () => {
    const [typed, setTyped] = useState('');
    const [busy, setBusy] = useState(false);
    const right = typed === name;
    const go = async (event) => {
      event.preventDefault();
      if (!right || busy) return;
      setBusy(true);
      await work();
      dialog.value = null;
    };
    const close = () => (dialog.value = null);
    return html`<${Dialog} title=${title}><form onSubmit=${go}><div class="in"><h2>${title}</h2><p class="dim">${text}</p><label class="field"><span>Type <b>${name}</b> to go on</span><span class="filter"><input autofocus autocomplete="off" spellcheck="false" value=${typed} onInput=${(event) => setTyped(event.target.value)}/></span></label></div><div class="act"><button type="button" class="btn" onClick=${close}>Cancel</button><button class="btn danger" disabled=${!right || busy}>${word}</button></div></form><//>`;
  };
  dialog.value = html`<${Sheet}/>`;
}

// A sheet with fields; `fields`: {name, label, kind, options, hint, value}; `work` gets the values.
export function sheet({title, intro, fields, word, work, extra}) {
  const Sheet = () => {
    const first = Object.fromEntries(fields.map((field) => [field.name, field.value ?? (field.kind === 'flag' ? false : '')]));
    const [values, setValues] = useState(first);
    const [wrong, setWrong] = useState('');
    const [busy, setBusy] = useState(false);
    const set = (name, value) => setValues((now) => ({...now, [name]: value}));
    const go = async (event) => {
      event.preventDefault();
      setBusy(true);
      setWrong('');
      try {
        await work(values);
        dialog.value = null;
      } catch (error) {
        setWrong(error.message);
        setBusy(false);
      }
    };
    const input = (field) => {
      const {name, kind, options} = field;
      const on = (event) => set(name, event.target.value);
      if (kind === 'choice') return html`<select value=${values[name]} onChange=${on}>${options.map(([value, text]) => html`<option value=${value} selected=${value === values[name]}>${text}</option>`)}</select>`;
      if (kind === 'long') return html`<textarea class="mono" rows=${field.rows || 5} spellcheck="false" value=${values[name]} onInput=${on}></textarea>`;
      return html`<input class=${kind === 'mono' ? 'mono' : ''} type=${kind === 'password' ? 'password' : kind === 'number' ? 'number' : 'text'} autocomplete=${kind === 'password' ? 'new-password' : 'off'} spellcheck="false" readonly=${field.fixed} required=${field.required} value=${values[name]} onInput=${on}/>`;
    };
    return html`<${Dialog} title=${title} side><form onSubmit=${go}><div class="in"><h2>${title}</h2>${intro && html`<p class="dim">${intro}</p>`}${fields.filter((field) => !field.when || field.when(values)).map((field) => (field.kind === 'flag'
      ? html`<label class="check"><input type="checkbox" checked=${values[field.name]} onChange=${(event) => set(field.name, event.target.checked)}/> <span>${field.label}</span></label>`
      : html`<label class="field"><span>${field.label}</span>${input(field)}${field.hint && html`<small>${field.hint}</small>`}</label>`))}${extra && html`<${extra} values=${values}/>`}${wrong && html`<p class="wrong" role="alert"><${Mark} is="diamond" cls="bad"/> ${wrong}</p>`}</div><div class="act"><button type="button" class="btn" onClick=${() => (dialog.value = null)}>Cancel</button><button class="btn main" disabled=${busy}>${word}</button></div></form><//>`;
  };
  dialog.value = html`<${Sheet}/>`;
}

// A button that opens a short list of deeds.
export function Menu({label, children, items, cls = 'btn'}) {
  const [open, setOpen] = useState(false);
  const box = useRef();
  useLayoutEffect(() => {
    if (!open) return undefined;
    const close = (event) => !box.current?.contains(event.target) && setOpen(false);
    addEventListener('mousedown', close);
    box.current.querySelector('[role=menuitem]')?.focus();
    return () => removeEventListener('mousedown', close);
  }, [open]);
  const keys = (event) => {
    const all = [...box.current.querySelectorAll('[role=menuitem]')];
    const at = all.indexOf(document.activeElement);
    if (event.key === 'Escape' && open) {
      event.stopPropagation();
      setOpen(false);
      box.current.querySelector('button').focus();
    }
    const step = {ArrowDown: 1, ArrowUp: -1}[event.key];
    if (step && open) {
      event.preventDefault();
      all[(at + step + all.length) % all.length].focus();
    }
  };
  return html`<span class="menu" ref=${box} onKeyDown=${keys}><button type="button" class=${cls} aria-haspopup="menu" aria-expanded=${String(open)} aria-label=${label} onClick=${() => setOpen(!open)}>${children || label}</button>${open && html`<span class="drop" role="menu">${items.filter(Boolean).map(([text, work, bad]) => html`<button type="button" role="menuitem" tabindex="-1" class=${bad ? 'bad' : ''} onClick=${() => {
    setOpen(false);
    work();
  }}>${text}</button>`)}</span>`}</span>`;
}

// Moves from row to row with J and K, opens with Enter.
export function step(by) {
  const rows = [...document.querySelectorAll('main tbody tr[data-id]')];
  if (!rows.length) return;
  const at = rows.findIndex((row) => row.classList.contains('here'));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  rows[at]?.classList.remove('here');
  next.classList.add('here');
  next.scrollIntoView({block: 'nearest'});
}
export const stepped = () => document.querySelector('main tbody tr.here');

export const Pages = ({page, size, filtered, total, what, onPage, hint}) => html`<div class="foot-row"><span>${filtered ? `${count((page - 1) * size + 1)} to ${count(Math.min(filtered, page * size))} of ${count(filtered)}` : `0 of ${count(total)}`} ${filtered < total ? `(${count(total)} ${what})` : what}</span>${filtered > size && html`<span class="pages"><button type="button" class="btn quiet" disabled=${page <= 1} onClick=${() => onPage(page - 1)}>Before</button><button type="button" class="btn quiet" disabled=${page * size >= filtered} onClick=${() => onPage(page + 1)}>Next</button></span>`}${hint && html`<span class="desk">${hint}</span>`}</div>`;
