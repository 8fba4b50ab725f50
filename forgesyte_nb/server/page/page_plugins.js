/** The plugins the page offers, the one that is chosen, and the options told to each. */

import { element, optionControls } from "./controls.js";
import { at } from "./page_elements.js";
import { clearNotice, notice } from "./page_notices.js";

const REFRESH_MS = 300;
const LOOK_AGAIN_MS = 3000;

export class PluginChoice {
  #client;
  #loaded;
  #changed;
  #plugins = [];
  #options = new Map(); // by plugin: values that differ from the defaults
  #refreshTimer = null;
  #answer = ""; // the last list, as text

  /**
   * @param {ForgeSyteClient} client Which is asked for them.
   * @param {{loaded: () => void, changed: () => void}} told `loaded` is called when the list has come, `changed` when
   *   the plugin or one of its options is another.
   */
  constructor(client, { loaded, changed }) {
    this.#client = client;
    this.#loaded = loaded;
    this.#changed = changed;
  }

  /** Name of the chosen one; empty if there is none. */
  get name() {
    return at("plugin").value;
  }

  /** Ask again every few seconds, as long as somebody looks: a cell may have defined a plugin. */
  keepLooking() {
    setInterval(() => {
      if (document.visibilityState === "visible" && this.#client.state === "open") this.load();
    }, LOOK_AGAIN_MS);
  }

  /** A cell may have changed a plugin: ask again, but not for every frame. */
  refresh() {
    this.#refreshTimer ??= setTimeout(() => {
      this.#refreshTimer = null;
      this.load();
    }, REFRESH_MS);
  }

  /** A result came from this revision of a plugin: if that is news, ask what else has changed. */
  seen({ plugin, plugin_revision: revision }) {
    const known = this.#named(plugin);
    if (known && revision !== undefined && known.revision !== revision) this.refresh();
  }

  async load() {
    let answer;
    try {
      answer = await this.#client.plugins();
    } catch (error) {
      notice("plugins", "The list of plugins cannot be read", error.message);
      return;
    }
    clearNotice("plugins");
    const text = JSON.stringify(answer);
    if (text !== this.#answer) this.#take(answer);
    this.#answer = text;
    this.#loaded();
  }

  #take(answer) {
    const chosen = this.name;
    const before = this.#named(chosen);
    this.#plugins = answer.plugins;
    at("plugin").replaceChildren(...this.#plugins.map(({ name }) => element("option", { value: name, textContent: name })));
    if (this.#named(chosen)) at("plugin").value = chosen;
    showFailed(answer.failed);
    const now = this.#named(this.name);
    if (now?.name !== before?.name || now?.revision !== before?.revision) this.show();
    else if (now) this.#showHealth(now);
  }

  /** Describe the chosen one, with controls for its options. */
  show() {
    const plugin = this.#named(this.name);
    at("description").textContent = plugin?.description.split("\n\n")[0] ?? "";
    const properties = plugin?.options.properties ?? {};
    at("options-card").hidden = Object.keys(properties).length === 0;
    const known = Object.entries(this.optionsOf(plugin?.name)).filter(([name]) => name in properties);
    const values = Object.fromEntries(known); // an option may be gone since
    this.#options.set(plugin?.name, values);
    this.#changed();
    const set = (name, value) => this.#set(plugin.name, name, value);
    at("options").replaceChildren(...optionControls(plugin?.options ?? {}, values, set));
    this.#showHealth(plugin);
  }

  #showHealth(plugin) {
    if (plugin?.health.state === "failed") notice("health", `${plugin.name} is not well`, plugin.health.message, { tone: "warn" });
    else clearNotice("health");
  }

  optionsOf(plugin) {
    return this.#options.get(plugin) ?? {};
  }

  /** Back to the defaults. */
  reset() {
    this.#options.delete(this.name);
    this.show();
  }

  #set(plugin, name, value) {
    const values = { ...this.optionsOf(plugin) };
    if (value === undefined) delete values[name];
    else values[name] = value;
    this.#options.set(plugin, values);
    this.#changed();
  }

  #named(wanted) {
    return this.#plugins.find(({ name }) => name === wanted);
  }
}

function showFailed(failures) {
  const failed = at("failed");
  failed.hidden = failures.length === 0;
  failed.querySelector("summary").textContent = `Could not be loaded: ${failures.length}`;
  const reasons = failures.map(({ name, reason }) => element("li", { textContent: `${name}: ${reason}` }));
  failed.querySelector("ul").replaceChildren(...reasons);
}
