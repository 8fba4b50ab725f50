/** What a plugin returned, as a small table; the newest, at a pace that can be read. */

import { element } from "./dom.js";
import { rowsOf } from "./overlay.js";

const INTERVAL_MS = 200;

export function resultTable() {
  const body = element("tbody");
  const root = element("details", { class: "fs-result", hidden: true }, element("summary", {}, "result"), element("table", {}, body));
  let touched = false; // by hand: then it stays as it was put
  let newest;
  let timer = null;
  let shownAt = 0;
  root.firstChild.addEventListener("click", () => (touched = true));
  const draw = () => {
    timer = null;
    shownAt = performance.now();
    const rows = rowsOf(newest);
    root.hidden = rows.length === 0;
    body.replaceChildren(...rows.map(rowElement));
  };
  return {
    root,
    show(result, { open }) {
      if (result === undefined) return;
      newest = result;
      if (!touched) root.open = open;
      timer ??= setTimeout(draw, Math.max(0, shownAt + INTERVAL_MS - performance.now()));
    },
  };
}

function rowElement({ name, kind, text, rgb }) {
  const cell = element("td", kind === "text" ? { class: "fs-text" } : {});
  if (kind === "color") {
    const swatch = element("i", { class: "fs-swatch" });
    swatch.style.background = `rgb(${rgb.map(Number).join(" ")})`;
    cell.append(swatch);
  }
  cell.append(text);
  return element("tr", {}, element("th", { scope: "row" }, name), cell);
}
