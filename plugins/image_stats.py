"""Numbers that describe a picture: colour, light, contrast, focus, and its main colours.

The smallest complete plugin: one function of a frame. Its keyword-only arguments are the options, its
dictionary is the result. It keeps nothing between frames and answers a 640×480 frame in about 2 ms, so it
can ride along on any stream; plot `result.brightness` or `result.sharpness` to see when light or focus fails.
"""

from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import forgesyte_nb as fs

MAX_SAMPLE_SIDE = 64
"""Dominant colours are looked for in at most 64×64 pixels: enough for areas that anyone calls dominant."""

LEVEL_BITS = 3
"""Bits of each channel that tell one dominant colour from another: 8 levels, 512 colours in all."""


@fs.plugin("image_stats", version="1.0.0")
def image_stats(
    frame: fs.Frame,
    *,
    bins: Annotated[int, Field(ge=2, le=256, description="Bars of the luma histogram")] = 16,
    colors: Annotated[int, Field(ge=0, le=16, description="Dominant colours to report, at most")] = 5,
) -> dict[str, Any]:
    """Describe a picture in numbers.

    Args:
        frame: The picture.
        bins: Bars of `histogram`, 2–256, of equal width over the luma range 0–255.
        colors: How many dominant colours to report at most, 0–16.

    Returns:
        size: `width` and `height` in pixels.
        mean, std, min, max: one number for each of `r`, `g`, `b`, on the scale 0–255.
        brightness: mean luma, 0 (black) to 1 (white).
        contrast: RMS contrast, the standard deviation of luma on the scale 0–1 (Peli, "Contrast in complex
            images", J. Opt. Soc. Am. A 7, 1990), so 0 (flat) to 0.5 (half black, half white).
        sharpness: variance of the Laplacian of luma; higher is sharper. Compare it within one scene only
            (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000).
        entropy: Shannon entropy of the 256 luma levels, 0 (flat) to 8 bits (all levels equally frequent).
        histogram: pixels in each bar, darkest first.
        dominant_colors: `rgb` and `share` (0–1) of the most frequent colours, most frequent first.
    """
    luma_counts = np.asarray(cv2.calcHist([frame.gray], [0], None, [256], [0, 256]), np.intp).ravel()
    luma_mean, luma_std = (float(value[0, 0]) for value in cv2.meanStdDev(frame.gray))
    width, height = frame.size_wh
    return {
        "size": {"width": width, "height": height},
        **channel_stats(frame.rgb),
        "brightness": round(luma_mean / 255, 4),
        "contrast": round(luma_std / 255, 4),
        "sharpness": round(sharpness(frame.gray), 2),
        "entropy": round(entropy_bits(luma_counts), 4),
        "histogram": merge_levels(luma_counts, bins),
        "dominant_colors": dominant_colors(frame.rgb, colors),
    }


def channel_stats(image_rgb: NDArray[np.uint8]) -> dict[str, dict[str, float]]:
    """Mean, standard deviation, minimum and maximum of each channel of a uint8 `(H, W, 3)` image."""
    mean, std = (values.ravel().tolist() for values in cv2.meanStdDev(image_rgb))
    # Channel by channel: NumPy's reduction over an axis of interleaved pixels is a hundred times slower.
    extremes = [cv2.minMaxLoc(channel)[:2] for channel in cv2.split(image_rgb)]
    return {
        "mean": {name: round(value, 2) for name, value in zip("rgb", mean, strict=True)},
        "std": {name: round(value, 2) for name, value in zip("rgb", std, strict=True)},
        "min": {name: int(low) for name, (low, _) in zip("rgb", extremes, strict=True)},
        "max": {name: int(high) for name, (_, high) in zip("rgb", extremes, strict=True)},
    }


def sharpness(image_gray: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of a uint8 `(H, W)` image, 0 or more."""
    # The 3×3 Laplacian of 8-bit values lies within ±1020: 16 bits hold it, ten times faster than doubles do.
    _, std = cv2.meanStdDev(cv2.Laplacian(image_gray, cv2.CV_16S))
    return float(std[0, 0]) ** 2


def entropy_bits(counts: NDArray[np.intp]) -> float:
    """Shannon entropy, in bits, of a histogram with at least one entry."""
    shares = counts[counts > 0] / counts.sum()
    return abs(float((shares * np.log2(shares)).sum()))  # abs, not a minus sign: -0.0 is no entropy


def merge_levels(counts: NDArray[np.intp], bins: int) -> list[int]:
    """Sum a histogram of 256 levels into `bins` bars of equal width."""
    bar_of_level = np.arange(256) * bins // 256
    merged = np.bincount(bar_of_level, weights=counts, minlength=bins)
    return [int(count) for count in merged]


def dominant_colors(image_rgb: NDArray[np.uint8], limit: int) -> list[dict[str, Any]]:
    """The most frequent colours of a uint8 `(H, W, 3)` image, at most `limit`.

    Pixels that agree in the highest bits of every channel count as one colour, reported as their mean: no
    random start, unlike k-means, so the same picture has the same colours every time.
    """
    height, width = image_rgb.shape[:2]
    sample_wh = min(width, MAX_SAMPLE_SIDE), min(height, MAX_SAMPLE_SIDE)
    # The nearest pixel, not an average: averaging makes up colours that are not in the picture.
    sample_rgb = cv2.resize(image_rgb, sample_wh, interpolation=cv2.INTER_NEAREST)
    pixels = np.asarray(sample_rgb, np.intp).reshape(-1, 3)
    levels = pixels >> (8 - LEVEL_BITS)
    codes = (levels[:, 0] << 2 * LEVEL_BITS) | (levels[:, 1] << LEVEL_BITS) | levels[:, 2]
    counts = np.bincount(codes, minlength=1 << 3 * LEVEL_BITS)
    # A stable sort settles ties by colour, so that equal pictures give equal lists.
    frequent = [code for code in np.argsort(-counts, kind="stable")[:limit] if counts[code]]
    return [
        {
            "rgb": [round(value) for value in pixels[codes == code].mean(axis=0).tolist()],
            "share": round(float(counts[code]) / len(pixels), 4),
        }
        for code in frequent
    ]
