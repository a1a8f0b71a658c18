// Files and folders from this machine into the lake: whole if small, in parts if large, some at a time, each part tried
// again when the network fails. What is there is not sent twice while the page is open.

import { within } from "./project.js";

const AT_ONCE = 4;
const TRIES = 6;
const MIB = 1024 * 1024;
const LEFT_OUT = new Set([".DS_Store", "Thumbs.db", "desktop.ini"]);
const ARCHIVE = /\.(zip|tar|tar\.gz|tgz|tar\.bz2|tar\.xz|tar\.zst)$/i;

const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < units.length - 1) [bytes, at] = [bytes / 1000, at + 1];
  return `${at && bytes < 100 ? bytes.toFixed(1) : Math.round(bytes)} ${units[at]}`;
}

function span(seconds) {
  if (seconds < 90) return `${Math.ceil(seconds)} s`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

// ---- choosing ------------------------------------------------------------------------------------------------------

async function entriesOf(directory) {
  const reader = directory.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

async function filesOf(entry, parent, found) {
  const path = parent + entry.name;
  if (entry.isDirectory) {
    for (const child of await entriesOf(entry)) await filesOf(child, `${path}/`, found);
  } else {
    found.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
  }
}

async function dropped(transfer) {
  const found = [];
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  for (const entry of entries) await filesOf(entry, "", found);
  return found;
}

const picked = (input) => [...input.files].map((file) => ({ path: file.webkitRelativePath || file.name, file }));

// ---- sending -------------------------------------------------------------------------------------------------------

class Refused extends Error {}

function send(method, url, body, { progress, signal, json } = {}) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open(method, within(url));
    request.timeout = 10 * 60 * 1000;
    if (json) request.setRequestHeader("content-type", "application/json");
    if (progress) request.upload.onprogress = (event) => progress(event.loaded);
    request.onload = () => {
      const answer = parsed(request.responseText);
      if (request.status >= 200 && request.status < 300) return resolve(answer);
      const text = answer?.detail ?? answer?.title ?? `the gateway answered ${request.status}`;
      const again = request.status >= 500 || request.status === 429;
      reject(again ? new Error(text) : new Refused(text));
    };
    request.onerror = () => reject(new Error("the gateway does not answer"));
    request.ontimeout = () => reject(new Error("no answer in time"));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    request.send(body ?? null);
  });
}

function parsed(text) {
  try {
    return text ? JSON.parse(text) : null;
  } catch {
    return null;
  }
}

class Upload {
  constructor(form, items) {
    // Not `form.dataset`: that is the field of this name.
    this.base = form.getAttribute("data-upload");
    this.items = items.map((item) => ({ ...item, sent: 0, done: false }));
    this.total = items.reduce((sum, item) => sum + item.file.size, 0);
    this.flying = new Map();
    this.landing = null;
  }

  get sent() {
    let sum = 0;
    for (const item of this.items) sum += item.sent;
    for (const bytes of this.flying.values()) sum += bytes;
    return Math.min(sum, this.total);
  }

  // Goes on where it stopped: files and parts that are there are not sent again.
  async run(signal) {
    this.signal = signal;
    this.landing ??= await this.again(() => send("POST", this.base, null, { signal }));
    this.queue = this.pieces();
    const workers = Array.from({ length: AT_ONCE }, () => this.work());
    await Promise.all(workers);
    for (const item of this.items.filter((one) => one.parts && !one.done)) await this.join(item);
  }

  *pieces() {
    for (const item of this.items) {
      if (item.done) continue;
      if (item.file.size <= this.landing.part_bytes) {
        yield { item };
        continue;
      }
      item.parts ??= this.cut(item.file.size);
      for (const part of item.parts) if (!part.tag) yield { item, part };
    }
  }

  cut(bytes) {
    const least = Math.ceil(bytes / this.landing.max_parts / MIB) * MIB;
    const each = Math.max(this.landing.part_bytes, least);
    if (each > this.landing.max_part_bytes) throw new Refused("a file is larger than an object store takes");
    const count = Math.ceil(bytes / each);
    return Array.from({ length: count }, (_, at) => ({ number: at + 1, start: at * each, stop: Math.min(bytes, (at + 1) * each) }));
  }

  async work() {
    for (let next = this.queue.next(); !next.done; next = this.queue.next()) {
      const { item, part } = next.value;
      if (part) await this.part(item, part);
      else await this.whole(item);
    }
  }

  url(kind, path) {
    return `${this.base}/${this.landing.landing}/${kind}/${encoded(path)}`;
  }

  async whole(item) {
    await this.fly(item, (progress) => send("PUT", this.url("files", item.path), item.file, { progress, signal: this.signal }));
    item.sent = item.file.size;
    item.done = true;
  }

  async part(item, part) {
    item.upload ??= this.again(() => send("POST", this.url("parts", item.path), null, { signal: this.signal }));
    try {
      const { upload } = await item.upload;
      const params = new URLSearchParams({ upload, number: part.number });
      const data = item.file.slice(part.start, part.stop);
      const url = `${this.url("parts", item.path)}?${params}`;
      const answer = await this.fly(item, (progress) => send("PUT", url, data, { progress, signal: this.signal }));
      part.tag = answer.tag;
      item.sent += part.stop - part.start;
    } catch (error) {
      if (!item.parts.some((one) => one.tag)) item.upload = null;
      throw error;
    }
    if (item.parts.every((one) => one.tag)) await this.join(item);
  }

  async join(item) {
    if (item.done) return;
    const { upload } = await item.upload;
    const parts = item.parts.map(({ number, tag }) => ({ number, tag }));
    const body = JSON.stringify({ upload, size: item.file.size, parts });
    await this.again(() => send("POST", this.url("files", item.path), body, { json: true, signal: this.signal }));
    item.done = true;
  }

  async fly(item, request) {
    const flight = { item };
    try {
      return await this.again(() => {
        this.flying.set(flight, 0);
        return request((bytes) => this.flying.set(flight, bytes));
      });
    } finally {
      this.flying.delete(flight);
    }
  }

  async again(request) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await request();
      } catch (error) {
        if (error instanceof Refused || error.name === "AbortError" || attempt === TRIES) throw error;
        await pause(Math.min(16000, 500 * 2 ** attempt) * (0.7 + Math.random() * 0.6));
        if (this.signal.aborted) throw new DOMException("stopped", "AbortError");
      }
    }
  }

  async close(choices) {
    const body = JSON.stringify({ ...choices, files: this.items.length, bytes: this.total });
    return this.again(() => send("POST", `${this.base}/${this.landing.landing}`, body, { json: true, signal: this.signal }));
  }
}

// ---- the page ------------------------------------------------------------------------------------------------------

class Page {
  constructor(form) {
    this.form = form;
    this.items = [];
    this.upload = null;
    form.addEventListener("submit", (event) => this.begin(event));
    this.find("again").addEventListener("click", () => this.go());
    this.find("stop").addEventListener("click", () => this.abort?.abort());
    this.find("clear").addEventListener("click", () => this.choose([]));
    form.querySelectorAll("[data-files]").forEach((input) =>
      input.addEventListener("change", () => {
        this.choose([...this.items, ...picked(input)]);
        input.value = "";
      }),
    );
    this.drop(this.find("drop"));
    addEventListener("beforeunload", (event) => this.abort && event.preventDefault());
  }

  find(name) {
    return this.form.querySelector(`[data-${name}]`);
  }

  drop(box) {
    const over = (on) => (event) => {
      event.preventDefault();
      box.classList.toggle("over", on);
    };
    box.addEventListener("dragover", over(true));
    box.addEventListener("dragleave", over(false));
    box.addEventListener("drop", async (event) => {
      over(false)(event);
      this.choose([...this.items, ...(await dropped(event.dataTransfer))]);
    });
  }

  choose(items) {
    const taken = new Map();
    let left = 0;
    for (const { path, file } of items) {
      if (LEFT_OUT.has(file.name)) left += 1;
      else taken.set(path.normalize("NFC"), file);
    }
    this.items = [...taken].map(([path, file]) => ({ path, file }));
    const bytes = this.items.reduce((sum, item) => sum + item.file.size, 0);
    const count = this.items.length;
    const without = left ? `; ${left} of the file manager's own left out` : "";
    this.find("chosen").textContent = count
      ? `${count.toLocaleString("en")} ${count === 1 ? "file" : "files"}, ${size(bytes)}${without}`
      : "Nothing is chosen yet.";
    this.find("start").disabled = !count;
    this.find("clear").hidden = !count;
    const tops = new Set(this.items.map((item) => (item.path.includes("/") ? item.path.split("/")[0] : "")));
    this.top = tops.size === 1 ? [...tops][0] : "";
    this.find("inside").hidden = !this.top;
    this.find("top").textContent = this.top ? `${this.top}/` : "";
    this.find("archive").hidden = !(count === 1 && ARCHIVE.test(this.items[0].path));
  }

  begin(event) {
    event.preventDefault();
    const fields = new FormData(this.form);
    let items = this.items;
    if (this.top && fields.get("inside")) {
      items = items.map((item) => ({ ...item, path: item.path.slice(this.top.length + 1) }));
    }
    this.choices = { dataset: fields.get("dataset"), message: fields.get("message"), mode: fields.get("mode") };
    if (!this.find("archive").hidden && fields.get("archive")) {
      const name = `archive${items[0].path.match(ARCHIVE)[0].toLowerCase()}`;
      items = [{ ...items[0], path: name }];
      this.choices.archive = name;
    }
    this.upload = new Upload(this.form, items);
    this.go();
  }

  async go() {
    this.abort = new AbortController();
    this.busy(true);
    const started = { at: performance.now(), sent: this.upload.sent };
    const shown = setInterval(() => this.show(started), 250);
    try {
      await this.upload.run(this.abort.signal);
      this.find("headline").textContent = "Everything is there; it is being announced";
      const operation = await this.upload.close(this.choices);
      this.abort = null;
      location.assign(within(this.form.getAttribute("data-follow") + operation.operation));
    } catch (error) {
      const stopped = error.name === "AbortError";
      this.abort.abort();
      this.abort = null;
      this.busy(false);
      this.find("headline").textContent = stopped ? "Stopped" : "It did not go on";
      this.find("error").textContent = stopped ? "What was sent is kept while this page is open." : error.message;
      this.find("error").hidden = false;
    } finally {
      clearInterval(shown);
      this.show(started);
    }
  }

  busy(on) {
    this.find("progress").hidden = false;
    this.find("error").hidden = true;
    this.find("headline").textContent = "Uploading";
    this.find("start").hidden = true;
    this.find("clear").hidden = true;
    this.find("stop").hidden = !on;
    this.find("again").hidden = on;
    this.form.querySelectorAll("input").forEach((input) => (input.disabled = true));
    this.find("drop").hidden = true;
  }

  show(started) {
    const { upload } = this;
    const seconds = (performance.now() - started.at) / 1000;
    const sent = upload.sent;
    const rate = seconds > 2 && sent - started.sent > MIB ? (sent - started.sent) / seconds : 0;
    const done = upload.items.filter((item) => item.done).length;
    Object.assign(this.find("total"), { value: upload.total ? sent / upload.total : done / upload.items.length });
    const words = [
      `${size(sent)} of ${size(upload.total)}`,
      `${done.toLocaleString("en")} of ${upload.items.length.toLocaleString("en")} files`,
    ];
    if (rate > 0 && this.abort) words.push(`${size(rate)}/s`, `${span((upload.total - sent) / rate)} left`);
    this.find("numbers").replaceChildren(
      ...words.map((text) => Object.assign(document.createElement("span"), { textContent: text })),
    );
    this.rows(upload);
  }

  // What is in the air, and how far: never a row for each of 100,000 files.
  rows(upload) {
    const flying = new Map();
    for (const [{ item }, bytes] of upload.flying) flying.set(item, (flying.get(item) ?? item.sent) + bytes);
    this.find("rows").replaceChildren(
      ...[...flying].map(([item, bytes]) => {
        const row = document.createElement("tr");
        const name = Object.assign(document.createElement("td"), { className: "mono", textContent: item.path });
        const number = Object.assign(document.createElement("td"), {
          className: "num",
          textContent: `${size(Math.min(bytes, item.file.size))} of ${size(item.file.size)}`,
        });
        row.append(name, number);
        return row;
      }),
    );
  }
}

document.querySelectorAll("[data-upload]").forEach((form) => new Page(form));
