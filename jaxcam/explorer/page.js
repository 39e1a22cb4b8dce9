"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SIDES = ["a", "b"];
const state = { photo: 0, class: null, a: null, b: null, opacity: 70, threshold: 0, smooth: true };
const images = [];
let pointer = null;

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}

const luts = { plain: bytes(data.luts.plain), signed: bytes(data.luts.signed) };

function values(heat) {
  if (!heat.decoded && heat.values !== null) {
    const raw = bytes(heat.values);
    heat.decoded = heat.bits === 16 ? new Int16Array(raw.buffer) : new Int8Array(raw.buffer);
  }
  return heat.decoded;
}

// what is chosen ---------------------------------------------------------

const photo = () => data.photos[state.photo];
const id = (heat) => heat.method + "/" + heat.layer;
const heats = () => photo().heats.filter((h) => h.target === state.class || h.target === null);

function find(key) {
  return heats().find((h) => id(h) === key);
}

function settle() {
  state.photo = Math.min(Math.max(state.photo, 0), data.photos.length - 1);
  const classes = [...new Set(photo().heats.map((h) => h.target).filter((t) => t !== null))];
  if (!classes.includes(state.class)) state.class = photo().target;
  const all = heats();
  for (const side of SIDES) {
    if (all.length && !find(state[side])) {
      const first = all[0].method;
      const rest = side === "a" ? all.filter((h) => h.method === first) : all.filter((h) => h.method !== first);
      const of = rest.filter((h) => rest.length && h.method === rest[0].method);
      state[side] = id(of[of.length - 1] || all[all.length - 1]);
    }
  }
}

function remember() {
  const parts = Object.entries(state).map(([k, v]) => k + "=" + encodeURIComponent(v));
  try {
    history.replaceState(null, "", "#" + parts.join("&"));
  } catch { /* a page in a frame without an address of its own */ }
}

function recall() {
  for (const part of location.hash.slice(1).split("&")) {
    const [key, value] = part.split("=");
    if (!(key in state) || value === undefined) continue;
    let text = "";
    try { text = decodeURIComponent(value); } catch { continue; }
    if (key === "a" || key === "b") state[key] = text;
    else if (key === "smooth") state.smooth = text === "true";
    else if (Number.isFinite(Number(text))) state[key] = Number(text);
  }
  state.opacity = Math.min(Math.max(state.opacity, 0), 100);
  state.threshold = Math.min(Math.max(state.threshold, 0), 95);
}

// drawing ----------------------------------------------------------------

// Of each pixel of a side: the cell's place, or NaN where the network saw nothing.
function places(pixels, cells, low, high, start, step, size) {
  const out = new Float32Array(pixels);
  for (let i = 0; i < pixels; i++) {
    const part = ((i + 0.5) / pixels - low) / (high - low);
    let at = part * cells - 0.5;
    if (step !== null) at = (part * size - 0.5 - start) / step;
    out[i] = part < 0 || part > 1 ? NaN : Math.min(Math.max(at, 0), cells - 1);
  }
  return out;
}

function sampler(heat, width, height) {
  const [left, top, right, bottom] = photo().box;
  const c = heat.centers;
  const line = (k) => (c ? [c.start[k], c.step[k], c.size[k]] : [0, null, 0]);
  const ys = places(height, heat.h, top, bottom, ...line(0));
  const xs = places(width, heat.w, left, right, ...line(1));
  const v = values(heat);
  return (x, y) => {
    const fx = xs[x], fy = ys[y];
    if (Number.isNaN(fx) || Number.isNaN(fy)) return NaN;
    if (!state.smooth) return v[Math.floor(fy + 0.5) * heat.w + Math.floor(fx + 0.5)];
    const x0 = Math.floor(fx), y0 = Math.floor(fy);
    const x1 = Math.min(x0 + 1, heat.w - 1), y1 = Math.min(y0 + 1, heat.h - 1);
    const dx = fx - x0, dy = fy - y0;
    const upper = v[y0 * heat.w + x0] * (1 - dx) + v[y0 * heat.w + x1] * dx;
    const lower = v[y1 * heat.w + x0] * (1 - dx) + v[y1 * heat.w + x1] * dx;
    return upper * (1 - dy) + lower * dy;
  };
}

function blend(pixels, i, value, heat, top) {
  const part = value / top;
  const strength = heat.signed ? Math.min(Math.abs(part), 1) : Math.min(Math.max(part, 0), 1);
  if (strength < state.threshold / 100 || (state.threshold > 0 && strength === 0)) return;
  const lut = heat.signed ? luts.signed : luts.plain;
  const place = heat.signed ? 128 + Math.round(127 * Math.max(-1, Math.min(1, part)))
                            : Math.round(255 * strength);
  const shown = heat.signed ? Math.min(1, 1.4 * strength) : 0.45 + 0.55 * strength;
  const alpha = (state.opacity / 100) * shown;
  for (let k = 0; k < 3; k++)
    pixels[i + k] = (1 - alpha) * pixels[i + k] + alpha * lut[3 * place + k];
}

function draw(side) {
  const panel = byId(side);
  const canvas = panel.querySelector(".stage canvas");
  const image = images[state.photo];
  const heat = find(state[side]);
  if (!image.complete || !image.naturalWidth || !heat) return;
  canvas.width = image.naturalWidth;
  canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const note = panel.querySelector(".note");
  note.textContent = heat.note;
  note.hidden = !heat.note;
  if (!heat.note && state.opacity > 0) {
    const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    const at = sampler(heat, canvas.width, canvas.height);
    const top = heat.bits === 16 ? 32767 : 127;
    const d = pixels.data;
    for (let y = 0, i = 0; y < canvas.height; y++) {
      for (let x = 0; x < canvas.width; x++, i += 4) {
        const value = at(x, y);
        const grey = 0.299 * d[i] + 0.587 * d[i + 1] + 0.114 * d[i + 2];
        d[i] = d[i + 1] = d[i + 2] = heat.signed ? 115 + 0.5 * grey : grey;
        if (!Number.isNaN(value)) blend(d, i, value, heat, top);
      }
    }
    context.putImageData(pixels, 0, 0);
  }
  drawKey(panel, heat);
  readout(side);
}

const number = (x) => (x === 0 ? "0" : Math.abs(x) < 1e-3 || Math.abs(x) >= 1e4 ? x.toExponential(2) : x.toPrecision(3));

function drawKey(panel, heat) {
  const [low, high] = panel.querySelectorAll(".key span");
  const largest = heat.scale * (heat.bits === 16 ? 32767 : 127);
  low.textContent = heat.signed ? number(-largest) + " against" : "0";
  high.textContent = number(largest) + (heat.signed ? " for" : "");
  const canvas = panel.querySelector(".key canvas");
  canvas.width = 256;
  canvas.height = 1;
  const row = canvas.getContext("2d").createImageData(256, 1);
  const lut = heat.signed ? luts.signed : luts.plain;
  for (let i = 0; i < 256; i++) {
    for (let k = 0; k < 3; k++) row.data[4 * i + k] = lut[3 * i + k];
    row.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(row, 0, 0);
}

function readout(side) {
  const panel = byId(side);
  const heat = find(state[side]);
  const [across, down] = panel.querySelectorAll(".stage i");
  const out = panel.querySelector(".readout");
  across.hidden = down.hidden = !pointer;
  out.textContent = heat ? heat.h + " × " + heat.w + " cells" : "";
  if (!pointer || !heat) return;
  across.style.top = 100 * pointer.y + "%";
  down.style.left = 100 * pointer.x + "%";
  if (heat.note) return;
  const canvas = panel.querySelector(".stage canvas");
  const x = Math.min(Math.floor(pointer.x * canvas.width), canvas.width - 1);
  const y = Math.min(Math.floor(pointer.y * canvas.height), canvas.height - 1);
  const value = sampler(heat, canvas.width, canvas.height)(x, y);
  const top = heat.bits === 16 ? 32767 : 127;
  out.textContent = Number.isNaN(value)
    ? "not seen by the network"
    : number(value * heat.scale) + ", " + Math.round((100 * value) / top) + " % of the largest";
}

// the page ---------------------------------------------------------------

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function options(select, rows, chosen) {
  select.replaceChildren(...rows.map(([value, text]) => element("option", text, { value })));
  select.value = chosen;
}

function buildPanel(side) {
  const panel = byId(side);
  const pick = element("div", undefined, { class: "pick" });
  const method = element("select", undefined, { "aria-label": "method, " + side, class: "method" });
  const layer = element("select", undefined, { "aria-label": "layer, " + side, class: "layer" });
  pick.append(method, layer);
  const stage = element("div", undefined, { class: "stage" });
  stage.append(element("canvas", undefined, { role: "img" }), element("div", "", { class: "note" }),
    element("i", undefined, { class: "across" }), element("i", undefined, { class: "down" }));
  const key = element("div", undefined, { class: "key" });
  key.append(element("span"), element("canvas", undefined, { "aria-hidden": "true" }), element("span"));
  panel.append(pick, stage, key, element("p", "", { class: "readout", "aria-live": "off" }));
  method.onchange = () => choose(side, method.value, layer.value);
  layer.onchange = () => choose(side, method.value, layer.value);
  stage.onpointermove = (event) => {
    const box = stage.getBoundingClientRect();
    point((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
  };
  stage.onpointerleave = () => { pointer = null; SIDES.forEach(readout); };
}

function point(x, y) {
  pointer = { x: Math.min(Math.max(x, 0), 1), y: Math.min(Math.max(y, 0), 1) };
  SIDES.forEach(readout);
}

function choose(side, method, layer) {
  const of = heats().filter((h) => h.method === method);
  const heat = of.find((h) => h.layer === layer) || of[of.length - 1];
  if (heat) state[side] = id(heat);
  show();
}

function cycle(side, what, by) {
  const now = find(state[side]);
  const same = what === "method" ? "layer" : "method";
  const all = heats();
  const names = [...new Set((what === "method" ? all : all.filter((h) => h[same] === now[same])).map((h) => h[what]))];
  const next = names[(names.indexOf(now[what]) + by + names.length) % names.length];
  if (what === "method") choose(side, next, now.layer);
  else choose(side, now.method, next);
}

function showClasses() {
  const body = byId("classes").tBodies[0];
  body.replaceChildren(...photo().classes.map(([index, name, share]) => {
    const row = element("tr", undefined, { "aria-current": String(index === state.class) });
    row.append(element("td", name), element("td", (100 * share).toFixed(1) + " %", { class: "number" }));
    return row;
  }));
}

function showMetrics() {
  const table = byId("metrics");
  const names = [...new Set(heats().flatMap((h) => Object.keys(h.metrics)))];
  table.hidden = names.length === 0;
  const head = element("tr");
  head.append(element("th", "map"), ...names.map((n) => element("th", n, { class: "number" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...heats().map((h) => {
    const row = element("tr", undefined, { "aria-current": String(id(h) === state.a) });
    const cell = element("td");
    const button = element("button", h.title + (h.layer ? ", " + h.layer : ""), { type: "button" });
    button.onclick = () => { state.a = id(h); show(); };
    cell.append(button);
    row.append(cell, ...names.map((n) => element("td", n in h.metrics ? number(h.metrics[n]) : "–", { class: "number" })));
    return row;
  }));
}

function show() {
  settle();
  const known = new Map(photo().classes.map((c) => [c[0], c]));
  const explained = [...new Set(photo().heats.map((h) => h.target).filter((t) => t !== null))];
  options(byId("class"), explained.map((t) => [t, known.has(t) ? known.get(t)[1] : t]), state.class);
  byId("opacity").value = state.opacity;
  byId("threshold").value = state.threshold;
  byId("smooth").checked = state.smooth;
  for (const side of SIDES) {
    const heat = find(state[side]);
    const panel = byId(side);
    const all = heats();
    const methods = new Map(all.map((h) => [h.method, h.title]));
    options(panel.querySelector(".method"), [...methods], heat && heat.method);
    const layers = all.filter((h) => heat && h.method === heat.method).map((h) => [h.layer, h.layer || "whole network"]);
    options(panel.querySelector(".layer"), layers, heat && heat.layer);
    const canvas = panel.querySelector(".stage canvas");
    canvas.setAttribute("aria-label", heat ? heat.title + " " + heat.layer + " of " + photo().name : "");
    draw(side);
  }
  [...byId("photos").children].forEach((button, i) => button.setAttribute("aria-current", String(i === state.photo)));
  byId("about").textContent = photo().name + " · " + data.network;
  showClasses();
  showMetrics();
  remember();
}

function save() {
  const canvases = SIDES.map((side) => byId(side).querySelector(".stage canvas"));
  const [first, second] = canvases;
  const out = element("canvas");
  const caption = 28;
  out.width = first.width + second.width + 8;
  out.height = Math.max(first.height, second.height) + caption;
  const context = out.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, out.width, out.height);
  context.fillStyle = "#212529";
  context.font = "14px sans-serif";
  const known = photo().classes.find((c) => c[0] === state.class);
  SIDES.forEach((side, i) => {
    const left = i * (first.width + 8);
    const heat = find(state[side]);
    context.drawImage(canvases[i], left, caption);
    context.fillText(heat.title + " " + heat.layer + (known ? ", " + known[1] : ""), left + 2, 18, canvases[i].width - 4);
  });
  const link = element("a", undefined, { download: photo().name.replace(/\.[^.]*$/, "") + "_explained.png", href: out.toDataURL("image/png") });
  link.click();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const inside = event.target.tagName === "SELECT" || event.target.type === "range";
  if (inside && event.key.startsWith("Arrow")) return;
  const step = (name, by, low, high) => { state[name] = Math.min(Math.max(state[name] + by, low), high); show(); };
  const classes = [...byId("class").options].map((o) => Number(o.value));
  const turn = (by) => { state.class = classes[(classes.indexOf(state.class) + by + classes.length) % classes.length]; show(); };
  const acts = {
    ArrowLeft: () => step("photo", -1, 0, data.photos.length - 1),
    ArrowRight: () => step("photo", 1, 0, data.photos.length - 1),
    m: () => cycle("a", "method", 1), M: () => cycle("a", "method", -1),
    l: () => cycle("a", "layer", 1), L: () => cycle("a", "layer", -1),
    c: () => turn(1), C: () => turn(-1),
    "[": () => step("opacity", -5, 0, 100), "]": () => step("opacity", 5, 0, 100),
    ",": () => step("threshold", -5, 0, 95), ".": () => step("threshold", 5, 0, 95),
    s: () => { state.smooth = !state.smooth; show(); },
    x: () => { [state.a, state.b] = [state.b, state.a]; show(); },
    e: save,
  };
  if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
}

SIDES.forEach(buildPanel);
data.photos.forEach((each, i) => {
  const image = new Image();
  image.onload = () => { if (i === state.photo) SIDES.forEach(draw); };
  image.src = each.image;
  images.push(image);
  const button = element("button", undefined, { type: "button", title: each.name, "aria-label": each.name });
  button.append(element("img", undefined, { src: each.image, alt: "" }));
  button.onclick = () => { state.photo = i; show(); };
  byId("photos").append(button);
});
byId("photos").hidden = data.photos.length < 2;
byId("class").onchange = (event) => { state.class = Number(event.target.value); show(); };
for (const name of ["opacity", "threshold"])
  byId(name).oninput = (event) => { state[name] = Number(event.target.value); show(); };
byId("smooth").onchange = (event) => { state.smooth = event.target.checked; show(); };
byId("swap").onclick = () => { [state.a, state.b] = [state.b, state.a]; show(); };
byId("export").onclick = save;
document.addEventListener("keydown", key);
window.addEventListener("hashchange", () => { recall(); show(); });
recall();
show();
