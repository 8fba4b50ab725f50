/** Controls for a plugin's options, made from their schema; what is entered holds from the next picture on. */

import { optionControls } from "./controls.js";
import { element, randomHex, setText } from "./dom.js";
import { failuresView } from "./failures.js";
import { whileSeen } from "./seen.js";

/** @param {import("./main.js").View} view */
export function pluginPanel({ model, root, link, state, badge, signal }) {
  const title = element("span", { class: "fs-title" });
  const about = element("p", { class: "fs-note" });
  const options = optionsForm((wanted) => feed.control("options", wanted));
  const code = element("code", { class: "fs-code" });
  const copy = element("button", { type: "button" }, "Copy as code");
  const problem = element("p", { class: "fs-problem", role: "alert" });
  const failures = failuresView((key) => feed.control("traceback", key));
  const note = element("p", { class: "fs-note", role: "status" });
  root.append(
    element("div", { class: "fs-top" }, title, badge), about, options.root,
    element("div", { class: "fs-controls" }, copy, code), problem, failures.root, note,
  );
  const feed = link.watch(model.get("_feed"), {
    onState(told) {
      const revision = told.plugin_revision === null ? "not loaded" : `revision ${told.plugin_revision}`;
      const where = told.streams === undefined ? told.status : `${told.streams} running stream${told.streams === 1 ? "" : "s"}`;
      setText(title, `${told.plugin} · ${revision} · ${where}`);
      setText(about, told.about ?? "");
      options.show(told.schema, told.options);
      setText(code, told.code);
      setText(problem, told.problem ?? "");
      failures.show(told.failures, told.plugin_revision);
      state.told = told;
      state.drawn += 1;
    },
    onEnd: (reason) => setText(note, reason),
  });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      setText(note, "Copied.");
    } catch {
      getSelection().selectAllChildren(code);
      setText(note, "The browser gives no clipboard here: it is selected, copy it by hand.");
    }
  });
  whileSeen(root, signal, feed, link);
}

/**
 * A form of options that are told as one object, the newest wish only.
 *
 * @param {(options: object) => Promise<object>} tell Resolved with the options in force.
 */
export function optionsForm(tell) {
  const fields = element("div", { class: "fs-options" });
  const reset = element("button", { type: "button" }, "Defaults");
  const refused = element("p", { class: "fs-problem", role: "alert" });
  const root = element("div", {}, fields, element("div", { class: "fs-controls" }, reset), refused);
  const scope = `-${randomHex(4)}`;
  let values = {};
  let schemaText = null;
  let schema = {};
  let telling = false;
  let changed = false;
  const send = async () => {
    changed = true;
    if (telling) return;
    telling = true;
    while (changed) {
      changed = false;
      await tell({ ...values }).then(() => setText(refused, ""), (error) => setText(refused, error.message));
    }
    telling = false;
  };
  const draw = () => fields.replaceChildren(...optionControls(schema, values, (name, value) => {
    if (value === undefined) delete values[name];
    else values[name] = value;
    send();
  }, scope));
  reset.addEventListener("click", () => {
    values = {};
    draw();
    send();
  });
  return {
    root,
    /** Show other options; what is being entered here is left alone. */
    show(newSchema, options) {
      const text = JSON.stringify(newSchema);
      const busy = telling || fields.contains(document.activeElement);
      if (text === schemaText && (busy || JSON.stringify(options) === JSON.stringify(values))) return;
      [schemaText, schema, values] = [text, newSchema ?? {}, { ...options }];
      draw();
      reset.hidden = fields.children.length === 0;
    },
  };
}
