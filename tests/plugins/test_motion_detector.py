"""`motion_detector` on scenes drawn with known ground truth, and on real video with labels where it is at hand.

Drawn scenes are textured noise seen by a noisy camera. The real ones are the shared data: CDnet 2014 highway
(per pixel) and two clips with intervals in which somebody is in view; the tests that need them skip without.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import forgesyte_nb as fs
from forgesyte_nb.plugins.payload import load_source

ROOT = Path(__file__).parents[2]
PLUGIN_FILE = ROOT / "plugins" / "motion_detector.py"
VIDEO = Path(os.environ.get("FORGESYTE_SHARED", ROOT / ".." / "shared")) / "data" / "video"
needs_video = pytest.mark.skipif(not VIDEO.is_dir(), reason="the shared videos are absent (FORGESYTE_SHARED)")

Image = NDArray[Any]
Draw = Callable[[int, Image, Image], Image]


@pytest.fixture(scope="module", name="plugin")
def _plugin() -> Any:
    (plugin,) = load_source(PLUGIN_FILE.read_text(encoding="utf-8"), str(PLUGIN_FILE))
    return plugin


@pytest.fixture(name="detect")
def _detect(plugin: Any) -> Callable[..., dict[str, Any]]:
    """The plugin with the state of one stream."""
    state: dict[str, Any] = {}

    def detect(image_rgb: Image, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = plugin.target(fs.Frame.from_array(image_rgb), state=state, **options)
        return result

    return detect


def textured(size_wh: tuple[int, int], std: float = 20, mean: float = 110, seed: int = 0) -> Image:
    """Noise of four grains, float32 `(H, W, 3)`."""
    rng = np.random.default_rng(seed)
    width, height = size_wh
    total = np.zeros((height, width, 3), np.float32)
    for grain in (1, 3, 9, 27):
        cells = rng.normal(size=(height // grain + 2, width // grain + 2, 3)).astype(np.float32)
        total += cv2.resize(cells, size_wh, interpolation=cv2.INTER_CUBIC)
    return np.asarray((total - total.mean()) / total.std() * std + mean)


def film(
    draw: Draw, frames: int, size_wh: tuple[int, int] = (320, 240), noise: float = 2, std: float = 20, mean: float = 110
) -> Iterator[tuple[Image, Image]]:
    """Frames of a scene, uint8 RGB, each with its true mask (bool), which `draw` fills."""
    rng, scene = np.random.default_rng(1), textured(size_wh, std, mean)
    for index in range(frames):
        truth = np.zeros(scene.shape[:2], bool)
        image = draw(index, scene.copy(), truth)
        grain = rng.normal(size=image.shape).astype(np.float32) * noise
        yield np.clip(image + grain, 0, 255).astype(np.uint8), truth


def block(image: Image, truth: Image, left: float, color: Any = (40, 50, 160), width: float = 0.15) -> Image:
    """Put a rectangle at `left` (a fraction of the width) into image and mask."""
    rows, columns = truth.shape
    start, stop = (int(np.clip(round(edge * columns), 0, columns)) for edge in (left, left + width))
    part = np.s_[int(rows * 0.3) : int(rows * 0.7), start:stop]
    image[part], truth[part] = color, True
    return image


def decode_mask(result: dict[str, Any]) -> Image:
    png = np.frombuffer(base64.b64decode(result["mask"]), np.uint8)
    mask_u8 = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    assert mask_u8 is not None
    assert set(np.unique(mask_u8)) <= {0, 255}
    return mask_u8 > 0


def f1(pairs: list[tuple[Image, Image]]) -> float:
    """F1 over the pixels of (found, true) masks."""
    hit = sum(int((found & true).sum()) for found, true in pairs)
    return 2 * hit / max(1, sum(int(found.sum()) + int(true.sum()) for found, true in pairs))


@pytest.mark.parametrize(
    ("size_wh", "width", "speed"),
    [
        ((160, 120), 0.1, 0.01),
        ((160, 120), 0.25, 0.03),
        ((320, 240), 0.1, 0.03),
        ((640, 360), 0.25, 0.01),
        ((1920, 1080), 0.1, 0.02),
    ],
)
def test_moving_block_is_outlined(detect: Any, size_wh: tuple[int, int], width: float, speed: float) -> None:
    def draw(index: int, image: Image, truth: Image) -> Image:
        return block(image, truth, speed * (index - 10) - width, width=width) if index >= 10 else image

    pairs = []
    for image_rgb, truth in film(draw, 35, size_wh):
        result = detect(image_rgb, mask=True)
        assert result["image_size"] == {"width": size_wh[0], "height": size_wh[1]}
        if truth.mean() > 0.015:
            assert result["motion_detected"]
        if not truth.any():
            assert result["blocks"] == []
        pairs.append((decode_mask(result), truth))
    assert f1(pairs) > 0.95

    (found,) = result["blocks"]
    rows, columns = np.nonzero(truth)
    slack = 2 + size_wh[0] / 160
    assert found["bbox"]["x"] == pytest.approx(columns.min(), abs=slack)
    assert found["bbox"]["y"] == pytest.approx(rows.min(), abs=slack)
    assert found["bbox"]["width"] == pytest.approx(np.ptp(columns) + 1, abs=2 * slack)
    assert found["center"]["x"] == pytest.approx(columns.mean(), abs=slack)
    assert found["area"] == pytest.approx(truth.sum(), rel=0.1)
    assert result["confidence"] == pytest.approx(truth.mean(), rel=0.1)


@pytest.mark.parametrize(
    ("mean", "std", "noise", "contrast"),
    [(110, 20, 12, 60), (28, 5, 3, 18), (110, 6, 2, 35), (150, 1, 1, -30)],
    ids=["noisy", "night", "low contrast", "slightly darker and grey"],
)
def test_hard_conditions(detect: Any, mean: float, std: float, noise: float, contrast: float) -> None:
    def draw(index: int, image: Image, truth: Image) -> Image:
        return block(image, truth, 0.02 * (index - 10), color=mean + contrast) if index >= 10 else image

    pairs = [
        (decode_mask(detect(image_rgb, mask=True)), truth)
        for image_rgb, truth in film(draw, 40, noise=noise, std=std, mean=mean)
    ]
    assert f1(pairs) > 0.95


LIGHT: dict[str, Draw] = {
    "offset ramp": lambda index, image, truth: image + 40 * np.sin(index / 12),
    "gain ramp": lambda index, image, truth: image * (1 + 0.45 * np.sin(index / 10)),
    "steps": lambda index, image, truth: image * (1 if index < 30 else 1.5 if index < 60 else 0.6),
    "gamma": lambda index, image, truth: 255 * (image.clip(0, 255) / 255) ** (1 + 0.5 * np.sin(index / 15)),
    "white balance": lambda index, image, truth: image * (1 + np.array([0.2, 0, -0.15]) * np.sin(index / 9)),
}


@pytest.mark.parametrize("name", LIGHT)
def test_light_is_not_motion(detect: Any, name: str) -> None:
    frames = film(LIGHT[name], 100, (200, 150), std=25)
    assert not any(detect(image_rgb)["motion_detected"] for image_rgb, _ in frames)


@pytest.mark.parametrize("noise", [0, 2, 10, 25])
@pytest.mark.parametrize("size_wh", [(160, 120), (640, 360)])
def test_noise_is_not_motion(detect: Any, noise: float, size_wh: tuple[int, int]) -> None:
    frames = film(lambda index, image, truth: image, 40, size_wh, noise)
    assert not any(detect(image_rgb)["motion_detected"] for image_rgb, _ in frames)


@pytest.mark.parametrize("size_wh", [(160, 120), (640, 480)])
@pytest.mark.parametrize("depth", [0.25, 0.4])
def test_soft_shadow_is_not_motion_but_its_object_is(detect: Any, size_wh: tuple[int, int], depth: float) -> None:
    def draw(index: int, image: Image, truth: Image) -> Image:
        rows, columns = truth.shape
        shade, left = np.zeros((rows, columns), np.float32), (index - 10) / 60
        center = (int(left * columns), int(rows * 0.75))
        cv2.ellipse(shade, center, (int(columns * 0.12), int(rows * 0.1)), 0, 0, 360, 1.0, cv2.FILLED)
        image = image * (1 - depth * cv2.GaussianBlur(shade, (0, 0), columns * 0.02))[:, :, None]
        return block(image, truth, left - 0.05, (200, 60, 50), width=0.1) if index >= 40 else image

    pairs = []
    for index, (image_rgb, truth) in enumerate(film(draw, 65, size_wh)):
        result = detect(image_rgb, mask=True)
        if index < 40:
            assert result["blocks"] == []
        else:
            pairs.append((decode_mask(result), truth))
    assert f1(pairs) > 0.9


def test_what_stops_stays_detected_and_leaves_no_ghost(detect: Any) -> None:
    """10 s at 10 frames a second is 100 frames; it stands for 300 here, then walks out."""

    def draw(index: int, image: Image, truth: Image) -> Image:
        left = -0.2 + 0.02 * np.clip(index - 10, 0, 30) + 0.02 * max(0, index - 340)
        return block(image, truth, left)

    for image_rgb, truth in film(draw, 400, (200, 150)):
        if truth.mean() > 0.015 or not truth.any():
            assert detect(image_rgb)["motion_detected"] == truth.any()
        else:
            detect(image_rgb)


@pytest.mark.parametrize("wait", [0, 5, 60])
@pytest.mark.parametrize("speed", [0.02, 0.005])
def test_ghost_of_what_was_there_at_the_start_goes_within_two_seconds(detect: Any, wait: int, speed: float) -> None:
    """20 frames, 2 s at 10 frames a second, after the place has become free."""
    freed = wait + round(0.15 / speed)

    def draw(index: int, image: Image, truth: Image) -> Image:
        return block(image, truth, 0.4 + speed * max(0, index - wait))

    for index, (image_rgb, truth) in enumerate(film(draw, freed + 60)):
        found = decode_mask(detect(image_rgb, mask=True))
        if index > freed + 20:
            assert (found & ~cv2.dilate(truth.view(np.uint8), np.ones((9, 9))).view(bool)).mean() < 0.001


def test_new_frame_size_starts_over(detect: Any) -> None:
    for size_wh in ((320, 240), (200, 300), (320, 240)):
        scene = textured(size_wh, seed=size_wh[0])
        for _ in range(4):
            result = detect(scene.clip(0, 255).astype(np.uint8), mask=True)
            assert result["blocks"] == []
            assert decode_mask(result).shape == scene.shape[:2]


def test_reset_baseline_takes_the_frame_as_empty(detect: Any) -> None:
    scene = textured((320, 240)).clip(0, 255).astype(np.uint8)
    with_block = block(scene.copy(), np.zeros(scene.shape[:2], bool), 0.4)
    detect(scene)
    assert detect(with_block)["motion_detected"]
    assert not detect(with_block, reset_baseline=True)["motion_detected"]
    assert not detect(with_block)["motion_detected"]
    assert detect(scene)["motion_detected"]


def test_threshold_is_in_grey_levels_and_min_area_in_fractions(plugin: Any) -> None:
    plain = np.full((240, 320, 3), 128, np.uint8)
    lighter = plain.copy()
    lighter[60:120, 80:160] += 40  # 1/16 of the frame

    def found(**options: Any) -> bool:
        state: dict[str, Any] = {}
        for image_rgb in (plain, plain, lighter):
            result = plugin.target(fs.Frame.from_array(image_rgb), state=state, **options)
        return bool(result["motion_detected"])

    assert found(threshold=30)
    assert not found(threshold=90)
    assert found(min_area=0.05)
    assert not found(min_area=0.08)
    assert all(found(blur_size=side) for side in (1, 2, 9, 15))


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 300, 3), (9, 7, 3), (50, 900, 3)])
def test_odd_shapes(detect: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    for index in range(20):
        image_rgb = rng.integers(90, 110, shape, np.uint8)
        image_rgb[:, : shape[1] // 2] += np.uint8(100 * (index > 10))
        result = json.loads(json.dumps(detect(image_rgb, mask=True)))
        assert decode_mask(result).shape == shape[:2]
        assert 0 <= result["confidence"] <= 1


def test_moved_camera_is_motion_at_first_and_then_the_new_scene(detect: Any) -> None:
    before, after = (textured((200, 150), seed=seed).clip(0, 255).astype(np.uint8) for seed in (2, 3))
    found = [detect(before if index < 10 else after)["motion_detected"] for index in range(50)]
    assert not any(found[:10])
    assert all(found[10:20])
    assert not any(found[35:])


@needs_video
def test_highway_pixels(detect: Any) -> None:
    folder = VIDEO / "highway"
    roi = read_image(folder / "ROI.bmp", cv2.IMREAD_GRAYSCALE) > 0
    pairs = []
    for number in range(421, 871):
        image_rgb = read_image(folder / "input" / f"in{number:06d}.jpg")[:, :, ::-1]
        found = decode_mask(detect(image_rgb, mask=True))
        if number > 470:
            labels = read_image(folder / "groundtruth" / f"gt{number:06d}.png", cv2.IMREAD_GRAYSCALE)
            scored = roi & (labels != 85) & (labels != 170)
            pairs.append((found & scored, (labels == 255) & scored))
    assert f1(pairs) >= 0.95


def read_image(path: Path, flags: int = cv2.IMREAD_COLOR) -> Image:
    image = cv2.imread(str(path), flags)
    assert image is not None
    return image


@needs_video
@pytest.mark.parametrize("name", ["car-detection.mp4", "one-by-one-person-detection.mp4"])
def test_frames_with_somebody_in_view(detect: Any, name: str) -> None:
    events = json.loads((VIDEO / "events.json").read_text(encoding="utf-8"))
    tolerance = events["tolerance_frames"]
    present = np.zeros(events[name]["frames"], bool)
    scored = ~present
    for first, last in events[name]["foreground_present"]:
        present[first : last + 1] = True
        for boundary in (first, last + 1):
            scored[max(0, boundary - tolerance) : boundary + tolerance] = False
    with av.open(str(VIDEO / name)) as container:
        pictures = (picture.to_ndarray(format="rgb24") for picture in container.decode(video=0))
        found = np.array([detect(image_rgb)["motion_detected"] for image_rgb in pictures])
    assert found[present & scored].mean() >= 0.98
    assert found[~present & scored].mean() <= 0.03
