/**
 * shapes.js and overlay.js: the shapes of a result, and the rows of its table. Drawing is seen in the browser test.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { rowsOf } from "../../forgesyte_nb/server/page/overlay.js";
import { clipped, shapesOf } from "../../forgesyte_nb/server/page/shapes.js";

const bbox = { x: 1, y: 2, width: 3, height: 4 };
const NONE = { tiles: [], masks: [], boxes: [], points: [], labels: [] };

// tests/workbench/test_drawing.py runs the same cases through the Python implementation.
const cases = JSON.parse(readFileSync(new URL("../drawing_cases.json", import.meta.url), "utf-8"));
for (const { name, result, shapes } of cases) {
  test(`shapes: ${name}`, () => assert.deepEqual(clipped(shapesOf(result), 100, 80), { ...NONE, ...shapes }));
}

test("a result has at most 5000 shapes", () => {
  const { points, boxes } = shapesOf({ points: Array(4000).fill({ x: 1, y: 2 }), boxes: Array(4000).fill({ bbox }) });
  assert.deepEqual([points.length, boxes.length], [4000, 1000]);
});

test("rows: numbers short, lists counted, colours and bars shown, long text on its own", () => {
  const rows = rowsOf({
    brightness: 0.123456,
    size: { width: 640, height: 480 },
    histogram: Array.from({ length: 16 }, (_, index) => index),
    colors: [{ rgb: [1, 2, 3], share: 0.5 }],
    palette: { stone: { rgb: [9, 9, 9], count: 4 } },
    grid: [["a", "b"], ["c", "d"], ["e", "f"]],
    blocks: [{ bbox }],
    none: [],
    ok: true,
    text: "two\nlines",
  });
  const kinds = Object.fromEntries(rows.map(({ name, kind, text }) => [name, `${kind}: ${text}`]));
  assert.deepEqual(kinds, {
    brightness: "value: 0.1235",
    "size.width": "value: 640",
    "size.height": "value: 480",
    histogram: "bars: 16 numbers",
    "colors.0": "color: share 0.5",
    "palette.stone": "color: count 4",
    grid: "value: 3 × 2",
    blocks: "value: 1 item",
    none: "value: none",
    ok: "value: true",
    text: "text: two\nlines",
  });
});

test("a huge result gives a short table", () => {
  const rows = rowsOf(Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`k${index}`, index])));
  assert.equal(rows.length, 61);
  assert.equal(rows.at(-1).text, "440 more");
});
