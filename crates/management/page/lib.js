// What each file of the page uses of the libraries.
import {h, render, Fragment} from './vendor/preact.js';
import {useEffect, useLayoutEffect, useRef, useState, useMemo} from './vendor/hooks.js';
import {signal, computed, effect, useSignal, batch} from './vendor/signals.js';
import htm from './vendor/htm.js';

const html = htm.bind(h);
export {html, render, Fragment, useEffect, useLayoutEffect, useRef, useState, useMemo, signal, computed, effect, useSignal, batch};
