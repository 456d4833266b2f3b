// What is in force in a queue, and where it comes from: argument, policy, operator policy or default.
import {bytes, count, span} from '../format.js';

const names = {
  'message-ttl': ['Message TTL', span], expires: ['Expires unused after', span], 'max-length': ['Max length', count], 'max-length-bytes': ['Max bytes', bytes],
  overflow: ['When full'], 'dead-letter-exchange': ['Dead letters to', (it) => it || 'the default exchange'], 'dead-letter-routing-key': ['Dead letters with'],
  'delivery-limit': ['Delivery limit', (it) => (typeof it === 'number' ? count(it) : it)], 'max-priority': ['Priorities'], 'single-active-consumer': ['Single active consumer'],
  'max-age': ['Max age'], 'consumer-timeout': ['Consumer timeout', span], 'queue-mode': ['Mode'], 'stream-max-segment-size-bytes': ['Segment size', bytes],
  'retry-delays': ['Retry delays', (it) => [].concat(it).map(span).join(', ')],
};
const defaults = (queue) => ({
  ...(queue.type === 'quorum' && {'delivery-limit': [queue.delivery_limit, 'default of quorum queues']}),
  overflow: ['drop-head', 'default'],
});

// [key, value, origin, label, as shown]
export function inForce(queue) {
  const found = new Map();
  const put = (key, value, origin) => found.set(key, [value, origin]);
  for (const [key, value] of Object.entries(queue.effective_policy_definition || {})) {
    put(key, value, [queue.policy && `policy ${queue.policy}`, queue.operator_policy && `operator policy ${queue.operator_policy}`].filter(Boolean).join(' and '));
  }
  for (const [name, value] of Object.entries(queue.arguments || {})) {
    const key = name.replace(/^x-/, '');
    if (key === 'queue-type') continue;
    const policy = found.get(key);
    // An argument wins over a policy but where a number of the two is smaller.
    if (policy && typeof value === 'number' && policy[0] < value) put(key, policy[0], `${policy[1]}, argument asked ${count(value)}`);
    else put(key, value, `argument ${name}`);
  }
  const limited = found.has('max-length') || found.has('max-length-bytes');
  for (const [key, [value, origin]] of Object.entries(defaults(queue))) {
    if (!found.has(key) && (key !== 'overflow' || limited)) put(key, value, origin);
  }
  return [...found].map(([key, [value, origin]]) => {
    const [label, shown] = names[key] || [key];
    return [key, value, origin, label, shown ? shown(value) : typeof value === 'object' ? JSON.stringify(value) : String(value)];
  });
}
