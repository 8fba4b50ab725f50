"""Test cameras: servers of HTTP and RTSP in this process that send numbered pictures."""

from __future__ import annotations

import contextlib
import io
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import av
import numpy as np

from forgesyte_nb.frame import Frame


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
                if not camera.is_on or (camera.most_clients is not None and camera.clients >= camera.most_clients):
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


def transport_stream(count: int) -> bytes:
    """An MPEG transport stream of 64×32 of pictures numbered as by `numbered`, 25 a second."""
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as out:
        stream = out.add_stream("mpeg1video", rate=25, options={"g": "1", "bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for number in range(count):
            pixels = np.full((32, 64, 3), 10 * (number % 20), np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode())
    return file.getvalue()


SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:video\r\n"
"""One transport stream over RTP (RFC 3551: payload type 33)."""


class RtspCamera(socketserver.StreamRequestHandler):
    """Answers RTSP (RFC 2326), sends a transport stream of ten pictures on the same connection, and hangs up."""

    def handle(self) -> None:
        while line := self.rfile.readline().decode():
            method, headers = line.split()[0], {}
            while header := self.rfile.readline().decode().strip():
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            status, body, more = "200 OK", "", ""
            if method == "DESCRIBE":
                body, more = SDP, f"Content-Type: application/sdp\r\nContent-Length: {len(SDP)}\r\n"
            elif method == "SETUP" and "TCP" not in headers["transport"]:
                status = "461 Unsupported Transport"
            elif method == "SETUP":
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
            answer = f"RTSP/1.0 {status}\r\nCSeq: {headers['cseq']}\r\nSession: 1\r\n{more}\r\n{body}"
            self.wfile.write(answer.encode())
            if method == "PLAY":
                self._send(transport_stream(10))
                return

    def _send(self, stream: bytes) -> None:
        for number, at in enumerate(range(0, len(stream), 7 * 188)):
            packet = struct.pack(">BBHII", 0x80, 33, number, 0, 1) + stream[at : at + 7 * 188]
            self.wfile.write(b"$\0" + struct.pack(">H", len(packet)) + packet)


@contextlib.contextmanager
def rtsp_camera() -> Iterator[str]:
    """The URL of an `RtspCamera`."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), RtspCamera) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"rtsp://127.0.0.1:{server.server_address[1]}/video"
        server.shutdown()
        thread.join()
