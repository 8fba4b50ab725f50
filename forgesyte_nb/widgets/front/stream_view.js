/** A stream: its pictures with what the plugin finds, its controls, and the ledger of what became of each frame. */

import { element, setText } from "./dom.js";
import { failuresView } from "./failures.js";
import { Fit } from "./fit.js";
import { ledgerView } from "./ledger.js";
import { resultTable } from "./result_table.js";
import { Screen, download } from "./screen.js";
import { whileSeen } from "./seen.js";
import { scrubber, streamControls } from "./stream_controls.js";

const SLOW_WAY_LEVEL = 1; // of `Fit`, where pictures travel as messages of the notebook

/** @param {import("./main.js").View} view */
export function streamView({ model, root, link, state, badge, signal }) {
  const screen = new Screen(signal);
  const fit = new Fit();
  const title = element("span", { class: "fs-title" });
  const note = element("p", { class: "fs-note", role: "status" });
  const problem = element("p", { class: "fs-problem", role: "alert" });
  const failures = failuresView((key) => feed.control("traceback", key));
  const table = resultTable();
  const ledger = ledgerView();
  const act = (action, value) => feed.control(action, value).then(
    (answer) => {
      setText(note, "");
      return answer;
    },
    (error) => setText(note, error.message),
  );
  const snapshot = () => screen.snapshot().then(({ name, png }) => download(name, png))
    .catch((error) => setText(note, error.message));
  const controls = streamControls(act, snapshot);
  const scrub = scrubber(act);
  const stage = element("div", { class: "fs-stage" }, screen.root, table.root);
  root.append(
    element("div", { class: "fs-top" }, title, badge),
    stage, scrub.root, controls.root, ledger.root, problem, failures.root, note,
  );
  let width = 0;
  const feed = link.watch(model.get("_feed"), {
    async onFrame(header, bytes) {
      fit.arrived(header.published_at, Date.now());
      await screen.show(header, bytes);
      Object.assign(state, { frame_id: header.frame_id, published_at: header.published_at });
      width = header.width ?? width;
      table.show(header.result, { open: !screen.hasShapes });
      state.drawn += 1;
      retune();
    },
    onState(told) {
      setText(title, told.title);
      controls.show(told);
      scrub.show(told.history);
      ledger.show(told);
      setText(problem, told.trouble ? `The server does not answer and is being tried again. ${told.trouble}` : told.problem);
      failures.show(ofNow(told), told.plugin_revision);
      state.told = told;
    },
    onEnd(reason) {
      setText(note, reason);
      controls.end();
      scrub.end();
    },
  });
  const retune = () => {
    const { maxWidth, quality } = fit.wishes(width, screen.pixels);
    Object.assign(state, { maxWidth, quality });
    feed.retune({ maxWidth, quality });
  };
  link.onChange(() => fit.restart(link.way === "comm" ? SLOW_WAY_LEVEL : 0));
  const seen = {
    pause: () => feed.pause(),
    retune: (wishes) => feed.retune(wishes),
    resume() {
      fit.restart();
      feed.resume();
    },
  };
  whileSeen(root, signal, seen, link);
}

/** The last failure, unless the code that failed was replaced since; the panel shows more. */
function ofNow({ failures, plugin_revision: revision }) {
  return failures.filter((failure) => failure.revision === null || failure.revision === revision).slice(0, 1);
}
