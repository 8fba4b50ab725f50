"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.bench import processors

_LIBRARIES = (
    "websockets",
    "msgspec",
    "orjson",
    "pybase64",
    "numpy",
    "opencv-python-headless",
    "fastapi",
    "uvicorn",
    "uvloop",
    "httptools",
)


def machine() -> dict[str, Any]:
    """Processor, cores, system, Python, libraries, date, and how busy the machine was before the run."""
    return {
        "processor": _processor(),
        "cores": processors(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: version for name in _LIBRARIES if (version := _version(name))},
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_before": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def as_text(found: dict[str, Any]) -> str:
    """One line for a person."""
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return (
        f"{found['processor']}, {found['cores']} cores, {found['system']}, Python {found['python']}, {libraries}; "
        f"{found['date']}, load average before the run {found['load_average_before']}"
    )
