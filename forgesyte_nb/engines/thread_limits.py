"""Number of threads that numerical libraries use in a worker process.

Each of the lanes runs one frame at a time, so together they would start processors × lanes threads if every library
took its own default. A plugin that sets a number itself is left alone.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_VARIABLES = (
    "OMP_NUM_THREADS",  # OpenMP 5.2, 21.2; PyTorch takes its number of threads from it, too
    "OMP_THREAD_LIMIT",  # OpenMP 5.2, 21.4; for libraries that ask for a number of their own, such as tesseract
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def thread_variables(threads: int) -> dict[str, str]:
    """Environment variables that libraries read when they are loaded."""
    return dict.fromkeys(_VARIABLES, str(threads))


def limit_threads(threads: int) -> None:
    """Limit OpenCV, and ONNX Runtime when it is imported: neither reads the environment."""
    import cv2

    cv2.setNumThreads(threads)
    sys.meta_path.insert(0, _OnnxRuntimeFinder(threads))


class _OnnxRuntimeFinder(importlib.abc.MetaPathFinder):
    """Gives sessions of ONNX Runtime a default number of threads, without importing it before a plugin does."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "onnxruntime":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(fullname)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_limit(module: ModuleType) -> None:
                execute(module)
                _limit_sessions(module, self._threads)

            spec.loader.exec_module = execute_and_limit  # type: ignore[method-assign]  # this import's loader alone
        return spec


def _limit_sessions(onnxruntime: Any, threads: int) -> None:
    """Have sessions whose options name no number of threads (0) use `threads`."""
    make = onnxruntime.InferenceSession.__init__

    @functools.wraps(make)
    def make_limited(self: Any, model: Any, sess_options: Any = None, *more: Any, **named: Any) -> None:
        options = onnxruntime.SessionOptions() if sess_options is None else sess_options
        if options.intra_op_num_threads == 0:
            options.intra_op_num_threads = threads
        make(self, model, options, *more, **named)

    onnxruntime.InferenceSession.__init__ = make_limited
