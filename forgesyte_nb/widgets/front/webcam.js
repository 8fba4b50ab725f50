/** The browser's camera, or a file dropped here, to a plugin, with what it finds drawn in place. */

import { Arrivals } from "./arrivals.js";
import { element, setText } from "./dom.js";
import { ledgerView } from "./ledger.js";
import { Camera, Demo, cameraRemedy, openFile } from "./picture_sources.js";
import { optionsForm } from "./plugin_panel.js";
import { resultTable } from "./result_table.js";
import { Screen } from "./screen.js";

const PACE = { rate: () => 30, everyFrame: false };
const IN_FLIGHT = 2; // one with the plugin, one on its way: more would only make the picture old
const LEDGER_EVERY_MS = 200;

/** @param {import("./main.js").View} view */
export function webcam({ model, root, link, state, badge, signal }) {
  const screen = new Screen(signal);
  const table = resultTable();
  const arrivals = new Arrivals();
  const camera = element("button", { type: "button" }, "Camera");
  const demo = element("button", { type: "button" }, "Demo scene");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const file = element("input", { type: "file", accept: "image/*,video/*", hidden: true });
  const choose = element("button", { type: "button" }, "Picture or video …");
  const ledger = ledgerView();
  const problem = element("p", { class: "fs-problem", role: "alert" });
  const note = element("p", { class: "fs-note", role: "status" }, "Press Camera, or drop a picture or a video here.");
  const options = optionsForm(async (wanted) => {
    model.set("_options", wanted);
    model.save_changes();
    opened?.again();
  });
  root.append(
    element("div", { class: "fs-top" }, element("span", { class: "fs-title" }, `camera → ${model.get("_plugin")}`), badge),
    element("div", { class: "fs-controls" }, camera, choose, demo, stop, file),
    element("div", { class: "fs-stage" }, screen.root, table.root), ledger.root,
    element("details", {}, element("summary", {}, "options"), options.root), problem, note,
  );
  const showOptions = () => options.show(model.get("_schema"), model.get("_options"));
  model.on("change:_options", showOptions);
  signal.addEventListener("abort", () => model.off("change:_options", showOptions));
  showOptions();
  const timer = setInterval(() => showLedger(ledger, link.client.ledger, arrivals), LEDGER_EVERY_MS);
  signal.addEventListener("abort", () => clearInterval(timer));

  let opened = null;
  let ending = null;
  const end = () => {
    ending?.abort();
    opened?.close();
    [opened, ending] = [null, null];
    stop.disabled = true;
  };
  const cannot = (error) => {
    const [what, remedy] = error instanceof DOMException ? cameraRemedy(error) : ["This file cannot be shown", error.message];
    setText(problem, `${what}. ${remedy}`);
    end();
  };
  const arrived = async ({ image, message, error, latencyMs }, source) => {
    arrivals.note(latencyMs);
    setText(problem, error === null ? "" : `${error.code}: ${error.message}`);
    if (error !== null) return;
    await screen.display({ result: message.result, name: source.name }, source.drawable(image));
    table.show(message.result, { open: !screen.hasShapes });
    state.drawn += 1;
    state.result = message.result;
  };
  const begin = async (open) => {
    end();
    setText(problem, "");
    arrivals.forget();
    try {
      opened = await open();
    } catch (error) {
      return cannot(error);
    }
    if (signal.aborted) return end();
    stop.disabled = false;
    setText(note, opened.name);
    const [source, mine] = [opened, new AbortController()];
    ending = mine;
    const how = { intent: "freshest", window: source.still ? 1 : IN_FLIGHT, signal: mine.signal };
    const frames = whileVisible(source.frames(mine.signal, PACE));
    try {
      for await (const outcome of link.client.stream(frames, model.get("_plugin"), () => model.get("_options"), how)) {
        if (mine.signal.aborted) return;
        await arrived(outcome, source);
      }
    } catch (error) {
      setText(problem, error.message);
    }
  };
  camera.addEventListener("click", () => begin(() => Camera.start(cannot)));
  demo.addEventListener("click", () => begin(async () => new Demo()));
  stop.addEventListener("click", end);
  choose.addEventListener("click", () => file.click());
  file.addEventListener("change", () => file.files[0] && begin(() => openFile(file.files[0])));
  root.addEventListener("dragover", (event) => event.preventDefault());
  root.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    const [dropped] = event.dataTransfer.files;
    if (dropped) begin(() => openFile(dropped));
  });
  signal.addEventListener("abort", end);
}

/** In a hidden tab nothing is sent. */
async function* whileVisible(frames) {
  for await (const picture of frames) if (document.visibilityState !== "hidden") yield picture;
}

function showLedger(view, ledger, arrivals) {
  const { latencyMs } = arrivals;
  view.show({ ledger, rate_fps: arrivals.fps ?? 0, latency_ms: latencyMs === null ? {} : { round_trip: latencyMs } });
}
