/* The rating page. Served, it saves each answer at once on the study's server; as a file of its own, in the browser, to be sent back as a file.
   Whatever was said in a conversation is put in as text, never as markup. Licence: as the package. */
"use strict";
(() => {
const $ = id => document.getElementById(id);
const boot = JSON.parse($("boot").textContent);
const alone = boot.mode === "file";
const tab = Array.from(crypto.getRandomValues(new Uint8Array(9)), b => b.toString(36)).join("");
const memory = {   // the browser's own memory, which a browser may refuse
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); return true; } catch { return false; } },
};
const known = document.documentElement;
let language = memory.get("rate-language") || boot.language;
let study, position = 0, view = "", active = -1, seen = 0;
let said = {};               // position → question → value
const items = new Map();     // position → promise of its turns
const queue = [];            // answers that are not yet saved; the first may be on its way
let sending = false, dead = false, wait = 1000;

const t = (key, values = {}) => boot.strings[language][key].replace(/\{(\w+)\}/g, (_, k) => values[k]);
const answers = p => said[p] || (said[p] = {});
const open = p => study.criteria.filter(c => answers(p)[c.id] === undefined).length;
const finished = () => { let n = 0; for (let p = 1; p <= study.n; p++) n += open(p) === 0; return n; };

/* Where answers go ------------------------------------------------------------------------------------------------------------------------- */
class Refusal extends Error { constructor(status, code, why) { super(why); this.status = status; this.code = code; } }

const server = {
  async ask(path, body) {
    const options = { credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer", signal: AbortSignal.timeout(20000) };
    if (body) Object.assign(options, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), keepalive: true });
    const reply = await fetch(boot.base + path, options);
    let data = {};
    try { data = await reply.json(); } catch { /* an error page of something in between */ }
    if (!reply.ok) throw new Refusal(reply.status, data.error, data.message || String(reply.status));
    return data;
  },
  async study() { return this.ask("/study"); },
  async item(p) { return (await this.ask(`/items/${p}`)).turns; },
  async save(answer) { return this.ask("/answers", { ...answer, tab, seen }); },
  async changes() { return this.ask(`/changes?since=${seen}`); },
};

const shelf = {               // the same, in the browser
  key: alone ? `rate:${boot.study.study_id}:${boot.study.rater}` : "",
  kept: { answers: {}, visits: {} }, works: true,
  read() { try { this.kept = JSON.parse(memory.get(this.key)) || this.kept; } catch { /* not ours */ } },
  write() { this.works = memory.set(this.key, JSON.stringify(this.kept)); },
  state() { return Object.entries(this.kept.answers).map(([key, a]) => [...this.split(key), a.value, 0, a.tab]); },
  split(key) { const i = key.indexOf("|"); return [Number(key.slice(0, i)), key.slice(i + 1)]; },
  async study() { this.read(); this.write(); return { ...boot.study, revision: 0, answers: this.state() }; },
  async item(p) { return boot.items[p - 1]; },
  async save(a) {
    this.read();
    if (a.field) this.kept.answers[`${a.position}|${a.field}`] = { value: a.value, at: Date.now() / 1000, tab };
    if (a.visit) this.kept.visits[`${a.position}|${a.visit}`] = a.seconds;
    this.write();
    return { revision: 0, changes: [] };
  },
  async changes() { return { revision: 0, changes: [] }; },
  file() {
    this.read();
    const given = Object.entries(this.kept.answers).map(([key, a]) => { const [p, field] = this.split(key); return { position: p, field, value: a.value, at: a.at }; });
    const visits = Object.entries(this.kept.visits).map(([key, seconds]) => { const [p, visit] = this.split(key); return { position: p, visit, seconds }; });
    return { kind: "arabic-dialog ratings", format: 1, study: boot.study.study_id, rater: boot.study.rater, answers: given, visits };
  },
  load(data) {
    if (!data || data.kind !== "arabic-dialog ratings" || data.study !== boot.study.study_id || data.rater !== boot.study.rater || !Array.isArray(data.answers)) throw new Error("not ours");
    this.read(); let n = 0;
    for (const a of data.answers) {
      const old = this.kept.answers[`${a.position}|${a.field}`];
      if (!old || old.at < a.at) { this.kept.answers[`${a.position}|${a.field}`] = { value: a.value, at: a.at, tab: "file" }; n++; }
    }
    for (const v of data.visits || []) this.kept.visits[`${v.position}|${v.visit}`] = v.seconds;
    this.write(); return n;
  },
};
const store = alone ? shelf : server;

/* Saving ------------------------------------------------------------------------------------------------------------------------------------ */
function status(key, bad = false) { $("status").textContent = key ? t(key) : ""; $("status").dataset.key = key; $("status").classList.toggle("bad", bad); }
function notice(key, values) { const n = $("notice"); n.hidden = !key; n.textContent = key ? t(key, values) : ""; n.dataset.key = key || ""; }

function merge(changes) {     // what other windows have answered; an answer of this one that is still on its way stands
  let here = false;
  for (const [p, field, value, revision, from] of changes) {
    seen = Math.max(seen, revision);
    if (from === tab || queue.some(a => a.position === p && a.field === field)) continue;
    if (answers(p)[field] === value) continue;
    answers(p)[field] = value; here ||= p === position && view === "item";
  }
  if (here) { fill(); notice("elsewhere"); }
  return here;
}

function save(field, value) {
  if (field) answers(position)[field] = value;
  const answer = { position, field, value, visit: clock.visit, seconds: clock.seconds() };
  const late = queue.findIndex((a, i) => (i > 0 || !sending) && a.position === position && a.field === field);
  if (late >= 0) queue[late] = answer; else queue.push(answer);
  known.dataset.waiting = queue.length;
  if (field) setTimeout(() => { if (queue.includes(answer) && !$("status").classList.contains("bad")) status("saving"); }, 400);
  pump();
}

async function pump() {
  if (sending || dead) return;
  sending = true;
  while (queue.length && !dead) {
    const answer = queue[0];
    try {
      const reply = await store.save(answer);
      queue.shift(); wait = 1000;
      const shown = merge(reply.changes);
      seen = Math.max(seen, reply.revision);
      if (reply.elsewhere && !shown && answer.position === position) notice("elsewhere");
      if (["full", "refused"].includes($("notice").dataset.key)) notice("");
      if (!queue.length) { status(alone ? "kept" : "saved"); if (alone && !shelf.works) { status(""); notice("nostore"); } }
    } catch (e) {
      if (e.status === 404) { dead = true; notice("gone"); status("unsaved", true); break; }
      if (e.status >= 400 && e.status < 500 && ![408, 429].includes(e.status)) { queue.shift(); notice("refused", { why: e.message }); status(""); continue; }
      if (e.code === "full") notice("full");
      status("unsaved", true);
      await new Promise(done => setTimeout(done, wait)); wait = Math.min(wait * 2, 10000);
    }
  }
  sending = false; progress();
}

async function look() {       // what has happened elsewhere?
  if (dead || alone || document.visibilityState !== "visible" || !study) return;
  try { merge((await store.changes()).changes); progress(); } catch (e) { if (e.status === 404) { dead = true; notice("gone"); } }
}

/* How long an item takes: only while the page is seen, and somebody is there ---------------------------------------------------------------- */
const clock = {
  visit: "", spent: 0, since: 0, last: 0, idle: 120000,
  begin() { this.visit = Math.random().toString(36).slice(2, 12); this.spent = 0; this.since = document.visibilityState === "visible" ? performance.now() : 0; this.last = performance.now(); },
  stop() { if (this.since) { this.spent += Math.max(0, Math.min(performance.now(), this.last + this.idle) - this.since); this.since = 0; } },
  go() { if (!this.since) this.since = performance.now(); this.last = performance.now(); },
  touch() { if (performance.now() > this.last + this.idle) this.stop(); this.go(); },
  seconds() { const was = this.since; this.stop(); if (was) this.since = performance.now(); return Math.round(this.spent / 100) / 10; },
};

/* Text that anybody may have written ---------------------------------------------------------------------------------------------------------- */
const CONTROLS = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb])/;
const ARABIC = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;
const LONG = 3000;

function write(node, text) {  // as text; characters that would turn the text around are shown by their number
  for (const part of text.split(CONTROLS)) {
    if (!part) continue;
    if (part.length === 1 && CONTROLS.test(part)) {
      const sign = document.createElement("span"); sign.className = "sign";
      sign.textContent = "U+" + part.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0"); node.append(sign);
    } else node.append(part);
  }
}
function cut(text) {          // where a long text is cut: after a word, and never inside a character
  if (text.length <= LONG * 1.2) return text.length;
  const space = text.lastIndexOf(" ", LONG);
  if (space > LONG / 2) return space + 1;
  return LONG + (/[\udc00-\udfff]/.test(text[LONG]) ? 1 : 0);
}
function rest(node, text) {   // in pieces, each laid out when it is seen: a browser shapes a word of a million letters for minutes
  while (text) {
    const piece = document.createElement("span"), end = cut(text); piece.className = "piece"; write(piece, text.slice(0, end)); node.append(piece); text = text.slice(end);
  }
}
function bubble(turn, rated) {
  const li = document.createElement("li"), who = document.createElement("span"), said_ = document.createElement("div");
  li.className = turn.speaker === "user" ? "user" : "assistant"; li.classList.toggle("rated", rated);
  who.className = "who"; who.textContent = t(li.classList[0]) + (rated ? ` – ${t("rated")}` : ""); who.lang = language; who.dir = language === "ar" ? "rtl" : "ltr";
  said_.className = "bubble"; said_.dir = ARABIC.test(turn.text) ? "rtl" : "auto"; if (said_.dir === "rtl") said_.lang = "ar";
  const end = cut(turn.text);
  if (turn.text.trim()) write(said_, turn.text.slice(0, end)); else { said_.textContent = t("empty"); said_.classList.add("empty"); said_.lang = language; }
  li.append(who, said_);
  if (end < turn.text.length) {
    const more = document.createElement("button"); more.type = "button"; more.className = "quiet more";
    more.textContent = t("more", { n: turn.text.length.toLocaleString("en") });
    more.addEventListener("click", () => { rest(said_, turn.text.slice(end)); more.remove(); });
    li.append(more);
  }
  return li;
}

/* The questions ------------------------------------------------------------------------------------------------------------------------------ */
const ABSENT = -1;           // the answer that the question does not apply
const mayNotApply = c => Boolean(c.absent && c.absent[language]);
function build() {
  $("criteria").replaceChildren(...study.criteria.map((c, i) => {
    const set = document.createElement("fieldset"), legend = document.createElement("legend"), ask = document.createElement("p"), points = document.createElement("div");
    const name = document.createElement("span"), given = document.createElement("span"); given.className = "given"; given.setAttribute("aria-hidden", "true");
    name.textContent = c[language].name; legend.append(name, given);
    ask.className = "ask"; ask.id = `ask-${i}`; ask.textContent = c[language].ask; set.setAttribute("aria-describedby", ask.id);
    points.className = "points"; points.classList.toggle("optional", mayNotApply(c));
    for (const value of [1, 2, 3, 4, 5, ...(mayNotApply(c) ? [ABSENT] : []), 0]) {
      const label = document.createElement("label"), input = document.createElement("input"), n = document.createElement("span"), anchor = document.createElement("span");
      label.className = value > 0 ? "point" : "point cannot"; input.type = "radio"; input.name = c.id; input.value = value;
      n.className = "n"; n.textContent = value > 0 ? value : ""; anchor.className = "anchor";
      anchor.textContent = value > 0 ? c[language].anchors[value - 1] : t(value ? "absent" : "cannot");
      label.append(input, n, anchor);
      if (value === ABSENT) { const when = document.createElement("span"); when.className = "when"; when.textContent = c.absent[language]; label.append(when); }
      points.append(label);
    }
    set.append(legend, ask, points); set.dataset.criterion = c.id;
    set.addEventListener("focusin", () => mark(i));
    set.addEventListener("change", e => { save(c.id, Number(e.target.value)); fill(); });
    set.addEventListener("click", e => { if (e.target.matches("input") && e.detail > 0) { const n = nextOpen(i); if (n >= 0 && n !== i) mark(n); } });
    return set;
  }));
}
function mark(i) { active = i; [...$("criteria").children].forEach((set, k) => set.classList.toggle("active", k === i)); }
function nextOpen(from) {
  const n = study.criteria.length;
  for (let k = 1; k <= n; k++) { const i = (from + k) % n; if (answers(position)[study.criteria[i].id] === undefined) return i; }
  return -1;
}
function fill() {             // the form as the answers are
  const mine = answers(position);
  [...$("criteria").children].forEach((set, i) => {
    const c = study.criteria[i], value = mine[c.id];
    for (const input of set.querySelectorAll("input")) input.checked = value !== undefined && Number(input.value) === value;
    set.querySelector(".given").textContent = value > 0 ? `${value} – ${c[language].anchors[value - 1]}` : value === ABSENT ? t("absent") : "";
  });
  if (document.activeElement !== $("comment") || $("comment").dataset.position !== String(position)) $("comment").value = mine.comment || "";
  $("comment").dataset.position = position;
  $("flag").setAttribute("aria-pressed", mine.flag ? "true" : "false"); $("flag-text").textContent = t(mine.flag ? "flagged" : "flag");
  progress();
}
function progress() {
  known.dataset.waiting = queue.length;
  if (!study) return;
  const done = finished();
  $("progress").max = study.n; $("progress").value = done; $("progress-text").textContent = t("progress", { done, total: study.n });
  $("next").textContent = t(position === study.n ? "finish" : "next");
}
function point(value) {       // by key
  let i = active < 0 ? nextOpen(-1) : active; if (i < 0) i = 0;
  if (value === ABSENT && !mayNotApply(study.criteria[i])) return;
  save(study.criteria[i].id, value); fill();
  const next = nextOpen(i);
  if (next < 0) { mark(-1); $("next").focus(); } else {
    mark(next); const set = $("criteria").children[next];
    (set.querySelector("input:checked") || set.querySelector("input")).focus({ preventScroll: true }); set.scrollIntoView({ block: "nearest" });
  }
}

/* Going from item to item ------------------------------------------------------------------------------------------------------------------- */
function show(name) {
  view = name; for (const id of ["intro", "item", "done"]) $(id).hidden = id !== name;
  $("footer").hidden = name === "intro"; $("next").hidden = name === "done"; $("back").disabled = name === "item" && position === 1;
}
const turnsOf = p => { if (!items.has(p)) { const asked = store.item(p); asked.catch(() => items.delete(p)); items.set(p, asked); } return items.get(p); };

async function go(p) {
  leave();
  if (p > study.n) { position = study.n + 1; finish(); return; }
  position = Math.max(1, p);
  let turns;
  try { turns = await turnsOf(position); } catch (e) {
    if (e.status === 404 && e.code !== "item") { dead = true; notice("gone"); } else notice("broken");
    return;
  }
  if (["elsewhere", "broken"].includes($("notice").dataset.key)) notice("");
  draw(turns); show("item"); clock.begin(); fill(); mark(nextOpen(-1));
  window.scrollTo(0, 0); $("talk").scrollTop = 0; $("heading").focus({ preventScroll: true });
  memory.set(`rate-at:${study.study_id}:${study.rater}`, String(position));
  if (position < study.n) turnsOf(position + 1).catch(() => {});
}
function draw(turns) {
  $("heading").textContent = t("item", { n: position, total: study.n });
  $("task").textContent = t(study.unit === "conversation" ? "rate_conversation" : "rate_reply");
  $("turns").replaceChildren(...turns.map((turn, i) => bubble(turn, study.unit !== "conversation" && i === turns.length - 1)));
  const long = $("talk").scrollHeight > $("talk").clientHeight + 1;   // a region that scrolls is reached by Tab
  if (long) { $("talk").tabIndex = 0; $("talk").setAttribute("role", "region"); $("talk").setAttribute("aria-label", t("conversation")); }
  else for (const a of ["tabindex", "role", "aria-label"]) $("talk").removeAttribute(a);
}
function leave() { if (view === "item" && clock.visit) { comment(); if (clock.seconds() >= .5) save("", null); } }
function finish() {
  show("done"); clock.visit = "";
  const left = study.n - finished();
  $("done-text").textContent = left ? t("done_some", { n: left }) : t("done_all"); $("first-open").hidden = !left; $("done").querySelector("h1").focus(); progress();
}
function firstOpen() { for (let p = 1; p <= study.n; p++) if (open(p)) return p; return study.n + 1; }
function comment() { const text = $("comment").value.replace(/[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g, ""); if (view === "item" && text !== (answers(position).comment || "")) save("comment", text); }
function flag() { save("flag", answers(position).flag ? 0 : 1); fill(); }
function intro() {
  $("intro-text").replaceChildren(...boot.strings[language][alone ? "intro_file" : "intro"].map(text => { const p = document.createElement("p"); p.textContent = text; return p; }));
  $("start").textContent = t(Object.keys(said).length ? "resume" : "start");
}

/* Language ------------------------------------------------------------------------------------------------------------------------------------ */
async function speak() {
  known.lang = language; known.dir = language === "ar" ? "rtl" : "ltr";
  for (const n of document.querySelectorAll("[data-t]")) n.textContent = t(n.dataset.t);
  for (const n of document.querySelectorAll("[data-label]")) n.setAttribute("aria-label", t(n.dataset.label));
  $("language").textContent = t("language"); $("language").lang = language === "ar" ? "en" : "ar"; document.title = (study && study.name) || t("title");
  if ($("status").dataset.key) $("status").textContent = t($("status").dataset.key);
  if ($("notice").dataset.key && !["refused", "loaded"].includes($("notice").dataset.key)) $("notice").textContent = t($("notice").dataset.key);
  if (!study) return;
  if (!study.name) $("name").textContent = t("title");
  build(); intro();
  if (view === "item") { const was = active; draw(await turnsOf(position)); fill(); mark(was); }
  if (view === "done") finish();
  progress();
}

/* Hands ---------------------------------------------------------------------------------------------------------------------------------------- */
const ABSENT_KEY = "9", NO_POINT = NaN;
function digit(e) {           // the answer that a key stands for
  if ([ABSENT_KEY, "٩", "۹"].includes(e.key) || /^(?:Digit|Numpad)9$/.test(e.code) && !e.shiftKey) return ABSENT;
  const i = "٠١٢٣٤٥".indexOf(e.key), j = "۰۱۲۳۴۵".indexOf(e.key);
  if (/^[0-5]$/.test(e.key)) return Number(e.key);
  if (e.key.length === 1 && (i >= 0 || j >= 0)) return Math.max(i, j);
  const m = /^(?:Digit|Numpad)([0-5])$/.exec(e.code);
  return m && !e.shiftKey ? Number(m[1]) : NO_POINT;
}
const letter = e => /^[a-z]$/i.test(e.key) ? e.key.toLowerCase() : /^Key[A-Z]$/.test(e.code) ? e.code.slice(3).toLowerCase() : "";

document.addEventListener("keydown", e => {
  clock.touch();
  if (!study || e.ctrlKey || e.altKey || e.metaKey || e.isComposing || $("keys").open) return;
  const writing = e.target.matches("textarea, input[type=text]");
  if (writing) { if (e.key === "Escape") { e.target.blur(); mark(nextOpen(-1)); e.preventDefault(); } return; }
  if (!$("keys-on").checked || e.repeat) return;
  const value = digit(e), key = letter(e);
  if (e.key === "?" || e.key === "؟") { $("keys").showModal(); e.preventDefault(); }
  else if (view === "item" && !Number.isNaN(value)) { point(value); e.preventDefault(); }
  else if (view === "item" && key === "c") { $("comment").focus(); e.preventDefault(); }
  else if (view === "item" && key === "f") { flag(); e.preventDefault(); }
  else if (view !== "intro" && key === "b") { $("back").click(); e.preventDefault(); }
  else if (view === "item" && (key === "n" || e.key === "Enter" && !e.target.matches("button, a, summary, label"))) { $("next").click(); e.preventDefault(); }
  else if (view === "intro" && (key === "n" || e.key === "Enter" && !e.target.matches("button, label"))) { $("start").click(); e.preventDefault(); }
});
for (const kind of ["pointerdown", "scroll"]) addEventListener(kind, () => clock.touch(), { passive: true });
$("next").addEventListener("click", () => go(position + 1));
$("back").addEventListener("click", () => { if (position > 1) go(position - 1); });
$("start").addEventListener("click", () => { const at = Number(memory.get(`rate-at:${study.study_id}:${study.rater}`)), first = firstOpen(); go(first > study.n ? first : at && open(at) && at <= study.n ? at : first); });
$("first-open").addEventListener("click", () => go(firstOpen()));
$("comment").addEventListener("change", comment);
let typing; $("comment").addEventListener("input", () => { clock.touch(); clearTimeout(typing); const p = position; typing = setTimeout(() => { if (p === position) comment(); }, 800); });
$("flag").addEventListener("click", flag);
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
$("keys-on").addEventListener("change", e => memory.set("rate-keys", e.target.checked ? "on" : "off"));
$("language").addEventListener("click", () => { language = language === "ar" ? "en" : "ar"; memory.set("rate-language", language); speak(); });
$("form").addEventListener("submit", e => e.preventDefault());
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") { clock.go(); look(); } else { if (view === "item") { comment(); if (clock.seconds() >= .5) save("", null); } clock.stop(); } });
addEventListener("focus", look);
addEventListener("online", () => { wait = 1000; pump(); });
addEventListener("beforeunload", e => { if (queue.some(a => a.field) && !dead) { e.preventDefault(); e.returnValue = t("leave"); } });
if (!alone) setInterval(look, 4000);

/* The file of its own ---------------------------------------------------------------------------------------------------------------------- */
if (alone) {
  for (const n of document.querySelectorAll(".file-only")) n.hidden = false;
  const download = () => {
    leave();
    const a = document.createElement("a"); a.href = URL.createObjectURL(new Blob([JSON.stringify(shelf.file(), null, 1)], { type: "application/json" }));
    a.download = `ratings-${boot.study.rater}.json`; a.click(); setTimeout(() => URL.revokeObjectURL(a.href), 60000);
  };
  $("download").addEventListener("click", download); $("download-now").addEventListener("click", download);
  for (const input of document.querySelectorAll(".load-file")) input.addEventListener("change", async () => {
    try {
      const n = shelf.load(JSON.parse(await input.files[0].text()));
      for (const [p, field, value] of shelf.state()) answers(p)[field] = value;
      notice("loaded", { n }); intro(); if (view === "item") fill(); progress();
    } catch { notice("wrong_file"); }
    input.value = "";
  });
  addEventListener("storage", e => {
    if (e.key !== shelf.key || !study) return;
    shelf.read(); let here = false;
    for (const [p, field, value] of shelf.state()) if (answers(p)[field] !== value) { answers(p)[field] = value; here ||= p === position && view === "item"; }
    if (here) { fill(); notice("elsewhere"); } else progress();
  });
}

(async () => {
  $("keys-on").checked = memory.get("rate-keys") !== "off";
  speak();
  try { study = await store.study(); } catch (e) { notice(e.status === 404 ? "gone" : "broken"); return; }
  for (const [p, field, value] of study.answers) answers(p)[field] = value;
  seen = study.revision;
  await speak(); show("intro"); $("start").focus(); known.dataset.ready = "yes";
  if (alone && !shelf.works) notice("nostore");
})();
})();
