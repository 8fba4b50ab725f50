/**
 * Pictures are wanted only while somebody can see them.
 *
 * By comm messages a wish for more may wait until a cell has ended, so what is out of sight there goes on slowly, and
 * is there when one scrolls back; only a hidden tab wants nothing.
 */

const UNSEEN_PACE_MS = 1000;

/**
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 * @param {{pause(): void, resume(): void, retune(wishes: object): void}} feed
 * @param {object} link From `reach`.
 */
export function whileSeen(root, signal, feed, link) {
  let onScreen = true;
  const decide = () => {
    const slowly = !onScreen && link.way === "comm";
    feed.retune({ paceMs: slowly ? UNSEEN_PACE_MS : undefined });
    if (document.visibilityState !== "hidden" && (onScreen || slowly)) feed.resume();
    else feed.pause();
  };
  const watcher = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    decide();
  });
  watcher.observe(root);
  link.onChange(decide);
  document.addEventListener("visibilitychange", decide, { signal });
  signal.addEventListener("abort", () => watcher.disconnect());
  decide();
}
