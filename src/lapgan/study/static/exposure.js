// What a trial shows, timed by animation frames.

const frame = () => new Promise(requestAnimationFrame);

// The screen's refresh rate in Hz: the median of 40 frames.
export async function estimateRefresh() {
  const gaps = [];
  for (let last = await frame(), n = 0; n < 40; n++) {
    const now = await frame();
    gaps.push(now - last);
    last = now;
  }
  return 1000 / gaps.sort((a, b) => a - b)[gaps.length >> 1];
}

// Draws on the frame that begins the image, counts frames, and returns on the frame that ends it.
// Drawing always happens inside an animation frame, so both ends reach the screen alike late.
export async function expose(draw, refreshHz, isOver) {
  const period = 1000 / refreshHz;
  const onset = await frame();
  draw();
  let [now, frames, dropped] = [onset, 0, 0];
  while (frames === 0 || !isOver(now - onset, period)) {
    const last = now;
    now = await frame();
    frames += 1;
    dropped += Math.max(0, Math.round((now - last) / period) - 1);
  }
  return { onset, achieved_ms: now - onset, frames, dropped_frames: dropped };
}

// Draws what a trial shows; `data-shows` tells observers what that is.
export class Painter {
  constructor(canvas, mask, zoom) {
    this.canvas = canvas;
    this.masked = mask;
    this.context = canvas.getContext("2d", { alpha: false });
    // Noise in blocks of one image pixel: finer noise would hide coarse pictures badly.
    this.noise = Object.assign(document.createElement("canvas"), { width: canvas.width / zoom, height: canvas.height / zoom });
    const context = this.noise.getContext("2d", { alpha: false });
    const pixels = context.createImageData(this.noise.width, this.noise.height);
    const words = new Uint32Array(pixels.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = 0xff000000 | (Math.random() * 0xffffff);
    context.putImageData(pixels, 0, 0);
  }
  fill(color, what) {
    this.context.fillStyle = color;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.canvas.dataset.shows = what;
  }
  fixation() {
    const [x, y] = [this.canvas.width / 2, this.canvas.height / 2];
    this.fill("#d4d7db", "fixation");
    this.context.fillStyle = "#1d2430";
    this.context.fillRect(x - 12, y - 1.5, 24, 3);
    this.context.fillRect(x - 1.5, y - 12, 3, 24);
  }
  image(bitmap) {
    this.context.drawImage(bitmap, 0, 0);
    this.canvas.dataset.shows = "image";
  }
  mask() {
    this.fill("#808080", "mask");
    if (this.masked !== "noise") return;
    this.context.imageSmoothingEnabled = false;
    this.context.drawImage(this.noise, 0, 0, this.canvas.width, this.canvas.height);
  }
}
