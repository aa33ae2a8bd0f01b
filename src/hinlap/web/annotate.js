"use strict";
// The annotation page. Everything that came from a file or a model goes in as text, never as HTML;
// the guidelines alone are HTML, made safe by the server.

const start = JSON.parse(document.getElementById("start").textContent);
const $ = (id) => document.getElementById(id);
const address = new URLSearchParams(location.search);
const token = address.get("token");
const NAMES = ["instruction", "input", "output", "category"];
const IDLE_SECONDS = 60;

let row = null;          // as the server gave it; {key: "", ...} when nothing is left
let draft = null;        // {status, text, cut, error}, and the question it was asked
let fromDraft = false;
let opened = 0, worked = 0, touched = 0, ticked = 0;
let number = 0;          // of the log's last entry we know
let busy = false;
const unsaved = new Map();  // key -> fields typed and left without saving
const shown = { start: 0, total: 0 };

function say(key, values = {}) {
  return start.say[key].replace(/\{(\w+)\}/g, (whole, name) => (name in values ? values[name] : whole));
}

function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

async function ask(path, body = {}) {
  let answer;
  try {
    answer = await fetch(`/api/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Hinlap-Token": token },
      body: JSON.stringify(body),
    });
  } catch {
    online(false);
    throw new Error(say("unsaved"));
  }
  online(true);
  const content = (answer.headers.get("content-type") || "").startsWith("application/json")
    ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) {
    const error = new Error(content.error || answer.statusText);
    error.conflict = content.conflict;
    throw error;
  }
  return content;
}

// ---------------------------------------------------------------- what is on the screen

const fields = () => Object.fromEntries(NAMES.map((name) => [name, $(name).value]));
const differs = (a, b) => NAMES.some((name) => a[name] !== b[name]);
const dirty = () => row !== null && row.key !== "" && differs(fields(), row.fields);
const asked = (f) => JSON.stringify([f.instruction, f.input]);
const draftFits = () => draft?.status === "ready" && draft.asked === asked(fields());

function tell(text, kind = "") {
  $("said").textContent = text;
  $("said").className = kind;
}

function banner(text, quote, ...buttons) {
  const box = $("banner");
  box.replaceChildren(element("span", text));
  for (const [label, act] of buttons) {
    const button = element("button", label);
    button.onclick = act;
    box.append(button);
  }
  if (quote) box.append(element("blockquote", quote));
  box.hidden = false;
  box.dataset.kind = "row";
}

function clearBanner() { $("banner").hidden = true; }

function online(yes) {
  const box = $("banner");
  if (!yes && (box.hidden || box.dataset.kind !== "offline")) {
    banner(say("offline"));
    box.dataset.kind = "offline";
  } else if (yes && !box.hidden && box.dataset.kind === "offline") clearBanner();
}

function remember() {
  if (row === null || row.key === "") return;
  if (dirty()) unsaved.set(row.key, { fields: fields(), fromDraft, worked });
  else unsaved.delete(row.key);
}

function show(next, { focus = true } = {}) {
  row = next;
  clearBanner();
  const empty = row.key === "";
  const left = empty ? undefined : unsaved.get(row.key);
  const now = left ? left.fields : row.fields || { instruction: "", input: "", output: "", category: "" };
  for (const name of NAMES) {
    $(name).value = now[name];
    $(name).disabled = empty;
  }
  fromDraft = left ? left.fromDraft : false;
  worked = left ? left.worked : 0;
  opened = touched = ticked = performance.now();
  $("place").textContent = empty ? say("all-done")
    : row.version === 0 && row.fresh ? say("new-row") : say("row", { n: row.position + 1 });
  $("status").hidden = empty || row.fresh;
  if (!empty && !row.fresh) {
    $("status").textContent = say(row.status);
    $("status").className = `chip ${row.status}`;
  }
  const about = [];
  if (row.last) {
    about.push(say("by", { action: say(row.last.action), by: row.last.by }));
    if (row.last.reason) about.push(row.last.reason);
  }
  if (row.origin) about.push(say(`origin-${row.origin}`));
  $("about").textContent = about.join(" · ");
  for (const name of ["flag", "skip"]) document.querySelector(`footer [data-do=${name}]`).disabled = empty || Boolean(row.fresh);
  document.querySelector("footer [data-do=save]").disabled = empty;
  showEarlier();
  showCategory();
  setDraft(null);
  showChecks([]);
  sizeAll();
  $("form").classList.remove("turn");
  void $("form").offsetWidth;
  $("form").classList.add("turn");
  $("form").scrollTop = 0;
  if (focus) {
    if (row.fresh) $(now.category ? "instruction" : "category").focus();
    else if (!start.model && !now.output && !empty) $("output").focus();
    else $("form").focus({ preventScroll: true });
  }
  markCurrent();
  if (!empty) { wantDraft(); wantChecks(); }
}

function showEarlier() {
  const turns = [];
  if (row.system) turns.push(["system", row.system]);
  for (const [question, answer] of row.history || []) turns.push(["asked", question], ["answered", answer]);
  $("earlier").hidden = turns.length === 0;
  $("turns").replaceChildren(...turns.flatMap(([who, text]) => [
    element("small", say(who)), element("p", text, { dir: "auto" })]));
}

function showCategory() {
  const now = $("category").value;
  for (const chip of $("chips").children) chip.setAttribute("aria-pressed", String(chip.textContent === now));
  for (const section of $("guidelines").children) {
    const fits = section.dataset.category !== "" && section.dataset.category === now;
    section.classList.toggle("now", fits);
    if (fits && matchMedia("(min-width: 1101px)").matches) section.scrollIntoView({ block: "nearest" });
  }
}

function sizeAll() {
  if (CSS.supports("field-sizing", "content")) return;
  for (const area of document.querySelectorAll("textarea")) {
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight + 2}px`;
  }
}

// ---------------------------------------------------------------- the draft

function setDraft(next) {
  draft = next;
  const box = $("draft");
  const fits = draftFits();
  box.classList.toggle("waiting", !draft || draft.status === "pending" || draft.status === "none");
  box.classList.toggle("failed", draft?.status === "failed");
  box.classList.toggle("stale", draft?.status === "ready" && !fits);
  box.textContent = !draft ? "" : draft.status === "ready" ? draft.text
    : draft.status === "failed" ? say("draft-failed", { error: draft.error })
    : say(`draft-${draft.status}`);
  const notes = [];
  if (draft?.status === "ready" && !fits) notes.push(say("draft-stale"));
  if (draft?.cut) notes.push(say("draft-cut"));
  if (draft?.status === "ready" && draft.seconds) notes.push(say("seconds", { n: draft.seconds.toFixed(1) }));
  $("draft-note").textContent = notes.join(" · ");
  $("again").hidden = !(draft?.status === "failed" || (draft?.status === "ready" && !fits));
  for (const name of ["accept", "use"]) document.querySelector(`[data-do=${name}]`).disabled = !fits;
}

async function wantDraft(again = false) {
  if (!start.model || row.key === "") return;
  const key = row.key, now = fields();
  while (row.key === key && asked(fields()) === asked(now)) {
    let found;
    try { found = await ask("draft", { key, fields: now, again }); } catch { return; }
    if (row.key !== key) return;
    setDraft({ ...found, asked: asked(now) });
    if (found.status !== "pending") return wantChecks();
    again = false;
    await new Promise((done) => setTimeout(done, 350));
  }
}

function useDraft() {
  if (!draftFits()) return;
  $("output").value = draft.text;
  fromDraft = true;
  sizeAll();
  changed();
  $("output").focus();
  $("output").setSelectionRange(draft.text.length, draft.text.length);
}

// ---------------------------------------------------------------- checks

let checkTimer = 0;
function wantChecks() {
  clearTimeout(checkTimer);
  checkTimer = setTimeout(async () => {
    if (row.key === "") return;
    const key = row.key, now = fields();
    const found = await ask("check", { key, fields: now, draft: draftFits() ? draft.text : null }).catch(() => null);
    if (found && row.key === key && !differs(now, fields())) showChecks(found.checks);
  }, 250);
}

function showChecks(checks) {
  $("checks").replaceChildren(...checks
    .filter((check) => !["no-answer", "no-instruction"].includes(check.kind)
      || ($("instruction").value + $("output").value && dirty()))
    .map((check) => {
      const text = say(`check-${check.kind}`, { detail: check.detail, percent: Math.floor(check.similarity * 100) });
      const item = element("li");
      if (check.kind === "near-copy") {
        const button = element("button", text);
        button.onclick = () => open(check.detail);
        item.append(button);
      } else item.textContent = text;
      return item;
    }));
}

// ---------------------------------------------------------------- going about

const wanted = () => {
  const query = $("query").value.trim();
  return { status: $("filter").value, query: /^#\d+$/.test(query) ? "" : query };
};

async function go(from, by) {
  remember();
  show(await ask("step", { ...wanted(), start: from, by }));
}

async function open(key) {
  remember();
  show(await ask("row", { key }));
}

const here = () => (row.fresh || row.key === "" ? -1 : row.position);

function newRow() {
  remember();
  const digits = crypto.getRandomValues(new Uint8Array(6));
  const key = `new-${Array.from(digits, (d) => d.toString(16).padStart(2, "0")).join("")}`;
  const category = row?.fresh ? row.fields.category || $("category").value : "";
  show({ key, fresh: true, position: row ? row.position : 0, status: "todo", version: 0, last: null, origin: "",
    system: "", history: [], fields: { instruction: "", input: "", output: "", category: "" } });
  if (category) {
    row.fields.category = category;
    $("category").value = category;
    showCategory();
    $("instruction").focus();
  }
}

// ---------------------------------------------------------------- saving

async function hand(action, { reason = "", text = fields(), version = row.version } = {}) {
  if (busy || row.key === "") return;
  busy = true;
  tick();
  const fresh = row.fresh, position = row.position, key = row.key;
  tell(say("saving"));
  try {
    const done = await ask("save", {
      key, version, action, reason, fields: text, annotator: start.annotator,
      seconds: worked / 1000, open_seconds: (performance.now() - opened) / 1000,
      draft: draftFits() ? draft.text : null, draft_by: draftFits() ? start.model : "", from_draft: fromDraft,
    });
    if (action === "save") unsaved.delete(key); else remember();
    tell(`${say("saved")} · ${say(done.action)} · ${say("seconds", { n: (worked / 1000).toFixed(1) })}`, "good");
    row = { ...row, key: "" };  // handed in: nothing on the screen is unsaved
    if (fresh) {
      row = { ...done.row, fresh: true };
      newRow();
    } else show(await ask("step", { ...wanted(), start: position + ($("filter").value === "todo" ? 0 : 1), by: 1 }));
    refresh();
  } catch (error) {
    tell(`${say("unsaved")}: ${error.message}`, "bad");
    if (error.conflict) conflict(error.conflict, () => hand(action, { reason, text, version: error.conflict.number }));
  } finally { busy = false; }
}

function conflict(theirs, again) {
  banner(say("conflict", { by: theirs.by, action: say(theirs.action) }), theirs.fields?.output || theirs.reason,
    [say("theirs"), () => { unsaved.delete(row.key); row.fields = fields(); open(row.key); }],
    [say("mine"), again]);
}

function accept() {
  if (!draftFits()) return;
  hand("save", { text: { ...fields(), output: draft.text } });
}

async function undo() {
  if (busy) return;
  remember();
  try {
    const done = await ask("undo", { annotator: start.annotator });
    unsaved.delete(done.row.key);
    row = null;
    show(done.row);
    tell(say("undone", { action: say(done.action) }), "good");
    refresh();
  } catch (error) { tell(error.message, "bad"); }
}

function flag() {
  if (row.key === "" || row.fresh) return;
  $("reason").value = "";
  $("flag-dialog").showModal();
  $("flag-dialog").querySelector("[data-reason]").focus();
}

function flagNow(reason) {
  if (!reason.trim()) return $("reason").focus();
  $("flag-dialog").close();
  hand("flag", { reason });
}

// ---------------------------------------------------------------- list, counts, report

async function refresh() {
  const found = await ask("state", { since: number }).catch(() => null);
  if (!found) return;
  number = found.number;
  const total = Object.values(found.counts).reduce((a, b) => a + b, 0);
  $("bar").max = Math.max(1, total);
  $("bar").value = total - found.counts.todo;
  $("count").textContent = [say("progress", { done: total - found.counts.todo, total }),
    ...["flagged", "skipped"].filter((s) => found.counts[s]).map((s) => `${found.counts[s]} ${say(s)}`)].join(" · ");
  const mine = row && found.changed[row.key];
  if (mine && mine.number > row.version && !busy) {
    if (dirty()) banner(say("changed", { by: mine.by }), "", [say("theirs"), () => {
      row.fields = fields();
      open(row.key);
    }]);
    else open(row.key).catch(() => {});
  }
  if ($("list").checkVisibility()) list();
}

async function list(more = false) {
  const found = await ask("list", { ...wanted(), start: more ? shown.start : 0 }).catch(() => null);
  if (!found) return;
  const items = found.rows.map((place) => {
    const item = element("li"), button = element("button");
    button.append(element("span", place.position + 1, { class: "n" }), element("span", place.title || "–", { dir: "auto" }));
    button.dataset.key = place.key;
    button.onclick = () => open(place.key);
    item.append(button);
    return item;
  });
  if (more) $("rows").append(...items); else $("rows").replaceChildren(...items);
  shown.start = (more ? shown.start : 0) + items.length;
  $("no-rows").hidden = found.total > 0;
  $("more").hidden = shown.start >= found.total;
  markCurrent();
}

function markCurrent() {
  for (const button of $("rows").querySelectorAll("button")) {
    if (row && button.dataset.key === row.key) {
      button.setAttribute("aria-current", "true");
      button.scrollIntoView({ block: "nearest" });
    } else button.removeAttribute("aria-current");
  }
}

function toggleList(open = !document.querySelector("main").classList.contains("with-list")) {
  document.querySelector("main").classList.toggle("with-list", open);
  document.querySelector("[data-do=list]").setAttribute("aria-expanded", String(open));
  if (open) list();
}

async function report() {
  const found = await ask("report");
  const percent = (x) => Math.round(100 * x);
  const figures = element("div", "", { class: "figures" });
  for (const [action, n] of Object.entries(found.rows)) {
    if (!n) continue;
    const figure = element("div");
    figure.append(element("b", n), element("span", say(action)));
    figures.append(figure);
  }
  const lines = [];
  if (!figures.children.length) lines.push(say("report-nothing"));
  if (found.seconds !== null) lines.push(say("report-seconds", { n: found.seconds.toFixed(1) }) + ` · n ${found.n_seconds}`);
  if (found.drafts.n) lines.push(say("report-drafts", { n: found.drafts.n, percent: percent(found.drafts.value),
    low: percent(found.drafts.low), high: percent(found.drafts.high) }));
  if (found.distance !== null) lines.push(say("report-distance", { n: Math.round(found.distance) }));
  for (const pair of found.agreements)
    if (pair.answer.n) lines.push(say("report-agree", { first: pair.first, second: pair.second, n: pair.answer.n, percent: percent(pair.answer.value) }));
  $("report-head").textContent = $("count").textContent;
  $("report-body").replaceChildren(figures, ...lines.map((line) => element("p", line)));
  $("finish-said").textContent = "";
  if (!$("report-dialog").open) $("report-dialog").showModal();
}

// ---------------------------------------------------------------- hands

function changed() {
  setDraft(draft);
  wantChecks();
  tell(dirty() ? say("unsaved") : "");
}

const DO = {
  save: () => hand("save"), accept, use: useDraft, skip: () => row.fresh || hand("skip"), flag, undo, new: newRow, report,
  previous: () => go(here() - 1, -1), next: () => go(here() + 1, 1), list: () => toggleList(), help: () => $("help-dialog").showModal(),
  again: () => wantDraft(true), answer: () => $("output").focus(),
  search: () => { toggleList(true); $("query").focus(); },
};
// by the place of the key, so that a Thai keyboard works too
const KEYS = { KeyA: "accept", KeyE: "use", KeyD: "again", KeyS: "skip", KeyF: "flag", KeyU: "undo", KeyN: "new", KeyJ: "next",
  KeyK: "previous", KeyG: "list", KeyR: "report", KeyI: "answer", ArrowDown: "next", ArrowUp: "previous" };

async function act(name) {
  try { await DO[name](); } catch (error) { tell(error.message, "bad"); }
}

document.addEventListener("keydown", (event) => {
  if (event.isComposing || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("textarea, input, select");
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    return void act("save");
  }
  if (event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape" && typing) return void $("form").focus();
  if (typing && !event.altKey) return;
  let name = KEYS[event.code];
  if (event.key === "?" || (event.code === "Slash" && event.shiftKey)) name = "help";
  else if (event.code === "Slash") name = "search";
  if (!name || (event.target.matches("button, summary") && event.key === "Enter")) return;
  event.preventDefault();
  if (!event.repeat || name === "next" || name === "previous") act(name);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.do) act(button.dataset.do);
  if (button.dataset.reason) flagNow(button.dataset.reason);
  if ("close" in button.dataset) button.closest("dialog").close();
});

$("flag-dialog").addEventListener("keydown", (event) => {
  const reason = $("flag-dialog").querySelectorAll("[data-reason]")[Number(event.key) - 1];
  if (reason && event.target !== $("reason")) { event.preventDefault(); flagNow(reason.dataset.reason); }
  if (event.key === "Enter" && event.target === $("reason")) { event.preventDefault(); flagNow($("reason").value); }
});
$("flag-now").onclick = () => flagNow($("reason").value);

$("finish").onclick = async () => {
  try {
    const done = await ask("finish", { annotator: start.annotator });
    $("finish-said").textContent = say(done.written ? "finish-done" : "finish-none");
    refresh();
  } catch (error) { $("finish-said").textContent = error.message; }
};

for (const name of NAMES) $(name).addEventListener("input", () => { touched = performance.now(); sizeAll(); changed(); });
for (const name of ["instruction", "input"]) $(name).addEventListener("change", () => {
  if (draft?.asked !== asked(fields())) wantDraft();
});
$("category").addEventListener("input", showCategory);
for (const event of ["pointermove", "keydown", "scroll"])
  document.addEventListener(event, () => { touched = performance.now(); }, { passive: true, capture: true });

let queryTimer = 0;
$("query").addEventListener("input", () => { clearTimeout(queryTimer); queryTimer = setTimeout(list, 150); });
$("query").addEventListener("keydown", async (event) => {
  if (event.key !== "Enter" || event.ctrlKey) return;
  const jump = /^#(\d+)$/.exec($("query").value.trim());
  remember();
  if (jump) show(await ask("step", { start: Number(jump[1]) - 1, by: 1 }));
  else show(await ask("step", { ...wanted(), start: 0, by: 1 }));
});
$("filter").addEventListener("change", () => { list(); go(0, 1).catch(() => {}); });
$("more").onclick = () => list(true);

function tick() {
  const now = performance.now();
  if (document.visibilityState === "visible" && now - touched < IDLE_SECONDS * 1000) worked += now - ticked;
  ticked = now;
  if (row && row.key !== "") $("clock").textContent = say("seconds", { n: Math.round(worked / 1000) });
}
setInterval(tick, 500);
setInterval(() => { if (document.visibilityState === "visible") refresh(); }, 4000);
window.addEventListener("beforeunload", (event) => { if (dirty() || unsaved.size) event.preventDefault(); });

$("other-language").onclick = () => {
  address.set("lang", start.language === "en" ? "th" : "en");
  location.search = address;
};

// ---------------------------------------------------------------- the beginning

document.title = `${start.file} · ${start.say.title} · Hinlap`;
$("file").textContent = start.file;
$("who").textContent = start.annotator;
document.body.classList.toggle("no-model", !start.model);
$("draft-by").textContent = start.model
  ? [say("draft-by", { model: start.model }), start.leaves ? say("draft-leaves") : ""].filter(Boolean).join(" · ") : "";
for (const category of start.categories) {
  $("categories").append(element("option", "", { value: category }));
  const chip = element("button", category, { type: "button", "aria-pressed": "false" });
  chip.onclick = () => {
    $("category").value = $("category").value === category ? "" : category;
    showCategory();
    changed();
  };
  $("chips").append(chip);
}
for (const section of start.guidelines) {
  const box = element("section");
  box.dataset.category = section.category;
  box.innerHTML = section.html;  // safe: made by the server from Markdown without HTML
  $("guidelines").append(box);
}
if (matchMedia("(max-width: 1100px)").matches) $("guide-fold").open = false;
if (matchMedia("(min-width: 1500px)").matches) toggleList(true);

(async () => {
  try {
    await refresh();
    const first = await ask("step", { ...wanted(), start: 0, by: 1 });
    if (first.key === "" && Number($("bar").max) <= 1) { show(first); newRow(); } else show(first);
  } catch (error) { tell(error.message, "bad"); }
})();
