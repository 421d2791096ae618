// The page: its controls, its link, and what the worker draws for it.
import { DEFAULTS, decode, encode, read, write } from "./link.js";
import { COUNT, captionOf as trainingCaption, meaningOf, nameOf as trainingName, paintAll, summaryOf } from "./neighbors.js";
import { EXPLANATIONS, jobs, nameOf, redrawn } from "./views.js";

const $ = (id) => document.getElementById(id);
const form = $("controls"), output = $("output");
let worker, manifest, state, job, number = 0, finished = true;
let waiting = {}; // what to do with the worker's answers to the newest request

// ---- worker -----------------------------------------------------------------------------------

function ask(task, message, handlers) {
  waiting = { ...handlers, id: ++number };
  worker.postMessage({ task, id: number, ...message });
}

function answer({ data }) {
  if (data.id !== waiting.id) return;
  if (data.error) {
    waiting = {}; // other downloads that go on would write their progress over the message
    fail(data.error);
  } else if ("progress" in data) showProgress(data);
  else waiting.answer(data);
}

function fail(text) {
  const place = $("demo").hidden ? $("message") : $("status");
  place.textContent = `This did not work: ${text}`;
  place.classList.add("wrong");
  $("progress").hidden = true;
}

const missing = () => {
  if (typeof WebAssembly !== "object") return "WebAssembly";
  if (typeof DecompressionStream !== "function") return "DecompressionStream";
  return null;
};

function begin() {
  const lack = missing();
  if (lack) return fail(`this browser has no ${lack}. Use Chrome 92, Firefox 114, Safari 16.4 or newer.`);
  $("message").textContent = "Loading the model…";
  worker = new Worker("./worker.js", { type: "module" });
  worker.addEventListener("message", answer);
  worker.addEventListener("error", () => fail("the part that computes could not be started. Is this browser up to date?"));
  ask("load", { backend: new URLSearchParams(location.search).get("backend") }, { answer: arrive });
}

function showProgress({ progress, total }) {
  const bar = $("progress"), mib = (bytes) => (bytes / 2 ** 20).toFixed(1);
  bar.hidden = false;
  bar.max = total;
  bar.value = progress;
  $("message").textContent = progress < total ? `Loading the model: ${mib(progress)} of ${mib(total)} MiB` : "Preparing the model…";
}

function arrive(loaded) {
  manifest = loaded.manifest;
  document.title = `${manifest.model}: images from coarse to fine`;
  const sizes = manifest.levels.map(({ size }) => `${size[1]}×${size[0]}`).join(", ");
  $("about").textContent = `${manifest.model}. ${manifest.description} Levels: ${sizes}. It runs in your browser; nothing that you do here leaves this device.`;
  $("runtime").textContent = `Runs on ${runtimeOf(loaded)}.`;
  fillControls();
  describeTraining();
  $("loading").hidden = true;
  $("demo").hidden = false;
  // A page that is opened without a link shows fewer images where the processor draws them.
  if (!location.hash && !loaded.gpu) history.replaceState(null, "", "#count=10");
  restore();
}

function runtimeOf({ gpu, threads, isolated }) {
  if (gpu) return "WebGPU";
  const why = navigator.gpu ? "this browser has no WebGPU that can be used here" : "this browser has no WebGPU";
  if (threads > 1) return `the processor: WebAssembly with ${threads} threads (${why})`;
  const lone = isolated ? "" : "; this server does not send the headers that threads need";
  return `the processor: WebAssembly with one thread (${why}${lone})`;
}

function describeTraining() {
  const { neighbors } = manifest;
  if (!neighbors) return $("tab-near").remove();
  $("meaning").textContent = meaningOf(neighbors);
  $("contains").textContent = `This page contains ${neighbors.images.toLocaleString("en")} training images of ${neighbors.data}.`;
  $("contains").hidden = false;
  return undefined;
}

// ---- controls ---------------------------------------------------------------------------------

function option(text, value) {
  const node = document.createElement("option");
  node.textContent = text;
  node.value = value;
  return node;
}

function fillControls() {
  const coarse = manifest.levels.slice(0, -1);
  DEFAULTS.from = manifest.levels[0].name; // a link leaves it out
  form.elements.class.append(option("all", "all"), ...manifest.classes.map((name) => option(name, name)));
  $("classes").hidden = !manifest.classes.length;
  form.elements.from.append(...coarse.map(({ name, size }) => option(`${size[1]}×${size[0]} pixels`, name)));
  if (!coarse.length) for (const view of ["details", "own"]) $(`tab-${view}`).remove();
  for (const { name, size } of manifest.levels) {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", name: "redraw", value: name });
    label.append(box, ` ${size[1]}×${size[0]}`);
    $("redraw").append(label);
  }
}

// Takes the state from the address and shows it.
function restore() {
  state = read(location.hash);
  if (!$(`tab-${state.view}`)) state.view = DEFAULTS.view;
  if (!manifest.classes.includes(state.class)) state.class = "all";
  if (!manifest.levels.slice(0, -1).some(({ name }) => name === state.from)) state.from = DEFAULTS.from;
  state.count = Math.min(Math.max(state.count, 1), 400);
  state.best = manifest.classifier ? Math.min(Math.max(state.best, 1), 16) : 1;
  show();
}

function show() {
  for (const name of ["class", "seed", "count", "best", "image", "other", "from"]) form.elements[name].value = state[name];
  for (const box of form.querySelectorAll("[name=redraw]")) box.checked = redrawn(manifest, state).includes(box.value);
  for (const node of form.querySelectorAll("[data-views]")) {
    const lacks = { classes: !manifest.classes.length, candidates: !manifest.classifier };
    node.hidden = lacks[node.id] || !node.dataset.views.split(" ").includes(state.view);
  }
  for (const tab of $("tabs").children) {
    const chosen = tab.dataset.view === state.view;
    tab.setAttribute("aria-selected", chosen);
    tab.tabIndex = chosen ? 0 : -1;
  }
  $("panel").setAttribute("aria-labelledby", `tab-${state.view}`);
  $("explanation").textContent = EXPLANATIONS[state.view];
  $("meaning").hidden = state.view !== "near";
  $("another").textContent = state.view === "details" ? "Redraw" : "New seed";
  $("link").hidden = true;
  const hash = write(state);
  if (location.hash !== hash) history.replaceState(null, "", hash);
  draw();
}

function change(changes) {
  Object.assign(state, changes);
  show();
}

form.addEventListener("change", ({ target }) => {
  if (target.type === "file") return readPicture(target.files[0]);
  if (!target.reportValidity()) return undefined;
  if (target.name === "redraw") {
    const boxes = [...form.querySelectorAll("[name=redraw]:checked")];
    return change({ redraw: boxes.map(({ value }) => value).join(","), variant: 0 });
  }
  // The pixels in the link are of the old size.
  if (target.name === "from") return change({ from: target.value, coarse: reduced ? encode(reduced[target.value]) : "" });
  return change({ [target.name]: target.type === "number" || ["count", "best"].includes(target.name) ? Number(target.value) : target.value });
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.view === "details") change({ variant: state.variant + 1 });
  else change({ seed: (state.seed + 1) % 1e9 });
});

$("tabs").addEventListener("click", ({ target }) => {
  if (target.dataset.view) change({ view: target.dataset.view });
});

$("tabs").addEventListener("keydown", (event) => {
  const tabs = [...$("tabs").children], here = tabs.indexOf(event.target);
  const places = { ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: -1 };
  if (!(event.key in places)) return;
  event.preventDefault();
  const tab = tabs.at(places[event.key] % tabs.length);
  tab.focus();
  change({ view: tab.dataset.view });
});

window.addEventListener("hashchange", () => manifest && restore());

// ---- drawing ----------------------------------------------------------------------------------

function draw() {
  const [h, w] = manifest.levels.find(({ name }) => name === state.from).size;
  const pixels = state.view === "own" ? decode(state.coarse, 3 * h * w) : null;
  const lacks = state.view === "own" && !pixels;
  finished = lacks;
  output.setAttribute("aria-busy", !lacks);
  $("status").classList.remove("wrong");
  $("status").textContent = lacks ? "Choose a picture." : "Drawing…";
  if (lacks) {
    waiting = {}; // what is still drawn for another view has no place here
    return output.replaceChildren();
  }
  job = jobs[state.view](manifest, state, pixels);
  if (state.view === "grow") output.replaceChildren();
  else arrange(pixels);
  return ask("draw", job, { answer: (drawn) => (drawn.done ? finish(drawn) : take(drawn)) });
}

function finish({ seconds }) {
  if (state.view === "near") return searchTraining();
  const n = job.labels.length;
  return settle(`${n} ${n === 1 ? "image" : "images"} in ${seconds.toFixed(2)} s.`);
}

function settle(text) {
  finished = true;
  output.setAttribute("aria-busy", "false");
  $("status").textContent = text;
}

function searchTraining() {
  const sample = output.querySelector("canvas"), { width, height } = sample;
  const rgba = sample.getContext("2d").getImageData(0, 0, width, height).data;
  $("status").textContent = "Searching the training images…";
  ask("search", { rgba, count: COUNT }, { answer: ({ found }) => showTraining(found).catch(({ message }) => fail(message)) });
}

async function showTraining(found) {
  const { id } = waiting, { neighbors, levels } = manifest;
  const canvases = found.map((one) => canvasOf(trainingName(neighbors, one)));
  await paintAll(canvases, neighbors, found, levels.at(-1).size);
  if (waiting.id !== id) return; // something else is asked for by now
  output.firstChild.append(...canvases.map((canvas, i) => captioned(canvas, trainingCaption(neighbors, found[i]))));
  settle(summaryOf(neighbors, found));
}

function canvasOf(name) {
  const canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  return canvas;
}

function paint(canvas, rgba, [h, w]) {
  canvas.width = w;
  canvas.height = h;
  canvas.getContext("2d").putImageData(new ImageData(rgba, w, h), 0, 0);
}

function captioned(canvas, text) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  caption.textContent = text;
  figure.append(canvas, caption);
  return figure;
}

// One place per image, which the levels fill in turn; on the sheet a place leads to its image.
function arrange(pixels) {
  const grid = document.createElement("div");
  grid.className = `grid ${state.view}`;
  if (pixels) {
    const level = manifest.levels.find(({ name }) => name === state.from), count = pixels.length / 3;
    const rgba = Uint8ClampedArray.from({ length: 4 * count }, (_, i) => (i % 4 < 3 ? pixels[(i % 4) * count + (i >> 2)] : 255));
    const canvas = canvasOf("your picture, reduced");
    paint(canvas, rgba, level.size);
    grid.append(captioned(canvas, "your picture"));
  }
  job.labels.forEach((label, i) => {
    const canvas = canvasOf(nameOf(manifest, state, label, i));
    canvas.dataset.image = i;
    if (state.view !== "sheet") return grid.append(captioned(canvas, captionOf(label, i)));
    const button = document.createElement("button");
    button.type = "button";
    button.append(canvas);
    button.addEventListener("click", () => change({ view: "grow", image: numberOf(i) }));
    return grid.append(button);
  });
  output.replaceChildren(grid);
}

// The number of image i of the sheet: that of the candidate that was chosen, at first of the first one.
const numberOf = (i) => job.numbers[job.chosen?.[i] ?? 0][i];

function captionOf(label, i) {
  if (state.view === "details") return i ? `new ${i}` : "original";
  if (state.view === "near") return "generated";
  if (state.view === "between") return ["seed " + state.seed, "seed " + state.other][i / 8] ?? `${Math.round(12.5 * i)}%`;
  return manifest.classes[label] ?? `${i + 1}`;
}

function take({ level, stages, chosen, candidate }) {
  const { size, name } = manifest.levels[level];
  if (candidate) $("status").textContent = `Drawing… candidate ${candidate} of ${state.best}`;
  if (chosen) {
    job.chosen = chosen;
    job.labels.forEach((label, i) => {
      output.querySelector(`[data-image="${i}"]`).setAttribute("aria-label", nameOf(manifest, state, label, numberOf(i)));
    });
  }
  if (state.view !== "grow") {
    return stages.forEach(({ image }, i) => paint(output.querySelector(`[data-image="${i}"]`), image, size));
  }
  const [{ image, low, high }] = stages, row = document.createElement("div"), text = `${size[1]}×${size[0]}`;
  row.className = "row";
  const add = (rgba, caption, sign) => {
    const canvas = canvasOf(`${caption}, ${text}`);
    canvas.dataset.part = `${caption} ${name}`;
    paint(canvas, rgba, size);
    if (sign) row.append(Object.assign(document.createElement("span"), { className: "sign", textContent: sign }));
    row.append(captioned(canvas, caption));
  };
  if (low) {
    add(low, "enlarged");
    add(high, "residual", "+");
  }
  add(image, "image", low && "=");
  row.prepend(Object.assign(document.createElement("h2"), { textContent: text }));
  return output.append(row);
}

// ---- the user's own picture -------------------------------------------------------------------

let reduced = null; // the picture at every coarser level

async function readPicture(file) {
  if (!file) return;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) return fail(`${file.name} is no picture that this browser can read.`);
  const rgba = shrink(bitmap, manifest.levels.at(-1).size);
  ask("reduce", { rgba }, { answer: ({ coarse }) => {
    reduced = coarse;
    change({ coarse: encode(coarse[state.from]) });
  } });
}

// Cuts the middle out in the shape of the images, and averages over the area of each pixel.
function shrink(bitmap, [h, w]) {
  const side = Math.min(bitmap.width / w, bitmap.height / h), factor = Math.max(1, Math.min(16, Math.ceil(side)));
  const canvas = new OffscreenCanvas(w * factor, h * factor), context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // behind transparent pixels
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, (bitmap.width - w * side) / 2, (bitmap.height - h * side) / 2, w * side, h * side, 0, 0, canvas.width, canvas.height);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  const sums = new Float32Array(4 * h * w);
  for (let i = 0; i < data.length; i++) {
    const x = (i >> 2) % canvas.width, y = Math.floor((i >> 2) / canvas.width);
    sums[4 * (Math.floor(y / factor) * w + Math.floor(x / factor)) + (i & 3)] += data[i];
  }
  return Uint8ClampedArray.from(sums, (sum) => sum / factor ** 2);
}

// ---- download and link ------------------------------------------------------------------------

// All pictures that are shown, row by row, each enlarged without smoothing to the finest size times 4.
function collect() {
  const rows = state.view === "grow" ? [...output.querySelectorAll(".row")].map((row) => [...row.querySelectorAll("canvas")]) : [];
  const all = [...output.querySelectorAll("canvas")], across = Math.min(10, Math.ceil(Math.sqrt(all.length)));
  if (!rows.length) for (let i = 0; i < all.length; i += across) rows.push(all.slice(i, i + across));
  const [h, w] = manifest.levels.at(-1).size.map((side) => 4 * side), gap = 8;
  const sheet = document.createElement("canvas"), context = sheet.getContext("2d");
  sheet.width = Math.max(...rows.map((row) => row.length)) * (w + gap) - gap;
  sheet.height = rows.length * (h + gap) - gap;
  context.imageSmoothingEnabled = false;
  rows.forEach((row, y) => row.forEach((canvas, x) => context.drawImage(canvas, x * (w + gap), y * (h + gap), w, h)));
  return sheet;
}

$("download").addEventListener("click", () => {
  if (!finished || !output.querySelector("canvas")) return;
  collect().toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${manifest.model}-${state.view}-${state.seed}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  });
});

$("copy").addEventListener("click", async () => {
  try {
    await navigator.clipboard.writeText(location.href);
    $("status").textContent = "The link is copied: it shows these images again.";
  } catch {
    const field = $("link").querySelector("input");
    $("link").hidden = false;
    field.value = location.href;
    field.select();
  }
});

begin();
