/** A picture with what a plugin found drawn over it, as wide as there is room. */

import { decode, sizeOf } from "./decode.js";
import { element } from "./dom.js";
import { drawOverlay, loadMasks } from "./overlay.js";
import { shapesOf } from "./shapes.js";

const HIGHEST = 480; // CSS pixels: the controls under it stay in sight
const LARGEST_SCALE = 2;
const NO_SHAPES = { boxes: [], masks: [], points: [], labels: [], tiles: [] };

export class Screen {
  #canvas = element("canvas", { role: "img", "aria-label": "no picture yet" });
  #shown = null; // {bitmap, width, height, header, shapes, own}

  #signal;

  /** @param {AbortSignal} signal Ends it. */
  constructor(signal) {
    this.#signal = signal;
    this.root = element("div", { class: "fs-screen" }, this.#canvas);
    const watcher = new ResizeObserver(() => this.#draw());
    watcher.observe(this.root);
    signal.addEventListener("abort", () => {
      watcher.disconnect();
      this.#letGo();
    });
  }

  /** Whether the picture that is shown has shapes drawn over it. */
  get hasShapes() {
    const shapes = this.#shown?.shapes ?? NO_SHAPES;
    return Object.values(shapes).some((list) => list.length > 0);
  }

  /** Device pixels across, of the room there is for a picture. */
  get pixels() {
    return Math.round((this.root.clientWidth || 640) * (globalThis.devicePixelRatio || 1));
  }

  /**
   * Show a picture: decoded away from the main thread, then drawn at once.
   *
   * @param {object} header Of the feed's picture; `result` is drawn, in pixels of `width` × `height`.
   * @param {Uint8Array} bytes Of an image file.
   */
  async show(header, bytes) {
    await this.#put(header, await decode(bytes, header.content_type), true);
  }

  /**
   * Show what can be drawn already, and goes on belonging to whoever made it.
   *
   * @param {object} header As for `show`.
   * @param {ImageBitmap | VideoFrame | OffscreenCanvas} bitmap
   */
  async display(header, bitmap) {
    await this.#put(header, bitmap, false);
  }

  async #put(header, bitmap, own) {
    const shapes = header.result ? await loadMasks(shapesOf(header.result)) : NO_SHAPES;
    this.#letGo();
    this.#shown = { ...sizeOf(bitmap), ...sizeTold(header), bitmap, header, shapes, own };
    if (this.#signal.aborted) this.#letGo(); // meanwhile
    this.#canvas.setAttribute("aria-label", header.name ? `picture ${header.name}` : `picture ${header.seq}`);
    this.#draw();
  }

  #letGo() {
    if (this.#shown?.own) this.#shown.bitmap.close();
    this.#shown = null;
  }

  #draw() {
    if (this.#shown === null) return;
    const { width, height } = this.#shown;
    const shownWidth = Math.floor(
      Math.min(this.root.clientWidth || 640, width * LARGEST_SCALE, (HIGHEST * width) / height),
    );
    if (shownWidth < 1) return;
    const ratio = globalThis.devicePixelRatio || 1;
    this.#canvas.style.width = `${shownWidth}px`;
    this.#canvas.style.height = `${Math.round((shownWidth * height) / width)}px`;
    this.#paint(this.#canvas, shownWidth, ratio);
  }

  /** Paint the picture `width` units across, `ratio` pixels to a unit. */
  #paint(canvas, width, ratio) {
    const { bitmap, shapes, width: pictureWidth } = this.#shown;
    const height = (width * this.#shown.height) / pictureWidth;
    const [across, down] = [Math.round(width * ratio), Math.max(1, Math.round(height * ratio))];
    if (canvas.width !== across) canvas.width = across;
    if (canvas.height !== down) canvas.height = down;
    const context = canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.drawImage(bitmap, 0, 0, across, down);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawOverlay(context, shapes, { scale: width / pictureWidth, width, height });
  }

  /** The picture in its own size with what is drawn over it. @returns {Promise<{name: string, png: Blob}>} */
  async snapshot() {
    if (this.#shown === null) throw new Error("there is no picture yet");
    const { header, width } = this.#shown;
    const canvas = new OffscreenCanvas(1, 1);
    this.#paint(canvas, width, 1);
    const name = String(header.name ?? header.frame_id ?? header.seq).replace(/[^\w.-]+/g, "_");
    return { name: `${name}.png`, png: await canvas.convertToBlob({ type: "image/png" }) };
  }
}

/** The size that a picture had before it was made narrower for this view. */
function sizeTold({ width, height }) {
  return width && height ? { width, height } : {};
}

/** Let the browser save a file. */
export function download(name, blob) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
