// What the page says and shows of training images that are near to a sample.

export const COUNT = 5;
const plain = (n) => n.toLocaleString("en");

export function meaningOf({ data, images, total, grid, mirrored, median, near }) {
  const searched = images < total
    ? `${plain(images)} of the ${plain(total)} training images (${data}) are searched; a copy of another one is not found.`
    : `All ${plain(total)} training images (${data}) are searched.`;
  const mirrors = mirrored ? ", or to that of its mirror image" : "";
  return `The distance is from the sample, reduced to ${grid[1]}×${grid[0]} pixels, to the reduced training image${mirrors}: `
    + "the root mean square difference in gray levels, of 255. A copy is at 0 or nearly so. "
    + `For comparison: half of the training images have another one within ${median.toFixed(1)}, one in a hundred within ${near.toFixed(1)}. `
    + `Smooth images are near to everything, so a small distance alone is no proof of a copy. ${searched}`;
}

export const summaryOf = ({ images }, found) => (
  `Nearest of ${plain(images)} training images: ${found[0].distance.toFixed(1)} gray levels away.`
);

// What a training image is called: its class, or its number among all of them.
const numberOf = ({ images, total }, image) => Math.floor((image * total) / images);

export function nameOf(neighbors, { image, mirrored, distance }) {
  const kind = neighbors.classes[neighbors.labels[image]], turned = mirrored ? ", mirrored" : "";
  const number = `training image ${numberOf(neighbors, image)}`;
  return `${kind ? `${number}, ${kind}` : number}${turned}, distance ${distance.toFixed(1)} gray levels`;
}

export function captionOf(neighbors, { image, mirrored, distance }) {
  const kind = neighbors.classes[neighbors.labels[image]] ?? `no. ${numberOf(neighbors, image)}`;
  return `${distance.toFixed(1)} · ${kind}${mirrored ? ", mirrored" : ""}`;
}

// Draws training images on canvases, in the crop and the direction in which they are nearest.
export async function paintAll(canvases, { size, offsets, per_sheet }, found, [h, w]) {
  const sheets = await Promise.all(found.map(({ image }) => load(Math.floor(image / per_sheet))));
  found.forEach(({ image, crop, mirrored }, i) => {
    const [top, left] = offsets[crop], context = canvases[i].getContext("2d");
    Object.assign(canvases[i], { width: w, height: h });
    if (mirrored) context.setTransform(-1, 0, 0, 1, w, 0);
    context.drawImage(sheets[i], left, (image % per_sheet) * size[0] + top, w, h, 0, 0, w, h);
  });
}

async function load(number) {
  const sheet = new Image();
  sheet.src = `./neighbors/${number}.png`;
  await sheet.decode().catch(() => {
    throw new Error(`${sheet.src} could not be loaded`);
  });
  return sheet;
}
