/**
 * overlay.js: which shapes a result holds, and what its table says. Drawing is seen in the browser test.
 */
import assert from "node:assert/strict";
import { test } from "node:test";

import { rowsOf, shapesOf } from "../../forgesyte_nb/server/page/overlay.js";

const bbox = { x: 1, y: 2, width: 3, height: 4 };

test("every typed shape is found by its fields, wherever it stands", () => {
  const { boxes, masks, points, labels } = shapesOf({
    text: "whole page",
    confidence: 0.5,
    blocks: [{ text: "word", confidence: 0.9, bbox }],
    nested: { faces: [{ bbox, label: "face", confidence: 0.75, landmarks: [{ x: 5, y: 6 }, { x: 7, y: 8 }] }] },
    mask: { mask: "iVBOR", width: 2, height: 2, label: "sky" },
    labels: [{ label: "cat", confidence: 0.25 }],
  });
  assert.deepEqual(boxes.map(({ caption, x }) => [caption, x]), [["word", 1], ["face 0.75", 1]]);
  assert.deepEqual(masks, [{ png: "iVBOR", label: "sky" }]);
  assert.deepEqual(points.map(({ x, y }) => [x, y]), [[5, 6], [7, 8]]);
  assert.deepEqual(labels.map(({ caption }) => caption), ["cat 0.25"]);
});

test("a point inside a box is part of it; sizes and histograms are no shapes", () => {
  const shapes = shapesOf({
    blocks: [{ bbox, area: 12, center: { x: 2, y: 3 } }],
    size: { width: 640, height: 480 },
    histogram: [1, 2, 3],
    bad: [{ bbox: { x: 1, y: null, width: 3, height: 4 } }, { x: "1", y: 2 }],
  });
  assert.equal(shapes.boxes.length, 1);
  assert.equal(shapes.points.length + shapes.labels.length + shapes.masks.length, 0);
});

test("a result that is itself a label or a box is one", () => {
  assert.deepEqual(shapesOf({ label: "cat", confidence: 1 }).labels, [{ caption: "cat 1.00", label: "cat" }]);
  assert.equal(shapesOf({ bbox, label: "cat" }).boxes.length, 1);
  assert.deepEqual(shapesOf({}), { boxes: [], masks: [], points: [], labels: [], tiles: [] });
});

test("a grid of names is tiles if the palette has their colours", () => {
  const palette = { stone: { rgb: [126, 126, 126], count: 3 }, snow: { rgb: [249, 254, 254], count: 1 } };
  const rows = [["stone", "snow"], ["stone", "stone"]];
  assert.deepEqual(shapesOf({ block_map: rows, palette, dimensions: { width: 2, height: 2 } }).tiles, [{ rows, palette }]);
  for (const other of [{ block_map: rows }, { palette }, { block_map: rows, palette: null }, { block_map: [[]], palette },
    { block_map: [["lava"]], palette }, { block_map: rows, palette: { stone: { rgb: "grey" } } }, { block_map: [], palette }]) {
    assert.deepEqual(shapesOf(other).tiles, []);
  }
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
