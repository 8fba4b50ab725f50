/**
 * The token of a server that asks for one, typed by the person who opened the page.
 *
 * A browser cannot present a token on its way to a page, so the page opens without and asks. The token stays in this
 * module's callers, in memory: in no URL, no storage and no cookie. A relay that presents it itself needs none.
 */

import { element } from "./controls.js";
import { checkToken } from "./wire.js";

const FORBIDDEN = 403;

/** What is wrong with a typed token; empty if it opens the server. */
async function fault(token) {
  try {
    checkToken(token);
  } catch (error) {
    return error.message;
  }
  return (await refused(token)) ? "That is not it." : "";
}

/** Whether the server at this page's address answers, with this token or without. */
async function refused(token) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(new URL("v1/plugins", document.baseURI), { headers }).catch(() => null);
  return answer?.status === FORBIDDEN;
}

/** The token that opens the server; undefined if it needs none. @param {HTMLElement} place Where to ask. */
export async function neededToken(place) {
  if (!(await refused())) return undefined;
  const field = element("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const hint = element("p", { id: "token-hint", textContent: "It is what was passed as serve(token=…)." });
  const form = element("form", { id: "token-form", className: "notice" });
  const label = element("label", { htmlFor: "token", textContent: "This server asks for its token" });
  form.append(label, field, hint, element("button", { type: "submit", textContent: "Open" }));
  place.append(form);
  return new Promise((resolve) => {
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const token = field.value.trim();
      hint.textContent = await fault(token);
      if (hint.textContent === "") {
        form.remove();
        resolve(token);
        return;
      }
      field.value = "";
      field.focus();
    });
  });
}
