"""(c) Ours: a process whose main thread is a notebook's, which calls `fs.serve()` and then does something else.

`python -m tests.benchmarks.ours ENGINE [WORKERS]` serves until its stdin is closed. Told "spin" its main thread spins
in pure Python, as a busy cell does, until told "rest".
"""

from __future__ import annotations

import queue
import sys
import threading
from typing import Any, cast

import forgesyte_nb as fs
from forgesyte_nb.settings import EngineName
from tests.benchmarks.child import WORKERS, say
from tests.benchmarks.direct import PLUGIN_FILES, noop


def main() -> None:
    """Serve until stdin is closed."""
    engine = cast(EngineName, sys.argv[1])
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else WORKERS
    fs.plugin("noop")(noop)
    settings = fs.Settings(
        engine=engine, workers=workers, session_grace_s=1.0, max_connections=100_000, max_peer_connections=100_000
    )
    commands: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            commands.put(line.strip())
        commands.put("end")

    with fs.serve("127.0.0.1", 0, settings=settings, plugins=[PLUGIN_FILES]) as server:
        say(port=server.port, engine=engine, log=str(server.log))
        threading.Thread(target=read, daemon=True).start()
        while (command := commands.get()) != "end":
            if command == "spin":
                say(spinning=True)
                _spin(commands)
                say(spinning=False)
            elif command == "stats":
                say(**_plain(server.stats()))


def _spin(commands: queue.SimpleQueue[str]) -> None:
    """A cell that is busy with pure Python."""
    number = 0
    while commands.empty():
        for _ in range(100_000):
            number = (number * 31 + 7) % 1_000_003


def _plain(stats: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stats.items() if name != "engines"}


if __name__ == "__main__":
    main()
