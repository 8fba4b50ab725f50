"""Files as sources: all pictures in them, told apart by content, and clips as players show them."""

from __future__ import annotations

import contextlib
import io
import shutil
import struct
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

import forgesyte_nb as fs
from forgesyte_nb.client.client import Client
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.client.sources.urls import parse_stream_url
from tests.client.cameras import number_of, numbered
from tests.conftest import encoded


def read(thing, **pace):
    with open_source(thing, **pace) as source:
        return list(source.frames())


def flat(value, size_wh=(20, 16), mode="L"):
    return Image.new(mode, size_wh, value if mode == "L" else (value,) * 3)


def write_clip(path: Path, count: int = 40, *, gop: int = 40, faststart: bool = False, **where) -> Path:
    """Gray pictures of 64×48, their level 5 times their number, red in the upper left; 20 a second."""
    options = {"movflags": "faststart"} if faststart else {}
    with av.open(str(path), "w", options=options, **where) as container:
        stream = container.add_stream("mpeg4", rate=20, options={"g": str(gop), "bf": "0"})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 64, 48, "yuv420p", 2_000_000
        for number in range(count):
            image = np.full((48, 64, 3), number * 5 % 250, np.uint8)
            image[:16, :16] = (250, 0, 0)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def trim(source: Path, target: Path, first: int) -> Path:
    """What `ffmpeg -ss … -c copy` writes: an edit list hides the packets before `first`."""
    with av.open(str(source)) as whole, av.open(str(target), "w") as cut:
        stream = whole.streams.video[0]
        copy = cut.add_stream_from_template(stream)
        packets = [packet for packet in whole.demux(stream) if packet.dts is not None]
        start = packets[first].pts
        for packet in packets:
            packet.pts -= start
            packet.dts -= start
            packet.stream = copy
            cut.mux(packet)
    return target


# All pictures of a file


def test_every_page_of_a_tiff_is_a_picture(tmp_path):
    pages = [flat(value) for value in (10, 120, 250)]
    path = tmp_path / "scan.tif"
    path.write_bytes(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    with Image.open(path) as opened:
        for thing in (path, path.read_bytes(), tmp_path, [path], str(tmp_path / "*.tif"), opened):
            frames = read(thing)
            assert [int(frame.rgb[3, 3, 0]) for frame in frames] == [10, 120, 250]
            assert [frame.seq for frame in frames] == [0, 1, 2]
            assert [frame.time_s for frame in frames] == [None] * 3
    assert [frame.frame_id for frame in read(tmp_path)] == ["scan.tif#0", "scan.tif#1", "scan.tif#2"]
    assert len(open_source(path)) == 3
    assert [int(frame.rgb[0, 0, 0]) for frame in read(path, every=2)] == [10, 250]


def test_thumbnails_inside_a_tiff_are_no_pages(tmp_path):
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    thumbnail = ImageFileDirectory_v2()
    thumbnail[254] = 1  # NewSubfileType: reduced resolution
    small = flat(7)
    small.encoderinfo = {"tiffinfo": thumbnail}
    path = tmp_path / "photo.tif"
    path.write_bytes(encoded(flat(200), "TIFF", save_all=True, append_images=[small]))
    assert [int(frame.rgb[0, 0, 0]) for frame in read(path)] == [200]


@pytest.mark.parametrize(("kind", "more"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_every_frame_of_an_animation_is_a_picture_as_it_is_shown(tmp_path, kind, more):
    pictures = []
    for column in range(4):  # a white column that wanders: encoders store only what changes
        pixels = np.zeros((16, 20, 3), np.uint8)
        pixels[:, column] = 255
        pictures.append(Image.fromarray(pixels))
    path = tmp_path / "wander.img"
    path.write_bytes(
        encoded(pictures[0], kind, save_all=True, append_images=pictures[1:], duration=[100, 200, 300, 400], **more)
    )
    frames = read(path)
    assert [np.flatnonzero(frame.rgb[5, :, 0] > 128).tolist() for frame in frames] == [[0], [1], [2], [3]]
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.6])


def test_a_damaged_page_costs_itself_alone(tmp_path):
    noise = [Image.fromarray(np.random.default_rng(n).integers(0, 255, (64, 64), np.uint8)) for n in range(3)]
    path = tmp_path / "scan.tif"
    content = bytearray(encoded(noise[0], "TIFF", save_all=True, append_images=noise[1:], compression="tiff_lzw"))
    content[len(content) // 2 : len(content) // 2 + 60] = bytes(60)
    path.write_bytes(content)
    first, second, third = read(path)
    assert np.array_equal(first.gray, np.asarray(noise[0]))
    assert "scan.tif#1 is damaged" in second.unreadable
    assert np.array_equal(third.gray, np.asarray(noise[2]))


def test_pages_and_frames_over_the_limit_of_pixels_are_not_decoded(tmp_path):
    large = Image.new("1", (10_000, 6_000))
    tiff = tmp_path / "scan.tif"
    tiff.write_bytes(encoded(flat(9), "TIFF", save_all=True, append_images=[large], compression="packbits"))
    small, refused = read(tiff)
    assert int(small.rgb[0, 0, 0]) == 9
    assert "scan.tif of 10000×6000 is over the limit of 50 megapixels" in refused.unreadable
    gif = bytearray(encoded(flat(1), "GIF", save_all=True, append_images=[flat(2)]))
    for size, said in ((b"\x28\x23" * 2, "of 9000×9000 is over the limit"), (b"\xff\xff" * 2, "cannot be read")):
        gif[6:10] = size
        with pytest.raises(fs.SourceError, match=said):
            read(bytes(gif))


def test_a_png_that_claims_very_many_frames_has_as_many_as_fit(tmp_path):
    data = encoded(flat(9), "PNG")
    control = b"acTL" + struct.pack(">II", 2**31 - 1, 0)
    data = data[:33] + struct.pack(">I", 8) + control + struct.pack(">I", zlib.crc32(control)) + data[33:]
    assert [int(frame.rgb[0, 0, 0]) for frame in read(data)] == [9]
    animated = encoded(flat(0), "PNG", save_all=True, append_images=[flat(50)])
    at = animated.index(b"acTL")
    control = b"acTL" + struct.pack(">II", 2**31 - 1, 0)
    claiming = animated[:at] + control + struct.pack(">I", zlib.crc32(control)) + animated[at + 16 :]
    first, second, *others = read(claiming)
    assert [int(frame.rgb[0, 0, 0]) for frame in (first, second)] == [0, 50]
    assert len(others) < len(claiming) / 50
    assert all("is damaged" in other.unreadable for other in others)


def test_a_jpeg_of_very_many_end_markers_is_one_picture():
    whole = numbered(3)
    ends = b"\xff\xd9\xff\xd8\xff" * 200_000
    assert len(read(whole[:2] + b"\xff\xfe\xff\xff" + ends[:65_533] + whole[2:-2] + ends)) == 1


def test_every_picture_of_an_mjpeg_file_whatever_it_is_called(tmp_path):
    content = b"".join(numbered(number) for number in range(10))
    for name in ("cam.mjpeg", "cam.bin", "cam.jpg"):
        path = tmp_path / name
        path.write_bytes(content)
        frames = read(path)
        assert [number_of(frame) for frame in frames] == list(range(10))
        assert frames[3].bytes == numbered(3)
    assert len(read(content)) == 10


def test_a_photo_with_a_preview_behind_it_is_one_picture(tmp_path):
    path = tmp_path / "photo.jpg"
    path.write_bytes(numbered(3) + encoded(flat(9, mode="RGB"), "JPEG"))
    assert len(read(path)) == 1


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "MJPEG"])
async def test_analyze_takes_the_first_and_warns_at_the_callers_line(server, tmp_path, kind):
    pages = [flat(value, mode="RGB") for value in (10, 120, 250)]
    path = tmp_path / "several.img"
    if kind == "MJPEG":
        path.write_bytes(b"".join(encoded(page, "JPEG") for page in pages))
    else:
        path.write_bytes(encoded(pages[0], kind, save_all=True, append_images=pages[1:]))
    said = r"holds 3 pictures, of which the first alone is sent; stream\(…\) sends all"
    async with Client(server.url) as client:
        for image in (path, path.read_bytes()):
            with pytest.warns(UserWarning, match=said) as warned:
                result = await client.analyze(image, "mean")
            assert [one.filename for one in warned] == [__file__]
            assert result["mean"] == pytest.approx(10, abs=1)


def test_analyze_from_a_cell_warns_at_the_callers_line(server, tmp_path):
    pages = [flat(value) for value in (10, 120)]
    path = tmp_path / "scan.tif"
    path.write_bytes(encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:]))
    with fs.BlockingClient(server) as client:
        with pytest.warns(UserWarning, match=r"scan\.tif holds 2 pictures") as warned:
            assert client.analyze(path, "mean")["mean"] == pytest.approx(10, abs=1)
        assert [one.filename for one in warned] == [__file__]
        assert [result["mean"] for result in client.stream(path, "mean", ordered=True)] == [10, 120]


# Folders


def test_a_folder_is_read_with_its_subfolders_and_says_what_it_leaves_out(tmp_path):
    picture = numbered(1)
    for name in ("b/10.jfif", "b/9.jpe", "a.jpg", "b/c/x", ".hidden/z.jpg", "b/._a.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    (tmp_path / "again").symlink_to(tmp_path, target_is_directory=True)
    assert [frame.frame_id for frame in read(tmp_path)] == ["a.jpg", "b/9.jpe", "b/10.jfif", "b/c/x"]
    for name in ("b/labels.csv", "readme.txt", "b/notes.txt", "clip.mov", "photo.heic"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" if name.endswith("heic") else b"some text")
    with pytest.warns(UserWarning, match=r"5 files .* \(2 \.txt, 1 \.csv, 1 \.heic, 1 \.mov\) left out") as warned:
        assert len(read(tmp_path)) == 4
    assert warned[0].filename == __file__


def test_a_folder_without_pictures_says_what_is_in_it(tmp_path):
    write_clip(tmp_path / "a.mp4", 3)
    with pytest.raises(fs.SourceError, match=r"No images in .*1 file of other kinds \(1 \.mp4\); give those as a list"):
        open_source(tmp_path)


def test_a_list_goes_on_behind_a_damaged_clip_and_reports_it_at_the_end(tmp_path):
    whole = write_clip(tmp_path / "whole.avi")
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size * 3 // 4])
    (tmp_path / "notes.txt").write_text("no picture")
    frames = []
    with pytest.raises(fs.SourceError, match=r"cut\.avi is .*40 pictures could be read"):
        for frame in open_source([tmp_path / "cut.avi", tmp_path / "notes.txt", whole]).frames():
            frames.append(frame)
    (text,) = [frame for frame in frames if getattr(frame, "unreadable", "")]
    assert "it is a text file" in text.unreadable
    assert sum(1 for frame in frames if frame.frame_id.startswith("whole.avi")) == 40


# Content decides


@pytest.mark.parametrize(
    ("suffix", "container"),
    [
        *(
            (".3g2", "3g2"),
            (".f4v", "mov"),
            (".m2ts", "mpegts"),
            (".vob", "vob"),
            (".asf", "asf"),
            (".mkv", "matroska"),
        ),
        *((".avi", "avi"), (".m4v", "mp4"), (".mpg", "mpeg")),
    ],
)
def test_clips_of_any_suffix_are_read(tmp_path, suffix, container):
    path = write_clip(tmp_path / f"clip{suffix}", 8, format=container)
    for name in (path, tmp_path / "clip.of.no.known.suffix"):
        if not name.exists():
            shutil.copy(path, name)
        frames = read(name)
        assert len(frames) == 8
        assert all(isinstance(frame, fs.Frame) for frame in frames)
        assert [frame.time_s for frame in frames] == pytest.approx([n / 20 for n in range(8)], abs=0.01)


@pytest.mark.parametrize(
    ("suffix", "codec", "container", "size_wh"),
    [
        (".h264", "libx264", "h264", (64, 48)),
        (".ivf", "libvpx", "ivf", (64, 48)),
        (".y4m", "wrapped_avframe", "yuv4mpegpipe", (64, 48)),
        (".mxf", "mpeg2video", "mxf", (64, 48)),
        (".dv", "dvvideo", "dv", (720, 576)),
    ],
)
def test_clips_of_one_codec_are_read(tmp_path, suffix, codec, container, size_wh):
    width, height = size_wh
    path = tmp_path / f"clip{suffix}"
    try:
        with av.open(str(path), "w", format=container) as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(8):
                pixels = np.full((height, width, 3), 20 * number, np.uint8)
                out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            out.mux(stream.encode())
    except (av.FFmpegError, ValueError) as error:
        pytest.skip(f"this PyAV cannot write {container}: {error}")
    assert len(read(path)) == 8


def test_text_is_refused_in_words(tmp_path):
    for name in ("notes.txt", "clip.mp4", "script"):
        (tmp_path / name).write_text("Some words, äöü.\nAnother line.\n" * 50)
        with pytest.raises(fs.SourceError, match=f"{name} cannot be read as video or image: it is a text file"):
            open_source(tmp_path / name)


def test_a_video_in_memory_is_read(tmp_path):
    assert len(read(write_clip(tmp_path / "v.mp4", 6).read_bytes())) == 6


# Clips as players show them


def test_an_edit_list_is_no_damage(tmp_path):
    trimmed = trim(write_clip(tmp_path / "whole.mp4"), tmp_path / "trimmed.mp4", 25)
    with av.open(str(trimmed)) as container:
        shown = sum(1 for _ in container.decode(video=0))
    frames = read(trimmed)
    assert len(frames) == shown == 15
    assert round(frames[0].rgb[20, 40, 0] / 5) == 25


def test_a_real_clip_with_an_edit_list(shared_cases):
    frames = read(shared_cases / "discard_first_keyframe.mp4")
    assert len(frames) == 25
    assert frames[0].size_wh == (64, 64)


@pytest.mark.parametrize("name", ["2026-05-01T12:30:00.mp4", "http:x.mp4", "concat:a|b.mp4"])
def test_a_file_name_with_a_colon_is_a_file(tmp_path, monkeypatch, name):
    write_clip(tmp_path / "v.mp4", 4).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert [frame.frame_id for frame in read(name)] == [f"{name}#{seq}" for seq in range(4)]


@pytest.mark.parametrize(("matrix", "red"), [
    ([1, 0, 0, 1], ("upper", "left")),
    ([0, 1, -1, 0], ("upper", "right")),  # turned, as phones write it
    ([-1, 0, 0, 1], ("upper", "right")),  # mirrored, as their front cameras do
    ([1, 0, 0, -1], ("lower", "left")),
    ([0, 1, 1, 0], ("upper", "left")),  # mirrored and turned
    ([0, -1, -1, 0], ("lower", "right")),
])  # fmt: skip
def test_a_mirrored_clip_is_shown_as_players_show_it(tmp_path, matrix, red):
    path = write_clip(tmp_path / "v.mp4", 3)
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # to the matrix of a version 0 track header
    a, b, c, d = ((value << 16).to_bytes(4, "big", signed=True) for value in matrix)
    content[at : at + 36] = b"".join((a, b, bytes(4), c, d, bytes(12), (1 << 30).to_bytes(4, "big")))
    path.write_bytes(content)
    image = read(path)[0].rgb.astype(int)
    assert image.shape == ((48, 64, 3) if matrix[0] else (64, 48, 3))
    redness = image[:, :, 0] - image[:, :, 1]
    corners = {
        (upper, left): redness[rows, columns].mean()
        for upper, rows in (("upper", slice(16)), ("lower", slice(-16, None)))
        for left, columns in (("left", slice(16)), ("right", slice(-16, None)))
    }
    assert max(corners, key=lambda corner: corners[corner]) == red


# Over HTTP


class Files(BaseHTTPRequestHandler):
    """A server without ranges: the whole file, whatever was asked for."""

    folder: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content)


@pytest.fixture
def web(tmp_path):
    handler = type("Here", (Files,), {"folder": tmp_path})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


@pytest.mark.parametrize("faststart", [True, False], ids=["index first", "index last"])
def test_an_mp4_of_a_server_without_ranges_is_read(web, tmp_path, faststart):
    write_clip(tmp_path / "x@2x.mp4", 120, faststart=faststart)
    source = open_source(f"HTTP{web.removeprefix('http')}/x@2x.mp4?key=geheim")
    assert (source.name, source.live) == (f"{web}/x@2x.mp4", False)
    frames = list(source.frames())
    assert len(frames) == 120
    assert frames[-1].time_s == pytest.approx(119 / 20)


def test_what_is_no_video_on_a_server_says_so_without_the_secrets(web, tmp_path, caplog):
    (tmp_path / "page.html").write_text("<p>no video")
    address = web.removeprefix("http://")
    for path, said in (("page.html", "cannot be read as video"), ("absent.mp4", "the server answers 404")):
        with pytest.raises(fs.SourceError, match=said) as caught:
            open_source(f"http://user:geheim@{address}/{path}?token=geheim")
        error: BaseException | None = caught.value
        while error is not None:
            assert "geheim" not in f"{error} {error!r}"
            error = error.__cause__ or error.__context__
    assert "geheim" not in caplog.text


@pytest.mark.parametrize("scheme", ["rtsp", "udp", "rtmp", "http", "https"])
def test_a_refused_connection_shows_no_secret(scheme):
    with pytest.raises(fs.SourceError) as caught:
        open_source(f"{scheme}://user:geheim@127.0.0.1:1/x?token=geheim")
    error: BaseException | None = caught.value
    assert f"{scheme}://127.0.0.1:1/x" in str(error)
    while error is not None:
        assert "geheim" not in f"{error} {error!r}"
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("url", "name", "user", "password"),
    [
        ("http://h/x@2x.mp4", "http://h/x@2x.mp4", "", ""),
        ("RTSP://u:p@h:554/a?t=1#f", "rtsp://h:554/a", "u", "p"),
        ("rtsp://u:p%40q@h/a", "rtsp://h/a", "u", "p@q"),
        ("rtsp://u:p@q@h/a", "rtsp://h/a", "u", "p@q"),
        ("rtsp://u:p/q@h/a", "rtsp://h/a", "u", "p/q"),
        ("rtsp://u:p?q#r@h:8/a", "rtsp://h:8/a", "u", "p?q#r"),
        ("http://[::1]:80/a@b", "http://[::1]:80/a@b", "", ""),
        ("http://h?token=a@b", "http://h", "", ""),
    ],
)
def test_the_parts_of_a_url(url, name, user, password):
    address = parse_stream_url(url)
    assert (address.name, address.user, address.password) == (name, user, password)
    assert "token" not in repr(address)
    if password:
        assert f"{password}@" not in repr(address)


def test_a_pixel_of_what_has_none_raises_in_words():
    raw = read([b"no picture at all, but bytes enough"])[0]
    with pytest.raises(fs.InvalidImage, match="no picture that can be read"):
        raw.rgb  # noqa: B018
    assert not hasattr(raw, "nonsense")
    assert io.BytesIO(raw.bytes).read(2) == b"no"
