"""A process in the place of a kernel: clips through a plugin, by `fs.stream` and by the loop that a user would write.

Arguments: the engine and the name of the plugin. Commands: `loop CLIP` and `stream CLIP`, each one pass over the clip;
the answer has the pictures a second and the processor time for a picture, in milliseconds, workers included.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import av
import psutil

import forgesyte_nb as fs
from forgesyte_nb.plugins.registry import registry
from tests.benchmarks.child import WORKERS, say
from tests.benchmarks.direct import plugin_function


@fs.plugin
def gray_mean(frame: fs.Frame) -> dict[str, Any]:
    """The mean of the gray picture: a plugin that costs less than decoding."""
    return {"mean": float(frame.gray.mean())}


def main(engine: str, plugin: str) -> None:
    """Serve, and answer commands until stdin is closed."""
    call = plugin_function(plugin) if plugin != "gray_mean" else lambda frame, _state: gray_mean(frame)
    server = fs.serve(port=0, settings=fs.Settings(engine=engine, workers=WORKERS))
    say(engine=engine, plugin=registry().entry(plugin).plugin.name)
    for line in sys.stdin:
        command, clip = line.strip().split(maxsplit=1)
        if command == "loop":
            say(**measured(partial(loop, clip, call)))
        else:
            say(**measured(partial(stream, clip, plugin, server)))
    server.close()


def loop(clip: str, call: Callable[[fs.Frame, dict[str, Any]], Any]) -> int:
    """One pass in this thread; the number of pictures."""
    state: dict[str, Any] = {}
    count = 0
    with av.open(clip) as container:
        for picture in container.decode(video=0):
            call(fs.Frame.from_array(picture.to_ndarray(format="rgb24"), copy=False), state)
            count += 1
    return count


def stream(clip: str, plugin: str, server: fs.Server) -> int:
    """One pass through the server; the number of pictures.

    Raises:
        RuntimeError: If one has failed.
    """
    going = fs.stream(clip, plugin, server=server).wait()
    ledger = going.ledger
    going.close()
    if ledger["results"] != ledger["sent"]:
        raise RuntimeError(f"{plugin}: {ledger}")
    return ledger["results"]


def measured(run: Callable[[], int]) -> dict[str, float]:
    """Rate and processor time of a pass."""
    began, began_cpu_s = time.perf_counter(), cpu_s()
    count = run()
    passed_s = time.perf_counter() - began
    return {"fps": count / passed_s, "cpu_ms": (cpu_s() - began_cpu_s) / count * 1000}


def cpu_s() -> float:
    """Processor time of this process and its workers so far, in seconds."""
    processes = [psutil.Process(os.getpid()), *psutil.Process().children(recursive=True)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    main(*sys.argv[1:])
