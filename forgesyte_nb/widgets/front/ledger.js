/** The ledger of a stream, always in sight: what became of every frame, how fast, and where the time goes. */

import { element, setText } from "./dom.js";

const PARTS = ["results", "errors", "skipped", "pending"];
const STAGES = { queue: "queue", decode: "decode", plugin: "plugin", total: "server", round_trip: "round trip" };

export function ledgerView() {
  const sent = element("b", {}, "0");
  const sum = element("span", { class: "fs-sum" }, sent, " sent =");
  const numbers = {};
  PARTS.forEach((part, index) => {
    numbers[part] = element("b", { class: `fs-${part}` }, "0");
    sum.append(index === 0 ? " " : " + ", element("span", { class: "fs-part" }, numbers[part], ` ${part}`));
  });
  const rate = element("span", { class: "fs-rate" });
  const cells = {};
  const body = element("tbody");
  for (const [stage, name] of Object.entries(STAGES)) {
    cells[stage] = [element("td", {}, "–"), element("td", {}, "–")];
    body.append(element("tr", {}, element("th", { scope: "row" }, name), ...cells[stage]));
  }
  const head = element("thead", {}, element("tr", {},
    element("th", { scope: "col" }, "ms"), element("th", { scope: "col" }, "p50"), element("th", { scope: "col" }, "p95")));
  const brief = element("summary", {}, "latency");
  const latency = element("details", { class: "fs-latency" }, brief, element("table", {}, head, body));
  const root = element("div", { class: "fs-ledger" }, sum, rate, latency);
  return {
    root,
    show({ ledger, rate_fps: fps, latency_ms: latencies }) {
      setText(sent, String(ledger.sent));
      for (const part of PARTS) {
        setText(numbers[part], String(ledger[part]));
        numbers[part].classList.toggle("fs-some", ledger[part] > 0);
      }
      setText(rate, `${fps.toFixed(1)} frames/s`);
      for (const [stage, [median, late]] of Object.entries(cells)) {
        setText(median, shown(latencies[stage]?.p50));
        setText(late, shown(latencies[stage]?.p95));
      }
      const whole = latencies.total ?? latencies.round_trip;
      setText(brief, whole ? `latency p50 ${shown(whole.p50)} ms, p95 ${shown(whole.p95)} ms` : "latency");
    },
  };
}

const shown = (number) => (Number.isFinite(number) ? number.toFixed(number < 10 ? 1 : 0) : "–");
