/** What `index.html` has under an id. */
export const at = (id) => document.getElementById(id);
