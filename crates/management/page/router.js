// Where the page is: RabbitMQ's hash routes, with what is filtered, sorted and shown behind a question mark.
import {signal, computed} from './lib.js';

const read = () => {
  const [path, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').filter((part, at) => part || at).map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return {parts: parts[0] === '' ? [] : parts, query: new URLSearchParams(query)};
};
export const route = signal(read());
addEventListener('hashchange', () => {
  route.value = read();
});
export const view = computed(() => route.value.parts[0] || 'overview');

export const to = (...parts) => `#/${parts.map(encodeURIComponent).join('/')}`;
export const go = (hash) => {
  location.hash = hash;
};
// Sets what stands behind the question mark, without a step in the browser's history.
export function setQuery(change) {
  const query = new URLSearchParams(route.value.query);
  for (const [name, value] of Object.entries(change)) value ? query.set(name, value) : query.delete(name);
  const text = query.toString();
  history.replaceState(null, '', `#/${route.value.parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`);
  route.value = read();
}
