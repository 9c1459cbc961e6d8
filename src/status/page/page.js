// The status page of a hit7 registry. What members sent is inserted as text, never as markup.

import { bars, curve } from "./plot.js";

const SLOTS = 60; // windows that are plotted
const PLOTTED_SECONDS = 120; // seconds of registrations that are plotted at most
const LEAST_SECONDS = 30; // the shortest time axis of that plot, in seconds
const FIRST_ROOMS = 12; // rooms that stand on the page; the others are behind one more click
const SHOWN_ROOMS = 200;
const SHOWN_PEERS = 200;
const MAX_UNFOLDED = 6; // up to this many rooms, all are unfolded at first
const OPEN_ROOMS = 3; // with more rooms, only this many of the largest are
const TIMEOUT = 5000; // ms without an event until the page says that it is not connected
const ANNOUNCE_EVERY = 30000; // ms between two announcements to a screen reader

const REASONS = {
  no_source: "from an address that cannot exist",
  unreadable: "not a message hit7 knows",
  no_request: "an answer, not a request",
  no_member: "an ACK of no member",
  too_short: "too short to be answered safely",
  old: "older than a later request",
  under_way: "repeated while being stored",
  displaced: "address registered again since",
  too_often: "asked too often, not answered",
  ack_too_often: "too many ACKs",
  ack_unqueued: "an ACK while very busy",
  unsent_answer: "answers that could not be sent",
  unsent_challenge: "cookies that could not be sent",
  unsent_window: "lists that could not be sent",
  malformed: "not written as JSON",
  unknown_type: "unknown type of message",
  bad_field: "a field breaks its limits",
  too_large: "too large",
  full: "no place left",
  unavailable: "could not be stored",
  slow_down: "asked too often",
  forbidden: "no key for this registry",
};

const $ = (id) => document.getElementById(id);
const put = (id, text) => {
  const place = $(id);
  if (place.textContent !== text) place.textContent = text;
};
const number = (value) => value.toLocaleString("en");
const count = (value, thing) => `${number(value)} ${thing}${value === 1 ? "" : "s"}`;

function make(name, kind, text) {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Makes an element with a text of a member: from right to left, it turns only itself around. */
function makeSaid(name, kind, text) {
  const made = make(name, kind);
  made.append(make("bdi", "", text));
  return made;
}

let latest = null; // the last event received
let eventAt = 0; // when the last event came, by this page's own clock
let waitingSince = 0; // when the wait for the next event began
let shownWindow; // the window whose members are shown
let fetching = false;
let announcedAt = -Infinity; // when a screen reader was last told of an opening
let rates = [];
const cards = new Map(); // room → its card: element, size, rows, fill
const unfolded = new Map(); // room → whether the reader has unfolded it

// ---- time -------------------------------------------------------------------------------------

/** Formats a window's time: `11:29`, or `11:29:10` where windows are not whole minutes. */
function clock(window) {
  return latest && latest.window_ms % 60000 === 0 ? window.slice(11, 16) : window.slice(11, 19);
}

function span(ms) {
  const seconds = Math.ceil(ms / 1000);
  const pad = (value) => String(value).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  return h > 0 ? `${h}:${pad(m)}:${pad(s)}` : `${m}:${pad(s)}`;
}

function period(ms) {
  if (ms === 60000) return ["minute", "it ends"];
  if (ms === 3600000) return ["hour", "it ends"];
  if (ms === 86400000) return ["day", "it ends"];
  if (ms === 1000) return ["second", "it ends"];
  const whole = [[3600000, "hours"], [60000, "minutes"], [1000, "seconds"]].find(([unit]) => ms % unit === 0);
  return [`${ms / whole[0]} ${whole[1]}`, "they end"];
}

function tick() {
  if (performance.now() - waitingSince > TIMEOUT) connect("lost");
  if (!latest) return;
  const left = Math.max(0, latest.next.opens_in_ms - (performance.now() - eventAt));
  put("left", span(left));
  const offset = 1000 * (1 - Math.min(1, left / latest.window_ms));
  const arc = $("arc");
  // At an opening the ring becomes full without animation, instead of running backwards.
  const before = Number(arc.getAttribute("stroke-dashoffset") ?? 1000);
  arc.classList.toggle("moving", offset > before);
  arc.setAttribute("stroke-dashoffset", offset.toFixed(1));
}

// ---- what an event changes ----------------------------------------------------------------------

function show(event) {
  const before = latest;
  latest = event;
  eventAt = waitingSince = performance.now();
  link("live");
  const { current, next } = event;
  const [length, ends] = period(event.window_ms);
  put("period", length);
  put("period-ends", ends);
  put("opens", clock(next.window));
  put("waiting", number(next.members));
  put("now", number(current?.members ?? 0));
  put("introduced-at", current ? `at ${clock(current.window)}` : "in the current one");
  put("rooms-count", number(current?.rooms ?? 0));
  put("rooms-word", current?.rooms === 1 ? "room" : "rooms");
  title(current);
  $("log-notice").hidden = event.log_writable;
  if (!event.log_writable) {
    put("log-notice", "This registry cannot write its journal: it takes no registrations until it can.");
  }
  showRate(before, event);
  showRejected(event.turned_away);
  tick();
  const window = current?.window ?? null;
  if (before && current && window !== before.current?.window) showOpening(current);
  // All pages see the opening at the same moment: each waits a little, so that not all ask at once.
  if (window !== shownWindow && !fetching) setTimeout(refresh, before ? Math.random() * 400 : 0);
}

function title(current) {
  const text = current ? `${number(current.members)} at ${clock(current.window)} · hit7` : "hit7";
  if (document.title !== text) document.title = text;
}

/** Shows that a window has opened: flashes the count, and announces it to a screen reader. */
function showOpening(current) {
  const figure = $("now").parentElement;
  figure.classList.remove("opened");
  requestAnimationFrame(() => figure.classList.add("opened"));
  const now = performance.now();
  if (now - announcedAt < ANNOUNCE_EVERY) return;
  announcedAt = now;
  put("announcement", `The ${clock(current.window)} window opened with ${count(current.members, "member")} in ${count(current.rooms, "room")}.`);
}

function showRate(before, event) {
  if (before) {
    const passed = (Date.parse(event.at) - Date.parse(before.at)) / 1000;
    const more = event.totals.registrations - before.totals.registrations;
    if (more < 0 || passed > 10) rates = [];
    else if (passed > 0) rates.push({ passed, more: Math.max(0, more) });
  }
  while (rates.reduce((sum, rate) => sum + rate.passed, 0) > PLOTTED_SECONDS) rates.shift();
  const seconds = perSecond();
  const last = seconds.slice(-5);
  const mean = last.length ? last.reduce((sum, rate) => sum + rate, 0) / last.length : 0;
  put("rate", mean >= 10 || mean === 0 ? number(Math.round(mean)) : mean.toFixed(1));
  const width = Math.max(LEAST_SECONDS, seconds.length);
  curve($("rate-plot"), seconds, width, {
    label: `Registrations a second over the last ${width} seconds, now ${mean.toFixed(1)}`,
    least: 5,
    unit: " a second",
    left: `${width} s ago`,
    right: "now",
  });
}

/** Returns the registrations of each second: spreads each event's count over its seconds. */
function perSecond() {
  const total = rates.reduce((sum, rate) => sum + rate.passed, 0);
  const seconds = new Array(Math.floor(total)).fill(0);
  let end = total;
  for (const { passed, more } of [...rates].reverse()) {
    for (let at = end; at > end - passed + 1e-9; ) {
      const slot = Math.ceil(total - at + 1e-9) - 1;
      const part = Math.min(at - (end - passed), slot + 1 - (total - at));
      const place = seconds.length - 1 - slot;
      if (place >= 0) seconds[place] += (more * part) / passed;
      at -= Math.max(part, 1e-6);
    }
    end -= passed;
  }
  return seconds;
}

function showRejected(counts) {
  const all = Object.entries(counts).sort(([, a], [, b]) => b - a);
  put("away", number(all.reduce((sum, [, times]) => sum + times, 0)));
  $("away-table").hidden = all.length === 0;
  $("away-note").hidden = all.length > 0;
  const rows = $("away-rows");
  if (rows.dataset.shown === JSON.stringify(all)) return;
  rows.dataset.shown = JSON.stringify(all);
  rows.replaceChildren(...all.map(([reason, times]) => {
    const row = make("tr");
    row.append(make("td", "", REASONS[reason] ?? reason), make("td", "n", number(times)));
    return row;
  }));
}

// ---- what is fetched when a window opens ------------------------------------------------------

async function json(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function refresh() {
  if (fetching) return;
  fetching = true;
  try {
    const [window, past] = await Promise.all([
      json("api/v1/window"),
      json(`api/v1/windows?limit=${SLOTS}`),
    ]);
    showMembers(window);
    showPast(past.windows);
    shownWindow = window.window;
  } catch {
    // The next event retries.
  } finally {
    fetching = false;
  }
}

function showMembers(window) {
  const { rooms } = window;
  put("members-note", window.window
    ? `${count(window.members, "member")} in ${count(window.room_count, "room")}, since ${clock(window.window)}`
    : "");
  const focused = document.activeElement;
  const shown = rooms.slice(0, SHOWN_ROOMS);
  const all = shown.map((room, place) => card(room, place < (rooms.length > MAX_UNFOLDED ? OPEN_ROOMS : MAX_UNFOLDED)));
  if (all.length === 0) all.push(empty(window));
  arrange($("rooms"), all.slice(0, FIRST_ROOMS));
  arrange($("other-rooms"), all.slice(FIRST_ROOMS));
  // An element that was moved has lost the focus.
  if (focused !== document.activeElement && focused.isConnected) focused.focus({ preventScroll: true });
  forget(shown);
  const others = window.room_count - FIRST_ROOMS;
  $("more-rooms").hidden = others <= 0;
  put("more-rooms-text", count(others, "more room"));
  const beyond = window.room_count - shown.length;
  $("beyond").hidden = beyond <= 0;
  put("beyond", `and ${count(beyond, "smaller room")}`);
}

function empty(window) {
  const next = `Who signs up now is introduced at ${clock(window.next.window)}.`;
  return make("p", "empty", window.window
    ? `Nobody signed up in time for ${clock(window.window)}. ${next}`
    : `No window has opened yet. ${next}`);
}

/** Makes `all` the children of `place`; moves only those elsewhere, to keep focus and scrolling. */
function arrange(place, all) {
  for (const [at, one] of all.entries()) {
    if (place.children[at] !== one) place.insertBefore(one, place.children[at] ?? null);
  }
  while (place.childElementCount > all.length) place.lastElementChild.remove();
}

function forget(shown) {
  const kept = new Set(shown.map(({ room }) => room));
  for (const room of cards.keys()) if (!kept.has(room)) cards.delete(room);
  if (unfolded.size > 1000) unfolded.clear();
}

/** Returns a room's element, updated: it is the same one from window to window. */
function card(shown, open) {
  const made = cards.get(shown.room) ?? newCard(shown.room, open);
  const { element, size, rows } = made;
  size.textContent = count(shown.members, "member");
  made.fill = () => arrange(rows, members(shown, rows.firstElementChild));
  // Rows are made only when a room is unfolded: there may be many rooms, and large ones.
  if (element.open) made.fill();
  else rows.replaceChildren();
  return element;
}

function newCard(room, open) {
  const element = make("details", "room");
  const head = make("summary");
  const [size, rows] = [make("span", "n"), make("div")];
  head.append(makeSaid("h3", "", room), size);
  element.append(head, rows);
  const made = { element, size, rows, fill: () => {} };
  element.open = unfolded.get(room) ?? open;
  head.addEventListener("click", () => unfolded.set(room, !element.open));
  element.addEventListener("toggle", () => element.open && rows.childElementCount === 0 && made.fill());
  cards.set(room, made);
  return made;
}

/** Returns the table of a room's members, in the scroll frame `before` if there is one. */
function members(shown, before) {
  const table = make("table");
  const head = make("tr");
  for (const [kind, text] of [["", "Name"], ["", "Address"], ["n", "Signed up"]]) {
    const cell = make("th", kind, text);
    cell.scope = "col";
    head.append(cell);
  }
  const top = make("thead");
  top.append(head);
  const body = make("tbody");
  for (const peer of shown.peers.slice(0, SHOWN_PEERS)) {
    const row = make("tr");
    row.append(
      peer.name ? makeSaid("td", "name", peer.name) : make("td", "nameless", "no name"),
      make("td", peer.addr.length > 21 ? "addr long" : "addr", peer.addr),
      make("td", "n", peer.registered.slice(11, 19)),
    );
    body.append(row);
  }
  table.append(top, body);
  const scroll = before ?? make("div", "scroll");
  scroll.tabIndex = 0;
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Members of ${shown.room}`);
  scroll.replaceChildren(table);
  const more = shown.members - Math.min(shown.peers.length, SHOWN_PEERS);
  return more > 0 ? [scroll, make("p", "note", `and ${number(more)} more`)] : [scroll];
}

function showPast(windows) {
  if (windows.length === 0) return;
  const length = latest.window_ms;
  const newest = Date.parse(windows[0].window);
  const slots = new Array(SLOTS).fill(null);
  for (const window of windows) {
    const slot = SLOTS - 1 - Math.round((newest - Date.parse(window.window)) / length);
    if (slot >= 0) slots[slot] = window;
  }
  const oldest = new Date(newest - (SLOTS - 1) * length).toISOString();
  const ends = { left: clock(oldest), right: clock(windows[0].window) };
  put("hour-note", length === 60000 ? "the last hour" : `the last ${SLOTS} windows`);
  plotMembers(slots, ends);
  plotLateness(slots, ends);
  $("hour-rows").replaceChildren(...windows.map((window) => {
    const row = make("tr");
    const late = window.missed ? "missed" : window.late_ms === null ? "–" : `${number(window.late_ms)} ms`;
    const known = (value) => (value === null ? "–" : number(value));
    row.append(
      make("td", "", clock(window.window)),
      make("td", "n", known(window.members)),
      make("td", "n", known(window.rooms)),
      make("td", "n", late),
    );
    return row;
  }));
}

function plotMembers(slots, ends) {
  const known = slots.filter((window) => window && window.members !== null);
  const most = Math.max(0, ...known.map((window) => window.members));
  const missed = known.filter((window) => window.missed).length;
  const bar = (window, k) => window && window.members !== null && {
    value: window.members,
    kind: window.missed ? "missed" : k === SLOTS - 1 ? "now" : window.members ? "" : "zero",
    title: `${clock(window.window)}: ${count(window.members, "member")}${window.missed ? ", missed: it never opened" : ""}`,
  };
  bars($("hour"), slots.map(bar), {
    label: `Members of each of the last ${count(known.length, "window")}: at most ${number(most)}${missed ? `; ${missed} missed` : ""}`,
    least: 5,
    unit: " members",
    ...ends,
  });
}

function plotLateness(slots, ends) {
  const late = slots.filter((window) => window && window.late_ms !== null).map((window) => window.late_ms);
  if (late.length === 0) return;
  const sorted = late.toSorted((a, b) => a - b);
  const usual = sorted[Math.floor((sorted.length - 1) / 2)];
  const worst = sorted.at(-1);
  put("late", number(usual));
  put("late-note", `At worst ${number(worst)} ms in ${count(late.length, "window")}.`);
  bars($("late-plot"), slots.map((window, k) => window && window.late_ms !== null && {
    value: window.late_ms,
    kind: k === SLOTS - 1 ? "now" : "",
    title: `${clock(window.window)}: ${number(window.late_ms)} ms`,
  }), {
    label: `How late each window opened: usually ${usual} ms, at worst ${worst} ms`,
    least: 5,
    unit: " ms",
    ...ends,
  });
}

// ---- the connection ---------------------------------------------------------------------------

let source = null;
let retry = 0;

function link(state) {
  const place = $("link");
  if (place.dataset.state === state) return;
  const lost = state === "lost";
  if (lost || place.dataset.state === "lost") {
    put("announcement", lost ? "Not connected to the registry." : "Connected again.");
  }
  place.dataset.state = state;
  put("link-text", lost ? "Not connected, trying again" : state === "live" ? "Live" : "Connecting…");
  document.body.classList.toggle("lost", lost);
}

/** Opens a new event stream. A browser retries by itself only if the server was not reachable. */
function connect(state) {
  link(state);
  source?.close();
  clearTimeout(retry);
  waitingSince = performance.now();
  source = new EventSource("api/v1/events");
  source.onmessage = (message) => show(JSON.parse(message.data));
  source.onerror = () => {
    link("lost");
    if (source.readyState === EventSource.CLOSED) retry = setTimeout(() => connect("lost"), 3000);
  };
}

// A hidden page keeps no stream open.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) return connect("waiting");
  source?.close();
  clearTimeout(retry);
});

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
setInterval(() => document.hidden || tick(), reducedMotion ? 1000 : 250);
connect("waiting");
