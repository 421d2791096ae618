// A sitting in the browser: jsPsych runs the timeline, animation frames time the images, and
// every answer is stored on the server before the next trial begins.
import { Painter, estimateRefresh, expose } from "./exposure.js";

const token = location.hash.slice(1) || localStorage.getItem("lapgan-study-token") || "";
const forget = () => Object.values(STORED).forEach((key) => localStorage.removeItem(key));
const stage = document.getElementById("stage");
const texts = JSON.parse(stage.dataset.texts);
const jsPsych = jsPsychModule.initJsPsych({ display_element: stage });
const STORED = { token: "lapgan-study-token", shown: "lapgan-study-shown", pending: "lapgan-study-pending" };
const SIDES = { ArrowLeft: "left", KeyF: "left", ArrowRight: "right", KeyJ: "right" };
const images = new Map();
let state = {}; // the server's view of this sitting
const RETURN_SECONDS = 15;
let refreshHz = 60;
let returning; // timer of the way back to the service that sent the rater
let arriving = true;

// ---- server -----------------------------------------------------------------------------------

const sleep = (ms) => new Promise((resolve) => jsPsych.pluginAPI.setTimeout(resolve, ms));

async function call(path, body) {
  for (let wait = 500; ; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await fetch(path, {
        method: body ? "POST" : "GET",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: body && JSON.stringify(body),
        signal: AbortSignal.timeout(10000),
      });
      if (response.status < 500 && response.status !== 429) {
        tell("");
        return { status: response.status, data: await response.json() };
      }
    } catch { /* no connection: try again */ }
    tell(texts.offline);
    await sleep(wait * (0.5 + Math.random())); // not all raters at once after an outage
  }
}

async function refresh() {
  const { status, data } = await call("/api/sitting");
  state = status === 200 ? data : { lost: true, next: null };
  showProgress();
}

async function submit(answer) {
  // Until it is acknowledged, the answer outlives a reload.
  localStorage.setItem(STORED.pending, JSON.stringify({ token, answer }));
  const { status, data } = await call("/api/answers", answer);
  localStorage.removeItem(STORED.pending);
  if (status === 200) Object.assign(state, data);
  // Paused, or another device went on with this sitting: ask again where it stands.
  if (status !== 200 || state.paused) arriving = true;
  showProgress();
}

async function resend() {
  const pending = JSON.parse(localStorage.getItem(STORED.pending) ?? "null");
  if (pending?.token === token) await call("/api/answers", pending.answer);
  localStorage.removeItem(STORED.pending);
}

// ---- page -------------------------------------------------------------------------------------

const tell = (text) => { document.getElementById("status").textContent = text; };
const judgement = (side) => ((side === "left") === state.real_left ? "real" : "fake");

function showProgress() {
  const share = state.total ? state.done / state.total : 0;
  document.getElementById("progress").value = share;
  document.getElementById("count").textContent = state.total ? `${state.done} / ${state.total}` : "";
}

function show(id, place = jsPsych.getDisplayElement() ?? stage) {
  place.replaceChildren(document.getElementById(id).content.cloneNode(true));
  const values = {
    block: state.block,
    code: state.code,
    address: `${location.origin}/sitting#${token}`,
    completion: state.completion?.code,
    seconds: RETURN_SECONDS,
  };
  for (const node of stage.querySelectorAll("[data-text]")) {
    node.textContent = values[node.dataset.text];
    if (node.tagName === "A") node.href = values[node.dataset.text];
  }
  for (const node of stage.querySelectorAll("[data-side]")) {
    const { side } = node.dataset;
    const key = document.createElement("kbd");
    key.textContent = side === "left" ? "←" : "→";
    node.replaceChildren(texts[judgement(side)]);
    node[side === "left" ? "prepend" : "append"](key);
    node.dataset.answer = judgement(side);
  }
  for (const button of stage.querySelectorAll("[data-withdraw]")) button.addEventListener("click", withdraw);
}

async function withdraw() {
  clearTimeout(returning);
  if (!window.confirm(texts.delete)) return;
  const { status } = await call("/api/withdraw", {});
  if (status !== 200) return;
  forget();
  show("removed", stage);
}

// Sends raters back to the service that they came from, unless they delete their answers first.
function goBack(url) {
  const link = stage.querySelector("[data-return]");
  if (!url || !link) return;
  link.href = url;
  link.focus();
  returning = setTimeout(() => location.assign(url), 1000 * RETURN_SECONDS);
}

// jsPsych builds its trials from classes like this one.
const plugin = (name, run, parameters = {}) => class {
  static info = { name, version: "1", parameters, data: {} };
  async trial(_element, trial) {
    await run(trial);
    jsPsych.finishTrial({});
  }
};

const Page = plugin("page", ({ template }) => new Promise((resolve) => {
  show(template);
  window.scrollTo(0, 0);
  const button = stage.querySelector("[data-go]");
  button.focus({ preventScroll: true });
  button.addEventListener("click", resolve, { once: true });
}), { template: { type: jsPsychModule.ParameterType.STRING } });

async function loadImages() {
  images.clear();
  await Promise.all(state.images.map(async (name) => {
    const image = new Image();
    image.src = `/stimuli/${name}.png`;
    await image.decode();
    images.set(name, await createImageBitmap(image));
  }));
}

// ---- trial ------------------------------------------------------------------------------------

// Listens for one answer by key, finger or mouse that came no sooner than `since`.
function listen(since = 0) {
  stage.querySelector(".question").textContent = texts.question;
  return new Promise((resolve) => {
    const buttons = stage.querySelectorAll("button[data-side]");
    const done = (side, input, time) => {
      document.removeEventListener("keydown", onKey);
      for (const button of buttons) button.disabled = true;
      stage.querySelector(`button[data-side=${side}]`).classList.add("chosen");
      resolve({ answer: judgement(side), input, time });
    };
    const onKey = (event) => {
      if (event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
      if (!(event.code in SIDES) || event.timeStamp < since) return;
      event.preventDefault();
      done(SIDES[event.code], "keyboard", event.timeStamp);
    };
    const pointer = matchMedia("(pointer: coarse)").matches ? "touch" : "mouse";
    document.addEventListener("keydown", onKey);
    for (const button of buttons) {
      button.disabled = false;
      button.onclick = (event) => event.timeStamp >= since && done(button.dataset.side, event.detail ? pointer : "keyboard", event.timeStamp);
    }
  });
}

async function feedback(answer) {
  const line = stage.querySelector(".question");
  const right = answer === state.truth;
  line.textContent = texts[right ? "right" : "wrong"].replace("{word}", texts[state.truth]);
  line.classList.add(right ? "right" : "wrong");
  await sleep(1200);
}

const Exposure = plugin("exposure", async () => {
  const { trial, image, asked_ms: asked, practice } = state.next;
  const resumed = localStorage.getItem(STORED.shown) === trial;
  show("trial");
  const painter = new Painter(stage.querySelector("canvas"), stage.dataset.mask, Number(stage.dataset.zoom));
  let hidden = document.hidden;
  const watch = () => { hidden = true; };
  document.addEventListener("visibilitychange", watch);
  const fixation = Number(stage.dataset.fixation);
  await expose(() => painter.fixation(), refreshHz, (shown, period) => shown >= fixation - period / 2);

  localStorage.setItem(STORED.shown, trial);
  let given = null; // without a time limit the answer ends the image, else it comes after it
  if (asked === null) listen().then((answer) => { given = answer; });
  const { onset, ...timing } = await expose(() => painter.image(images.get(image)), refreshHz,
    (shown, period) => (asked === null ? given !== null : shown >= asked - period / 2));
  painter.mask();
  const { answer, input, time } = given ?? await listen(onset + timing.achieved_ms);

  document.removeEventListener("visibilitychange", watch);
  const response_ms = Math.max(0, time - onset);
  await submit({ trial, answer, response_ms, ...timing, refresh_hz: refreshHz, hidden, resumed, input });
  if (practice && state.truth) await feedback(answer);
});

// ---- sitting ----------------------------------------------------------------------------------

const Prepare = plugin("prepare", async () => {
  show("ready");
  while (!await loadImages().then(() => true, () => false)) {
    stage.querySelector(".note").textContent = texts.loading;
    await sleep(1000);
  }
  refreshHz = await estimateRefresh();
  if (arriving) await call("/api/screen", { window_width: innerWidth, window_height: innerHeight, pixel_ratio: devicePixelRatio });
  arriving = false;
});

const going = () => state.next !== null && !state.paused;
const when = (condition, node) => ({ timeline: [node], conditional_function: condition });
const page = (template, condition) => when(condition, { type: Page, template });

const block = {
  conditional_function: () => state.next !== null,
  timeline: [
    page("paused", () => state.paused),
    page("instructions", () => going() && arriving && state.done === 0),
    page("back", () => going() && arriving && state.done > 0),
    page("begin", () => going() && !arriving && state.block === 1),
    page("break", () => going() && !arriving && state.block > 1),
    when(going, { type: Prepare }),
    { ...when(going, { type: Exposure }), loop_function: () => going() && !arriving },
    { type: plugin("refresh", refresh) },
  ],
  loop_function: () => state.next !== null,
};

resend().then(refresh).then(async () => {
  if (state.lost) return show("lost", stage);
  localStorage.setItem(STORED.token, token);
  history.replaceState(null, "", `#${token}`);
  await jsPsych.run([block]);
  show(state.lost ? "lost" : "thanks", stage);
  goBack(state.completion?.url);
  return forget(); // the next person at this computer starts anew
});
