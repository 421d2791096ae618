// The six things that the page shows. Each makes a job for the worker from the page's state, and
// arranges what comes back as rows of pictures.

const VARIANTS = 8;
const STEPS = 9;

export const EXPLANATIONS = {
  sheet: "Each image begins as noise at the coarsest level; every finer level adds detail. Choose an image to see how it grew.",
  grow: "The image of each level is enlarged, and the next level adds a residual, drawn around mid-gray: the detail of its scale.",
  details: "The same image, with new noise at the chosen levels and the old noise at all others. The first image is the original.",
  between: "From one seed to another: the noise of every level goes gradually from the first to the second.",
  near: "One generated image, and the training images that are most like it. Choose it on the sheet, or by its number.",
  own: "Your picture is cut to a square, reduced to a few pixels, and refined in eight ways. It does not leave this device.",
};

// One class per image: all in equal numbers, or the chosen one.
function labelsOf(manifest, state, n) {
  const chosen = manifest.classes.indexOf(state.class), all = manifest.classes.length;
  if (chosen >= 0 || !all) return Array(n).fill(Math.max(chosen, 0));
  return Array.from({ length: n }, (_, i) => Math.floor((i * all) / n) % all);
}

// The class that an image has on the sheet.
function labelOf(manifest, state) {
  const labels = labelsOf(manifest, state, state.count);
  return labels[state.image % state.count];
}

export const redrawn = (manifest, state) => {
  const names = state.redraw.split(",").filter((name) => manifest.levels.some((level) => level.name === name));
  return names.length ? names : [manifest.levels.at(-1).name];
};

// The noise of images of the seed, by their numbers.
const noiseOf = (manifest, { seed }, numbers) => manifest.levels.map(() => numbers.map((i) => ({ a: [seed, i, 0] })));

export const jobs = {
  sheet(manifest, state) {
    const labels = labelsOf(manifest, state, state.count);
    // Candidate j of image i is an image of the seed too, of the same class: that of number i + count j.
    const numbers = Array.from({ length: state.best }, (_, j) => labels.map((_, i) => i + state.count * j));
    const candidates = numbers.map((of) => noiseOf(manifest, state, of));
    return { labels, noise: candidates[0], candidates, numbers };
  },
  grow(manifest, state) {
    const noise = noiseOf(manifest, state, [state.image]);
    return { labels: [labelOf(manifest, state)], noise, parts: true };
  },
  near: (manifest, state) => ({ ...jobs.grow(manifest, state), parts: false }),
  details(manifest, state) {
    const labels = Array(VARIANTS + 1).fill(labelOf(manifest, state)), names = redrawn(manifest, state);
    const noise = manifest.levels.map(({ name }) => labels.map((_, v) => {
      const variant = v && names.includes(name) ? VARIANTS * state.variant + v : 0;
      return { a: [state.seed, state.image, variant] };
    }));
    return { labels, noise };
  },
  between(manifest, state) {
    const labels = Array(STEPS).fill(labelOf(manifest, state));
    const noise = manifest.levels.map(() => labels.map((_, i) => (
      { a: [state.seed, state.image, 0], b: [state.other, state.image, 0], t: i / (STEPS - 1) }
    )));
    return { labels, noise };
  },
  own(manifest, state, pixels) {
    const labels = labelsOf(manifest, state, VARIANTS);
    const noise = noiseOf(manifest, state, [...labels.keys()]);
    return { labels, noise, start: { level: state.from, pixels } };
  },
};

// What a picture is called for those who do not see it.
export function nameOf(manifest, state, label, i) {
  const name = manifest.classes.length ? `${manifest.classes[label]}, ` : "";
  if (state.view === "details") return i ? `${name}new details ${i}` : `${name}the original`;
  if (state.view === "between") return `${name}step ${i + 1} of ${STEPS}`;
  if (state.view === "own") return `${name}refined picture ${i + 1}`;
  return `${name}image ${state.view === "near" ? state.image : i} of seed ${state.seed}`;
}
