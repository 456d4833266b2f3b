"use strict";
// Everything others have written is put into the page as text (textContent), never as HTML.

const KEPT_MAX = 500; // messages shown
const RETRY_MS = 1000; // before a message is sent again
const RECONNECT_MS = { first: 250, last: 4000 };

const element = (id) => document.getElementById(id);
const [log, say, text, room] = ["log", "say", "text", "room"].map(element);

let socket = null;
let listening = false; // between "joined" and the loss of bridge or broker
let reconnectMs = RECONNECT_MS.first;
let topics = [];
let topic = null; // the one that is shown
let wanted = decodeURIComponent(location.hash.slice(1));
let name = null;
const shown = new Map(); // message id -> its line
const pending = new Map(); // message id -> the frame, until the broker has confirmed it

function make(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

function showStatus(state, words) {
  const status = element("status");
  if (status.textContent !== words) status.textContent = words;
  status.dataset.state = state;
}

function showProblem(words) {
  element("problem").textContent = words;
  element("problem").hidden = !words;
}

// --- the bridge

function connect() {
  const url = new URL("socket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  url.hash = "";
  socket = new WebSocket(url);
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = () => {
    listening = false;
    showStatus("away", "The bridge is away. Trying again…");
    setTimeout(connect, reconnectMs);
    reconnectMs = Math.min(2 * reconnectMs, RECONNECT_MS.last);
  };
}

function send(frame) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(frame));
}

function take(frame) {
  switch (frame.type) {
    case "welcome": return welcome(frame);
    case "joined": return joined(frame);
    case "waiting": listening = false; return showStatus("away", "The broker is away. Waiting…");
    case "message": return message(frame);
    case "sent": return sent(frame.id);
    case "unsent": return void setTimeout(() => sendAgain(frame.id), RETRY_MS);
    case "refused": return refused(frame);
  }
}

function welcome(frame) {
  reconnectMs = RECONNECT_MS.first;
  topics = frame.topics;
  text.maxLength = frame.text_max;
  element("name").maxLength = frame.name_max;
  if (!topics.some((each) => each.topic === wanted)) wanted = topics[0].topic;
  if (name === null) showStatus("up", "Connected");
  else join(wanted);
}

function join(which) {
  wanted = which;
  showTopics();
  showStatus("away", "Waiting for the broker…");
  send({ type: "join", name, topic: which });
}

function joined(frame) {
  listening = true;
  showStatus("up", `Connected as ${name}`);
  showProblem("");
  if (frame.topic !== topic) show(frame.topic);
  pending.forEach((each) => send(each));
}

// A message that may have been lost on the way goes again under its id, which the broker passes on once.
function sendAgain(id) {
  if (listening && pending.has(id)) send(pending.get(id));
  else if (pending.has(id)) showStatus("away", "The broker is away. Waiting…");
}

function sent(id) {
  pending.delete(id);
  const line = shown.get(id);
  if (!line) return;
  line.classList.remove("pending");
  line.querySelector(".state")?.remove();
}

function refused(frame) {
  showProblem(`Refused: ${frame.reason}`);
  pending.delete(frame.id);
  shown.get(frame.id)?.querySelector(".state")?.replaceChildren("refused");
}

// --- what is shown

const label = (which) => which === "#" ? "All rooms" : which;

function showTopics() {
  element("topics").replaceChildren(...topics.map((each) => {
    const item = make("li");
    const button = make("button", "", label(each.topic));
    button.type = "button";
    button.setAttribute("aria-current", String(each.topic === wanted));
    button.onclick = () => { if (each.topic !== wanted) { join(each.topic); text.focus(); } };
    item.append(button);
    return item;
  }));
  element("topics").querySelector("[aria-current=true]").scrollIntoView({ block: "nearest", inline: "center" });
}

function show(which) {
  topic = which;
  const { rooms } = topics.find((each) => each.topic === which);
  log.replaceChildren();
  shown.clear();
  element("topic").textContent = label(which);
  history.replaceState(null, "", `#${encodeURIComponent(which)}`);
  room.replaceChildren(...rooms.map((each) => new Option(each)));
  element("room-label").hidden = rooms.length < 2;
  say.hidden = rooms.length === 0;
  pending.forEach((each) => { if (rooms.includes(each.room)) append(line({ ...each, what: "said", name })); });
}

function message(frame) {
  const known = shown.get(frame.id);
  if (!known) return append(line(frame));
  // One's own message, shown before it was sent, takes its place among the others'. After a reconnect the last messages
  // come again: those have their place.
  if (known.dataset.early) {
    delete known.dataset.early;
    append(known);
  }
  sent(frame.id);
}

function line({ what, id, room, name: author, text: words, at }) {
  const made = make("li");
  made.dataset.id = id;
  if (what !== "said") {
    made.className = "notice";
    made.textContent = `${author} ${what === "came" ? "has come" : "has left"}`;
    return made;
  }
  const about = make("div", "about");
  const who = make("b", "", author);
  who.dir = "auto";
  about.append(who);
  if (element("room").length > 1) about.append(make("span", "room", room));
  if (at) {
    const time = make("time", "", new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
    time.dateTime = at;
    about.append(time);
  }
  if (pending.has(id)) about.append(make("span", "state", "sending…"));
  const body = make("div", "text", words);
  body.dir = "auto";
  made.append(about, body);
  made.classList.toggle("pending", pending.has(id));
  made.classList.toggle("own", author === name);
  return made;
}

function append(made) {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.append(made);
  shown.set(made.dataset.id, made);
  while (log.children.length > KEPT_MAX) {
    shown.delete(log.firstChild.dataset.id);
    log.firstChild.remove();
  }
  if (atEnd || made.classList.contains("own")) log.scrollTop = log.scrollHeight;
}

// --- what the person does

function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

element("enter").onsubmit = (event) => {
  event.preventDefault();
  name = element("name").value.trim();
  if (!name) return;
  sessionStorage.setItem("name", name);
  element("entrance").hidden = true;
  element("chat").hidden = false;
  text.focus();
  if (topics.length) join(wanted);
};

say.onsubmit = (event) => {
  event.preventDefault();
  const words = text.value.trim();
  if (!words || topic === null) return;
  const frame = { type: "say", id: newId(), room: room.value, text: words };
  pending.set(frame.id, frame);
  const made = line({ ...frame, what: "said", name, at: new Date().toISOString() });
  made.dataset.early = "yes";
  append(made);
  send(frame);
  text.value = "";
};

element("name").value = sessionStorage.getItem("name") ?? "";
connect();
