/**
 * In the page, before anything else: when pictures come to be seen, and how old they are then by the kernel's clock.
 *
 * A picture of a view is seen when it has been drawn on its canvas; one in an <img> when the browser has loaded it. What
 * the screen adds, up to a sixtieth of a second, is the same for both.
 */
globalThis.benchProbe = (() => {
  const STAMP_BYTES = 8;
  const EDGES = 20;
  const blobs = new Map(); // by URL, while it may be shown
  const { createObjectURL, revokeObjectURL } = URL;
  URL.createObjectURL = (blob) => {
    const url = createObjectURL.call(URL, blob);
    blobs.set(url, blob);
    return url;
  };
  URL.revokeObjectURL = (url) => {
    blobs.delete(url);
    revokeObjectURL.call(URL, url);
  };

  let ages = [];
  let toEpoch = 0; // milliseconds from this page's monotonic clock to the time of day
  let began = 0;

  /** `Date.now()` has whole milliseconds: the moment when it changes tells the rest. */
  function readClock() {
    let least = Infinity;
    for (let edge = 0; edge < EDGES; edge += 1) {
      const before = Date.now();
      let now = before;
      while (now === before) now = Date.now();
      least = Math.min(least, performance.now() - now);
    }
    toEpoch = -least;
  }

  const note = (stampS, seenAt) => ages.push(seenAt + toEpoch - stampS * 1000);
  function watchView(root) {
    Object.defineProperty(root.forgesyteState, "published_at", { set: (at) => note(at, performance.now()) });
  }

  function watchImage(img) {
    img.addEventListener("load", async () => {
      const seenAt = performance.now();
      const stamp = await blobs.get(img.src)?.slice(-STAMP_BYTES).arrayBuffer();
      if (stamp?.byteLength === STAMP_BYTES) note(new DataView(stamp).getFloat64(0, true), seenAt);
    });
  }

  const drawn = (known) => [...document.querySelectorAll(".fs-widget")]
    .some((root) => !known.includes(root) && root.forgesyteState.drawn > 0);

  /** The moment of the first picture in a view that is not among those known, to the screen's next turn. */
  const firstPicture = (known) => new Promise((resolve) => {
    const look = () => (drawn(known) ? resolve(performance.now()) : requestAnimationFrame(look));
    look();
  });

  return {
    /** Milliseconds from the navigation to the first picture. */
    sinceNavigation: firstPicture([]),

    /** Watch what a cell shows, so many things, once all are there: whether they are. */
    watch(cellId, selector, count) {
      const { node } = labTest.cell(cellId);
      const parts = node.querySelectorAll(`.jp-Cell-outputArea ${selector}`);
      if (parts.length < count) return false;
      node.scrollIntoView({ block: "start" });
      for (const part of parts) (part.tagName === "IMG" ? watchImage : watchView)(part);
      return true;
    },

    begin() {
      readClock();
      ages = [];
      began = performance.now();
    },

    /** Since `begin`: seconds, and the age in milliseconds of each picture seen. */
    end() {
      return { seconds: (performance.now() - began) / 1000, ages };
    },

    get seen() {
      return ages.length;
    },

    /** Milliseconds from running a cell to the first picture of the view that it makes. */
    async sinceRun(id) {
      const known = [...document.querySelectorAll(".fs-widget")];
      const from = performance.now();
      labTest.execute(id);
      return (await firstPicture(known)) - from;
    },
  };
})();
