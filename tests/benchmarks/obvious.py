"""(b) The obvious server: FastAPI, uvicorn and a ProcessPoolExecutor, as a competent developer writes it.

It answers as the seed says and runs the same plugin functions on the same number of workers. Each message becomes a
task, so that a client may have many in flight. Streams of `motion_detector` need their state, so there is one pool of
one process per worker, and a client stays with its pool; other plugins share one pool.
"""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from tests.benchmarks.child import WORKERS, say, until_stdin_closes
from tests.benchmarks.direct import plugin_call

states: dict[str, dict[str, Any]] = {}


def work(plugin: str, image: bytes, client_id: str) -> tuple[dict[str, Any], float]:
    """In a worker: the plugin's result, and how long it took."""
    began = perf_counter()
    result = plugin_call(plugin)(image, states.setdefault(client_id, {}))
    return result, (perf_counter() - began) * 1000


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Pools live as long as the server."""
    app.state.pool = ProcessPoolExecutor(WORKERS)
    app.state.pinned = [ProcessPoolExecutor(1) for _ in range(WORKERS)]
    yield
    for pool in (app.state.pool, *app.state.pinned):
        pool.shutdown(cancel_futures=True)


app = FastAPI(lifespan=lifespan)


@app.websocket("/ws/{client_id}")
async def endpoint(websocket: WebSocket, client_id: str) -> None:
    """One client."""
    await websocket.accept()
    loop = asyncio.get_running_loop()
    pinned = app.state.pinned[int(client_id.rpartition("_")[2]) % WORKERS]
    tasks: set[asyncio.Task[None]] = set()

    async def analyse(message: dict[str, Any]) -> None:
        plugin, frame_id = message["plugin"], message["frame_id"]
        answer: dict[str, Any] = {"frame_id": frame_id, "plugin": plugin}
        try:
            image = base64.b64decode(message["image_data"])
            pool = pinned if plugin == "motion_detector" else app.state.pool
            result, ms = await loop.run_in_executor(pool, work, plugin, image, client_id)
        except Exception as error:  # noqa: BLE001 -- whatever the plugin raises is its answer
            answer = {"type": "error", **answer, "error_code": "PLUGIN_ERROR", "message": str(error)}
        else:
            answer = {"type": "frame_result", "job_id": f"job_{uuid.uuid4().hex}", **answer}
            answer |= {"status": "success", "result": result, "processing_time_ms": ms}
        await websocket.send_json({**answer, "timestamp": datetime.now(UTC).isoformat()})

    try:
        while True:
            task = asyncio.create_task(analyse(await websocket.receive_json()))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except WebSocketDisconnect:
        for task in tasks:
            task.cancel()


async def main() -> None:
    """Serve until stdin is closed."""
    server = uvicorn.Server(
        uvicorn.Config(
            app, host="127.0.0.1", port=0, log_level="error", ws_per_message_deflate=False, ws_ping_interval=None
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    say(port=server.servers[0].sockets[0].getsockname()[1])
    await until_stdin_closes()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main())
