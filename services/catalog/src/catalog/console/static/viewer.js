// The picture of a file: its window, its frames, and the other pictures of its folder, by slider, wheel and key.

import { within } from "./project.js";

const LEVEL = 1000; // files of a folder that are asked for at once
const MOST = 20000; // … and at most
const SIZE = 1024;
const SHOWN = /^(image\/(png|jpeg|gif|webp|tiff|bmp|x-ms-bmp)|application\/dicom)$/;
const PRESETS = ["", "-600,1500", "40,400", "480,2500", "40,80"];

const rounded = (value) => Number(value.toPrecision(4)).toLocaleString("en", { useGrouping: false });
const encoded = (path) => path.split("/").map(encodeURIComponent).join("/");

class Viewer {
  constructor(figure) {
    this.figure = figure;
    this.base = figure.dataset.base;
    this.path = figure.dataset.path;
    this.files = [{ path: this.path }];
    this.at = 0;
    this.frame = 0;
    this.window = null;
    this.wanted = null;
    this.busy = false;
    this.stage = figure.querySelector(".stage");
    this.said = figure.querySelector(".why");
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("role", "img");
    this.listen();
    this.show();
    this.list();
  }

  find(name) {
    return this.figure.querySelector(`[data-${name}]`);
  }

  // One request at a time; of those that are asked meanwhile, only the last is made.
  async show() {
    this.wanted = this.question();
    if (this.busy) return;
    this.busy = true;
    this.stage.setAttribute("aria-busy", "true");
    while (this.wanted) {
      const asked = this.wanted;
      this.wanted = null;
      await this.fetch(asked);
    }
    this.busy = false;
    this.stage.removeAttribute("aria-busy");
  }

  question() {
    const params = new URLSearchParams({ size: SIZE, frame: this.frame });
    if (this.window) {
      params.set("center", this.window[0]);
      params.set("width", this.window[1]);
    }
    return within(`${this.base}/preview/${encoded(this.path)}?${params}`);
  }

  async fetch(url) {
    try {
      const answer = await fetch(url, { headers: { accept: "image/*" } });
      if (!answer.ok) throw new Error(await reason(answer));
      this.describe(answer.headers);
      this.draw(await createImageBitmap(await answer.blob()));
      this.said.hidden = true;
    } catch (error) {
      this.said.textContent = error.message;
      this.said.hidden = false;
      this.canvas.width = this.canvas.width; // which empties it
      this.stage.querySelector("img")?.replaceWith(this.canvas);
    }
  }

  draw(bitmap) {
    this.canvas.width = bitmap.width;
    this.canvas.height = bitmap.height;
    this.canvas.classList.toggle("small", Math.max(bitmap.width, bitmap.height) < 300);
    this.canvas.getContext("2d").drawImage(bitmap, 0, 0);
    this.canvas.setAttribute("aria-label", this.path);
    this.stage.querySelector("img")?.replaceWith(this.canvas);
  }

  describe(headers) {
    const frames = Number(headers.get("millrace-frames") ?? 1);
    this.slider("frame", frames, this.frame);
    const window = headers.get("millrace-window")?.split(",").map(Number);
    const range = headers.get("millrace-range")?.split(",").map(Number);
    const center = this.find("center");
    if (!center) return;
    const width = this.find("width");
    // Colours have no window.
    for (const control of [center.closest("label"), width.closest("label"), this.figure.querySelector(".presets")]) {
      control.hidden = !window;
    }
    this.find("center-shown").value = window ? rounded(window[0]) : "";
    this.find("width-shown").value = window ? rounded(window[1]) : "";
    if (!window || this.window) return;
    // The sliders reach what the file holds; a window of one's own stays when the file changes.
    const [low, high] = range ?? [-1000, 3000];
    const step = high - low > 50 ? 1 : (high - low) / 200 || 0.01;
    Object.assign(center, { min: Math.min(low, window[0]), max: Math.max(high, window[0]), step });
    Object.assign(width, { min: step, max: Math.max(2 * (high - low), window[1]), step });
    center.value = window[0];
    width.value = window[1];
  }

  slider(name, count, value) {
    const input = this.find(name);
    input.closest("label").hidden = count < 2;
    input.max = count - 1;
    input.value = value;
    this.find(`${name}-shown`).value = `${value + 1} of ${count}`;
  }

  async list() {
    const found = [];
    let after = "f/";
    while (after && found.length < MOST) {
      const params = new URLSearchParams({ prefix: this.figure.dataset.folder, limit: LEVEL, after });
      const answer = await fetch(within(`${this.base}/tree?${params}`));
      if (!answer.ok) return;
      const page = await answer.json();
      found.push(...page.items.filter((item) => item.kind === "file" && SHOWN.test(item.media_type)));
      after = page.next;
    }
    const at = found.findIndex((item) => item.path === this.path);
    if (at < 0) return;
    this.files = found;
    this.at = at;
    this.slider("slice", found.length, at);
  }

  to(at) {
    const next = Math.min(this.files.length - 1, Math.max(0, at));
    if (next === this.at) return;
    this.at = next;
    this.path = this.files[next].path;
    this.frame = 0;
    this.slider("slice", this.files.length, next);
    this.name(this.files[next]);
    this.show();
  }

  toFrame(frame) {
    const next = Math.min(Number(this.find("frame").max), Math.max(0, frame));
    if (next === this.frame) return;
    this.frame = next;
    this.slider("frame", Number(this.find("frame").max) + 1, next);
    this.show();
  }

  // What the page says of the file follows the slider; its record is on the file's own page.
  name(file) {
    const address = within(`${this.figure.dataset.page}/file/${encoded(file.path)}`);
    history.replaceState(null, "", address);
    document.querySelector("[data-name]").textContent = file.name;
    document.querySelector("[data-path-shown]").textContent = file.path;
    document.querySelector("[data-size-shown]").textContent = `${file.size.toLocaleString("en")} bytes`;
    document.querySelector("[data-digest-shown]").textContent = file.blake3;
    const link = document.querySelector("[data-download]");
    link.href = within(`${this.base}/files/${encoded(file.path)}`);
    link.textContent = "Download";
    const record = document.querySelector("[data-record]");
    if (record) {
      const open = Object.assign(document.createElement("a"), { href: address, textContent: "Show what is known of this file" });
      record.replaceChildren(open);
    }
  }

  preset(text) {
    this.window = text ? text.split(",").map(Number) : null;
    if (this.window) {
      this.find("center").value = this.window[0];
      this.find("width").value = this.window[1];
    }
    for (const button of this.figure.querySelectorAll("[data-preset]")) {
      button.setAttribute("aria-pressed", String(button.dataset.preset === text));
    }
    this.show();
  }

  slide() {
    this.window = [Number(this.find("center").value), Number(this.find("width").value)];
    for (const button of this.figure.querySelectorAll("[data-preset]")) button.setAttribute("aria-pressed", "false");
    this.show();
  }

  listen() {
    this.find("slice").addEventListener("input", (event) => this.to(Number(event.target.value)));
    this.find("frame").addEventListener("input", (event) => this.toFrame(Number(event.target.value)));
    for (const name of ["center", "width"]) this.find(name)?.addEventListener("input", () => this.slide());
    for (const button of this.figure.querySelectorAll("[data-preset]")) {
      button.addEventListener("click", () => this.preset(button.dataset.preset));
    }
    this.stage.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    document.addEventListener("keydown", (event) => this.key(event));
  }

  wheel(event) {
    if (event.ctrlKey || (this.files.length < 2 && this.find("frame").max === "0")) return;
    event.preventDefault();
    const step = Math.sign(event.deltaY);
    if (Number(this.find("frame").max) > 0) this.toFrame(this.frame + step);
    else this.to(this.at + step);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const moves = {
      ArrowLeft: () => this.to(this.at - 1),
      ArrowRight: () => this.to(this.at + 1),
      ArrowUp: () => this.toFrame(this.frame - 1),
      ArrowDown: () => this.toFrame(this.frame + 1),
      Home: () => this.to(0),
      End: () => this.to(this.files.length - 1),
    };
    const windows = this.figure.dataset.kind === "dicom" && /^[0-4]$/.test(event.key);
    if (!moves[event.key] && !windows) return;
    event.preventDefault();
    if (windows) this.preset(PRESETS[Number(event.key)]);
    else moves[event.key]();
  }
}

async function reason(answer) {
  try {
    const problem = await answer.json();
    return problem.detail ?? problem.title;
  } catch {
    return `The gateway answered ${answer.status}.`;
  }
}

document.querySelectorAll("[data-viewer]").forEach((figure) => new Viewer(figure));
