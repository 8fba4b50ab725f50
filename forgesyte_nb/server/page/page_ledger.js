/** The ledger at the foot of the page: what became of all frames, how many a second, how late. */

import { at } from "./page_elements.js";

const PACE_WINDOW_MS = 3000;
const LATENCIES = 300;

const latencies = [];
const arrivals = [];

/** A result has come. */
export function noteArrival(latencyMs) {
  latencies.push(latencyMs);
  if (latencies.length > LATENCIES) latencies.shift();
  arrivals.push(performance.now());
}

/** Another stream begins. */
export function forgetArrivals() {
  latencies.length = arrivals.length = 0;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

/** @param {object} ledger Of one moment, so that the numbers add up whenever they are read. */
export function showLedger(ledger) {
  for (const [name, count] of Object.entries(ledger)) at(name).textContent = String(count);
  at("errors").classList.toggle("some", ledger.errors > 0);
  const now = performance.now();
  while (arrivals.length > 0 && now - arrivals[0] > PACE_WINDOW_MS) arrivals.shift();
  const span = arrivals.length > 1 ? (now - arrivals[0]) / 1000 : 0;
  at("fps").textContent = span > 0 ? (arrivals.length / span).toFixed(1) : "–";
  if (latencies.length === 0) return;
  const sorted = [...latencies].sort((a, b) => a - b);
  at("p50").textContent = `${Math.round(quantile(sorted, 0.5))} ms`;
  at("p95").textContent = `${Math.round(quantile(sorted, 0.95))} ms`;
}
