/**
 * The front end of all widgets: anywidget calls `render` for each view of a model, and its trait `_front` says which
 * function draws it.
 *
 * @typedef {object} View What such a function is given.
 * @property {object} model The widget's model.
 * @property {HTMLElement} root Its element, empty; `root.forgesyteState` is `state`.
 * @property {object} link From `reach`.
 * @property {{way: string, tried: object[], drawn: number}} state What tests wait on; `drawn` counts pictures.
 * @property {HTMLElement} badge To be put where it can be seen.
 * @property {AbortSignal} signal When it fires, the view is gone.
 */

import { badge } from "./badge.js";
import { element } from "./dom.js";
import { feedView } from "./feed_view.js";
import { jobTable } from "./job_table.js";
import { livePlot } from "./live_plot.js";
import { pluginPanel } from "./plugin_panel.js";
import { reach } from "./reach.js";
import { serverView } from "./server_view.js";
import { streamView } from "./stream_view.js";
import { topicMonitor } from "./topic_monitor.js";
import { webcam } from "./webcam.js";

const VIEWS = {
  feed_view: feedView,
  job_table: jobTable,
  live_plot: livePlot,
  plugin_panel: pluginPanel,
  server_view: serverView,
  stream_view: streamView,
  topic_monitor: topicMonitor,
  webcam,
};

function render({ model, el, signal }) {
  const gone = new AbortController();
  signal?.addEventListener("abort", () => gone.abort(), { once: true });
  const root = element("div", { class: "fs-widget" });
  root.addEventListener("focusin", keepKeys);
  const state = { way: "none", tried: [], drawn: 0 };
  root.forgesyteState = state;
  el.append(root);
  const link = reach(model, gone.signal);
  link.onChange(() => report(model, link.way));
  VIEWS[model.get("_front")]({ model, root, link, state, badge: badge(link, state), signal: gone.signal });
  return () => gone.abort();
}

/** Keys belong to what is focused here, not to JupyterLab's shortcuts: arrows would leave a slider, "d d" the cell. */
function keepKeys({ target }) {
  target.dataset.lmSuppressShortcuts = "true"; // on itself: shortcuts for `:focus` are matched before its parents'
}

function report(model, way) {
  if (model.get("_way") === way) return;
  model.set("_way", way);
  model.save_changes();
}

export default { render };
