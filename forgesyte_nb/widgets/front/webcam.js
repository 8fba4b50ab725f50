/** The browser's camera, or a file dropped here, to a plugin, with what it finds drawn in place. */

import { element, setText } from "./dom.js";
import { Camera, Demo, cameraRemedy, openFile } from "./picture_sources.js";
import { optionsForm } from "./plugin_panel.js";
import { resultTable } from "./result_table.js";
import { Screen } from "./screen.js";

const FPS = 30;
const JPEG_QUALITY = 0.85;
const IN_FLIGHT = 2; // one with the plugin, one on its way: more would only make the picture old

/** @param {import("./main.js").View} view */
export function webcam({ model, root, link, state, badge, signal }) {
  const screen = new Screen(signal);
  const table = resultTable();
  const camera = element("button", { type: "button" }, "Camera");
  const demo = element("button", { type: "button" }, "Demo scene");
  const stop = element("button", { type: "button", disabled: true }, "Stop");
  const file = element("input", { type: "file", accept: "image/*,video/*", hidden: true });
  const choose = element("button", { type: "button" }, "Picture or video …");
  const ledger = element("span", { class: "fs-ledger" });
  const problem = element("p", { class: "fs-problem", role: "alert" });
  const note = element("p", { class: "fs-note", role: "status" }, "Press Camera, or drop a picture or a video here.");
  const options = optionsForm(async (wanted) => {
    model.set("_options", wanted);
    model.save_changes();
    opened?.again();
  });
  root.append(
    element("div", { class: "fs-top" }, element("span", { class: "fs-title" }, `camera → ${model.get("_plugin")}`), badge),
    element("div", { class: "fs-controls" }, camera, choose, demo, stop, file, ledger),
    element("div", { class: "fs-stage" }, screen.root, table.root),
    element("details", {}, element("summary", {}, "options"), options.root), problem, note,
  );
  const showOptions = () => options.show(model.get("_schema"), model.get("_options"));
  model.on("change:_options", showOptions);
  signal.addEventListener("abort", () => model.off("change:_options", showOptions));
  showOptions();

  let opened = null;
  let ending = null;
  const end = () => {
    ending?.abort();
    opened?.close();
    [opened, ending] = [null, null];
    stop.disabled = true;
  };
  const begin = async (open) => {
    end();
    setText(problem, "");
    try {
      opened = await open();
    } catch (error) {
      const [what, remedy] = error instanceof DOMException ? cameraRemedy(error) : ["This file cannot be shown", error.message];
      setText(problem, `${what}. ${remedy}`);
      return;
    }
    if (signal.aborted) return end();
    stop.disabled = false;
    ending = new AbortController();
    const run = new Run({ model, link, screen, table, ledger, state, source: opened, ending: ending.signal });
    setText(note, opened.name);
    await run.go().catch((error) => setText(problem, error.message));
  };
  const unplugged = (error) => {
    const [what, remedy] = cameraRemedy(error);
    setText(problem, `${what}. ${remedy}`);
    end();
  };
  camera.addEventListener("click", () => begin(() => Camera.start(unplugged)));
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

/** One source on its way through the plugin: the newest picture whenever there is room for one. */
class Run {
  #counts = { sent: 0, results: 0, errors: 0, skipped: 0 };
  #underWay = 0;
  #times = [];

  constructor(parts) {
    Object.assign(this, parts);
  }

  async go() {
    const pace = { rate: () => FPS, everyFrame: false };
    for await (const picture of this.source.frames(this.ending, pace)) {
      if (this.ending.aborted) return;
      this.#counts.sent += 1;
      const still = picture instanceof Blob;
      while (still && this.#underWay >= IN_FLIGHT && !this.ending.aborted) await new Promise((resolve) => setTimeout(resolve, 5));
      if (document.visibilityState === "hidden" || this.#underWay >= IN_FLIGHT || this.link.way === "none") {
        this.#counts.skipped += 1;
        this.#tell();
      } else this.#send(picture);
    }
  }

  async #send(picture) {
    this.#underWay += 1;
    try {
      const blob = picture instanceof Blob ? picture : await picture.convertToBlob({ type: "image/jpeg", quality: JPEG_QUALITY });
      const bytes = new Uint8Array(await blob.arrayBuffer());
      const { model, link } = this;
      const answer = await link.client.analyze(bytes, model.get("_plugin"), model.get("_options"), { streamId: "webcam" });
      this.#counts.results += 1;
      this.#times = [...this.#times.slice(-29), performance.now()];
      if (this.ending.aborted) return;
      const header = { content_type: blob.type || "image/jpeg", result: answer.result, seq: this.#counts.sent, name: this.source.name };
      await this.screen.show(header, bytes);
      this.table.show(answer.result, { open: !this.screen.hasShapes });
      this.state.drawn += 1;
      this.state.result = answer.result;
    } catch (error) {
      this.#counts.errors += 1;
      this.state.error = error.message;
      if (!this.ending.aborted) console.debug("[forgesyte] a frame failed", error.message);
    } finally {
      this.#underWay -= 1;
      this.#tell();
    }
  }

  #tell() {
    const { sent, results, errors, skipped } = this.#counts;
    const span = (this.#times.at(-1) - this.#times[0]) / 1000;
    const rate = this.#times.length > 1 ? ` · ${((this.#times.length - 1) / span).toFixed(1)} frames/s` : "";
    const pending = sent - results - errors - skipped;
    const problem = errors && this.state.error ? ` · last error: ${this.state.error}` : "";
    setText(this.ledger, `${sent} sent = ${results} results + ${errors} errors + ${skipped} skipped + ${pending} pending${rate}${problem}`);
    this.state.counts = { sent, results, errors, skipped, pending };
  }
}
