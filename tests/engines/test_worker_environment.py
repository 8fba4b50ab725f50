"""The environment of worker processes: how many threads their libraries use, and variables that a user sets."""

from __future__ import annotations

import os
from typing import Any

import pytest

from forgesyte_nb.settings import Settings
from tests.engines.conftest import Open

VARIABLES = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

READS = """
import os, sys

@fs.plugin
def reads(frame, *, names: list[str]):
    return {name: os.environ.get(name) for name in names}

@fs.plugin
def opencv(frame):
    import cv2
    return {"threads": cv2.getNumThreads(), "onnxruntime": "onnxruntime" in sys.modules}

@fs.plugin
def counts(frame):
    import cv2, onnxruntime, psutil
    process = psutil.Process()
    before = process.num_threads()
    session = onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    return {
        "onnx": process.num_threads() - before,
        "opencv": cv2.getNumThreads(),
        "openmp": os.environ["OMP_NUM_THREADS"],
    }

@fs.plugin
def onnx(frame, *, chosen: int = 0):
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = chosen
    sessions = [
        onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"]),
        onnxruntime.InferenceSession(MODEL, providers=["CPUExecutionProvider"]),
    ]
    return {"threads": [session.get_session_options().intra_op_num_threads for session in sessions]}
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("forgesyte_nb.settings._available_cpus", lambda: 6)


def field(number: int, value: int | bytes) -> bytes:
    """A field of a protocol buffer: a small number, or bytes under 128 long."""
    return bytes([number << 3, value]) if isinstance(value, int) else bytes([number << 3 | 2, len(value)]) + value


def identity_model() -> bytes:
    """The smallest ONNX model (onnx.proto3): y = Identity(x), one float each."""
    shape = field(2, field(1, field(1, 1)))  # TypeProto.Tensor.shape: one dim of value 1
    kind = field(2, field(1, field(1, 1) + shape))  # ValueInfoProto.type: a tensor of element type 1, float
    node = field(1, b"x") + field(2, b"y") + field(4, b"Identity")
    graph = field(1, node) + field(2, b"g") + field(11, field(1, b"x") + kind) + field(12, field(1, b"y") + kind)
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, 13))


@pytest.mark.parametrize(("settings", "threads"), [({}, 3), ({"threads_per_worker": 2}, 2), ({"workers": 12}, 1)])
def test_processors_are_divided_by_lanes(settings: dict[str, Any], threads: int) -> None:
    assert Settings(**{"workers": 2, **settings}).threads == threads


async def test_libraries_in_a_worker_use_their_share_of_the_processors(open_bench: Open) -> None:
    bench = open_bench("processes", workers=2)
    bench.cell(READS)
    assert await bench.run("reads", {"names": VARIABLES}) == dict.fromkeys(VARIABLES, "3")
    assert await bench.run("opencv") == {"threads": 3, "onnxruntime": False}


async def test_sessions_of_onnx_runtime_use_their_share_unless_they_name_a_number(open_bench: Open) -> None:
    pytest.importorskip("onnxruntime")
    bench = open_bench("processes", workers=2)
    bench.cell(READS, MODEL=identity_model())
    assert await bench.run("onnx") == {"threads": [3, 3]}
    assert await bench.run("onnx", {"chosen": 4}) == {"threads": [4, 3]}


@pytest.mark.parametrize(
    ("settings", "threads"), [({"workers": 1}, 6), ({"workers": 2}, 3), ({"workers": 1, "threads_per_worker": 2}, 2)]
)
async def test_so_many_threads_of_onnx_runtime_there_are(
    open_bench: Open, settings: dict[str, Any], threads: int
) -> None:
    pytest.importorskip("onnxruntime")
    bench = open_bench("processes", **settings)
    bench.cell(READS, MODEL=identity_model())
    found = await bench.run("counts")
    assert found["onnx"] == threads - 1, "the thread that runs the session is one of them"
    assert (found["opencv"], found["openmp"]) == (threads, str(threads))


async def test_the_kernels_own_limits_count_and_settings_count_more(
    open_bench: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    bench = open_bench("processes", workers=1)
    bench.cell(READS)
    names = {"names": ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "MY_MODELS", "HOME")}
    assert list((await bench.run("reads", names)).values()) == ["5", "6", None, os.environ.get("HOME")]
    bench = open_bench("processes", workers=1, threads_per_worker=2, env={"MY_MODELS": "/m", "MKL_NUM_THREADS": "4"})
    bench.cell(READS)
    assert list((await bench.run("reads", names)).values()) == ["2", "4", "/m", os.environ.get("HOME")]


@pytest.mark.parametrize(
    ("env", "error", "text"),
    [
        ({"A": 1}, TypeError, "names and values are texts"),
        ("A=1", TypeError, "names and values are texts"),
        ({"A=B": "1"}, ValueError, "cannot be set"),
        ({"": "1"}, ValueError, "cannot be set"),
        ({"A": "1\0"}, ValueError, "cannot be set"),
    ],
)
def test_what_cannot_be_in_an_environment_is_refused(env: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Settings(env=env)


def test_settings_keep_a_copy_of_env_and_hide_its_values() -> None:
    env = {"API_KEY": "secret"}
    settings = Settings(env=env)
    env["API_KEY"] = "other"
    assert settings.env == {"API_KEY": "secret"}
    assert repr(settings) == "Settings(env={'API_KEY': <hidden>})"
