/** Says by which way a widget is connected, and why. */

import { element, setText } from "./dom.js";

const WORDS = {
  direct: ["live", "Connected to the kernel's server directly."],
  relay: ["live · relay", "Connected through the Jupyter Server."],
  comm: ["via notebook", "Only the notebook's own messages reach the kernel: controls, and pictures after this tab was hidden, may wait until a cell has ended."],
  none: ["connecting …", "Not connected to the kernel yet; trying."],
  lost: ["lost, reconnecting …", "The connection to the kernel was lost and is being tried again."],
  gone: ["no kernel", "The kernel does not answer, and is being tried again. If it was restarted, run the cell again."],
};
const GONE_AFTER_MS = 10_000;

/**
 * @param {object} link From `reach`.
 * @param {object} state What tests read: `way` and `tried` are kept here.
 * @returns {HTMLElement}
 */
export function badge(link, state) {
  const text = element("span", { class: "fs-badge-text" });
  const made = element("span", { class: "fs-badge", role: "status", tabindex: "0" }, element("i", {}), text);
  let lostAt = null; // when the last connection ended, if there was one
  const show = () => {
    if (link.way !== "none") lostAt = null;
    else if (state.way !== "none" && state.way !== undefined) lostAt ??= performance.now();
    const gone = lostAt !== null && performance.now() - lostAt > GONE_AFTER_MS;
    const [word, meaning] = WORDS[gone ? "gone" : lostAt !== null ? "lost" : link.way];
    Object.assign(state, { way: link.way, tried: link.tried });
    made.dataset.way = link.way;
    made.title = [meaning, ...link.tried.map(({ way, said }) => `${way}: ${said}`)].join("\n");
    setText(text, word);
  };
  link.onChange(show);
  show();
  return made;
}
