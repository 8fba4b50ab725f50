/** The ledger at the foot of the page: what became of all frames, how many a second, how late. */

import { Arrivals } from "./arrivals.js";
import { at } from "./page_elements.js";

const arrivals = new Arrivals();

/** A result has come. */
export function noteArrival(latencyMs) {
  arrivals.note(latencyMs);
}

/** Another stream begins. */
export function forgetArrivals() {
  arrivals.forget();
}

/** @param {object} ledger Of one moment, so that the numbers add up whenever they are read. */
export function showLedger(ledger) {
  for (const [name, count] of Object.entries(ledger)) at(name).textContent = String(count);
  at("errors").classList.toggle("some", ledger.errors > 0);
  at("fps").textContent = arrivals.fps === null ? "–" : arrivals.fps.toFixed(1);
  const { latencyMs } = arrivals;
  if (latencyMs === null) return;
  at("p50").textContent = `${Math.round(latencyMs.p50)} ms`;
  at("p95").textContent = `${Math.round(latencyMs.p95)} ms`;
}
