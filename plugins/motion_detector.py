"""Find what moves or has newly come into view, for a camera that stands still; shadows and light do not count.

Contract: frames of one stream in order, in; regions that differ from the empty scene, out. The first frame is
taken as the empty scene and corrected from there: what was in view at the start and leaves is forgotten
within about 2 s at 10 frames a second, while someone who comes and stands still stays detected (`HOLD_FRAMES`).
A change of frame size or of `blur_size` starts over. Times are in frames: a stream need not tell its rate.

One baseline colour per pixel is kept, at 320×240 pixels' worth of detail at most, and per frame:

1. exposure: per channel a gain and an offset map the baseline to this frame, fitted to robust medians;
2. difference: the largest over the channels, against a threshold which rises with each pixel's own deviation
   (Manzanera & Richefeu, "A new motion detection algorithm based on Sigma-Delta background estimation", PRL
   2007), with hysteresis (Canny, "A computational approach to edge detection", PAMI 1986);
3. shadow: darker, of like chroma (Horprasert et al., "A statistical approach for real-time robust background
   subtraction and shadow detection", ICCV FRAME-RATE 1999), and with soft edges;
4. learning, where nothing has changed; a changed region that stands still is learned only if it looks more
   like its surroundings than the baseline does there: a "ghost" (Cucchiara et al., "Detecting moving
   objects, ghosts, and shadows in video streams", PAMI 2003). Other constants are the author's choice.
"""

import base64
import math
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import forgesyte_nb as fs

Array = NDArray[Any]
"""Suffixes name the type: `_u8` is uint8, where a mask is 0 or 1; images and `_f32` are float32, 0–255."""

WORK_PIXELS = 320 * 240
"""Larger frames are reduced to this many pixels: enough to see 0.1 % of a frame, and the time stays flat."""

WEAK, STRONG = 0.55, 0.8
"""Shares of the threshold: a region is made of weak pixels, and enough strong ones must vouch for it."""

EDGE_SHARE = 0.33
"""Less than this of the largest difference within 2 pixels is the blur of an edge, not the object."""

SHADOW_RATIO = (0.4, 0.97)
"""How bright a shadow is, relative to the same place lit."""

SOFT_EDGE = 0.22
"""Local spread of that ratio over its depth; a step, blurred as the frame is, gives about 0.4."""

LEARNING_RATE = 0.02
LEARN_EVERY = 2
"""Frames between two steps of learning: half the work, and nothing worth learning is faster."""

GHOST_FRAMES, HOLD_FRAMES = 10, 900
"""Frames to stand still: before a region is suspected of being a ghost, before anything becomes the scene."""

THRESHOLD_MEANS = (
    "Grey levels (of 255, in the channel that differs most) that count as a change; less in the dark, down to "
    "40 %, and more where the picture is noisy or restless"
)
MIN_AREA_MEANS = "Smallest region to report, as a fraction of the frame"
BLUR_SIZE_MEANS = (
    "Side of the Gaussian blur against noise, in pixels of the frame reduced to 320×240; an even size counts as "
    "the next odd one, 1 is off"
)

BOX_3 = np.ones((3, 3), np.uint8)
BOX_5 = np.ones((5, 5), np.uint8)


@fs.plugin("motion_detector", version="1.0.0")
def motion_detector(
    frame: fs.Frame,
    *,
    threshold: Annotated[float, Field(ge=1, le=100, description=THRESHOLD_MEANS)] = 25.0,
    min_area: Annotated[float, Field(ge=0.001, le=0.5, description=MIN_AREA_MEANS)] = 0.005,
    blur_size: Annotated[int, Field(ge=1, le=31, description=BLUR_SIZE_MEANS)] = 5,
    reset_baseline: Annotated[bool, Field(description="Take this frame as the empty scene, start over")] = False,
    mask: Annotated[bool, Field(description="Also return the changed pixels: a PNG in base64")] = False,
    state: dict[str, Any],
) -> dict[str, Any]:
    """Detect motion, and what has come to stand where nothing stood before.

    Args:
        frame: The picture; the frames of one stream must come in order.
        threshold: Grey levels of difference that count as a change, 1–100.
        min_area: Smallest region to report, as a fraction of the frame, 0.001–0.5.
        blur_size: Side of the blur against noise, 1–31; 1 is off.
        reset_baseline: Take this frame as the empty scene.
        mask: Also return the mask.
        state: What is kept for the stream; empty before its first frame.

    Returns:
        motion_detected: whether any block was found.
        confidence: changed fraction of the frame, 0–1, regions below `min_area` included.
        blocks: regions, largest first: `bbox` (`x`, `y`, `width`, `height`), `area` in pixels, `center` (the
            centre of mass, `x`, `y`), in pixels of the frame.
        image_size: `width` and `height` of the frame in pixels.
        mask: only if asked for: a PNG of the frame's size, 255 where it has changed and 0 elsewhere, base64.
    """
    if reset_baseline:
        state.clear()
    model: MotionModel = state.setdefault("model", MotionModel())
    changed_u8 = model.update(frame.rgb, threshold=threshold, blur_size=blur_size)
    blocks = list_blocks(changed_u8, frame.size_wh, min_area)
    width_px, height_px = frame.size_wh
    result: dict[str, Any] = {
        "motion_detected": bool(blocks),
        "confidence": round(cv2.countNonZero(changed_u8) / changed_u8.size, 4),
        "blocks": blocks,
        "image_size": {"width": width_px, "height": height_px},
    }
    if mask:
        # Interpolation between 0 and 255, cut in the middle, gives smooth outlines.
        enlarged_u8 = cv2.resize(changed_u8 * np.uint8(255), frame.size_wh, interpolation=cv2.INTER_LINEAR)
        _, png = cv2.imencode(".png", cv2.threshold(enlarged_u8, 127, 255, cv2.THRESH_BINARY)[1])
        result["mask"] = base64.b64encode(png.tobytes()).decode("ascii")
    return result


def list_blocks(changed_u8: Array, size_wh: tuple[int, int], min_area: float) -> list[dict[str, Any]]:
    """The regions of a mask `(h, w)` of 0 and 1 in pixels of a frame of `size_wh`, largest first."""
    count, _, stats, centers = cv2.connectedComponentsWithStats(changed_u8, connectivity=8)
    scale_x, scale_y = size_wh[0] / changed_u8.shape[1], size_wh[1] / changed_u8.shape[0]
    blocks = []
    for region in range(1, count):
        left, top, width, height, area = (int(value) for value in stats[region])
        if area < min_area * changed_u8.size:
            continue
        x, y = round(left * scale_x), round(top * scale_y)
        right, bottom = round((left + width) * scale_x), round((top + height) * scale_y)
        center_x, center_y = (centers[region] + 0.5) * (scale_x, scale_y)
        blocks.append(
            {
                "bbox": {"x": x, "y": y, "width": right - x, "height": bottom - y},
                "area": round(area * scale_x * scale_y),
                "center": {"x": int(center_x), "y": int(center_y)},
            }
        )
    return sorted(blocks, key=lambda block: -int(block["area"]))


class MotionModel:
    """What is known of the empty scene of one stream; it needs no more than arrays."""

    def __init__(self) -> None:
        """Know nothing: the first frame will be the empty scene."""
        self._made_for: tuple[Any, ...] | None = None

    def update(self, image_u8: Array, *, threshold: float = 25.0, blur_size: int = 5) -> Array:
        """Take the next frame of the stream.

        Args:
            image_u8: `(H, W, 3)`, the channels in any order that stays the same, or `(H, W)`.
            threshold: Grey levels of difference that count as a change, 1–100.
            blur_size: Side of the blur, 1 or more, in pixels of the reduced frame.

        Returns:
            uint8 `(h, w)`, at most about `WORK_PIXELS`: 1 where the frame differs from the empty scene, else 0.
        """
        blur_size |= 1  # a kernel has a middle
        now_u8 = reduce_image(image_u8, blur_size)
        if self._made_for != (image_u8.shape, blur_size):
            self._made_for = (image_u8.shape, blur_size)
            self._start(now_u8)
        self._measure_noise(now_u8)
        gains, offsets = fit_exposure(self._baseline, now_u8, self._held_u8)
        expected_u8 = cv2.convertScaleAbs(apply_law(self._baseline, gains, offsets))
        limit_f32 = self._limits(expected_u8, threshold)
        weak_limit_u8 = cv2.convertScaleAbs(limit_f32, alpha=WEAK)
        difference_u8 = largest_channel(cv2.absdiff(now_u8, expected_u8))
        differs = difference_u8 > weak_limit_u8
        sharp = difference_u8 > cv2.convertScaleAbs(cv2.dilate(difference_u8, BOX_5), alpha=EDGE_SHARE)
        # A difference that a shift by one pixel explains is a shaking camera or leaf, and vouches for nothing.
        above_u8 = cv2.subtract(now_u8, cv2.dilate(expected_u8, BOX_3))
        beyond_u8 = cv2.max(above_u8, cv2.subtract(cv2.erode(expected_u8, BOX_3), now_u8))
        strong = largest_channel(beyond_u8) > cv2.convertScaleAbs(limit_f32, alpha=STRONG)
        excused = self._find_shadows(now_u8, expected_u8, differs, threshold, blur_size)
        changed_u8 = supported_regions(mask_of(differs & sharp & ~excused), strong & ~excused)
        excused_u8 = cv2.medianBlur(mask_of(excused), 5) & (1 - changed_u8)
        changed_u8 = fill_holes(add_enclosed(changed_u8, excused_u8))
        if self._frames % LEARN_EVERY == 0:
            usual = apply_law(now_u8.astype(np.float32), 1 / gains, -offsets / gains)
            odd_u8 = mask_of(differs & ~excused)
            self._learn(usual, difference_u8, odd_u8, changed_u8 | excused_u8, threshold)
        elif self._frames % (2 * LEARN_EVERY) == 1:
            self._forget_ghosts(changed_u8 | excused_u8)
        self._frames += 1
        return changed_u8

    def _start(self, now_u8: Array) -> None:
        size = now_u8.shape[:2]
        self._baseline = now_u8.astype(np.float32)
        self._recent, self._previous_u8 = self._baseline.copy(), now_u8
        self._deviation_f32, self._held_u8 = np.ones(size, np.float32), np.zeros(size, np.uint8)
        self._still_frames, self._calm_frames = np.zeros(size, np.int32), np.full(size, 255, np.int32)
        self._noise, self._frames = 1.0, 0

    def _measure_noise(self, now_u8: Array) -> None:
        """Follow the standard deviation of the camera's noise, from the median change of a sample of pixels."""
        change = now_u8[::6, ::6].astype(np.float32).ravel() - self._previous_u8[::6, ::6].ravel()
        # 1.48 times the median is the deviation of a Gaussian; a difference of two frames has √2 times it.
        sample = 1.48 / math.sqrt(2) * float(median(np.abs(change - median(change))))
        if self._frames:
            self._noise += (1.0 if self._frames == 1 else 0.05) * (sample - self._noise)
        self._previous_u8 = now_u8

    def _limits(self, expected_u8: Array, threshold: float) -> Array:
        """Grey levels beyond which a pixel differs, float32 `(h, w)`: more where it is bright or restless."""
        spread_f32 = 2.5 * np.maximum(self._deviation_f32, 1.3 * self._noise)
        return threshold * dark_share(grey(expected_u8)) + np.minimum(spread_f32, 2 * threshold)

    def _find_shadows(
        self, now_u8: Array, expected_u8: Array, differs: Array, threshold: float, blur_size: int
    ) -> Array:
        """Where `now` differs by being darker, of the same chroma, without hard edges, bool `(h, w)`."""
        shadows = np.zeros_like(differs)
        part = around(mask_of(differs), blur_size + 3)
        if part is None:
            return shadows
        now, expected = now_u8[part].astype(np.float32), expected_u8[part].astype(np.float32)
        lit_f32 = grey(expected)
        ratio = (grey(now) + 2) / (lit_f32 + 2)
        chroma_f32 = largest_channel(cv2.absdiff(now, expected * tripled(ratio)))
        side = max(5, blur_size)  # a blur spreads a step: a window no smaller still sees that it is one
        mean = cv2.blur(ratio, (side, side))
        spread_squared = cv2.blur(ratio * ratio, (side, side)) - mean * mean
        depth = 1 - cv2.erode(mean, np.ones((side + 2, side + 2), np.uint8))
        soft = np.maximum(0.03 + 2 * self._noise / (lit_f32 + 10), SOFT_EDGE * depth)
        hard_u8 = cv2.dilate(mask_of(spread_squared >= soft * soft), BOX_3)
        alike = chroma_f32 < 0.5 * threshold * dark_share(lit_f32) + 2 * self._noise
        darker = (ratio > SHADOW_RATIO[0]) & (ratio < SHADOW_RATIO[1])
        shadows[part] = differs[part] & darker & alike & (hard_u8 == 0)
        return shadows

    def _learn(self, usual: Array, difference_u8: Array, odd_u8: Array, held_u8: Array, threshold: float) -> None:
        """Adapt what is known of each pixel to `usual`, the frame as the baseline's exposure would show it."""
        self._held_u8 = np.asarray(cv2.dilate(held_u8, BOX_3))
        calm_u8 = 1 - self._held_u8
        self._calm_frames = (self._calm_frames + LEARN_EVERY) * calm_u8
        # Odd pixels that make no region (leaves, noise) are learned as well, but more slowly.
        learned_u8 = calm_u8 if self._frames % 8 == 0 else calm_u8 & (1 - odd_u8)
        rate = max(LEARN_EVERY * LEARNING_RATE, 1 / (self._frames / LEARN_EVERY + 1))
        self._baseline += (usual - self._baseline) * tripled(learned_u8 * np.float32(rate))
        bounded_u8 = np.minimum(difference_u8, np.uint8(min(255, 3 * threshold)))
        cv2.accumulateWeighted(bounded_u8, self._deviation_f32, 0.06, calm_u8)
        same = largest_channel(cv2.absdiff(usual, self._recent)) < 0.4 * threshold + 3 * self._noise
        self._still_frames = (self._still_frames + LEARN_EVERY) * same
        self._recent += (usual - self._recent) * tripled(np.where(same, np.float32(0.3), np.float32(1)))

    def _forget_ghosts(self, held_u8: Array) -> None:
        """Make part of the baseline whatever stands still and is not an object."""
        if self._held_u8.mean() > 0.5 and (self._still_frames > 15).mean() > 0.8:
            # Most of the picture is new and stands still: the camera was moved, or the light is another.
            self._baseline, self._still_frames[:] = self._recent.copy(), 0
        reach = 2 * (max(held_u8.shape) // 64) + 1
        part = around(held_u8 & mask_of(self._still_frames >= GHOST_FRAMES), reach)
        if part is None:
            return
        held_u8, still = held_u8[part], self._still_frames[part]
        recent, baseline = self._recent[part], self._baseline[part]
        calm_f32 = (self._calm_frames[part] >= 8).astype(np.float32)
        # The mean colour of the calm pixels nearby is what the empty scene should look like here.
        share = cv2.blur(calm_f32, (reach, reach))
        nearby = cv2.blur(recent * tripled(calm_f32), (reach, reach)) / tripled(np.maximum(share, 1e-3))
        now_off = largest_channel(cv2.absdiff(recent, nearby))
        baseline_off = largest_channel(cv2.absdiff(baseline, nearby))
        ghost_u8 = find_ghosts(held_u8, still, now_off, baseline_off, share > 0.05)
        ghost_u8 |= held_u8 & mask_of(still > HOLD_FRAMES)
        # The rim of a ghost is too faint to be changed but not yet the scene.
        taken = (cv2.dilate(ghost_u8, BOX_3) > 0) & (still >= 6)
        baseline[taken] = recent[taken]
        self._deviation_f32[part][taken] = 2


def find_ghosts(held_u8: Array, still: Array, now_off: Array, baseline_off: Array, exposed: Array) -> Array:
    """Regions that stand still and fit their surroundings better than the baseline does.

    Args:
        held_u8: Mask of the regions that changed, `(h, w)`.
        still: Frames for which each pixel has stood still.
        now_off: Grey levels between the picture and its calm surroundings.
        baseline_off: Grey levels between the baseline and the same surroundings.
        exposed: bool, where there are calm surroundings to compare with.

    Returns:
        uint8 mask `(h, w)`.
    """
    count, labels = cv2.connectedComponents(held_u8, connectivity=8)
    inner_u8 = cv2.erode(held_u8, BOX_3, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    outline = (held_u8 > inner_u8).ravel()

    def total(values: Array) -> Array:
        return np.bincount(labels.ravel(), values.ravel(), count)

    ratio = total(now_off * exposed) / np.maximum(total(baseline_off * exposed), 1e-3)
    outline_exposed = total(outline & exposed.ravel()) / np.maximum(total(outline), 1)
    area = np.maximum(np.bincount(labels.ravel(), minlength=count), 1)
    age, standing = total(still) / area, total(still >= GHOST_FRAMES) / area
    # The longer a region stands, the less evidence is asked for.
    fits = (ratio < 0.6) | ((ratio < 0.8) & (age > 50)) | ((ratio < 1.1) & (age > 150))
    return pick(labels, fits & (outline_exposed >= 0.5) & (standing >= 0.75))


def reduce_image(image_u8: Array, blur_size: int) -> Array:
    """An image of any size as uint8 `(h, w, 3)` of at most about `WORK_PIXELS`, blurred."""
    if image_u8.ndim == 2:
        image_u8 = cv2.cvtColor(image_u8, cv2.COLOR_GRAY2RGB)
    height, width = image_u8.shape[:2]
    scale = math.sqrt(WORK_PIXELS / (width * height))
    if scale < 1:
        # A whole-number mean first and the rest by interpolation: a sixth of the time of one INTER_AREA.
        step = min(int(1 / scale), width, height)
        if step > 1:
            image_u8 = image_u8[: height // step * step, : width // step * step]
            image_u8 = cv2.resize(image_u8, (width // step, height // step), interpolation=cv2.INTER_AREA)
        size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
        image_u8 = cv2.resize(image_u8, size_wh, interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(image_u8, (blur_size, blur_size), 0)


def fit_exposure(baseline: Array, now_u8: Array, held_u8: Array) -> tuple[Array, Array]:
    """The gain and the offset of each channel, `(3,)` each, that turn the baseline into this frame.

    Of three laws (nothing changed, a gain, a gain and an offset) the one with the smallest error is taken,
    with some preference for the simpler. Medians of a sample let up to half of it be something else.
    """
    step = max(1, int(math.sqrt(held_u8.size / 1000)))
    x, y = baseline[::step, ::step].reshape(-1, 3), now_u8[::step, ::step].reshape(-1, 3).astype(np.float32)
    free = held_u8[::step, ::step].ravel() == 0
    if free.mean() < 0.2:
        free[:] = True
    free &= ((x > 4) & (x < 250) & (y > 4) & (y < 250)).all(axis=1)  # what is clipped tells nothing
    gains, offsets = np.ones((3, 3)), np.zeros((3, 3))  # law, channel
    if np.count_nonzero(free) >= 100:
        x, y = x[free], y[free]
        order, third = np.argsort(x.sum(axis=1)), len(x) // 3
        x_dark, x_bright = median(x[order[:third]]), median(x[order[-third:]])
        y_dark, y_bright = median(y[order[:third]]), median(y[order[-third:]])
        gains[1:] = median(y / x)
        slope = (y_bright - y_dark) / np.maximum(x_bright - x_dark, 1)
        usable = (x_bright - x_dark > 15) & (slope > 0.3) & (slope < 3)
        gains[2, usable] = slope[usable]
        offsets[2] = np.where(usable, median(y - gains[2] * x), 0)
    errors = np.minimum(np.abs(y - gains[:, None] * x - offsets[:, None]), 15).mean(axis=1)
    best = np.argmin(errors + np.array([[0.0], [0.3], [0.6]]), axis=0), range(3)
    return gains[best], offsets[best]


def apply_law(image: Array, gains: Array, offsets: Array) -> Array:
    """An image `(h, w, 3)` with a gain and an offset for each channel."""
    return cv2.transform(image, np.hstack([np.diag(gains), offsets[:, None]]))


def supported_regions(weak_u8: Array, strong: Array) -> Array:
    """The regions of weak pixels, without specks, that hold enough strong ones."""
    weak_u8 = cv2.morphologyEx(cv2.medianBlur(weak_u8, 5), cv2.MORPH_CLOSE, BOX_3)
    kept_u8, part = np.zeros_like(weak_u8), around(weak_u8, 0)
    if part is not None:
        count, labels, stats, _ = cv2.connectedComponentsWithStats(weak_u8[part], connectivity=8)
        area = stats[:, cv2.CC_STAT_AREA]
        enough = np.bincount(labels[strong[part]], minlength=count) >= np.maximum(0.15 * area, 4)
        kept_u8[part] = pick(labels, enough & (area >= max(12, 0.0003 * weak_u8.size)))
    return kept_u8


def add_enclosed(changed_u8: Array, excused_u8: Array) -> Array:
    """Add "shadows" bordered by changed pixels for the greater part: a shadow lies beside its object."""
    part = around(excused_u8, 3)
    if part is not None:
        count, labels = cv2.connectedComponents(excused_u8[part], connectivity=4)
        spread = cv2.dilate(labels.astype(np.float32), BOX_5).astype(np.int32)
        border = (spread > 0) & (labels == 0)
        touching = np.bincount(spread[border], changed_u8[part][border], count)
        changed_u8[part] |= pick(labels, touching > 0.5 * np.bincount(spread[border], minlength=count))
    return changed_u8


def fill_holes(changed_u8: Array) -> Array:
    """Fill the holes of regions, except those larger than 0.3 of what surrounds them."""
    contours, links = cv2.findContours(changed_u8, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    for index, contour in enumerate(contours):
        parent = int(links[0][index][3])
        if parent >= 0 and cv2.contourArea(contour) <= 0.3 * cv2.contourArea(contours[parent]):
            cv2.drawContours(changed_u8, contours, index, 1, cv2.FILLED)
    return changed_u8


def around(mask_u8: Array, margin: int) -> tuple[slice, slice] | None:
    """The rows and columns that hold all of a mask and a margin; None if it is empty."""
    left, top, width, height = cv2.boundingRect(mask_u8)
    if not width:
        return None
    return np.s_[max(0, top - margin) : top + height + margin, max(0, left - margin) : left + width + margin]


def pick(labels: Array, wanted: Array) -> Array:
    """A mask of the labels that are wanted; label 0, the rest of the picture, never is."""
    wanted[0] = False
    return mask_of(wanted)[labels]


def largest_channel(image: Array) -> Array:
    """The largest of the three channels, `(h, w)`."""
    first, second, third = cv2.split(image)
    return cv2.max(cv2.max(first, second), third)


def grey(image: Array) -> Array:
    """Mean of the channels, `(h, w)`: the same for either order of colours."""
    return cv2.transform(image, np.full((1, 3), 1 / 3))


def dark_share(grey_levels: Array) -> Array:
    """What share of the threshold holds at a brightness: all from 100 up, 0.4 in black, where contrast is low."""
    return np.asarray(np.clip(0.4 + np.float32(0.006) * grey_levels, 0.4, 1))


def median(values: Array) -> Array:
    """The upper median of the rows; several times as fast as `np.median` on small samples."""
    return np.asarray(np.sort(values, axis=0)[len(values) // 2])


def tripled(plane_f32: Array) -> Array:
    """A plane `(h, w)` for each of three channels."""
    return cv2.merge([plane_f32, plane_f32, plane_f32])


def mask_of(where: Array) -> Array:
    """A mask of 0 and 1 for OpenCV, which shares the memory of a bool array."""
    return where.view(np.uint8)
