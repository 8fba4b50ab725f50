/** Pictures are wanted only while somebody can see them. */

/**
 * @param {HTMLElement} root
 * @param {AbortSignal} signal
 * @param {{pause(): void, resume(): void}} feed
 */
export function whileSeen(root, signal, feed) {
  let onScreen = true;
  const decide = () => (onScreen && document.visibilityState !== "hidden" ? feed.resume() : feed.pause());
  const watcher = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;
    decide();
  });
  watcher.observe(root);
  document.addEventListener("visibilitychange", decide, { signal });
  signal.addEventListener("abort", () => watcher.disconnect());
  decide();
}
