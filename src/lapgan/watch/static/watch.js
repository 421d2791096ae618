// Shows one run: asks for /run.json every five seconds and draws what it says.

const EVERY = 5000;
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 300, HEIGHT = 150, LEFT = 48, RIGHT = 8, TOP = 8, BOTTOM = 20;
// Title, the figures of the log with their names, and the axis if it is a special one.
const CHARTS = [
  ["Loss", [["loss_d", "D"], ["loss_g", "G"]]],
  ["D is right", [["real_accuracy", "on real"], ["fake_accuracy", "on generated"]], "fraction"],
  ["Std ratio, generated to real", [["std_ratio", "ratio"]]],
  ["Gradient norm", [["gradient_d", "D"], ["gradient_g", "G"]], "logarithmic"],
  ["Penalty", [["penalty", "mean"]]],
  ["Learning rate", [["learning_rate", "rate"]]],
  ["Speed, images/s", [["images_per_second", "rate"]]],
  ["Loss of the classifier", [["loss_classifier", "loss"]]],
  ["The classifier is right", [["accuracy", "on training images"]], "fraction"],
];
const STATES = {
  waiting: "not begun", training: "training", finished: "finished", interrupted: "interrupted",
};
const chosen = new Map(); // part -> the sheet that was chosen; by default the last
let paused = false;

const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const draw = (tag, attributes, text) => {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  if (text !== undefined) element.textContent = text;
  return element;
};
const short = (value) => {
  if (value === null || value === undefined) return "n/a";
  const rounded = Number(value.toPrecision(3));
  return rounded && Math.abs(rounded) < 0.001 ? rounded.toExponential() : rounded.toString();
};
const title = (part) => part.name === "classifier" ? "Classifier" : `Level ${part.name}`;
const kimg = (images) => `${(images / 1000).toLocaleString("en", { maximumFractionDigits: 1 })} thousand images`;

function say(text) {
  const state = document.getElementById("state");
  if (state.textContent !== text) state.textContent = text; // read aloud when it changes
}

function line(xs, ys, toX, toY) {
  let path = "", pen = "M";
  ys.forEach((y, i) => {
    if (y === null || !Number.isFinite(toY(y))) { pen = "M"; return; }
    path += `${pen}${toX(xs[i]).toFixed(1)} ${toY(y).toFixed(1)}`;
    pen = "L";
  });
  return path;
}

function chart([name, lines, axis], curves) {
  const logarithmic = axis === "logarithmic";
  const present = lines.filter(([key]) => curves[key]?.some((value) => value)); // a penalty that there is not is 0
  if (!present.length) return null;
  const scale = logarithmic ? Math.log10 : (value) => value;
  const xs = curves.images_seen;
  const values = present.flatMap(([key]) => curves[key]).filter((v) => v !== null).map(scale).filter(Number.isFinite);
  if (!values.length) return null;
  let [low, high] = axis === "fraction" ? [0, 1] : [Math.min(...values), Math.max(...values)];
  if (high === low) { low -= Math.abs(low) / 10 || 1; high += Math.abs(high) / 10 || 1; }
  const first = xs.length > 1 ? xs[0] : 0, last = xs.at(-1);
  const toX = (x) => LEFT + (WIDTH - LEFT - RIGHT) * (x - first) / (last - first || 1);
  const toY = (y) => HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (scale(y) - low) / (high - low);
  const label = (value) => short(logarithmic ? 10 ** value : value);
  const ends = present.map(([key, text]) => `${text} ${short(curves[key].at(-1))}`).join(", ");
  const svg = draw("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
    "aria-label": `${name}, against images seen${logarithmic ? ", on a logarithmic axis" : ""}. Last: ${ends}.`,
  });
  svg.append(
    draw("path", { class: "axis", d: `M${LEFT} ${TOP}V${HEIGHT - BOTTOM}H${WIDTH - RIGHT}` }),
    draw("text", { x: LEFT - 4, y: TOP + 8, "text-anchor": "end" }, label(high)),
    draw("text", { x: LEFT - 4, y: HEIGHT - BOTTOM, "text-anchor": "end" }, label(low)),
    draw("text", { x: LEFT, y: HEIGHT - 5 }, short(first / 1000)),
    draw("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, `${short(last / 1000)} thousand`),
  );
  present.forEach(([key], i) => svg.append(
    draw("path", { class: i ? "second" : "first", d: line(xs, curves[key], toX, toY) })));
  const keys = present.map(([key, text], i) => make("span", { className: i ? "key-second" : "key-first" },
    `${i ? "╌ " : "— "}${text} ${short(curves[key].at(-1))} `));
  return make("figure", {}, make("h3", {}, name), svg, make("figcaption", {}, ...keys));
}

function sheet(part) {
  if (!part.sheets.length) return make("p", { className: "faint" }, "No sheet of samples yet.");
  const name = part.sheets.includes(chosen.get(part.name)) ? chosen.get(part.name) : part.sheets.at(-1);
  const image = make("img"), text = make("output", { className: "faint" });
  const show = (file) => {
    const count = kimg(Number.parseInt(file, 10) * 1000);
    image.src = `/sheets/${encodeURIComponent(part.name)}/${encodeURIComponent(file)}`;
    image.alt = `Sheet of ${title(part)} after ${count}: samples, below real and low-pass images where the level has them`;
    text.textContent = `after ${count}`;
  };
  const slider = make("input", {
    type: "range", min: 0, max: part.sheets.length - 1, id: `sheet-${part.name}`,
    oninput: () => {
      const file = part.sheets[slider.valueAsNumber];
      if (file === part.sheets.at(-1)) chosen.delete(part.name); else chosen.set(part.name, file);
      slider.setAttribute("aria-valuetext", `after ${kimg(Number.parseInt(file, 10) * 1000)}`);
      show(file);
    },
  });
  slider.value = part.sheets.indexOf(name);
  slider.setAttribute("aria-valuetext", `after ${kimg(Number.parseInt(name, 10) * 1000)}`);
  show(name);
  const label = make("label", { htmlFor: slider.id }, `Sheet of samples, 1 to ${part.sheets.length}: `);
  return make("div", { className: "sheet" }, make("p", {}, label, text), slider, image);
}

// Fills the table that is in the slot already, so that it stays open and keeps the focus.
function table(part, slot) {
  const names = Object.keys(part.curves), rows = (part.curves.images_seen ?? []).length;
  const head = make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name)));
  const body = Array.from({ length: Math.min(20, rows) }, (_, i) =>
    make("tr", {}, ...names.map((name) => make("td", {}, short(part.curves[name][rows - 1 - i])))));
  const filled = make("table", {}, make("caption", {}, `The last figures of ${title(part)}, newest first`),
    make("thead", {}, head), make("tbody", {}, ...body));
  const region = slot.querySelector(".table");
  if (region) {
    region.replaceChildren(filled);
    return null;
  }
  const scroll = make("div", { className: "table", tabIndex: 0 }, filled);
  scroll.setAttribute("role", "region");
  scroll.setAttribute("aria-label", `Figures of ${title(part)}`);
  return make("details", {}, make("summary", {}, "Figures as a table"), scroll);
}

function facts(part) {
  const bar = make("progress", { max: 1, value: part.fraction });
  bar.setAttribute("aria-label", `${title(part)}: part of its budget`);
  const text = STATES[part.state] + (part.state === "waiting" ? "" :
    `, ${Math.round(100 * part.fraction)}% of its budget: ` +
    `${kimg(part.images_seen)} in ${(part.seconds / 60).toFixed(1)} minutes`) +
    (part.updated ? `, last record ${new Date(part.updated).toLocaleString()}` : "");
  return make("div", {}, make("p", {}, text), bar);
}

const charts = (part) => make("div", { className: "charts" },
  ...CHARTS.map((kind) => chart(kind, part.curves)).filter(Boolean));

// The pieces of a section: how each is drawn, and from what.
const PIECES = [
  [facts, ({ state, fraction, images_seen, seconds, updated }) => [state, fraction, images_seen, seconds, updated]],
  [charts, ({ curves }) => curves],
  [sheet, ({ sheets }) => sheets],
  [table, ({ curves }) => curves],
];
const drawn = new Map(); // the id of a piece -> what it was drawn from

function refresh(part, parts) {
  const id = `part-${part.name}`;
  let section = document.getElementById(id);
  if (!section) {
    section = make("section", { id }, make("h2", {}, title(part)), ...PIECES.map(() => make("div")));
    parts.append(section);
  }
  PIECES.forEach(([piece, source], i) => {
    const key = `${id}-${i}`, content = JSON.stringify(source(part));
    const slot = section.children[i + 1];
    // A slider that somebody is moving is drawn again once the focus has left it.
    if (drawn.get(key) === content || (piece === sheet && slot.contains(document.activeElement))) return;
    drawn.set(key, content);
    const made = i && part.state === "waiting" ? null : piece(part, slot);
    if (made) slot.replaceChildren(made);
  });
}

function show(run) {
  document.title = `${run.name}: ${STATES[run.state]}`;
  document.getElementById("title").textContent = run.name;
  document.getElementById("facts").textContent =
    `recipe ${run.recipe}, data ${run.data}, seed ${run.seed}${run.precision ? `, ${run.precision}` : ""}`;
  say(STATES[run.state]);
  for (const part of run.parts) refresh(part, document.getElementById("parts"));
}

async function update() {
  if (paused || document.hidden) return;
  try {
    const response = await fetch("/run.json", { signal: AbortSignal.timeout(20000) });
    if (!response.ok) throw new Error(await response.text());
    show(await response.json());
  } catch (error) {
    const away = error instanceof TypeError || error.name === "TimeoutError";
    say(away ? "no connection to lapgan watch; start it again to go on" : error.message);
  }
}

document.getElementById("pause").addEventListener("click", (event) => {
  paused = !paused;
  event.target.setAttribute("aria-pressed", paused);
  update();
});
document.addEventListener("visibilitychange", update);
(async () => {
  for (;;) {
    await update();
    await new Promise((done) => setTimeout(done, EVERY));
  }
})();
