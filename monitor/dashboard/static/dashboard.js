// Live updates, charts and keys. Whatever comes from a task is text here too: nothing is written as HTML.
"use strict";
const $ = (selector) => document.querySelector(selector);

$("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("fairlane-theme", root.dataset.theme); } catch { /* for this page only */ }
  draw();
});

// Parts of a page follow events on its body: at most one in so many ms, and always one after the last change.
function announcer(name, everyMs, still = () => false) {
  let waits = 0, sent = 0;
  return function announce() {
    waits ||= setTimeout(() => {
      waits = 0;
      sent = Date.now();
      if (still()) announce();
      else document.body.dispatchEvent(new CustomEvent(name));
    }, Math.max(20, sent + everyMs - Date.now()));
  };
}
// A list that somebody is in stands still until they have left it; what has an id keeps the focus when it is made anew.
function held() {
  const focused = document.activeElement;
  return focused && !focused.id && focused.closest("#now, #below, #paused, [data-still]");
}
const changed = announcer("fairlane", 900, held);
const jobsChanged = announcer("fairlane-jobs", 250);

// One stream a page; a hidden page needs none.
const live = $("#live");
let stream = null;
function listen() {
  if (!live || stream || document.hidden) return;
  stream = new EventSource("/api/v1/live");
  stream.onopen = () => { live.textContent = "live"; live.className = "live on"; changed(); jobsChanged(); };
  stream.onerror = () => {
    live.textContent = "offline";
    live.className = "live off";
    // A refusal ends it; whatever else it tries again by itself.
    if (stream?.readyState === EventSource.CLOSED) { stream = null; setTimeout(listen, 5000); }
  };
  stream.addEventListener("stats", changed);
  stream.addEventListener("tasks", changed);
  stream.addEventListener("jobs", jobsChanged);
}

// Nor is what comes late put in then, and what is being pressed is not taken away from under the finger.
document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target.id !== "now" || !(held() || $("#now :active, #below :active, #paused :active"))) return;
  event.detail.shouldSwap = false;
  changed();
});

// The form of an action, and then what came of it, in a dialog; the focus goes back to the button that opened it.
const dialog = $("#ask");
let opener = "";
function opens(target) {
  if (!dialog?.contains(target)) return;
  if (!dialog.open) dialog.showModal();
  target.querySelector("[autofocus]")?.focus();
}
document.addEventListener("htmx:beforeRequest", (event) => {
  if (dialog && event.detail.target === $("#asked") && !dialog.open) opener = event.detail.elt.id;
});
document.addEventListener("htmx:afterSwap", (event) => opens(event.detail.target));
dialog?.addEventListener("click", (event) => { if (event.target.closest("[data-close]")) dialog.close(); });
dialog?.addEventListener("close", () => { $("#asked").replaceChildren(); document.getElementById(opener)?.focus(); changed(); });

// A part that could not be had says so, unless it is one that moves: that one stays as it was, and the page is offline.
for (const name of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(name, (event) => {
    const target = event.detail.target, status = event.detail.xhr?.status;
    if (!target || target.id === "now" || target.id === "jobs") return;
    const problem = document.createElement("p");
    problem.className = "problem";
    problem.setAttribute("role", "alert");
    problem.textContent = status ? `The monitor refused this (${status}).` : "The monitor does not answer: reload the page to try again.";
    target.replaceChildren(problem);
    opens(target);
  });
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stream?.close(); stream = null; } else listen();
});
addEventListener("pagehide", () => { stream?.close(); stream = null; });

const charts = new Map();
let minutes = [];
async function fetchMinutes() {
  if (document.hidden || !$("[data-chart]")) return;
  const answer = await fetch("/api/v1/minutes");
  if (!answer.ok) return;
  minutes = (await answer.json()).minutes;
  draw();
  for (const box of document.querySelectorAll("[data-chart]")) box.dataset.drawn = "yes";
}
function series() {
  const now = Math.floor(Date.now() / 60000), times = [], at = new Map();
  for (let n = now - 59; n <= now; n++) { at.set(n, times.length); times.push(n * 60); }
  const zeros = () => times.map(() => 0);
  const ended = { completed: zeros(), failed: zeros(), retrying: zeros() };
  const count = zeros(), took = zeros(), waited = zeros();
  for (const each of minutes) {
    const i = at.get(Math.floor(each.minute_ms / 60000));
    if (i === undefined) continue;
    (ended[each.state] ?? ended.failed)[i] += each.n;
    count[i] += each.n; took[i] += each.n * each.took_ms; waited[i] += each.n * each.waited_ms;
  }
  const mean = (sums) => sums.map((sum, i) => count[i] ? sum / count[i] : null);
  return { ended: [times, ended.completed, ended.failed, ended.retrying], times: [times, mean(took), mean(waited)] };
}
// Times are UTC and 24 h, here as everywhere, wherever the browser is.
const utc = (seconds) => new Date(seconds * 1000).toISOString();
function draw() {
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(name).trim();
  const data = series(), axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line"), width: 1 } };
  const line = (label, name) => ({ label, stroke: colour(name), width: 2, points: { size: 5 } });
  const kinds = {
    ended: [line("completed", "--good"), line("failed", "--bad"), line("retried", "--warn")],
    times: [line("took", "--accent"), line("waited", "--warn")],
  };
  for (const box of document.querySelectorAll("[data-chart]")) {
    charts.get(box)?.destroy();
    const kind = box.dataset.chart;
    charts.set(box, new uPlot({
      width: Math.max(240, box.clientWidth), height: 200, tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      series: [{ label: "UTC", value: (_, seconds) => seconds === null ? "–" : utc(seconds).slice(11, 16) }, ...kinds[kind]],
      axes: [{ ...axis, values: (_, splits) => splits.map((seconds) => utc(seconds).slice(11, 16)) }, { ...axis, size: 60 }], scales: { y: { range: (_, low, high) => [0, Math.max(1, high * 1.1)] } },
    }, data[kind], box));
  }
}
let resized = 0;
addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(draw, 150); });

const pages = {};
for (const link of document.querySelectorAll("[data-go]")) pages[link.dataset.go] = link;
let going = false;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || dialog?.open) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (going) { going = false; pages[event.key]?.click(); return; }
  const rows = [...document.querySelectorAll("table.rows tbody tr a")];
  if (event.key === "g") going = true;
  else if (event.key === "/") { event.preventDefault(); $("[data-first]")?.focus(); }
  else if (event.key === "?") $("#help").showModal();
  else if ((event.key === "j" || event.key === "k") && rows.length) {
    const now = rows.indexOf(document.activeElement), step = event.key === "j" ? 1 : -1;
    rows[Math.min(rows.length - 1, Math.max(0, now + step))].focus();
    event.preventDefault();
  }
});
$("#keys")?.addEventListener("click", () => $("#help").showModal());

listen();
if ($("[data-chart]")) { draw(); fetchMinutes(); setInterval(fetchMinutes, 10000); }

// Who writes in the box wants what is written there.
document.addEventListener("input", (event) => {
  const box = event.target.closest("textarea[data-kind]"), kind = box?.form.elements.kind;
  if (kind && !kind.value && box.value) kind.value = box.dataset.kind;
});
