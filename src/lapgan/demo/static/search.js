// The training images nearest to an image, by the pixels of both reduced to a few cells per side.
// It has no part of a page, so that the worker can use it. `lapgan.demo.neighbors` has the same in
// Python, and says what is computed.

// Reduces RGBA pixels to the mean of each cell, channels one after the other.
export function reduceTo(rgba, [h, w], [rows, columns], mirrored) {
  const cells = rows * columns, sums = new Int32Array(3 * cells), counts = new Int32Array(cells);
  const row = cellsOf(h, rows), column = cellsOf(w, columns);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const cell = row[y] * columns + column[x], from = 4 * (y * w + (mirrored ? w - 1 - x : x));
      for (let c = 0; c < 3; c++) sums[c * cells + cell] += rgba[from + c];
      counts[cell]++;
    }
  }
  return sums.map((sum, i) => Math.floor((2 * sum + counts[i % cells]) / (2 * counts[i % cells])));
}

// The cell of every pixel along a side; cell i begins at floor(i side / count).
function cellsOf(side, count) {
  const cells = new Int32Array(side);
  for (let i = 0; i < count; i++) cells.fill(i, Math.floor((i * side) / count), Math.floor(((i + 1) * side) / count));
  return cells;
}

// The k nearest training images, nearest first, each by its nearest crop, mirrored or not.
export function nearest(index, rgba, shape, { images, offsets, grid, mirrored }, k) {
  const queries = (mirrored ? [false, true] : [false]).map((turned) => reduceTo(rgba, shape, grid, turned));
  const found = Array.from({ length: images }, (_, image) => ({ image, square: Infinity }));
  const length = queries[0].length;
  for (let example = 0, at = 0; example < images * offsets.length; example++, at += length) {
    const crop = example % offsets.length, best = found[(example - crop) / offsets.length];
    queries.forEach((query, turned) => {
      let square = 0;
      for (let i = 0; i < length; i++) square += (query[i] - index[at + i]) ** 2;
      if (square < best.square) Object.assign(best, { square, crop, mirrored: Boolean(turned) });
    });
  }
  found.sort((a, b) => a.square - b.square || a.image - b.image);
  return found.slice(0, k).map(({ square, ...rest }) => ({ ...rest, distance: Math.sqrt(square / length) }));
}
