/**
 * What a plugin's result looks like: shapes drawn over the picture, and rows of a table for the rest.
 *
 * `drawOverlay` draws the shapes that `shapes.js` finds on a 2d context whose origin is the picture's corner, as
 * `forgesyte_nb/drawing/render.py` does in Python. Nothing here knows the page or the connection, so notebook widgets
 * draw with the same functions.
 *
 *     const shapes = await loadMasks(shapesOf(message.result));
 *     drawOverlay(context, shapes, { scale: canvasWidth / pictureWidth, width: canvasWidth, height: canvasHeight });
 */

import { clipped } from "./shapes.js";

const HALO = "rgba(6, 10, 18, 0.62)";
const INK = "#08111c";
const SEAM = "rgba(6, 10, 18, 0.14)";
const SMALLEST_TILE = 9; // units; between smaller ones a line would hide their colours
const MASK_ALPHA = 115; // of 255
const MOST_CAPTIONS = 120; // of each kind; more would hide the picture
const MOST_ROWS = 60;
const MOST_BARS = 64;
const MOST_TEXT = 2000;

/**
 * Decode the masks, which cannot be done while drawing, and paint the grids.
 *
 * @param {Shapes} shapes
 * @returns {Promise<Shapes>} The same, each mask and grid with its `picture`; a mask that is no picture is left out.
 */
export async function loadMasks(shapes) {
  const loaded = await Promise.all(shapes.masks.map((mask) => tinted(mask).catch(() => null)));
  shapes.masks = loaded.filter((mask) => mask !== null);
  for (const grid of shapes.tiles) grid.picture = painted(grid);
  return shapes;
}

/** A picture with a pixel for each tile; what has no colour stays clear. */
function painted({ rows, palette }) {
  const [width, height] = [rows[0].length, rows.length];
  const pixels = new ImageData(width, height);
  for (const [y, row] of rows.entries()) {
    for (const [x, name] of row.entries()) {
      if (name !== null) pixels.data.set([...channelsOf(palette[name]), 255], 4 * (y * width + x));
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

/** A mask with its `picture`, and the upper left corner of what it covers as shares of the picture: `left`, `top`. */
async function tinted(mask) {
  const bytes = Uint8Array.from(atob(mask.png), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, width, height);
  const channels = channelsOf(mask.color);
  let [left, top] = [width, height];
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    const at = 4 * pixel;
    const isInside = pixels.data[at] + pixels.data[at + 1] + pixels.data[at + 2] > 0;
    if (isInside) [left, top] = [Math.min(left, pixel % width), Math.min(top, Math.floor(pixel / width))];
    pixels.data.set([...channels, isInside ? MASK_ALPHA : 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return { ...mask, picture: canvas, left: left / width, top: top / height };
}

const channelsOf = (color) => color.match(/\w\w/g).map((hex) => parseInt(hex, 16));

/**
 * Draw shapes over a picture.
 *
 * @param {CanvasRenderingContext2D} context Origin at the picture's corner, one unit per screen pixel.
 * @param {Shapes} found From `shapesOf`, through `loadMasks` where there may be masks or tiles.
 * @param {{scale: number, width: number, height: number}} view Units per picture pixel; the picture's size in units.
 */
export function drawOverlay(context, found, { scale, width, height }) {
  const shapes = clipped(found, width / scale, height / scale);
  context.save();
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { picture } of shapes.tiles) drawTiles(context, picture, width, height);
  for (const { picture } of shapes.masks) context.drawImage(picture, 0, 0, width, height);
  for (const box of shapes.boxes) drawBox(context, box, scale);
  for (const point of shapes.points) drawPoint(context, point, scale);
  drawCaptions(context, shapes, { scale, width, height });
  context.restore();
}

function drawCaptions(context, { labels, boxes, points, masks }, { scale, width, height }) {
  const taken = [];
  const draw = ({ caption, color }, x, y, mayCover) => {
    const place = captionAt(context, caption, x, y, width);
    if (mayCover?.(place) ?? true) drawCaption(context, place, caption, color, taken);
  };
  const shown = (shapes) => shapes.filter(({ caption }) => caption).slice(0, MOST_CAPTIONS);
  shown(labels).forEach((label, row) => draw(label, 10, 34 + 24 * row));
  const words = boxes.filter((box) => box.text).slice(0, MOST_CAPTIONS).map((box) => scaled(box, scale));
  // The words of a page stand close: a caption that would hide others is left to the table.
  const coversNoWord = (place) => !words.some((word) => overlap(word, place));
  for (const box of shown(boxes)) draw(box, box.x * scale, box.y * scale, box.text ? coversNoWord : undefined);
  for (const point of shown(points)) draw(point, point.x * scale + 6, point.y * scale - 2);
  for (const mask of shown(masks)) if (mask.left < 1) draw(mask, mask.left * width, mask.top * height);
}

const scaled = ({ x, y, width, height }, scale) => ({
  x: x * scale + 2,
  y: y * scale + 2,
  width: width * scale - 4,
  height: height * scale - 4,
});

const overlap = (a, b) =>
  a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;

/** Tiles with sharp edges, and a line between them where there is room for one. */
function drawTiles(context, picture, width, height) {
  context.imageSmoothingEnabled = false;
  context.drawImage(picture, 0, 0, width, height);
  context.imageSmoothingEnabled = true;
  const [across, down] = [width / picture.width, height / picture.height];
  if (Math.min(across, down) < SMALLEST_TILE) return;
  context.beginPath();
  for (let x = 1; x < picture.width; x += 1) line(context, x * across, 0, x * across, height);
  for (let y = 1; y < picture.height; y += 1) line(context, 0, y * down, width, y * down);
  context.strokeStyle = SEAM;
  context.lineWidth = 1;
  context.stroke();
}

function line(context, x0, y0, x1, y1) {
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
}

function drawBox(context, box, scale) {
  context.beginPath();
  context.roundRect(box.x * scale, box.y * scale, box.width * scale, box.height * scale, 3);
  context.strokeStyle = HALO;
  context.lineWidth = 4;
  context.stroke();
  context.strokeStyle = box.color;
  context.lineWidth = 2;
  context.stroke();
}

function drawPoint(context, point, scale) {
  context.beginPath();
  context.arc(point.x * scale, point.y * scale, 4, 0, 2 * Math.PI);
  context.fillStyle = point.color;
  context.fill();
  context.strokeStyle = INK;
  context.lineWidth = 1.5;
  context.stroke();
}

/** Where a caption goes: standing on `y`, or hanging below it where there is no room above. */
function captionAt(context, caption, x, y, limit) {
  const width = context.measureText(caption).width + 10;
  return { x: Math.max(0, Math.min(x - 1, limit - width)), y: y >= 19 ? y - 19 : y + 1, width, height: 18 };
}

/** Draw it unless another has `taken` the place. */
function drawCaption(context, place, caption, color, taken) {
  if (taken.some((other) => overlap(other, place))) return;
  taken.push(place);
  context.beginPath();
  context.roundRect(place.x, place.y, place.width, place.height, 4);
  context.fillStyle = color;
  context.fill();
  context.fillStyle = INK;
  context.fillText(caption, place.x + 5, place.y + 9.5);
}

/**
 * The rest of a result as rows of a table.
 *
 * @param {object} result
 * @returns {{name: string, kind: "value" | "text" | "bars" | "color", text: string, numbers?: number[],
 *   rgb?: number[]}[]} `bars` has `numbers` to draw, `color` has `rgb`.
 */
export function rowsOf(result) {
  const rows = [];
  addRows(result, "", rows, 0);
  if (rows.length <= MOST_ROWS) return rows;
  const more = { name: "…", kind: "value", text: `${rows.length - MOST_ROWS} more` };
  return [...rows.slice(0, MOST_ROWS), more];
}

function addRows(thing, prefix, rows, depth) {
  for (const [key, value] of Object.entries(thing)) {
    const name = prefix + key;
    if (Array.isArray(value)) rows.push(...rowsOfList(name, value));
    else if (value !== null && typeof value === "object") {
      if (Array.isArray(value.rgb)) rows.push(colorRow(name, value));
      else if (typeof value.mask === "string") rows.push({ name, kind: "value", text: `mask ${value.width} × ${value.height}` });
      else if (depth < 2) addRows(value, `${name}.`, rows, depth + 1);
      else rows.push({ name, kind: "value", text: `${Object.keys(value).length} fields` });
    } else if (typeof value === "string" && (value.length > 40 || value.includes("\n"))) {
      rows.push({ name, kind: "text", text: value.length > MOST_TEXT ? `${value.slice(0, MOST_TEXT)}…` : value });
    } else rows.push({ name, kind: "value", text: shownValue(value) });
  }
}

function rowsOfList(name, list) {
  if (list.length > 0 && list.every((item) => Array.isArray(item?.rgb))) {
    return list.map((item, index) => colorRow(`${name}.${index}`, item));
  }
  const numbers = list.length > 0 && list.every(Number.isFinite);
  if (numbers && list.length > 8 && list.length <= MOST_BARS) {
    return [{ name, kind: "bars", text: `${list.length} numbers`, numbers: list }];
  }
  const short = list.length <= 8 && list.every((item) => item === null || typeof item !== "object");
  const text = short ? list.map(shownValue).join(", ") || "none" : sizeOf(list);
  return [{ name, kind: "value", text }];
}

function colorRow(name, item) {
  const rest = Object.entries(item).filter(([key]) => key !== "rgb");
  return { name, kind: "color", rgb: item.rgb, text: rest.map(([key, value]) => `${key} ${shownValue(value)}`).join(", ") };
}

function sizeOf(list) {
  if (Array.isArray(list[0])) return `${list.length} × ${list[0].length}`;
  return list.length === 1 ? "1 item" : `${list.length} items`;
}

function shownValue(value) {
  if (typeof value !== "number") return String(value);
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
}
