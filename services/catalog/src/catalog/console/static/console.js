// Live parts of the console: curves that follow a run, drift scores, and a log that stays at its end.

function colour(name) {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  document.body.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

const SERIES = ["--accent", "--busy", "--good", "--bad"];
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 100000];
const DASHES = [[], [6, 4], [2, 3], [8, 3, 2, 3]];

function axis() {
  return { stroke: colour("--ink-2"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
}

function chart(element, labels, data, options = {}) {
  const series = labels.map((label, index) => ({
    label,
    stroke: colour((options.colours ?? SERIES)[index % SERIES.length]),
    dash: DASHES[index % DASHES.length],
    width: 2,
    points: { show: data[0].length < 40, size: 5 },
    ...(options.series ?? {}),
  }));
  const plot = new uPlot(
    {
      width: element.clientWidth,
      height: 240,
      scales: { x: { time: false }, y: { range: (_, low, high) => [Math.min(0, low), high || 1] } },
      axes: [{ ...axis(), incrs: WHOLE }, axis()],
      series: [{ label: options.x ?? "step" }, ...series],
      hooks: options.hooks ?? {},
    },
    data,
    element,
  );
  new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: 240 })).observe(element);
  return plot;
}

// Curves that belong together share a chart: `accuracy` and `val_accuracy`, `loss` and `val_loss`.
function families(curves) {
  const grouped = new Map();
  for (const key of Object.keys(curves).sort()) {
    const family = key.replace(/^val_/, "");
    grouped.set(family, [...(grouped.get(family) ?? []), key]);
  }
  return grouped;
}

function align(curves, keys) {
  const steps = [...new Set(keys.flatMap((key) => curves[key].steps))].sort((a, b) => a - b);
  const columns = keys.map((key) => {
    const known = new Map(curves[key].steps.map((step, index) => [step, curves[key].values[index]]));
    return steps.map((step) => known.get(step) ?? null);
  });
  return [steps, ...columns];
}

async function followRun(box) {
  const plots = new Map();
  for (;;) {
    const response = await fetch(box.dataset.curves, { headers: { accept: "application/json" } });
    if (!response.ok) return;
    const curves = await response.json();
    for (const [family, keys] of families(curves)) {
      const data = align(curves, keys);
      const known = plots.get(family);
      if (known && known.keys === keys.join()) {
        known.plot.setData(data);
        continue;
      }
      const sheet = known?.sheet ?? Object.assign(document.createElement("div"), { className: "sheet chart" });
      sheet.replaceChildren(Object.assign(document.createElement("div"), { className: "chart-title", textContent: family }));
      if (!known) box.append(sheet);
      const canvas = document.createElement("div");
      sheet.append(canvas);
      plots.set(family, { plot: chart(canvas, keys, data, { x: "epoch" }), keys: keys.join(), sheet });
    }
    box.querySelector(".empty")?.toggleAttribute("hidden", plots.size > 0);
    if (!document.querySelector("[data-live-run]")) return;
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

async function drawDrift(box) {
  const response = await fetch(box.dataset.drift, { headers: { accept: "application/json" } });
  if (!response.ok) return;
  const { numbers, scores, alerts } = await response.json();
  if (!numbers.length) return;
  const alerted = scores.map((score, index) => (alerts[index] ? score : null));
  const quiet = scores.map((score, index) => (alerts[index] ? null : score));
  box.replaceChildren();
  chart(box, ["quiet window", "alert"], [numbers, quiet, alerted], {
    x: "window",
    colours: ["--accent", "--bad"],
    series: { paths: () => null, points: { show: true, size: 8 } },
  });
}

function start(root) {
  root.querySelectorAll("[data-curves]").forEach(followRun);
  root.querySelectorAll("[data-drift]").forEach(drawDrift);
  root.querySelectorAll(".log").forEach((log) => (log.scrollTop = log.scrollHeight));
}

document.addEventListener("DOMContentLoaded", () => start(document));
// What a button could not do is said in the corner, in the API's own words.
let saidUntil = 0;
function say(text) {
  const box = document.getElementById("said");
  if (!box) return;
  box.textContent = text;
  box.hidden = false;
  clearTimeout(saidUntil);
  saidUntil = setTimeout(() => (box.hidden = true), 8000);
}

document.addEventListener("htmx:responseError", (event) => {
  const answer = event.detail.xhr;
  const plain = answer.getResponseHeader("content-type")?.startsWith("text/plain");
  if (event.detail.requestConfig.verb !== "get") say(plain ? answer.responseText : `The gateway answered ${answer.status}.`);
});
document.addEventListener("htmx:sendError", (event) => {
  if (event.detail.requestConfig.verb !== "get") say("The gateway does not answer.");
});
// What somebody has opened to read is not taken away by the next look.
document.addEventListener("htmx:beforeRequest", (event) => {
  const looks = event.detail.requestConfig.verb === "get" && event.detail.target.id === "sites";
  if (looks && document.querySelector("#sites details[open]")) event.preventDefault();
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful && event.target.matches("form[data-reset]")) event.target.reset();
});

// What is loaded into the dialog opens it; its own button, Escape, and what answers by another page close it.
document.addEventListener("htmx:afterSwap", (event) => {
  if (event.target.id !== "dialog" || event.target.open) return;
  event.target.showModal();
  event.target.querySelector("input[type=text]")?.focus();
});
document.addEventListener("click", (event) => {
  if (event.target.matches?.("[data-dismiss]")) event.target.closest("dialog").close();
});

// A thumbnail of what cannot be shown makes room for a sign that says so.
document.addEventListener(
  "error",
  (event) => {
    if (!event.target.matches?.(".thumb img")) return;
    const none = Object.assign(document.createElement("span"), { className: "quiet", textContent: "no picture" });
    event.target.replaceWith(none);
  },
  true,
);

document.addEventListener("htmx:afterSwap", (event) => {
  event.target.querySelectorAll?.(".log").forEach((log) => (log.scrollTop = log.scrollHeight));
});
