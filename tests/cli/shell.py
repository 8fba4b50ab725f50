"""The command `forgesyte-nb` as a shell runs it: a process, its exit code, what it says."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import PATIENCE_S

COMMAND = str(Path(sys.executable).with_name("forgesyte-nb"))


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("FORGESYTE_")} | more


def run(*arguments: object, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=env or environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


class Serving:
    """A `forgesyte-nb serve` that has said where it is."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--log", str(folder / "server.log"), *map(str, arguments)],
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = ""
        while not self.said.endswith("Ctrl-C stops it.\n"):
            line = self.process.stdout.readline()
            assert line, f"it ended: {self.said} {self.process.communicate()}"
            self.said += line
        self.url = re.search(r"ws://\S+", self.said)[0]  # type: ignore[index]

    def stop(self, number: int = signal.SIGINT) -> tuple[int, str, str]:
        """Signal it; its exit code, and what it said after its greeting."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        stdout, stderr = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, stdout, stderr


def lines(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def only_line(text: str) -> str:
    assert text.count("\n") == 1, text
    return text
