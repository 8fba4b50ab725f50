/** Notices on the page: what is wrong and what helps. Text of servers, plugins and files goes through `textContent`. */

import { element } from "./controls.js";
import { at } from "./page_elements.js";

/** Say what is wrong and what helps; one notice for each key. */
export function notice(key, title, text, { tone = "bad", action = null } = {}) {
  const box = element("div", { className: `notice ${tone}`, id: `notice-${key}` }, element("strong", { textContent: title }));
  box.append(element("p", { textContent: text }));
  if (action) box.append(element("button", { type: "button", textContent: action.name, onclick: action.run }));
  box.dataset.at = String(performance.now());
  const old = at(`notice-${key}`);
  if (old) old.replaceWith(box);
  else at("notices").append(box);
}

/** Take a notice away if it has stood for so long. */
export function clearNotice(key, olderThanMs = 0) {
  const box = at(`notice-${key}`);
  if (box && performance.now() - Number(box.dataset.at) >= olderThanMs) box.remove();
}
