"""The seed's Python client sends many frames without waiting for anything: `python all_at_once.py FRAMES [PING_S]`.

With PING_S its library asks that often for a sign of life, and gives up on a server that owes one as long: 20 s is what
it does by itself.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
from pathlib import Path
from typing import Any

import websockets

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.seed_clients.harness import URL, Counted, until


async def all_at_once(frames: int) -> dict[str, Any]:
    """Send, wait for as many answers, or for the connection to end; the ledger, and the close code, if it ended."""
    counted = Counted(URL)
    await counted.client.connect()
    socket = counted.client.ws
    for _ in range(frames):
        await counted.send("slow")
    await until(lambda: len(counted.ledger["terminal"]) >= frames or socket.close_code is not None)
    return {**counted.ledger, "closed": socket.close_code}


if __name__ == "__main__":
    if len(sys.argv) > 2:
        ping_s = float(sys.argv[2])
        websockets.connect = functools.partial(websockets.connect, ping_interval=ping_s, ping_timeout=ping_s)
    print(json.dumps(asyncio.run(all_at_once(int(sys.argv[1])))))
