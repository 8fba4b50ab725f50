/** Says by which way a widget is connected, and why. */

import { element, setText } from "./dom.js";

const WORDS = {
  direct: ["live", "Connected to the kernel's server directly."],
  relay: ["live · relay", "Connected through the Jupyter Server."],
  comm: ["via notebook", "Only the notebook's own messages reach the kernel: controls may wait until a cell has ended."],
  none: ["connecting …", "Not connected to the kernel; trying again."],
};

/**
 * @param {object} link From `reach`.
 * @param {object} state What tests read: `way` and `tried` are kept here.
 * @returns {HTMLElement}
 */
export function badge(link, state) {
  const text = element("span", { class: "fs-badge-text" });
  const made = element("span", { class: "fs-badge", role: "status", tabindex: "0" }, element("i", {}), text);
  const show = () => {
    const [word, meaning] = WORDS[link.way];
    Object.assign(state, { way: link.way, tried: link.tried });
    made.dataset.way = link.way;
    made.title = [meaning, ...link.tried.map(({ way, said }) => `${way}: ${said}`)].join("\n");
    setText(text, word);
  };
  link.onChange(show);
  show();
  return made;
}
