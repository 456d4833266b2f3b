// Who is it.
import {html, useState, useRef, useEffect} from '../lib.js';
import {logIn} from '../api.js';
import {Hare, Mark} from '../parts.js';

export function Login({before}) {
  const [wrong, setWrong] = useState('');
  const [busy, setBusy] = useState(false);
  const name = useRef();
  const password = useRef();
  useEffect(() => (name.current.value ? password : name).current.focus(), []);
  const go = async (event) => {
    event.preventDefault();
    setBusy(true);
    setWrong('');
    try {
      await logIn(name.current.value, password.current.value);
    } catch (error) {
      setWrong(error.status === 401 && error.message === 'Not_Authorized' ? 'This name and password are not known here.' : error.status === 429 ? 'Too many tries have failed. Wait a few seconds.' : `${error.message}.`);
      setBusy(false);
      password.current.select();
    }
  };
  return html`<main class="login"><form class="panel" onSubmit=${go}><h1><${Hare} size="26"/>Leveret</h1>${before && html`<p class="dim small">The broker does not know you any more: it was started anew, or your password was changed.</p>`}
<label class="field"><span>User</span><span class="filter"><input ref=${name} name="username" autocomplete="username" autocapitalize="none" spellcheck="false" required value=${before || ''}/></span></label>
<label class="field"><span>Password</span><span class="filter"><input ref=${password} name="password" type="password" autocomplete="current-password" required/></span></label>
${wrong && html`<p class="wrong" role="alert"><${Mark} is="diamond" cls="bad"/> ${wrong}</p>`}
<button class="btn main" disabled=${busy}>Log in</button></form></main>`;
}
