"""What `make setup` does about OpenCV, with a Python that only pretends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NO_LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"

PYTHON = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
*"import cv2"*) {importing} ;;
*metadata*) echo 5.0.0.93 ;;
esac
"""


def make_opencv(folder: Path, importing: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the target `opencv` where `import cv2` does this; its end, and the calls of pip."""
    log = folder / "log"
    (folder / "python").write_text(PYTHON.format(log=log, importing=importing))
    (folder / "python").chmod(0o700)
    command = ["make", "--no-print-directory", "opencv", f"BIN={folder}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return done, [line for line in log.read_text().splitlines() if line.startswith("-m pip")]


def test_the_headless_wheel_takes_its_place_where_libgl_is_missing(tmp_path: Path) -> None:
    done, calls = make_opencv(tmp_path, f"echo '{NO_LIBGL}' >&2; exit 1")
    assert done.returncode == 0, done.stderr
    assert "libGL.so.1 is missing here, which opencv-python needs: installing opencv-python-headless" in done.stdout
    assert calls == [
        "-m pip uninstall --quiet --yes opencv-python",
        "-m pip install --quiet opencv-python-headless==5.0.0.93",
    ]


@pytest.mark.parametrize(("importing", "code"), [("exit 0", 0), ("echo 'ImportError: numpy' >&2; exit 1", 2)])
def test_it_is_left_alone_where_libgl_is_there(tmp_path: Path, importing: str, code: int) -> None:
    done, calls = make_opencv(tmp_path, importing)
    assert (done.returncode, calls) == (code, [])
    assert ("ImportError: numpy" in done.stdout) == bool(code)
