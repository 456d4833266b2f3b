// Single keys, off where text is typed, and off altogether where somebody wants so.
import {html, signal} from './lib.js';
import {Dialog, dialog, step, stepped} from './parts.js';
import {go, to} from './router.js';
import {pause} from './api.js';
import {range, ranges, setRange} from './history.js';
import {palette} from './palette.js';

// What the view of the moment does: {key: work}
export const own = signal({});
const isOff = signal(localStorage.getItem('leveret.keys') === 'off');

export function turnTheme() {
  const next = {light: 'dark', dark: ''}[localStorage.getItem('leveret.theme') || ''] ?? 'light';
  if (next) localStorage.setItem('leveret.theme', next);
  else localStorage.removeItem('leveret.theme');
  dispatchEvent(new Event('leveret-theme'));
}

const all = [
  ['Ctrl K', 'search or jump to'], ['/', 'filter'], ['J K', 'move'], ['Enter', 'open'], ['Esc', 'back'], ['X', 'select'], ['E', 'peek'], ['W', 'publish'],
  ['R', 'send back'], ['G then O Q E T D C', 'go to overview, queues, exchanges, topology, dead letters, connections'], ['1 to 5', 'parts of a queue'],
  ['Space', 'hold what is live'], ['[ ]', 'time range'], ['T', 'theme'], ['?', 'these keys'],
];
export function keysSheet() {
  const close = () => (dialog.value = null);
  const Sheet = () => html`<${Dialog} title="Keys" act=${html`<button type="button" class="btn main" onClick=${close}>Close</button>`}><div class="in"><h2>Keys</h2><dl class="kv keys">${all.map(([key, what]) => html`<div><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl><label class="check"><input type="checkbox" checked=${isOff.value} onChange=${(event) => {
    isOff.value = event.target.checked;
    localStorage.setItem('leveret.keys', isOff.value ? 'off' : 'on');
  }}/> <span>Single keys do nothing</span></label></div><//>`;
  dialog.value = html`<${Sheet}/>`;
}

const places = {o: [], q: ['queues'], e: ['exchanges'], t: ['topology'], d: ['dead-letters'], c: ['connections']};
let going = 0;
addEventListener('keydown', (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === 'k') {
    event.preventDefault();
    palette();
    return;
  }
  if (dialog.value || isOff.value || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.closest?.('input,textarea,select');
  if (typing) {
    if (event.key === 'Escape') typing.blur();
    return;
  }
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const done = () => event.preventDefault();
  if (going && Date.now() - going < 1500 && places[key]) {
    going = 0;
    return go(to(...places[key]));
  }
  going = 0;
  if (own.value[key]) {
    done();
    return own.value[key]();
  }
  const names = Object.keys(ranges);
  const turn = (by) => setRange(names[Math.min(2, Math.max(0, names.indexOf(range.value) + by))]);
  const work = {
    g: () => (going = Date.now()),
    j: () => step(1),
    k: () => step(-1),
    x: () => stepped()?.querySelector('input[type=checkbox]')?.click(),
    Enter: () => event.target.closest('a,button') || stepped()?.querySelector('a')?.click(),
    Escape: () => history.length > 1 && history.back(),
    '/': () => document.querySelector('.filter input')?.focus(),
    ' ': () => event.target.closest('a,button') || pause(),
    '[': () => turn(-1),
    ']': () => turn(1),
    t: turnTheme,
    '?': keysSheet,
  }[key];
  if (!work) return undefined;
  if (key !== 'Enter' && !(key === ' ' && event.target.closest('a,button'))) done();
  return work();
});
