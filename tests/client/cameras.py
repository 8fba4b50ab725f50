"""Test cameras: HTTP servers in this process that send numbered pictures."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np

from forgesyte_nb.image.frame import Frame


def numbered(number: int) -> bytes:
    """A JPEG of 64×32 whose gray level, in steps of 10, is its number modulo 20."""
    return Frame.from_array(np.full((32, 64, 3), 10 * (number % 20), np.uint8)).bytes


def number_of(frame: Frame) -> int:
    """The number of a picture of `numbered`."""
    return round(float(frame.gray.mean()) / 10)


class Camera:
    """A camera that sends `multipart/x-mixed-replace`.

    Attributes:
        requests: Number of requests so far.
        clients: Number of connections open now.
        answer: Writes the answer to request `n`, from 1; it gets a function that sends a part.
    """

    def __init__(self, answer: Callable[[int, Callable[[bytes], None]], None], *, lengths: bool = True) -> None:
        self.answer, self.requests, self.clients = answer, 0, 0
        self.most_clients: int | None = None
        self.most_requests: int | None = None
        self.is_on = True
        self.start = b""
        self.paths: list[str] = []
        self.logins: list[str | None] = []
        camera = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                camera.paths.append(self.path)
                camera.logins.append(self.headers.get("Authorization"))
                full = camera.most_clients is not None and camera.clients >= camera.most_clients
                used_up = camera.most_requests is not None and camera.requests >= camera.most_requests
                if not camera.is_on or full or used_up:
                    self.send_error(503)
                    return
                camera.requests += 1
                camera.clients += 1
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                    self.end_headers()
                    self.wfile.write(camera.start)

                    def send(part: bytes) -> None:
                        length = b"Content-Length: %d\r\n" % len(part) if lengths else b""
                        self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n" + length + b"\r\n" + part + b"\r\n")

                    with contextlib.suppress(OSError):
                        camera.answer(camera.requests, send)
                finally:
                    camera.clients -= 1

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/video"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextlib.contextmanager
def camera(answer: Callable[[int, Callable[[bytes], None]], None], **more: bool) -> Iterator[Camera]:
    made = Camera(answer, **more)
    try:
        yield made
    finally:
        made.close()
