"""A test camera that speaks RTSP (RFC 2326) and sends H.264 in RTP over the same TCP connection (RFC 6184)."""

from __future__ import annotations

import base64
import contextlib
import itertools
import re
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction

import av
import numpy as np

_SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:track1\r\n"
)
_PICTURES_PER_S = 25


class RtspCamera:
    """A camera whose pictures of 64×32 have the gray level 10 × (their number modulo 20).

    Attributes:
        is_on: If not set, it refuses requests and ends the connections that it has.
        is_sending: If not set, it is silent and keeps its connections.
        login: "user:password" that it asks for; by default none.
        plays: Number of PLAY requests so far.
        when_played: Called at each PLAY request.
    """

    def __init__(self) -> None:
        self.is_on, self.is_sending, self.stopped = threading.Event(), threading.Event(), threading.Event()
        self.is_on.set()
        self.is_sending.set()
        self.login, self.plays = "", 0
        self.when_played: Callable[[], object] = lambda: None
        camera = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while camera.is_on.is_set() and (request := _read_request(self.rfile)):
                        self.wfile.write(camera._answer(*request))
                        if request[0] == "PLAY":
                            camera._play(self)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self._server.server_address[1]}/stream"

    def _answer(self, method: str, headers: dict[str, str]) -> bytes:
        status, body, lines = "200 OK", b"", [f"CSeq: {headers['cseq']}"]
        expected = f"Basic {base64.b64encode(self.login.encode()).decode()}"
        if self.login and method != "OPTIONS" and headers.get("authorization") != expected:
            status = "401 Unauthorized"
            lines.append('WWW-Authenticate: Basic realm="test"')
        elif method == "OPTIONS":
            lines.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = _SDP
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        else:
            lines += ["Session: 1", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"]
        return "\r\n".join([f"RTSP/1.0 {status}", *lines, "", ""]).encode() + body

    def _play(self, handler: socketserver.StreamRequestHandler) -> None:
        self.plays += 1
        self.when_played()
        numbers = itertools.count()
        for number, units in enumerate(_encoded()):
            for index, unit in enumerate(units):
                last = index == len(units) - 1
                header = (0x80, 96 | last << 7, next(numbers) & 0xFFFF, number * 90_000 // _PICTURES_PER_S, 1)
                packet = struct.pack(">BBHII", *header) + unit
                handler.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
            if self.stopped.wait(1 / _PICTURES_PER_S) or not self.is_on.is_set():
                return
            while not self.is_sending.wait(0.02):
                if self.stopped.is_set():
                    return

    def close(self) -> None:
        self.stopped.set()
        self.is_on.clear()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _read_request(stream) -> tuple[str, dict[str, str]] | None:
    lines = [line.decode().strip() for line in iter(stream.readline, b"\r\n") if line]
    if not lines:
        return None
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return lines[0].partition(" ")[0], {name.lower(): value for name, value in headers.items()}


def _encoded() -> Iterator[list[bytes]]:
    """The NAL units of each picture, without start codes; every fifth picture stands for itself."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = 64, 32, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, _PICTURES_PER_S), Fraction(_PICTURES_PER_S)
    encoder.options = {"tune": "zerolatency", "preset": "ultrafast", "g": "5"}
    for number in itertools.count():
        pixels = np.full((32, 64, 3), 10 * (number % 20), np.uint8)
        picture = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        picture.pts = number
        for packet in encoder.encode(picture):
            yield [unit for unit in re.split(b"\0?\0\0\1", bytes(packet)) if unit]


@contextlib.contextmanager
def rtsp_camera() -> Iterator[RtspCamera]:
    made = RtspCamera()
    try:
        yield made
    finally:
        made.close()
