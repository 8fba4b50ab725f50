/**
 * How wide and how good pictures should be, by how long they take to get here.
 *
 * A picture's age on arrival is its `published_at` against this machine's clock; the smallest age seen stands for the
 * clocks' difference and the way's own length, and what comes on top of it is time spent in queues.
 */

const LATE_MS = 250;
const PROMPT_MS = 80;
const SAMPLES = 12; // before it becomes less
const PROMPT_RUN = 60; // in a row, before it becomes more
const LEVELS = [
  { share: 1, quality: 85 },
  { share: 0.75, quality: 70 },
  { share: 0.5, quality: 60 },
  { share: 0.35, quality: 45 },
];
const MUCH_WIDER = 1.5;

export class Fit {
  level = 0;
  #least = Infinity;
  #delays = [];
  #prompt = 0;
  #skip = true;

  /** The next picture may have waited for a viewer: its age says nothing. */
  restart(level = this.level) {
    this.level = level;
    this.#delays = [];
    this.#prompt = 0;
    this.#skip = true;
  }

  /** Note the arrival of a picture. @param {number} publishedAt Seconds. @param {number} nowMs */
  arrived(publishedAt, nowMs) {
    if (this.#skip) {
      this.#skip = false;
      return;
    }
    const age = nowMs - publishedAt * 1000;
    this.#least = Math.min(this.#least, age);
    const delay = age - this.#least;
    this.#prompt = delay < PROMPT_MS ? this.#prompt + 1 : 0;
    this.#delays = [...this.#delays, delay].slice(-SAMPLES);
    const median = [...this.#delays].sort((a, b) => a - b)[this.#delays.length >> 1];
    if (this.#delays.length === SAMPLES && median > LATE_MS) this.#go(+1);
    else if (this.#prompt >= PROMPT_RUN) this.#go(-1);
  }

  #go(step) {
    this.level = Math.max(0, Math.min(LEVELS.length - 1, this.level + step));
    this.#delays = [];
    this.#prompt = 0;
  }

  /**
   * What to ask for.
   *
   * @param {number} pictureWidth Of the picture itself.
   * @param {number} screenPixels Across, where it is shown.
   * @returns {{maxWidth: number | undefined, quality: number | undefined}} Undefined: as it is.
   */
  wishes(pictureWidth, screenPixels) {
    const { share, quality } = LEVELS[this.level];
    if (this.level === 0 && pictureWidth <= MUCH_WIDER * screenPixels) return { maxWidth: undefined, quality: undefined };
    const width = Math.min(pictureWidth, screenPixels) * share;
    return { maxWidth: Math.max(64, Math.ceil(width / 32) * 32), quality };
  }
}
