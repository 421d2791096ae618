// Noise that follows from numbers alone: value i of a key is a hash of both, so that the same link
// gives the same images in every browser, however many are drawn and in whatever order.

// A permutation of the 32-bit numbers that changes half of the bits when one bit changes.
function mix(x) {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

// Two 32-bit numbers from integers such as seed, image, variant, level and purpose.
export function keyOf(...numbers) {
  let first = 0x9e3779b9;
  for (const number of numbers) first = mix(first ^ mix(number + 0x85ebca6b));
  return [first, mix(first ^ 0xc2b2ae35)];
}

// The i-th of equally likely multiples of 2^-24 in [0, 1).
const fraction = ([first, second], i) => (mix(mix(i ^ first) ^ second) >>> 8) / 0x1000000;

// Box and Muller: sqrt(-2 ln(1 - p)) cos(2 pi q) of two uniform values is standard normal.
function normal(key, i) {
  const radius = Math.sqrt(-2 * Math.log(1 - fraction(key, 2 * i)));
  return radius * Math.cos(2 * Math.PI * fraction(key, 2 * i + 1));
}

// Uniform in [-1, 1], from a place on a circle: up on one half, down on the other.
const wave = (place) => 4 * Math.abs(place - Math.floor(place) - 0.5) - 1;

// Fills `values` with noise that is t of the way from one key to another. At every t each value has
// the same distribution: a turn keeps normal values normal, and uniform ones go along the circle.
export function fill(values, distribution, from, to = from, t = 0) {
  const [a, b] = [Math.cos((t * Math.PI) / 2), Math.sin((t * Math.PI) / 2)];
  for (let i = 0; i < values.length; i++) {
    if (distribution === "normal") {
      values[i] = t === 0 ? normal(from, i) : a * normal(from, i) + b * normal(to, i);
    } else {
      const place = fraction(from, i);
      const way = t === 0 ? 0 : fraction(to, i) - place;
      values[i] = wave(place + t * (way - Math.round(way)));
    }
  }
  return values;
}
