/** The plainest view: the newest picture of a feed, as it is. */

import { element, setText } from "./dom.js";
import { Screen } from "./screen.js";
import { whileSeen } from "./seen.js";

/** @param {import("./main.js").View} view */
export function feedView({ model, root, link, state, badge, signal }) {
  const screen = new Screen(signal);
  const note = element("p", { class: "fs-note", role: "status" });
  root.append(element("div", { class: "fs-top" }, badge), screen.root, note);
  const feed = link.watch(model.get("_feed"), {
    async onFrame(header, bytes) {
      await screen.show(header, bytes);
      state.drawn += 1;
    },
    onEnd: (reason) => setText(note, reason),
  });
  whileSeen(root, signal, feed, link);
}
