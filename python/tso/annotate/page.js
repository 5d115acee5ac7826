// The page: shows one pair, sends what is said of it, shows the next. What it shows is what the server has stored, so
// loading it again loses nothing. Texts are set as text only; nothing here makes HTML of a string.
"use strict";

const $ = (selector) => document.querySelector(selector);
const annotator = (new URLSearchParams(location.search).get("annotator") || "").trim();
const KEYS = { 1: "left", ArrowLeft: "left", 2: "right", ArrowRight: "right", 3: "tie", 4: "both_bad", s: "skip" };
const EDITS = { q: "left", e: "right" };
const SAID = {
  left: "left is better",
  right: "right is better",
  tie: "tie",
  both_bad: "both bad",
  edit: "edited",
  skip: "skipped",
};

let item = null; // the pair on the page
let canUndo = false;
let busy = false; // something is on its way to the server

function tell(text, wrong = false) {
  $("#status").textContent = text;
  $("#status").classList.toggle("wrong", wrong);
}

// One request, sent again until it is answered: `request` names a verdict, so that it is stored once however often it
// is sent.
async function send(action, body) {
  for (;;) {
    try {
      const answer = await fetch(action, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ annotator, ...body }),
      });
      if (answer.status === 403) return { error: await answer.text() };
      const told = await answer.json();
      if (answer.status !== 503) return told;
      tell(`Not saved yet: ${told.error} Trying again.`, true);
    } catch {
      tell("Not saved yet: the server does not answer. Trying again.", true);
    }
    await new Promise((again) => setTimeout(again, 1000));
  }
}

async function act(action, body, done) {
  if (busy) return;
  setBusy(true);
  try {
    let told = await send(action, body);
    if (told.error) {
      tell(told.error, true);
      if (action === "turn") return;
      told = await send("turn", {});
      if (told.error) return;
    } else {
      tell(done);
    }
    show(told);
  } finally {
    setBusy(false);
  }
}

function setBusy(now) {
  busy = now;
  document.body.setAttribute("aria-busy", String(now));
  for (const button of document.querySelectorAll("#verdicts button, .editor button")) {
    button.disabled = now || (button.id === "undo" ? !canUndo : !item);
  }
}

const editing = () => item && ["left", "right"].some((side) => !part(side, ".editor").hidden);

function judge(said, more = {}) {
  if (!item) return;
  if (said !== "edit" && editing()) {
    tell("An edit is open: save or cancel it first.", true);
    return;
  }
  act("verdict", { item: item.id, said, request: crypto.randomUUID(), ...more }, `Saved: ${SAID[said]}.`);
}

function undo() {
  if (canUndo) act("undo", { request: crypto.randomUUID() }, "Taken back: judge it again.");
}

function show(told) {
  const changed = !item || !told.item || item.id !== told.item.id;
  if (item && changed) for (const side of ["left", "right"]) sessionStorage.removeItem(draft(side));
  item = told.item;
  canUndo = told.undo;
  showProgress(told.progress);
  $("#pair").hidden = !item;
  $("#finished").hidden = Boolean(item);
  $("#verdicts").hidden = false;
  if (!item || !changed) return;
  $("#prompt").replaceChildren(...item.prompt.map(message));
  for (const side of ["left", "right"]) showAnswer(side);
  window.scrollTo(0, 0);
}

function showProgress({ done, left, skipped, repeated, agreed }) {
  const words = [`${done} judged`, `${left} left`];
  if (skipped) words.push(`${skipped} skipped`);
  if (repeated) words.push(`you agreed with yourself on ${agreed} of ${repeated}`);
  $("#progress").hidden = false;
  $("#bar").max = Math.max(1, done + left);
  $("#bar").value = done;
  $("#count").textContent = words.join(", ");
}

function message({ role, content }) {
  const block = document.createElement("div");
  block.className = "message";
  block.dir = "auto";
  const who = document.createElement("b");
  who.textContent = role;
  block.append(who, document.createTextNode(content));
  return block;
}

const part = (side, selector) => $(`.answer[data-side="${side}"] ${selector}`);
const draft = (side) => `${location.pathname} ${annotator} ${item.id} ${side}`;

function showAnswer(side) {
  const text = part(side, ".text");
  text.dir = "auto";
  text.textContent = item[side] || "(an empty answer)";
  text.classList.toggle("empty", !item[side]);
  closeEditor(side);
  const kept = sessionStorage.getItem(draft(side));
  if (kept !== null) openEditor(side, kept);
}

function openEditor(side, text = item[side]) {
  const field = part(side, "textarea");
  field.value = text;
  part(side, ".text").hidden = true;
  part(side, ".editor").hidden = false;
  field.focus();
}

function closeEditor(side) {
  part(side, ".text").hidden = false;
  part(side, ".editor").hidden = true;
}

function cancel(side) {
  sessionStorage.removeItem(draft(side));
  closeEditor(side);
  part(side, ".text").focus();
}

function save(side) {
  const text = part(side, "textarea").value;
  const lines = item[side].replace(/\r\n?/g, "\n");
  if (!text.trim() || text === lines) {
    tell(text.trim() ? "Nothing was changed: change the answer, or cancel." : "The edited answer is empty.", true);
    return;
  }
  judge("edit", { side, text });
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
  if (event.target.closest("input, textarea")) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!(key in KEYS) && !(key in EDITS) && key !== "u") return;
  if ($("#verdicts").hidden) return;
  event.preventDefault();
  if (busy) return;
  if (key === "u") undo();
  else if (key in EDITS) item && openEditor(EDITS[key]);
  else judge(KEYS[key]);
}

function listen() {
  document.addEventListener("keydown", pressed);
  for (const button of document.querySelectorAll("[data-said]")) {
    button.addEventListener("click", () => judge(button.dataset.said));
  }
  for (const button of document.querySelectorAll("[data-edit]")) {
    button.addEventListener("click", () => item && openEditor(button.dataset.edit));
  }
  $("#undo").addEventListener("click", undo);
  $("#again").addEventListener("click", () => act("turn", {}, ""));
  for (const side of ["left", "right"]) {
    part(side, ".save").addEventListener("click", () => save(side));
    part(side, ".cancel").addEventListener("click", () => cancel(side));
    part(side, "textarea").addEventListener("input", (event) => sessionStorage.setItem(draft(side), event.target.value));
    part(side, "textarea").addEventListener("keydown", (event) => {
      if (event.key === "Escape") cancel(side);
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !busy) save(side);
    });
  }
}

function begin() {
  if (!annotator) {
    $("#ask").hidden = false;
    $("#name").focus();
    $("#ask").addEventListener("submit", (event) => {
      event.preventDefault();
      location.search = new URLSearchParams({ annotator: $("#name").value });
    });
    return;
  }
  $("#who").textContent = annotator;
  listen();
  act("turn", {}, "");
}

begin();
