"""Many connections in one burst, as when every page of a lab is opened at once: none is refused falsely."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.chaos.apart import Apart
from tests.chaos.descriptors import room_for
from tests.figures import Figures
from tests.server.conftest import upgrade

SUITE = "connections in a burst"


async def handshake(port: int, number: int) -> tuple[int, asyncio.StreamWriter]:
    """The status of the answer, and the connection, which stays open."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    headers = [("Host", f"localhost:{port}"), *upgrade()]
    lines = [f"GET /ws/burst-{number} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    writer.write("\r\n".join(lines).encode())
    head = await reader.readuntil(b"\r\n\r\n")
    return int(head.split()[1]), writer


@pytest.mark.timeout(7200)
async def test_of_many_connections_at_once_none_is_refused_falsely(
    tmp_path_factory: pytest.TempPathFactory, figures: Figures
) -> None:
    count = 2000 if figures.soak else 300
    with room_for(2 * count), Apart("", tmp_path_factory.mktemp("apart")) as server:
        began = time.monotonic()
        answers = await asyncio.gather(*(handshake(server.port, number) for number in range(count)))
        took_s = time.monotonic() - began
        for _, writer in answers:
            writer.close()
    refused = [status for status, _ in answers if status != 101]
    figures.add(SUITE, f"of {count} refused falsely", len(refused), 0)
    figures.add(SUITE, f"{count} let in after, s", took_s)
    assert refused == []
