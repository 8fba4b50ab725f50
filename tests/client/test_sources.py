"""Sources: whatever a user has, as pictures."""

from __future__ import annotations

import itertools
import subprocess
import sys
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import forgesyte_nb as fs
from forgesyte_nb.client.sources import open_source
from forgesyte_nb.client.sources.camera import device_of
from forgesyte_nb.client.sources.synthetic import synthetic
from forgesyte_nb.image.frame import Frame
from forgesyte_nb.image.pictures import RawImage, as_picture


def read(thing, **pace):
    with open_source(thing, **pace) as source:
        return list(source.frames())


def gray(value, size=8):
    return np.full((size, size, 3), value, np.uint8)


def write_video(path: Path, count: int = 10, codec: str = "mpeg4", size: int = 32) -> Path:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(5))
        stream.width, stream.height, stream.pix_fmt = size * 2, size, "yuv420p"
        for index in range(count):
            image = np.full((size, size * 2, 3), index * 20 % 200, np.uint8)
            image[:, :8] = (250, 0, 0)  # the left edge is red
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


# Pictures


@pytest.mark.parametrize(
    ("thing", "count"),
    [
        (gray(1), 1),
        (gray(1)[:, :, 0], 1),
        (gray(1)[:, :, :1], 1),
        (np.stack([gray(1), gray(2)]), 2),
        (np.stack([gray(1)[:, :, 0], gray(2)[:, :, 0]]), 2),
        ([gray(1), gray(2)[:, :, 0], Frame.from_array(gray(3))], 3),
        ((gray(n) for n in range(4)), 4),
        (Frame.from_array(gray(3)), 1),
        (Frame.from_array(gray(3)).bytes, 1),
    ],
)
def test_pictures_in_memory(thing, count):
    frames = read(thing)
    assert [frame.seq for frame in frames] == list(range(count))
    assert all(isinstance(frame, Frame) for frame in frames)
    assert all(frame.captured_at > 1.7e9 for frame in frames)


def test_pillow_images_of_any_mode():
    from PIL import Image

    rgba = Image.new("RGBA", (4, 6), (9, 8, 7, 255))
    for image in (rgba, rgba.convert("P"), rgba.convert("1")):
        assert read(image)[0].size_wh == (4, 6)


def test_files_travel_as_they_are(tmp_path):
    encoded = Frame.from_array(gray(7)).bytes
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded)
    for thing in (path, str(path), [path], tmp_path, f"{tmp_path}/*.jpg", f"{tmp_path}/**/*.jpg"):
        (frame,) = read(thing)
        assert frame.bytes == encoded
        assert Path(frame.frame_id).name == "a.jpg"
        assert frame.captured_at == path.stat().st_mtime


def test_folders_and_globs_are_in_natural_order_and_images_only(tmp_path):
    for name in ("b10.png", "b9.PNG", "a.tiff", "notes.txt", "clip.mp4"):
        (tmp_path / name).write_bytes(b"x" * 40)
    (tmp_path / "folder.png").mkdir()
    with pytest.warns(UserWarning, match=r"2 files of other kinds \(1 \.mp4, 1 \.txt\) left out"):
        assert [frame.frame_id for frame in read(tmp_path)] == ["a.tiff", "b9.PNG", "b10.png"]
    assert [frame.frame_id for frame in read(str(tmp_path / "b*"))] == ["b9.PNG", "b10.png"]


def test_what_is_no_picture_is_carried_raw_and_stops_nothing(tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8\xff but no JPEG, not at all")
    first, second, third, fourth, fifth = read([bad, tmp_path / "absent.jpg", gray(1), np.zeros((2, 2)), None])
    assert (type(first), first.bytes, first.unreadable) == (RawImage, bad.read_bytes(), "")
    assert (type(second), second.bytes) == (RawImage, b"")
    assert "No such file" in second.unreadable
    assert isinstance(third, Frame)
    assert "float64" in fourth.unreadable
    assert "NoneType is no picture" in fifth.unreadable
    unknown, no_path = read(["~nosuchuser/x.png", "a\0b.png"])
    assert unknown.unreadable.startswith("~nosuchuser/x.png: No such file or directory; give the path")
    assert no_path.unreadable == r"'a\x00b.png' is no path (embedded null byte)"
    assert [picture.seq for picture in (first, second, third, fourth, fifth)] == [0, 1, 2, 3, 4]


def test_lists_may_hold_folders_videos_and_sources(tmp_path):
    (tmp_path / "stills").mkdir()
    (tmp_path / "stills" / "a.jpg").write_bytes(Frame.from_array(gray(7)).bytes)
    video = write_video(tmp_path / "v.avi", 3)
    frames = read([tmp_path / "stills", gray(1), video, synthetic(32, 32, frames=2)])
    assert [frame.seq for frame in frames] == list(range(7))
    assert [frame.frame_id for frame in frames][2:] == ["v.avi#2", "v.avi#3", "v.avi#4", "synthetic#5", "synthetic#6"]


def test_a_frame_of_the_users_own_is_not_changed():
    frame = Frame.from_array(gray(1), frame_id="mine", seq=99)
    copy = read([gray(0), frame])[1]
    assert (copy.frame_id, copy.seq) == ("mine", 1)
    assert (frame.seq, frame.captured_at) == (99, None)


@pytest.mark.parametrize(
    ("thing", "text"),
    [
        ("no/such/file.png", "No file 'no/such/file.png'"),
        ("no/such/*.png", "No file matches"),
        ("~nosuchuser/x.png", "No file '~nosuchuser/x.png'"),
        ("~nosuchuser/*.png", "No file matches '~nosuchuser/"),
        ("a\0b.png", r"No file 'a\\x00b.png'"),
        ("a\0*.png", r"No file 'a\\x00"),
        (object(), "object is no picture"),
        (3.5, "float is no picture"),
    ],
)
def test_what_cannot_be_opened_says_why(thing, text):
    with pytest.raises(fs.SourceError, match=text.replace("*", r"\*")):
        open_source(thing)


def test_an_empty_folder_says_so(tmp_path):
    with pytest.raises(fs.SourceError, match="No images in"):
        open_source(tmp_path)


@pytest.mark.parametrize("thing", [[], (), np.zeros((0, 8, 8, 3), np.uint8)], ids=["list", "tuple", "stack"])
@pytest.mark.parametrize("loop", [False, True])
def test_a_source_without_pictures_says_so(thing, loop):
    with pytest.raises(fs.SourceError, match="The source 'pictures' has no pictures: give it one at least"):
        read(thing, loop=loop)


def test_a_generator_that_was_read_says_so():
    def two():
        yield from [gray(1), gray(2)]

    source = open_source(two())
    assert len(list(source.frames())) == 2
    with pytest.raises(fs.SourceError, match=r"The source 'two' has no pictures: .* must be made anew"):
        list(source.frames())


def test_a_source_that_was_closed_before_its_first_picture_is_not_called_empty():
    def none():
        source.close()
        yield from ()

    source = open_source(none())
    assert list(source.frames()) == []


# Pace


def test_every_and_loop_keep_the_sources_numbers():
    images = [gray(n) for n in range(5)]
    assert [frame.seq for frame in read(images, every=2)] == [0, 2, 4]
    assert len(open_source(images, every=2)) == 3
    looped = open_source(images, every=2, loop=True).frames()
    assert [next(looped).seq for _ in range(6)] == [0, 2, 4, 6, 8, 10]
    with pytest.raises(TypeError, match="no known length"):
        len(open_source(images, loop=True))
    assert read((image for image in images), loop=True)[-1].seq == 4  # a generator cannot begin again
    for wrong in ({"every": 0}, {"fps": 0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            open_source(images, **wrong)


def test_a_paced_source_ends_when_it_is_closed():
    source = open_source([gray(1)] * 3, fps=0.001)
    frames = source.frames()
    assert next(frames).seq == 0
    source.close()
    assert list(frames) == []
    assert len(list(open_source([gray(1)] * 3, fps=1e6).frames())) == 3


# Video


def test_a_video_yields_numbered_frames_with_their_times(tmp_path):
    source = open_source(write_video(tmp_path / "v.mp4"))
    frames = list(source.frames())
    assert (source.fps, source.length, source.live) == (5.0, 10, False)
    assert [frame.seq for frame in frames] == list(range(10))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 5 for index in range(10)])
    assert frames[5].size_wh == (64, 32)
    assert frames[5].rgb[16, 40].tolist() == pytest.approx([100] * 3, abs=6)
    assert frames[5].frame_id == "v.mp4#5"
    assert [frame.seq for frame in read(tmp_path / "v.mp4", every=4)] == [0, 4, 8]


@pytest.mark.parametrize(("matrix", "red"), [
    ([0, 1, -1, 0], "top"),      # 90° clockwise, as a phone held upright writes it
    ([0, -1, 1, 0], "bottom"),
    ([-1, 0, 0, -1], "right"),
])  # fmt: skip
def test_a_video_filmed_sideways_is_turned_upright(tmp_path, matrix, red):
    path = write_video(tmp_path / "v.mp4")
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8  # to the matrix of a version 0 track header
    a, b, c, d = ((value << 16).to_bytes(4, "big", signed=True) for value in matrix)
    zero = bytes(4)
    content[at : at + 36] = b"".join((a, b, zero, c, d, zero, zero, zero, (1 << 30).to_bytes(4, "big")))
    path.write_bytes(content)
    image = read(path)[0].rgb
    edges = {
        "top": image[2].mean(0),
        "bottom": image[-3].mean(0),
        "left": image[:, 2].mean(0),
        "right": image[:, -3].mean(0),
    }
    assert max(edges, key=lambda edge: edges[edge][0]) == red
    assert image.shape[:2] == ((32, 64) if red == "right" else (64, 32))


def test_a_truncated_video_yields_what_there_is_and_then_says_so(tmp_path):
    whole = write_video(tmp_path / "v.avi", 60, size=64)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = []
    with pytest.raises(fs.SourceError) as caught:
        for frame in open_source(cut).frames():
            frames.append(frame)
    assert 5 < len(frames) < 55
    assert f"{len(frames)} of 60 pictures could be read" in str(caught.value)


def test_damage_in_the_middle_costs_only_what_it_hit(tmp_path):
    path = write_video(tmp_path / "v.avi", 40, size=64)
    content = bytearray(path.read_bytes())
    packet = content.index(b"00dc", len(content) // 2)
    content[packet + 8 : packet + 200] = bytes(192)
    path.write_bytes(content)
    frames, problem = [], None
    try:
        for frame in open_source(path).frames():
            frames.append(frame)
    except fs.SourceError as error:
        problem = error
    assert len(frames) >= 38
    assert problem is None or "damaged after picture" in str(problem)


def test_what_is_no_video_says_so(tmp_path):
    path = tmp_path / "v.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(fs.SourceError, match=r"v\.mp4 cannot be read as video"):
        open_source(path)
    with pytest.raises(fs.SourceError, match=r"rtsp://127\.0\.0\.1:1/x cannot be read"):
        open_source("rtsp://user:secret@127.0.0.1:1/x")


def test_the_video_that_aborts_opencv_is_read(shared_data):
    """In a process of its own, in case a future PyAV goes the same way."""
    path = shared_data("video/bad/aborts-cv2-4.14.avi")
    script = f"import forgesyte_nb as fs; print(len(list(fs.open_source({str(path)!r}).frames())))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "51\n")


def test_a_real_video_and_its_truncation(shared_data, tmp_path):
    path = shared_data("video/car-detection.mp4")
    source = open_source(path, every=50)
    assert [frame.seq for frame in source.frames()] == [0, 50, 100, 150, 200, 250, 300, 350]
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[:600_000])
    frames = []
    with pytest.raises(fs.SourceError, match="of 377 pictures could be read"):
        for frame in open_source(cut).frames():
            frames.append(frame)
    assert 40 < len(frames) < 60


# Cameras


@pytest.mark.skipif(sys.platform != "linux", reason="device paths of Linux")
@pytest.mark.parametrize("camera", [97, "camera:97", "/dev/video97"])
def test_a_camera_that_is_not_there_says_so(camera):
    with pytest.raises(fs.SourceError, match=r"No camera at /dev/video97 .*No such file"):
        open_source(camera)


def test_cameras_on_other_systems():
    assert device_of("0", "darwin") == ("0", {"format": "avfoundation", "options": {"framerate": "30"}})
    assert device_of("Integrated Camera", "win32") == ("video=Integrated Camera", {"format": "dshow"})
    with pytest.raises(fs.SourceError, match="give its name"):
        device_of("0", "win32")


# Synthetic


def test_synthetic_pictures_are_where_the_truth_says():
    source = synthetic(120, 90, frames=40, shapes=1, seed=3)
    for frame in source.frames():
        (box,) = source.truth(frame.seq)
        inside = (frame.rgb != 40).any(axis=2)
        rows, columns = np.nonzero(inside)
        assert (columns.min(), rows.min()) == (box.x, box.y)
        assert (columns.max() + 1, rows.max() + 1) == (box.x + box.width, box.y + box.height)
    assert len({(box.x, box.y) for seq in range(40) for box in source.truth(seq)}) > 20


def test_synthetic_is_deterministic_and_moves_inside_the_picture():
    first, second = synthetic(64, 48, seed=5), synthetic(64, 48, seed=5)
    assert np.array_equal(first.image_rgb(17), second.image_rgb(17))
    assert not np.array_equal(first.image_rgb(17), synthetic(64, 48, seed=6).image_rgb(17))
    for seq in range(0, 1000, 7):
        for box in first.truth(seq):
            assert box.x >= 0
            assert box.x + box.width <= 64
            assert box.y + box.height <= 48
    assert first.fps == 30
    assert len(synthetic(frames=5)) == 5
    endless = synthetic(32, 32, frames=None)
    assert endless.length is None
    assert [frame.time_s for frame in itertools.islice(endless.frames(), 3)] == [0, 1 / 30, 2 / 30]
    with pytest.raises(ValueError, match="at least 16×16"):
        synthetic(4, 4)


def test_as_picture_takes_one_thing_at_a_time():
    with pytest.raises(fs.InvalidImage, match="shape"):
        as_picture(np.zeros((2, 4, 4, 3), np.uint8))


def test_opening_warns_of_nothing(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert repr(open_source(write_video(tmp_path / "v.mp4"))) == "<VideoFile v.mp4 10 pictures 5 fps>"
        assert repr(open_source("synthetic")) == "<SyntheticSource synthetic 300 pictures 30 fps>"
