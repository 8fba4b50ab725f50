/**
 * The shapes in a plugin's result. `forgesyte_nb/drawing/shapes.py` has the rules, as one table, and implements the
 * same for snapshots; `tests/drawing_cases.json` holds both to it.
 */

const COLORS = ["#2dd4bf", "#fbbf24", "#f472b6", "#60a5fa", "#a3e635", "#fb923c", "#c084fc", "#f87171"];
const MOST_SHAPES = 5000;
const DEEPEST = 6;
const MOST_CHARACTERS = 60; // of a caption
const MOST_SCANNED = 3000; // characters of a text
const MOST_CONFIDENCE = 1e6;
const BOX_FIELDS = ["bbox", "box", "bbox_xyxy", "bbox_xywh"];
const SIZES = [["x", "y", "width", "height"], ["x", "y", "w", "h"]];
const CORNERS = [
  ["x0", "y0", "x1", "y1"],
  ["x1", "y1", "x2", "y2"],
  ["xmin", "ymin", "xmax", "ymax"],
  ["left", "top", "right", "bottom"],
];

/**
 * @typedef {object} Shapes Coordinates are pixels of the picture, colours "#rrggbb"; a caption may be empty.
 * @property {{rows: (string | null)[][], palette: Record<string, string>}[]} tiles A grid over the whole picture: rows
 *   of equal length, of names in `palette`; null stays clear.
 * @property {{png: string, caption: string, color: string}[]} masks
 * @property {{x: number, y: number, width: number, height: number, caption: string, color: string, text: boolean}[]} boxes
 *   `text` is true if the caption is what is written there.
 * @property {{x: number, y: number, caption: string, color: string}[]} points
 * @property {{caption: string, color: string}[]} labels Of the whole picture.
 */

/**
 * The shapes of a result.
 *
 * @param {unknown} result As it stands in a `frame_result`.
 * @returns {Shapes}
 */
export function shapesOf(result) {
  const shapes = { tiles: tilesOf(result), masks: [], boxes: [], points: [], labels: [] };
  collect(result, shapes, 0);
  return shapes;
}

/**
 * What of the shapes lies in the picture: boxes cut at its edges, points outside left out.
 *
 * @param {Shapes} shapes
 * @param {number} width Of the picture, in pixels.
 * @param {number} height
 * @returns {Shapes}
 */
export function clipped(shapes, width, height) {
  const boxes = [];
  for (const box of shapes.boxes) {
    const [x, y] = [Math.max(0, box.x), Math.max(0, box.y)];
    const [right, bottom] = [Math.min(width, box.x + box.width), Math.min(height, box.y + box.height)];
    if (right >= x && bottom >= y) boxes.push({ ...box, x, y, width: right - x, height: bottom - y });
  }
  const points = shapes.points.filter(({ x, y }) => x >= 0 && y >= 0 && x <= width && y <= height);
  return { ...shapes, boxes, points };
}

function collect(found, shapes, depth) {
  if (depth > DEEPEST || found === null || typeof found !== "object") return;
  if (Array.isArray(found)) {
    // A list of numbers or names is not worth a walk.
    if (found.length > 0 && typeof found[0] === "object") for (const item of found) collect(item, shapes, depth + 1);
    return;
  }
  if (count(shapes) >= MOST_SHAPES) return;
  const hasPlace = addShape(found, shapes, depth);
  for (const value of Object.values(found)) {
    // A point inside a shape, such as the `center` of a box, repeats the shape; a list of points does not.
    if (!hasPlace || Array.isArray(value)) collect(value, shapes, depth + 1);
  }
}

const count = ({ masks, boxes, points, labels }) => masks.length + boxes.length + points.length + labels.length;

/** Add the shape that an object describes. @returns {boolean} True if it has a place in the picture. */
function addShape(found, shapes, depth) {
  const box = boxOf(found);
  const isPoint = box === null && isNumber(found.x) && isNumber(found.y);
  const isMask = typeof found.mask === "string";
  const hasPlace = box !== null || isPoint || isMask;
  const label = labelOf(found.label) || (hasPlace ? labelOf(found.name) : "");
  const isText = typeof found.text === "string";
  const caption = cut(isText ? found.text : captionOf(label, found));
  const color = colorOf(label);
  if (isMask) shapes.masks.push({ png: found.mask, caption: box === null && !isPoint ? caption : "", color });
  if (box !== null) shapes.boxes.push({ ...box, caption, color, text: isText });
  else if (isPoint) shapes.points.push({ x: found.x, y: found.y, caption, color });
  else if (!isMask && caption && isLabel(found, label, depth)) shapes.labels.push({ caption, color });
  return hasPlace;
}

/** True for a label or text of the whole picture, false for a result or part of one that has other things to tell. */
function isLabel(found, label, depth) {
  if (depth === 0 && Object.keys(found).length > 2) return false;
  if (label) return true;
  return typeof found.text === "string" && Object.values(found).every((value) => value === null || typeof value !== "object");
}

function boxOf(found) {
  for (const field of BOX_FIELDS) {
    const value = found[field];
    const box = Array.isArray(value) ? rectangle(value, field !== "bbox_xywh") : rectangleIn(value);
    if (box !== null) return box;
  }
  return rectangleIn(found);
}

function rectangleIn(found) {
  if (found === null || typeof found !== "object" || Array.isArray(found)) return null;
  for (const [forms, areCorners] of [[SIZES, false], [CORNERS, true]]) {
    for (const fields of forms) {
      const box = rectangle(fields.map((field) => found[field]), areCorners);
      if (box !== null) return box;
    }
  }
  return null;
}

function rectangle(numbers, areCorners) {
  if (numbers.length !== 4 || !numbers.every(isNumber)) return null;
  const [x, y, third, fourth] = numbers;
  const [width, height] = areCorners ? [third - x, fourth - y] : [third, fourth];
  return width >= 0 && height >= 0 ? { x, y, width, height } : null;
}

const isNumber = Number.isFinite;

function labelOf(value) {
  if (typeof value === "string") return value;
  return Number.isSafeInteger(value) ? String(value) : "";
}

function captionOf(label, { confidence, score }) {
  const sure = isNumber(confidence) ? confidence : score;
  const shown = isNumber(sure) && Math.abs(sure) <= MOST_CONFIDENCE ? sure.toFixed(2) : "";
  return [label, shown].filter(Boolean).join(" ");
}

/** One line of valid text. */
function cut(text) {
  // Of a long text only the beginning is looked at; a character has one or two units.
  const start = Array.from(text.slice(0, 2 * MOST_SCANNED)).slice(0, MOST_SCANNED).join("");
  const line = start.replace(/\p{Surrogate}/gu, "\ufffd").replace(/[\0-\u0020\u007f-\u00a0\u2028\u2029]+/g, " ").replace(/^ | $/g, "");
  const characters = Array.from(line);
  return characters.length > MOST_CHARACTERS ? `${characters.slice(0, MOST_CHARACTERS - 1).join("")}…` : line;
}

/** The same label has the same colour in every picture. */
function colorOf(label) {
  let hash = 0;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return COLORS[hash % COLORS.length];
}

function tilesOf(result) {
  const { palette } = result ?? {};
  if (palette === null || typeof palette !== "object" || Array.isArray(palette)) return [];
  const colors = new Map();
  for (const [name, entry] of Object.entries(palette)) {
    const color = hexOf(entry?.rgb);
    if (color !== null) colors.set(name, color);
  }
  const isGrid = (value) => Array.isArray(value) && Array.isArray(value[0]) && colors.has(value[0][0]);
  const grid = Object.values(result).find(isGrid);
  if (grid === undefined) return [];
  const rows = grid.map((row) => grid[0].map((_, x) => (Array.isArray(row) && colors.has(row[x]) ? row[x] : null)));
  return [{ rows, palette: Object.fromEntries(colors) }];
}

function hexOf(rgb) {
  if (!Array.isArray(rgb) || rgb.length !== 3 || !rgb.every(isNumber)) return null;
  const channels = Uint8ClampedArray.from(rgb);
  return `#${Array.from(channels, (channel) => channel.toString(16).padStart(2, "0")).join("")}`;
}
