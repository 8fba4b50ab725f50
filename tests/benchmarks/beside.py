"""What is left to bare processes when somebody carries their frames, on the same processors.

Two bare processes work while a client exchanges as many frames a second with (a), which answers each with a constant
and hands nothing on: no queue, no worker's answer, no result to send. No strict limit: a server may carry frames at
less cost than (a), and a round may favour either.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.mapping import Pair
from tests.benchmarks.pace import paced
from tests.benchmarks.sockets import Messages


class Remembered:
    """A contestant whose latest rate others need.

    Attributes:
        per_s: What it measured last, frames per second.
    """

    def __init__(self, measure: Callable[[], float]) -> None:
        """Measure once, so that there is a rate."""
        self._measure = measure
        self.per_s = measure()

    def __call__(self) -> float:
        """Measure again."""
        self.per_s = self._measure()
        return self.per_s


def carried(
    pair: Pair, port: int, messages: Messages, *, pace: Remembered, seconds: float, clients: int
) -> Callable[[], float]:
    """A contestant: the frames per second of two bare processes beside (a).

    Args:
        pair: The bare processes.
        port: Of (a).
        messages: What the clients send.
        pace: Whose frames per second the clients keep to, all together.
        seconds: Length of the window.
        clients: Number of connections.
    """

    def measure() -> float:
        with ThreadPoolExecutor(1) as client:
            carrying = client.submit(
                paced, {"(a)": port}, messages, fps=pace.per_s / clients, seconds=seconds, clients=clients
            )
            rate = pair.per_s(seconds)
            carrying.result()
        return rate

    return measure
