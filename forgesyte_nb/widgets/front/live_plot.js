/** A plot that the kernel draws: its pictures, and what it can be told. */

import { decode, sizeOf } from "./decode.js";
import { element, setText } from "./dom.js";
import { whileSeen } from "./seen.js";

const KINDS = ["lines", "histogram", "cumulative"];
const WINDOWS = [["", "everything"], ["5", "last 5 s"], ["30", "last 30 s"], ["120", "last 2 min"]];
const SIZE_PAUSE_MS = 200;
const HEIGHT = 300;

/** @param {import("./main.js").View} view */
export function livePlot({ model, root, link, state, badge, signal }) {
  // A canvas: of the pictures that an <img> has shown, browsers keep hundreds decoded.
  const picture = element("canvas", { class: "fs-plot", role: "img", "aria-label": "plot", hidden: true });
  const title = element("span", { class: "fs-title" });
  const kind = select("Kind", KINDS.map((one) => [one, one]), (value) => act("kind", value));
  const span = select("Window", WINDOWS, (value) => act("window", value === "" ? null : { seconds: Number(value) }));
  const pause = element("button", { type: "button" }, "Pause");
  const points = element("span", { class: "fs-status" });
  const problem = element("p", { class: "fs-problem", role: "alert" });
  const note = element("p", { class: "fs-note", role: "status" });
  root.append(
    element("div", { class: "fs-top" }, title, badge), picture,
    element("div", { class: "fs-controls" }, kind, span, pause, points), problem, note,
  );
  const act = (action, value) => feed.control(action, value).then(
    () => setText(note, ""),
    (error) => setText(note, error.message),
  );
  // Before there is a connection nothing is lost: both are sent when there is one.
  const adapt = (action, value) => (link.way === "none" ? undefined : act(action, value));
  let paused = false;
  const feed = link.watch(model.get("_feed"), {
    async onFrame(header, bytes) {
      const newest = await decode(bytes, header.content_type);
      const { width, height } = sizeOf(newest);
      if (picture.width !== width) picture.width = width;
      if (picture.height !== height) picture.height = height;
      picture.getContext("2d").drawImage(newest, 0, 0);
      newest.close();
      picture.hidden = false;
      state.drawn += 1;
    },
    onState(told) {
      paused = told.paused;
      setText(title, told.fields.join(", "));
      picture.setAttribute("aria-label", `plot of ${told.fields.join(", ")}`);
      setText(pause, paused ? "Go on" : "Pause");
      setText(points, `${told.points} points`);
      setText(problem, told.problem ?? "");
      if (document.activeElement !== kind.lastChild) kind.lastChild.value = told.kind;
      state.told = told;
    },
    onEnd: (reason) => setText(note, reason),
  });
  pause.addEventListener("click", () => act(paused ? "play" : "pause"));
  followSize(root, signal, (width) => adapt("size", { width, height: HEIGHT }));
  const theme = () => adapt("theme", isDark(root) ? "dark" : "light");
  link.onChange(() => {
    theme();
    adapt("size", { width: plotWidth(root), height: HEIGHT });
  });
  const watcher = new MutationObserver(theme);
  watcher.observe(document.body, { attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  signal.addEventListener("abort", () => watcher.disconnect());
  whileSeen(root, signal, feed, link);
}

function select(label, choices, onChange) {
  const made = element("select", { "aria-label": label }, ...choices.map(([value, text]) => element("option", { value }, text)));
  made.addEventListener("change", () => onChange(made.value));
  return element("label", {}, `${label.toLowerCase()} `, made);
}

const plotWidth = (root) => Math.max(200, Math.min(1600, Math.round(root.clientWidth - 18)));

/** Tell the width when it has come to rest. */
function followSize(root, signal, tell) {
  let told = plotWidth(root);
  let timer;
  const watcher = new ResizeObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      const width = plotWidth(root);
      if (Math.abs(width - told) > 8) tell((told = width));
    }, SIZE_PAUSE_MS);
  });
  watcher.observe(root);
  signal.addEventListener("abort", () => (watcher.disconnect(), clearTimeout(timer)));
}

/** Whether the page is dark, by what is behind the widget. */
function isDark(root) {
  const [red, green, blue] = getComputedStyle(root).backgroundColor.match(/[\d.]+/g).map(Number);
  return 0.299 * red + 0.587 * green + 0.114 * blue < 128;
}
