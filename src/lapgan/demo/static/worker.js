// Runs the cascade apart from the page, level after level, so that the page stays responsive.
import { fill, keyOf } from "./noise.js";
import { nearest } from "./search.js";

const CHUNK = 8; // images at once: large enough to be fast, small enough to stop soon
const LATER = "classifier"; // the graph that is downloaded when it is first run
const Z = 0, EPSILON = 1; // what noise is for, as part of its key
let ort, options, manifest, index = null, latest = 0, queue = Promise.resolve();
const graphs = {}, sessions = {}; // by name: the bytes on their way, and what runs them

self.addEventListener("message", ({ data }) => {
  latest = data.id;
  queue = queue.then(() => TASKS[data.task](data)).catch((error) => {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  });
});

const TASKS = { load, draw, reduce, search };

// ---- loading ----------------------------------------------------------------------------------

async function load({ id, backend }) {
  manifest = await (await fetched("./model/manifest.json")).json();
  const gpu = backend !== "wasm" && (await findGpu());
  const build = gpu ? "jspi" : "wasm";
  const binary = gpu ? "ort-wasm-simd-threaded.jspi" : "ort-wasm-simd-threaded";
  const now = manifest.graphs.filter(({ graph }) => graph !== LATER);
  const total = manifest.runtime[build] + now.reduce((sum, { bytes }) => sum + bytes, 0);
  let loaded = 0;
  const count = (bytes) => self.postMessage({ id, progress: (loaded += bytes), total });
  const wasm = download(`./ort/${binary}.wasm.gz`, count).then(decompress);
  for (const { graph } of now) graphs[graph] = downloadGraph(graph, count);
  await Promise.all([start(gpu, build, wasm), wasm, ...Object.values(graphs)]);
  self.postMessage({ id, manifest, gpu, threads: ort.env.wasm.numThreads, isolated: self.crossOriginIsolated });
}

// Starts the runtime with the coarsest level, while finer ones are on their way.
async function start(gpu, build, wasm) {
  ort = await import(`./ort/ort.${build}.min.mjs`);
  ort.env.wasm.wasmBinary = await wasm;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, 8) : 1;
  options = { executionProviders: gpu ? ["webgpu", "wasm"] : ["wasm"], logSeverityLevel: 3 };
  await prepare(`level-${manifest.levels[0].name}`);
}

// A graph is prepared when it is first run, so that coarse images are seen before finer levels are ready.
async function prepare(graph) {
  sessions[graph] ??= await ort.InferenceSession.create(await (graphs[graph] ?? downloadGraph(graph)), options);
  delete graphs[graph];
  return sessions[graph];
}

// WebGPU needs this way of waiting for it within WebAssembly (JSPI).
async function findGpu() {
  if (!navigator.gpu || !WebAssembly.Suspending) return false;
  return Boolean(await navigator.gpu.requestAdapter().catch(() => null));
}

async function fetched(url) {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`${url} could not be loaded (${response.status})`);
  return response;
}

function downloadGraph(name, count) {
  const { file } = manifest.graphs.find(({ graph }) => graph === name);
  return download(`./model/${file}`, count);
}

async function download(url, count = () => {}) {
  const reader = (await fetched(url)).body.getReader(), parts = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return new Uint8Array(await new Blob(parts).arrayBuffer());
    parts.push(value);
    count(value.length);
  }
}

// Some servers let the browser decompress the file on its way.
async function decompress(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// ---- drawing ----------------------------------------------------------------------------------

// Draws images and posts them level by level. `noise` has per level and image the key's numbers `a`,
// and `b` and `t` on the way between two; `start` has pixels and the level they are of; of several
// `candidates`, each such noise, the best is drawn of each image.
async function draw({ id, labels, noise, start, parts, candidates = [] }) {
  const began = performance.now(), seconds = () => (performance.now() - began) / 1000;
  const show = (level, stages, more) => {
    const pixels = stages.map((stage) => toPixels(stage, manifest.levels[level], parts));
    self.postMessage({ id, level, stages: pixels, seconds: seconds(), ...more });
  };
  let done = begun(noise);
  if (start) {
    const level = indexOf(start.level);
    done = { level, images: labels.map(() => scale(start.pixels, manifest.levels[level])), noise };
  }
  if (candidates.length > 1) done = await choose(id, labels, candidates, show);
  if (done && (await descend(id, labels, done, manifest.levels.length - 1, show))) {
    self.postMessage({ id, done: true, seconds: seconds() });
  }
}

const begun = (noise) => ({ level: -1, images: null, noise }); // before the coarsest level
const indexOf = (name) => manifest.levels.findIndex((level) => level.name === name);

// Runs the levels after those that are done, and hands on each one's stages. Returns what is done then,
// or null if a newer request has arrived.
async function descend(id, labels, { level, images, noise }, last, show = () => {}) {
  for (let l = level + 1; l <= last; l++) {
    const stages = [];
    for (let i = 0; i < labels.length; i += CHUNK) {
      await new Promise((resolve) => setTimeout(resolve)); // lets a newer request arrive
      if (id !== latest) return null;
      const end = Math.min(i + CHUNK, labels.length);
      stages.push(...(await runLevel(l, labels.slice(i, end), noise[l].slice(i, end), images?.slice(i, end))));
    }
    images = stages.map(({ image }) => image);
    show(l, stages);
  }
  return { level: last, images, noise };
}

// Runs all candidates down to the classifier's level, and keeps of each image the one in which its class
// is most probable, the first of equals.
async function choose(id, labels, candidates, show) {
  const last = indexOf(manifest.classifier.level), best = [];
  for (const [j, noise] of candidates.entries()) {
    const drawn = await descend(id, labels, begun(noise), last, j ? undefined : show);
    if (!drawn) return null;
    const scores = await score(labels, drawn.images, manifest.levels[last]);
    scores.forEach((score, i) => {
      if (!(score <= best[i]?.score)) best[i] = { score, candidate: j, image: drawn.images[i] };
    });
    show(last, best, { chosen: best.map(({ candidate }) => candidate), candidate: j + 1 });
  }
  const noise = candidates[0].map((_, l) => best.map(({ candidate }, i) => candidates[candidate][l][i]));
  return { level: last, images: best.map(({ image }) => image), noise };
}

// Returns log p(c | x) of each image and its class.
async function score(labels, images, { size }) {
  const image = batch([3, ...size], images, (out, from) => out.set(from));
  const { data } = (await (await prepare("classifier")).run({ image })).log_probabilities;
  return labels.map((label, i) => data[i * manifest.classes.length + label]);
}

async function runLevel(l, labels, noise, coarse) {
  const level = manifest.levels[l], below = manifest.levels[l - 1];
  const { shape, distribution } = level.noise;
  const feeds = { z: batch(shape, noise, (out, from) => drawInto(out, distribution, from, l, Z)) };
  if (manifest.classes.length) {
    feeds.label = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [labels.length]);
  }
  if (coarse) feeds.coarse = batch([3, ...below.size], coarse, (out, image) => out.set(image));
  if (level.sigma !== null) {
    feeds.epsilon = batch([3, ...below.size], noise, (out, from) => drawInto(out, "normal", from, l, EPSILON));
  }
  const outputs = await (await prepare(`level-${level.name}`)).run(feeds);
  return labels.map((_, i) => Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => {
    const length = data.length / labels.length;
    return [name, data.slice(i * length, (i + 1) * length)];
  })));
}

function drawInto(out, distribution, { a, b, t }, l, purpose) {
  fill(out, distribution, keyOf(...a, l, purpose), b && keyOf(...b, l, purpose), t);
}

function batch(shape, items, write) {
  const length = shape.reduce((product, side) => product * side, 1);
  const data = new Float32Array(items.length * length);
  items.forEach((item, i) => write(data.subarray(i * length, (i + 1) * length), item));
  return new ort.Tensor("float32", data, [items.length, ...shape]);
}

// ---- pixels -----------------------------------------------------------------------------------

const at = (plane, i) => (typeof plane === "number" ? plane : plane[i]);
const even = (x) => (x % 1 === 0.5 ? 2 * Math.round(x / 2) : Math.round(x)); // as PyTorch rounds
const clip = (x) => Math.min(Math.max(x, 0), 255);

const unscale = (x, { mean, std }) => x.map((value, i) => clip(even(value * at(std, i) + at(mean, i))));
const scale = (pixels, { mean, std }) => Float32Array.from(pixels, (p, i) => (p - at(mean, i)) / at(std, i));

// Channels one after the other, as the nets have them, to RGBA, as a canvas has them.
function interleave(planes) {
  const count = planes.length / 3, rgba = new Uint8ClampedArray(4 * count).fill(255);
  for (let c = 0; c < 3; c++) for (let i = 0; i < count; i++) rgba[4 * i + c] = planes[c * count + i];
  return rgba;
}

// `high` is drawn around mid-gray.
function toPixels({ image, low }, level, parts) {
  const pixels = unscale(image, level);
  if (!parts || !low) return { image: interleave(pixels) };
  const lows = unscale(low, level);
  const high = pixels.map((value, i) => clip(value - lows[i] + 128));
  return { image: interleave(pixels), low: interleave(lows), high: interleave(high) };
}

// A picture of the finest size, RGBA, as the pyramid's coarser images: channels one after the other.
async function reduce({ id, rgba }) {
  const finest = manifest.levels.at(-1), count = rgba.length / 4;
  const planes = Array.from({ length: 3 * count }, (_, i) => rgba[4 * (i % count) + Math.floor(i / count)]);
  const image = new ort.Tensor("float32", scale(planes, finest), [1, 3, ...finest.size]);
  const outputs = await (await prepare("pyramid")).run({ image });
  const coarse = manifest.levels.slice(0, -1).map((level) => {
    return [level.name, Uint8Array.from(unscale(outputs[`image_${level.name}`].data, level))];
  });
  self.postMessage({ id, coarse: Object.fromEntries(coarse) });
}

// ---- training images --------------------------------------------------------------------------

// Finds the training images nearest to a picture of the finest size, RGBA.
async function search({ id, rgba, count }) {
  if (id !== latest) return;
  const { neighbors } = manifest;
  index ??= await download("./neighbors/index.bin");
  if (index.length !== neighbors.bytes) {
    const length = index.length;
    index = null;
    throw new Error(`neighbors/index.bin has ${length} bytes, expected ${neighbors.bytes}; write the page again`);
  }
  self.postMessage({ id, found: nearest(index, rgba, manifest.levels.at(-1).size, neighbors, count) });
}
