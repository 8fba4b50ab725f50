/**
 * What a plugin's result looks like: shapes drawn over the picture, and rows of a table for the rest.
 *
 * `shapesOf` finds in any result what has the fields of a Box, Text, Mask, Keypoint or Label (see
 * `plugins/results.py`), wherever it stands, and a grid of names whose colours are in its `palette`; `drawOverlay` draws it on a 2d context whose origin is the picture's
 * corner. Nothing here knows the page or the connection, so notebook widgets draw with the same functions.
 *
 *     const shapes = await loadMasks(shapesOf(message.result));
 *     drawOverlay(context, shapes, { scale: canvasWidth / pictureWidth });
 */

const COLORS = ["#2dd4bf", "#fbbf24", "#f472b6", "#60a5fa", "#a3e635", "#fb923c", "#c084fc", "#f87171"];
const HALO = "rgba(6, 10, 18, 0.62)";
const INK = "#08111c";
const SEAM = "rgba(6, 10, 18, 0.14)";
const SMALLEST_TILE = 9; // units; between smaller ones a line would hide their colours
const MOST_CAPTIONS = 120; // more would hide the picture
const MOST_SHAPES = 5000;
const DEEPEST = 6;
const MOST_ROWS = 60;
const MOST_BARS = 64;
const MOST_TEXT = 2000;

/**
 * @typedef {object} Shapes
 * @property {{x: number, y: number, width: number, height: number, caption: string, label: string,
 *   confidence: number | null, isText: boolean}[]} boxes Boxes, and texts that have a place.
 * @property {{png: string, label: string, picture?: CanvasImageSource}[]} masks
 * @property {{x: number, y: number, caption: string, label: string}[]} points
 * @property {{caption: string, label: string}[]} labels Of the whole picture.
 * @property {{rows: string[][], palette: object, picture?: CanvasImageSource}[]} tiles Grids over the whole picture: of
 *   each name in `rows`, `palette` has the colour as `rgb`.
 */

/**
 * The shapes of a result.
 *
 * @param {object} result As it stands in a `frame_result`.
 * @returns {Shapes}
 */
export function shapesOf(result) {
  const shapes = { boxes: [], masks: [], points: [], labels: [], tiles: tilesOf(result) };
  collect(result, shapes, 0);
  return shapes;
}

function tilesOf(result) {
  const { palette } = result;
  if (palette === null || typeof palette !== "object") return [];
  const isGrid = (value) => Array.isArray(value) && Array.isArray(value[0]) && isColor(palette[value[0][0]]?.rgb);
  return Object.values(result).filter(isGrid).slice(0, 1).map((rows) => ({ rows, palette }));
}

const isColor = (rgb) => Array.isArray(rgb) && rgb.length === 3 && rgb.every(Number.isFinite);

function collect(thing, shapes, depth) {
  if (thing === null || typeof thing !== "object" || depth > DEEPEST) return;
  if (Array.isArray(thing)) {
    if (typeof thing[0] !== "object") return; // numbers and names: not worth a walk
    for (const item of thing) collect(item, shapes, depth + 1);
    return;
  }
  const isShape = addShape(thing, shapes, depth);
  for (const value of Object.values(thing)) {
    // A point in a shape of its own, such as the `center` of a box, says nothing new; a list of them does.
    if (!isShape || Array.isArray(value)) collect(value, shapes, depth + 1);
  }
}

function addShape(thing, shapes, depth) {
  if (shapes.boxes.length + shapes.points.length >= MOST_SHAPES) return true;
  const { bbox, text, mask, x, y } = thing;
  const label = typeof thing.label === "string" ? thing.label : "";
  const confidence = Number.isFinite(thing.confidence) ? thing.confidence : null;
  const isText = typeof text === "string";
  const caption = isText ? text : captionOf(label, confidence);
  if (isRectangle(bbox)) shapes.boxes.push({ ...bbox, caption, label, confidence, isText });
  else if (typeof mask === "string") shapes.masks.push({ png: mask, label });
  else if (isRectangle(thing)) return true; // the inside of a shape, or somebody's own way to say it
  else if (Number.isFinite(x) && Number.isFinite(y)) shapes.points.push({ x, y, caption, label });
  else if (label && (depth > 0 || Object.keys(thing).length <= 2)) shapes.labels.push({ caption, label });
  else return false;
  return true;
}

function isRectangle(thing) {
  return thing !== null && typeof thing === "object"
    && [thing.x, thing.y, thing.width, thing.height].every(Number.isFinite);
}

function captionOf(label, confidence) {
  return [label, confidence === null ? "" : confidence.toFixed(2)].filter(Boolean).join(" ");
}

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
    for (let x = 0; x < width; x += 1) {
      const rgb = palette[row[x]]?.rgb;
      if (isColor(rgb)) pixels.data.set([...rgb, 255], 4 * (y * width + x));
    }
  }
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

async function tinted(mask) {
  const bytes = Uint8Array.from(atob(mask.png), (character) => character.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }));
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const pixels = context.getImageData(0, 0, bitmap.width, bitmap.height);
  const [red, green, blue] = colorOf(mask.label).match(/\w\w/g).map((hex) => parseInt(hex, 16));
  for (let at = 0; at < pixels.data.length; at += 4) {
    pixels.data.set([red, green, blue, pixels.data[at] > 0 ? 115 : 0], at);
  }
  context.putImageData(pixels, 0, 0);
  return { ...mask, picture: canvas };
}

/**
 * Draw shapes over a picture.
 *
 * @param {CanvasRenderingContext2D} context Origin at the picture's corner, one unit per screen pixel.
 * @param {Shapes} shapes From `shapesOf`, through `loadMasks` where there may be masks.
 * @param {{scale: number, width: number, height: number}} view Units per picture pixel; the picture's size in units.
 */
export function drawOverlay(context, shapes, { scale, width, height }) {
  context.save();
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const { picture } of shapes.tiles) drawTiles(context, picture, width, height);
  for (const { picture } of shapes.masks) context.drawImage(picture, 0, 0, width, height);
  for (const box of shapes.boxes) drawBox(context, box, scale);
  for (const point of shapes.points) drawPoint(context, point, scale);
  const taken = [];
  shapes.labels.forEach(({ caption, label }, row) => {
    drawCaption(context, captionAt(context, caption, 10, 34 + 24 * row, width), colorOf(label), taken);
  });
  const words = shapes.boxes.filter((box) => box.isText).slice(0, MOST_CAPTIONS).map((box) => scaled(box, scale));
  for (const box of shapes.boxes.filter((one) => one.caption).slice(0, MOST_CAPTIONS)) {
    const place = captionAt(context, box.caption, box.x * scale, box.y * scale, width);
    // The words of a page stand close: a caption that would hide others is left to the table.
    if (!box.isText || !words.some((word) => overlap(word, place))) drawCaption(context, place, colorOf(box.label), taken);
  }
  for (const point of shapes.points.filter((one) => one.caption).slice(0, MOST_CAPTIONS)) {
    const place = captionAt(context, point.caption, point.x * scale + 6, point.y * scale - 2, width);
    drawCaption(context, place, colorOf(point.label), taken);
  }
  context.restore();
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
  context.strokeStyle = colorOf(box.label);
  context.lineWidth = 2;
  context.stroke();
}

function drawPoint(context, point, scale) {
  context.beginPath();
  context.arc(point.x * scale, point.y * scale, 4, 0, 2 * Math.PI);
  context.fillStyle = colorOf(point.label);
  context.fill();
  context.strokeStyle = INK;
  context.lineWidth = 1.5;
  context.stroke();
}

/** Where a caption goes: standing on `y`, or hanging below it where there is no room above. */
function captionAt(context, text, x, y, limit) {
  const shown = text.length > 60 ? `${text.slice(0, 59)}…` : text;
  const width = context.measureText(shown).width + 10;
  return { shown, x: Math.max(0, Math.min(x - 1, limit - width)), y: y >= 19 ? y - 19 : y + 1, width, height: 18 };
}

/** Draw it unless another has `taken` the place. */
function drawCaption(context, place, color, taken) {
  if (taken.some((other) => overlap(other, place))) return;
  taken.push(place);
  context.beginPath();
  context.roundRect(place.x, place.y, place.width, place.height, 4);
  context.fillStyle = color;
  context.fill();
  context.fillStyle = INK;
  context.fillText(place.shown, place.x + 5, place.y + 9.5);
}

/** The same label has the same colour in every frame. */
function colorOf(label) {
  let hash = 0;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return COLORS[hash % COLORS.length];
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
