/** Elements without a framework. */

/**
 * @param {string} tag
 * @param {Record<string, string | boolean | null>} [attributes] Null and false are left out, true is an empty one.
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children);
  return made;
}

/** Set a text only if it is another: what is selected, and what a screen reader has read, stays. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Random hexadecimal digits, two for each byte. */
export function randomHex(bytes) {
  const random = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A job's id by what tells it from others; the whole of it under the pointer. */
export function showJob(node, jobId) {
  setText(node, jobId.replace(/^job_[0-9a-f]+_/, "#"));
  node.title = jobId;
}
