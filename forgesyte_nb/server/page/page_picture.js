/**
 * The picture on the page with the result drawn over it, and the result as a table.
 *
 * `canvas.dataset` tells how many results were drawn and what was in the last (for tests).
 */

import { element } from "./controls.js";
import { drawOverlay, rowsOf } from "./overlay.js";
import { at } from "./page_elements.js";

const TABLE_EVERY_MS = 200;
const MOST_RAW_CHARACTERS = 20_000;
const SVG = "http://www.w3.org/2000/svg";

const canvas = at("canvas");

let shown = null; // {picture, shapes, message} on the canvas

/** Show a picture; with the shapes and message of its result, if there is one yet. */
export function draw(picture, shapes, message) {
  shown = { picture, shapes, message };
  paint();
  if (message === null) return;
  const counts = Object.entries(shapes).map(([kind, list]) => [kind, list.length]);
  Object.assign(canvas.dataset, Object.fromEntries(counts), {
    drawn: Number(canvas.dataset.drawn ?? 0) + 1,
    plugin: message.plugin,
  });
  tabulate();
}

/** Fit what is shown to the window. */
export function paint() {
  if (shown === null) return;
  const { picture, shapes } = shown;
  at("empty").hidden = true;
  canvas.hidden = false;
  const room = Math.max(260, window.innerHeight * 0.72);
  const scale = Math.min(at("view").clientWidth / picture.width, room / picture.height, 3);
  const [width, height] = [picture.width * scale, picture.height * scale];
  const dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * dense);
  canvas.height = Math.round(height * dense);
  canvas.style.width = `${width}px`;
  const context = canvas.getContext("2d");
  context.scale(dense, dense);
  context.drawImage(picture, 0, 0, width, height);
  if (shapes) drawOverlay(context, shapes, { scale, width, height });
}

let tableTimer = null;

/** The table follows a few times a second: nobody reads faster, and it costs more than the picture. */
function tabulate() {
  tableTimer ??= setTimeout(() => {
    tableTimer = null;
    if (!shown?.message) return;
    at("result-card").hidden = false;
    at("result").replaceChildren(...rowsOf(shown.message.result).map(tableRow));
    if (at("raw").open) showRaw();
  }, TABLE_EVERY_MS);
}

function tableRow(row) {
  if (row.kind === "text") {
    const cell = element("td", { className: "text", colSpan: 2 });
    cell.append(element("span", { className: "quiet", textContent: row.name }), element("div", { textContent: row.text }));
    return element("tr", {}, cell);
  }
  const cell = element("td");
  if (row.kind === "bars") cell.append(bars(row.numbers));
  else if (row.kind === "color") {
    const swatch = element("span", { className: "swatch" });
    swatch.style.background = `rgb(${row.rgb.map(Number).join(" ")})`;
    cell.append(swatch, row.text);
  } else cell.textContent = row.text;
  return element("tr", {}, element("th", { textContent: row.name, scope: "row" }), cell);
}

function bars(numbers) {
  const picture = document.createElementNS(SVG, "svg");
  const most = Math.max(...numbers, 0) || 1;
  picture.setAttribute("class", "bars");
  picture.setAttribute("viewBox", `0 0 ${numbers.length} 1`);
  picture.setAttribute("preserveAspectRatio", "none");
  numbers.forEach((number, index) => {
    const bar = document.createElementNS(SVG, "rect");
    const height = Math.max(0, number / most);
    for (const [name, value] of Object.entries({ x: index, y: 1 - height, width: 0.8, height })) bar.setAttribute(name, value);
    picture.append(bar);
  });
  return picture;
}

/** Show the last message as JSON. */
export function showRaw() {
  const text = shown?.message ? JSON.stringify(shown.message, null, 2) : "";
  at("raw").querySelector("pre").textContent = text.length > MOST_RAW_CHARACTERS ? `${text.slice(0, MOST_RAW_CHARACTERS)}\n…` : text;
}
