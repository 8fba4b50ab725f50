"""Turn a picture into a plan of Minecraft blocks: a grid of block names, and how many of each to collect.

The picture is shrunk to one pixel per block, and each pixel becomes the block whose average colour is
nearest. It is stretched to the grid: choose `width` and `height` in the proportions of the picture. Each
frame stands alone, and the same picture gives the same plan.
"""

from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import forgesyte_nb as fs

BLOCK_RGB: dict[str, tuple[int, int, int]] = {
    # The 16 concretes: flat colours, which carry most of a picture.
    "white_concrete": (207, 213, 214),
    "light_gray_concrete": (125, 125, 115),
    "gray_concrete": (55, 58, 62),
    "black_concrete": (8, 10, 15),
    "brown_concrete": (96, 60, 32),
    "red_concrete": (142, 33, 33),
    "orange_concrete": (224, 97, 1),
    "yellow_concrete": (241, 175, 21),
    "lime_concrete": (94, 169, 24),
    "green_concrete": (73, 91, 36),
    "cyan_concrete": (21, 119, 136),
    "light_blue_concrete": (36, 137, 199),
    "blue_concrete": (45, 47, 143),
    "purple_concrete": (100, 32, 156),
    "magenta_concrete": (169, 48, 159),
    "pink_concrete": (214, 101, 143),
    # Muted colours, for skin, earth and shade.
    "terracotta": (152, 94, 68),
    "white_terracotta": (210, 178, 161),
    "light_gray_terracotta": (135, 107, 98),
    "light_blue_terracotta": (113, 109, 138),
    "cyan_terracotta": (87, 91, 91),
    "pink_terracotta": (162, 78, 79),
    "brown_terracotta": (77, 51, 36),
    "black_terracotta": (37, 23, 16),
    # Materials that fill the gaps between the dyes.
    "snow_block": (249, 254, 254),
    "stone": (126, 126, 126),
    "smooth_stone": (159, 159, 159),
    "sandstone": (216, 203, 156),
    "birch_planks": (192, 175, 121),
    "oak_planks": (162, 131, 79),
    "spruce_planks": (115, 85, 49),
    "gold_block": (246, 208, 62),
    "diamond_block": (98, 237, 228),
    "packed_ice": (142, 180, 250),
    "slime_block": (112, 192, 92),
}
"""Approximate average colour of each block's texture in the game's default look."""

BLOCK_NAMES = list(BLOCK_RGB)
PALETTE_RGB = np.array(list(BLOCK_RGB.values()), dtype=np.float32)

DITHER_AMPLITUDE = 48
"""How far dithering may shift a channel, out of 255: about the distance between neighbours in the palette."""


@fs.plugin("block_mapper", version="1.0.0")
def block_mapper(
    frame: fs.Frame,
    *,
    width: Annotated[int, Field(ge=8, le=256, description="Blocks from left to right")] = 64,
    height: Annotated[int, Field(ge=8, le=256, description="Blocks from top to bottom")] = 64,
    dithering: Annotated[bool, Field(description="Mix blocks for the shades between their colours")] = False,
) -> dict[str, Any]:
    """Map a picture to Minecraft blocks.

    Args:
        frame: The picture.
        width: Blocks from left to right, 8–256.
        height: Blocks from top to bottom, 8–256.
        dithering: Alternate between blocks where the colour lies between them, instead of flat areas.

    Returns:
        block_map: `height` rows, from the top, of `width` block names, from the left; drawn over the picture as tiles
            in the colours of `palette`.
        palette: the blocks used, most frequent first; of each its `count`, `percentage` (0–100) and `rgb`.
        dimensions: `width` and `height` of the map in blocks.
        total_blocks: blocks in the map.
        unique_blocks: different blocks among them.
        original_size: `width` and `height` of the picture in pixels.
    """
    # INTER_AREA averages all pixels under a block; picking single pixels would turn fine texture to noise.
    grid_rgb = cv2.resize(frame.rgb, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    if dithering:
        grid_rgb = np.clip(grid_rgb + dither_offsets(width, height)[:, :, None], 0, 255)
    block_ids = nearest_blocks(grid_rgb)
    palette = count_blocks(block_ids)
    width_px, height_px = frame.size_wh
    return {
        "block_map": [[BLOCK_NAMES[block_id] for block_id in row] for row in block_ids.tolist()],
        "palette": palette,
        "dimensions": {"width": width, "height": height},
        "total_blocks": width * height,
        "unique_blocks": len(palette),
        "original_size": {"width": width_px, "height": height_px},
    }


def nearest_blocks(image_rgb: NDArray[np.float32]) -> NDArray[np.intp]:
    """The block nearest in colour to each pixel.

    Distance is "redmean", a weighting of RGB by the mean red that comes close to how different two colours
    look, without leaving RGB (T. Riemersma, "Colour metric", https://www.compuphase.com/cmetric.htm).

    Args:
        image_rgb: `(H, W, 3)`, 0–255.

    Returns:
        `(H, W)`, positions in `BLOCK_NAMES`; of equally near blocks the first.
    """
    height, width = image_rgb.shape[:2]
    # Blocks down, pixels across: one broadcast compares all with all, on contiguous rows.
    red, green, blue = np.ascontiguousarray(image_rgb.reshape(-1, 3).T)
    block_red, block_green, block_blue = PALETTE_RGB.T[:, :, None]
    red_mean = (red + block_red) / 2
    distance = (2 + red_mean / 256) * (red - block_red) ** 2
    distance += 4 * (green - block_green) ** 2
    distance += (2 + (255 - red_mean) / 256) * (blue - block_blue) ** 2
    nearest: NDArray[np.intp] = distance.argmin(axis=0)
    return nearest.reshape(height, width)


def dither_offsets(width: int, height: int) -> NDArray[np.float32]:
    """What ordered dithering adds to each pixel, float32 `(height, width)` within ± half the amplitude.

    The pattern is B. E. Bayer's 8×8 matrix ("An optimum method for two-level rendition of continuous-tone
    pictures", ICC 1973). It is fixed to the grid, so the plan of a video stands still where the video does;
    error diffusion would let one changed pixel reshuffle everything below it.
    """
    ranks = np.zeros((1, 1))
    for _ in range(3):
        ranks = np.block([[4 * ranks, 4 * ranks + 2], [4 * ranks + 3, 4 * ranks + 1]])
    offsets = DITHER_AMPLITUDE * ((ranks + 0.5) / ranks.size - 0.5)
    tiles_down, tiles_across = -(-height // 8), -(-width // 8)
    return np.tile(offsets, (tiles_down, tiles_across))[:height, :width].astype(np.float32)


def count_blocks(block_ids: NDArray[np.intp]) -> dict[str, dict[str, Any]]:
    """The shopping list of a map of block positions: each block used, most frequent first."""
    counts = np.bincount(block_ids.ravel(), minlength=len(BLOCK_NAMES))
    # A stable sort keeps blocks of equal count in the order of the palette, so that results are repeatable.
    order = [block_id for block_id in np.argsort(-counts, kind="stable").tolist() if counts[block_id]]
    return {
        BLOCK_NAMES[block_id]: {
            "count": int(counts[block_id]),
            "percentage": round(100 * int(counts[block_id]) / block_ids.size, 2),
            "rgb": list(BLOCK_RGB[BLOCK_NAMES[block_id]]),
        }
        for block_id in order
    }
