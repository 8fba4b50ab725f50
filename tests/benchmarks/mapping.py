"""Two bare processes: what a plugin reaches with no server, no socket and no queue at all.

`python -m tests.benchmarks.mapping PLUGIN KIND AREA STREAMS` loops over the same image files as the clients send,
calls the plugin and makes JSON of its result. Told "run SECONDS" it does so for that long and answers how many frames
it did. `Pair` is two of them, told at the same time.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

from tests.benchmarks.child import WORKERS, Child, say

# glibc: do not give memory back between frames. What it does by itself depends on what was imported before, and can
# cost half of the time in page faults; the bare processes are to be the limit.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 25)}


class Pair:
    """As many processes as the servers have workers."""

    def __init__(self, plugin: str, kind: str, area: int, streams: int) -> None:
        """Start them; each takes its share of the streams."""
        share = str(max(1, streams // WORKERS))
        self._children: list[Child] = []
        try:
            for _ in range(WORKERS):
                self._children.append(Child("mapping", plugin, kind, str(area), share, environment=_KEEP_MEMORY))
        except BaseException:
            self.close()
            raise

    def per_s(self, seconds: float) -> float:
        """Frames per second, of all together."""
        for child in self._children:
            child.tell(f"run {seconds}")
        heard = [child.hear() for child in self._children]
        return sum(float(one["frames"]) / float(one["seconds"]) for one in heard)

    def close(self) -> None:
        """End them."""
        for child in self._children:
            child.close()


def main() -> None:
    """Work when told to, until stdin is closed."""
    import orjson

    from tests.benchmarks.bench import PICTURES
    from tests.benchmarks.direct import plugin_call

    plugin, kind, area, streams = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    call, images = plugin_call(plugin), PICTURES[kind](area)
    states: list[dict[str, Any]] = [{} for _ in range(streams)]
    steps = itertools.cycle([(image, state) for image in images for state in states])

    def step() -> None:
        image, state = next(steps)
        orjson.dumps(call(image, state), option=orjson.OPT_SERIALIZE_NUMPY)

    for _ in states:
        step()  # what the first frame of each stream costs is no part of it, here or in the servers
    say(ready=True)
    for line in sys.stdin:
        seconds, frames, began = float(line.split()[1]), 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            step()
            frames += 1
        say(frames=frames, seconds=time.perf_counter() - began)


if __name__ == "__main__":
    main()
