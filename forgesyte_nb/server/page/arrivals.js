/** How many results come a second of late, and how long they took. */

const PACE_WINDOW_MS = 3000;
const LATENCIES = 300;

export class Arrivals {
  #latencies = [];
  #times = [];

  /** A result has come. */
  note(latencyMs) {
    this.#latencies.push(latencyMs);
    if (this.#latencies.length > LATENCIES) this.#latencies.shift();
    this.#times.push(performance.now());
  }

  /** Another stream begins. */
  forget() {
    this.#latencies.length = this.#times.length = 0;
  }

  /** Results per second over the last seconds; null while there is too little to tell. */
  get fps() {
    const now = performance.now();
    while (this.#times.length > 0 && now - this.#times[0] > PACE_WINDOW_MS) this.#times.shift();
    const span = this.#times.length > 1 ? (now - this.#times[0]) / 1000 : 0;
    return span > 0 ? this.#times.length / span : null;
  }

  /** Median and 95th percentile in milliseconds; null while there are none. @returns {{p50: number, p95: number} | null} */
  get latencyMs() {
    if (this.#latencies.length === 0) return null;
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const quantile = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    return { p50: quantile(0.5), p95: quantile(0.95) };
  }
}
