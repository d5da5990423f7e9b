"""Sources and the threads in front of them. Frame numbers are drawn into the pictures as grey levels."""

import http.server
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edgeface.errors import ImageError, SourceError
from edgeface.images import write_image
from edgeface.runtime.cameras import video
from edgeface.runtime.cameras.capture import ReadAhead, open_frames
from edgeface.runtime.cameras.gstreamer import describe_pipeline
from edgeface.runtime.cameras.live import LiveSource
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.sources import (
    Asked,
    Frame,
    FrameSequence,
    FrameSource,
    ImageFolder,
    VideoFile,
    View,
    find_source,
    redact,
)
from tests.conftest import ROOT

Image = npt.NDArray[np.uint8]
STEP = 8  # grey levels between two frames: more than the codecs change


def grey(index: int, size_wh: tuple[int, int] = (64, 48)) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), index * STEP, np.uint8)


def number(frame: Frame) -> int:
    return round(float(frame.image.mean()) / STEP)


def write_video(path: Path, images: list[Image], codec: str = "MJPG", fps: float = 10.0) -> Path:
    video.quiet_opencv()
    height, width = images[0].shape[:2]
    fourcc = cv2.VideoWriter.fourcc(*codec)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, fourcc, fps, (width, height))
    assert writer.isOpened()
    for image in images:
        writer.write(np.ascontiguousarray(image[:, :, ::-1]))
    writer.release()
    return path


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and t.name.startswith("capture")]
    assert not left


# --- video files


@pytest.mark.parametrize(("file", "codec"), [("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.mkv", "mp4v")])
def test_video_gives_every_frame_in_order_with_its_time(tmp_path: Path, file: str, codec: str) -> None:
    path = write_video(tmp_path / file, [grey(i) for i in range(25)], codec, fps=10)
    with find_source(str(path)).open() as source:
        assert (source.name, source.live, source.fps) == (file, False, 10.0)
        frames = [source.read() for _ in range(25)]
        assert source.read() is None
        assert source.read() is None
    assert [number(f) for f in frames if f] == list(range(25))
    assert [f.index for f in frames if f] == list(range(25))
    assert [f.time_s for f in frames if f] == pytest.approx([i / 10 for i in range(25)], abs=0.002)
    with pytest.raises(SourceError, match=r"a\.\w+ is closed"):
        source.read()


def test_video_is_rgb(tmp_path: Path) -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[:, :, 0] = 220
    with VideoFile(write_video(tmp_path / "red.avi", [red])) as source:
        frame = source.read()
    assert frame is not None
    assert frame.image.dtype == np.uint8
    assert frame.image.flags.c_contiguous
    assert frame.image.mean(axis=(0, 1)) == pytest.approx([220, 0, 0], abs=8)


def test_video_is_turned_upright_by_its_rotation_mark(tmp_path: Path) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:10] = 255  # a bright top
    data = bytearray(write_video(tmp_path / "a.mp4", [image] * 3, "mp4v").read_bytes())
    # The matrix of the track header (ISO 14496-12, 8.3.2): version, times, ids, layer and volume precede it.
    at = data.find(b"tkhd") + 4 + 4 + 20 + 16
    assert struct.unpack(">9i", data[at : at + 36]) == (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    data[at : at + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    (tmp_path / "turned.mp4").write_bytes(data)
    with VideoFile(tmp_path / "turned.mp4") as source:
        frame = source.read()
    assert frame is not None
    assert frame.image.shape == (64, 48, 3)  # 90 degrees clockwise: the bright top is now on the right
    assert frame.image[:, -8:].mean() > 200
    assert frame.image[:, :30].mean() < 30


def test_a_video_that_is_cut_off_ends_early_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_video(tmp_path / "a.avi", [grey(i % 30) for i in range(100)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING), VideoFile(path) as source:
        count = 0
        while source.read() is not None:
            count += 1
    assert 30 < count < 70
    assert f"a.avi ended after {count} of about 100 frames" in caplog.text


def test_a_video_whose_time_goes_back_is_told_once_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Confused(FakeCapture):
        times_ms = iter([0.0, 100.0, 200.0, 50.0, 400.0, 300.0, 600.0])

        def get(self, what: int) -> float:
            if what == cv2.CAP_PROP_FPS:
                return 10.0
            return next(self.times_ms) if what == cv2.CAP_PROP_POS_MSEC else 0.0

    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: Confused([grey(i) for i in range(7)]))
    with VideoFile(tmp_path / "a.mp4") as source:
        times_s = [frame.time_s for frame in iter(source.read, None) if frame]
    assert times_s == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert caplog.text.count("the time goes back from 0.200 to 0.050 s at frame 3") == 1
    assert caplog.text.count("goes back") == 1


def test_a_stream_that_begins_with_damaged_frames_is_opened_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    torn: list[Image] = [np.zeros((48, 64, 2), np.uint8)] * 4
    fake_camera(monkeypatch, FakeCapture([*torn, grey(5)]))
    with find_source("0").open() as source:
        frame = source.read()
    assert frame is not None
    assert number(frame) == 5
    capture = FakeCapture(torn * 5)
    fake_camera(monkeypatch, capture)
    with pytest.raises(SourceError, match="camera 0 opened but gives no picture"):
        find_source("0").open()
    assert not capture.opened


@pytest.mark.parametrize("name", ["junk.mp4", "empty.avi", "notes.txt", "rows.csv", "lfw.bin"])
def test_a_file_that_is_no_video_is_refused_at_open(tmp_path: Path, name: str) -> None:
    junk = np.random.default_rng(0).bytes(20_000)
    content = {"empty.avi": b"", "notes.txt": b"hello world\n" * 100, "rows.csv": b"1,2,3\n" * 100}.get(name, junk)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=rf"{name} is not a video that can be read \({len(content)} bytes\)"):
        find_source(str(tmp_path / name)).open()


def test_a_colon_in_a_file_name_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.avi", [grey(3)]).rename(tmp_path / "http:a.avi")
    monkeypatch.chdir(tmp_path)
    with find_source("http:a.avi").open() as source:
        frame = source.read()
    assert frame is not None
    assert number(frame) == 3


# --- what is not there


@pytest.mark.parametrize("spec", ["nothing.mp4", "", "-1", "gone/", "a\0b", "a\nb", "x" * 5000, "٣"])
def test_what_does_not_exist_is_one_clear_line(spec: str) -> None:
    with pytest.raises(SourceError, match=r"no file or folder .* give a camera number") as caught:
        find_source(spec).open()
    assert "\n" not in str(caught.value)
    assert "\0" not in str(caught.value)


def test_an_unknown_scheme_lists_the_known_ones() -> None:
    with pytest.raises(SourceError, match=r"cannot open rstp://\*\*\*@h/x: use one of http, https, .*rtsp"):
        find_source("rstp://me:secret@h/x").open()


@pytest.mark.skipif(sys.platform != "linux", reason="device files")
@pytest.mark.parametrize("spec", ["9876", "camera:9876", "/dev/video9876"])
def test_a_camera_that_is_not_there_is_refused_at_open(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "list_cameras", lambda: (video.CameraInfo(2, "USB eye"), video.CameraInfo(3, "")))
    with pytest.raises(SourceError, match=r"no camera 9876: .*cameras here: 2 \(USB eye\), 3$"):
        find_source(spec).open()


def test_a_device_that_is_no_camera_is_refused() -> None:
    with pytest.raises(SourceError, match="/dev/null is no camera"):
        find_source("/dev/null").open()


class FakeCapture:
    """Stands in for cv2.VideoCapture: gives `images` in BGR, then fails."""

    def __init__(self, images: list[Image], opened: bool = True) -> None:
        self.images, self.opened = list(images), opened
        self.settings: dict[int, float] = {}

    def isOpened(self) -> bool:
        return self.opened

    def get(self, _: int) -> float:
        return 0.0

    def set(self, what: int, value: float) -> bool:
        self.settings[what] = value
        return True

    def read(self) -> tuple[bool, Image | None]:
        return (True, self.images.pop(0)) if self.images else (False, None)

    def release(self) -> None:
        self.opened = False


def fake_camera(monkeypatch: pytest.MonkeyPatch, capture: FakeCapture) -> None:
    monkeypatch.setattr(video, "sys", SimpleNamespace(platform="elsewhere"))
    monkeypatch.setattr(cv2, "VideoCapture", lambda *_: capture)


def test_a_camera_gives_rgb_and_the_time_since_opening_and_its_loss_is_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    blue = np.zeros((48, 64, 3), np.uint8)
    blue[:, :, 0] = 255  # BGR
    capture = FakeCapture([blue] * 3)
    fake_camera(monkeypatch, capture)
    with find_source("1", asked=Asked((1280, 720), fps=15)).open() as source:
        assert (source.name, source.live, source.fps) == ("camera 1", True, None)
        frames = [source.read() for _ in range(3)]
        with pytest.raises(SourceError, match="camera 1 stopped after 3 frames"):
            source.read()
    size = {cv2.CAP_PROP_FRAME_WIDTH: 1280, cv2.CAP_PROP_FRAME_HEIGHT: 720}
    assert capture.settings == {**size, cv2.CAP_PROP_FPS: 15}
    assert "asked for 1280 x 720 and gives 64 x 48" in caplog.text
    assert all(f is not None and f.image[0, 0].tolist() == [0, 0, 255] for f in frames)
    times_s = [f.time_s for f in frames if f]
    assert times_s == sorted(times_s)
    assert 0 <= times_s[0] < 5
    assert not capture.opened


@pytest.mark.parametrize(("opened", "seen"), [(True, "opened but gives no picture"), (False, "cannot be opened")])
def test_a_camera_without_a_picture_is_refused_at_open(
    monkeypatch: pytest.MonkeyPatch, opened: bool, seen: str
) -> None:
    capture = FakeCapture([], opened)
    fake_camera(monkeypatch, capture)
    with pytest.raises(SourceError, match=f"camera 0 {seen}; another program may be using it"):
        find_source("0").open()
    assert not capture.opened


# --- folders


def test_folder_gives_pictures_by_name_and_counts_the_unreadable(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in [("c.png", 2), ("a.PNG", 0), ("b.png", 1)]:
        write_image(tmp_path / name, grey(value))
    (tmp_path / "b2.jpg").write_bytes(b"no picture")
    (tmp_path / "b3.jpg").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    with caplog.at_level(logging.WARNING), ImageFolder(tmp_path) as source:
        frames = list(iter(source.read, None))
        assert source.read() is None
        assert source.unreadable == 2
    assert [(f.name, f.index, number(f)) for f in frames if f] == [("a.PNG", 0, 0), ("b.png", 1, 1), ("c.png", 2, 2)]
    assert caplog.text.count("skipped 2 of 5 pictures") == 1


def test_a_single_picture_is_a_source(tmp_path: Path) -> None:
    write_image(tmp_path / "one.png", grey(5))
    with find_source(str(tmp_path / "one.png")).open() as source:
        frame = source.read()
        assert source.read() is None
    assert frame is not None
    assert (number(frame), frame.name, source.name) == (5, "one.png", "one.png")


def test_a_folder_without_pictures_is_refused_at_open(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SourceError, match=r"no pictures in .* \(1 other entries\); it takes \.bmp"):
        find_source(str(tmp_path)).open()


def test_a_folder_in_which_nothing_is_readable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    with (
        find_source(str(tmp_path)).open() as source,
        pytest.raises(SourceError, match=r"none of the 1 pictures .*not a readable"),
    ):
        source.read()


def test_pictures_that_vanish_meanwhile_are_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(6):
        write_image(tmp_path / f"{i}.png", grey(i))
    with caplog.at_level(logging.WARNING), find_source(str(tmp_path)).open() as source:
        first = source.read()
        for i in (1, 2, 5):
            (tmp_path / f"{i}.png").unlink()
        rest = list(iter(source.read, None))
    assert first is not None
    assert [number(f) for f in rest if f] == [3, 4]
    assert "skipped 3 of 6 pictures, first: picture not found" in caplog.text
    with find_source(str(tmp_path)).open() as source:
        shutil.rmtree(tmp_path)
        with pytest.raises(SourceError, match=r"none of the 3 pictures .* picture not found"):
            source.read()


# --- GStreamer


def test_gstreamer_that_opencv_does_not_have_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: False)
    with pytest.raises(SourceError) as caught:
        find_source("gst:rtspsrc location=rtsp://me:S3cret@h/x ! decodebin").open()
    assert "built without GStreamer" in str(caught.value)
    assert "give rtsp:// or /dev/videoN" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "S3cret" not in str(caught.value)


def test_a_pipeline_gets_a_sink_that_keeps_the_newest_and_its_properties_are_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[str, int]] = []

    def open_capture(pipeline: str, backend: int, settings: list[int]) -> FakeCapture:
        asked.append((pipeline, backend))
        assert settings[settings.index(cv2.CAP_PROP_READ_TIMEOUT_MSEC) + 1] == 5000
        return FakeCapture([grey(1)])

    monkeypatch.setattr(cv2.videoio_registry, "hasBackend", lambda _: True)
    monkeypatch.setattr(cv2, "VideoCapture", open_capture)
    with find_source("gst:rtspsrc location=rtsp://h/x user-pw=S3cret ! decodebin").open() as source:
        assert (source.name, source.live) == ("gst:rtspsrc ! decodebin", True)
        source.read()
        with pytest.raises(SourceError, match="gst:rtspsrc ! decodebin ended or was silent"):
            source.read()
    with find_source("gst:videotestsrc ! appsink name=a").open():
        pass
    assert [backend for _, backend in asked] == [cv2.CAP_GSTREAMER] * 2
    assert asked[0][0].startswith("rtspsrc location=rtsp://h/x user-pw=S3cret ! decodebin ! videoconvert ! ")
    assert asked[0][0].endswith("appsink drop=true max-buffers=1 sync=false")
    assert asked[1][0] == "videotestsrc ! appsink name=a"


@given(st.text())
def test_a_described_pipeline_shows_only_element_names(text: str) -> None:
    shown = find_name(f"rtspsrc user-pw=S3cret{text} ! location=S3cret ! {text}=S3cret")
    assert "S3cret" not in shown.replace(text, "")


def find_name(pipeline: str) -> str:
    return describe_pipeline(pipeline.replace("!!", "!"))


# --- memory


def test_sequence_ends_with_none_or_as_a_lost_camera() -> None:
    with FrameSequence([grey(0), grey(1)], fps=25.0) as source:
        frames = [source.read(), source.read()]
        assert source.read() is None
    assert [(f.index, f.time_s) for f in frames if f] == [(0, 0.0), (1, 0.04)]
    with FrameSequence([grey(0)], live=True) as source:
        source.read()
        with pytest.raises(SourceError, match="memory stopped after 1 frames"):
            source.read()


def test_a_live_sequence_keeps_its_rate() -> None:
    started_s = time.monotonic()
    with FrameSequence([grey(i) for i in range(4)], fps=20.0, live=True) as source:
        for _ in range(4):
            source.read()
    assert time.monotonic() - started_s >= 0.15


# --- network streams, from this machine


class MotionJpeg(http.server.BaseHTTPRequestHandler):
    """Twelve pictures as an MJPEG stream; then it ends, or at /hangs stays silent."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for i in range(12):
            jpeg = cv2.imencode(".jpg", grey(i))[1].tobytes()
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n")
            self.wfile.write(b"Content-Length: %d\r\n\r\n%s\r\n" % (len(jpeg), jpeg))
        if self.path.startswith("/hangs"):
            self.server.released.wait(20)  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stream_host() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), MotionJpeg) as server:
        server.released = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


def test_stream_gives_frames_and_its_end_is_an_error_without_credentials(stream_host: str) -> None:
    with find_source(f"http://me:secret@{stream_host}/video?token=secret").open() as source:
        assert source.live
        assert source.name == f"http://***@{stream_host}/video?***"
        frames = [source.read() for _ in range(12)]
        with pytest.raises(SourceError, match="ended after 12 frames; check the network") as caught:
            source.read()
    assert [number(f) for f in frames if f] == list(range(12))
    assert "secret" not in str(caught.value)


def test_a_stream_that_falls_silent_is_an_error_in_time(stream_host: str) -> None:
    with find_source(f"http://{stream_host}/hangs", read_timeout_s=0.5).open() as source:
        for _ in range(12):
            assert source.read() is not None
        started_s = time.monotonic()
        with pytest.raises(SourceError, match=r"silent for 0.5 s"):
            source.read()
        assert 0.3 < time.monotonic() - started_s < 5


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_silent_host_is_an_error_in_time_without_credentials(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        started_s = time.monotonic()
        with pytest.raises(SourceError, match=r"gave no picture in \d\.\d s \(limit 0.5 s\)") as caught:
            find_source(f"{scheme}://me:secret@127.0.0.1:{server.getsockname()[1]}/x", open_timeout_s=0.5).open()
        assert 0.3 < time.monotonic() - started_s < 5
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_opencv_stays_silent_and_importing_changes_no_environment(tmp_path: Path) -> None:
    (tmp_path / "junk.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    code = f"""
import os
import cv2  # changes the environment itself
before = dict(os.environ)
from edgeface.runtime.cameras.sources import find_source
from edgeface.errors import SourceError
assert dict(os.environ) == before
for spec in ({str(tmp_path / "junk.mp4")!r}, "9876", "rtsp://me:secret@127.0.0.1:9/x"):
    try:
        find_source(spec).open()
    except SourceError:
        continue
    raise SystemExit(spec)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENCV")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- credentials


@pytest.mark.parametrize(
    "told",
    [
        {"OPENCV_LOG_LEVEL": "VERBOSE", "OPENCV_VIDEOIO_DEBUG": "1"},
        {"OPENCV_FFMPEG_LOGLEVEL": "56"},
        {"OPENCV_FFMPEG_DEBUG": "1", "OPENCV_LOG_LEVEL": "DEBUG", "OPENCV_FFMPEG_LOGLEVEL": "56"},
    ],
)
def test_opencv_and_ffmpeg_print_no_password_whatever_they_are_asked_to_print(told: dict[str, str]) -> None:
    code = """
import logging, traceback
logging.basicConfig(level=logging.DEBUG)
from edgeface.errors import SourceError
from edgeface.runtime.cameras.capture import open_frames
from edgeface.runtime.cameras.live_settings import LiveSettings
for spec in ("rtsp://me:S3cret@127.0.0.1:9/x", "http://me:S3cret@127.0.0.1:9/x?t=S3cret", "rtsp://me:S3\\0cret@h/x"):
    try:
        open_frames(spec, live=LiveSettings(open_timeout_s=1.0, read_timeout_s=1.0))
    except SourceError:
        traceback.print_exc()
    else:
        raise SystemExit(spec)
"""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OPENCV")} | told
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "S3" not in done.stdout + done.stderr
    assert "it would print the address with its password" in done.stderr
    assert done.stderr.count("SourceError: ") == 3


SECRET = st.text(st.sampled_from("@:/?#%&= ") | st.characters(codec="utf-8"), min_size=1, max_size=12).map(
    lambda s: f"S3cr{s}et!"
)
HOST = st.from_regex(r"[a-z0-9]{1,8}(\.[a-z]{2,3})?(:[0-9]{2,5})?", fullmatch=True)


@given(
    scheme=st.sampled_from(["rtsp://", "RTSP://", "http://", "rstp://", "rtsp:/", ""]),
    user=SECRET,
    password=SECRET,
    host=HOST,
    path=st.from_regex(r"(/[a-z0-9.@?#]{0,5}){0,3}", fullmatch=True),
)
@example(scheme="rtsp://", user="S3cr", password="S3cr@/?#", host="h", path="/a@b?c#d")
@example(scheme="", user="S3cr", password="S3cr", host="h", path="/live")
@example(scheme="rtsp://", user="S3cr", password="p@S3cr", host="h", path="/live")
def test_user_and_password_are_never_shown(scheme: str, user: str, password: str, host: str, path: str) -> None:
    shown = redact(f"{scheme}{user}:{password}@{host}{path}")
    assert "S3cr" not in shown
    assert "et!" not in shown
    assert shown.isprintable()


@given(key=st.sampled_from(["password", "pwd", "PASS", "token", "user", "auth", "k"]), value=SECRET, host=HOST)
def test_a_query_is_never_shown(key: str, value: str, host: str) -> None:
    assert redact(f"http://{host}/live?a=1&{key}={value}").startswith(f"http://{host}/live?***") or "@" in value
    assert "S3cr" not in redact(f"http://{host}/live?a=1&{key}={value}")


def test_redacting_keeps_what_is_no_secret() -> None:
    assert redact("rtsp://cam.local:554/h264") == "rtsp://cam.local:554/h264"
    assert redact("rtsp://u:p@cam.local:554/h264") == "rtsp://***@cam.local:554/h264"
    assert redact("rtsp://10.0.0.2/user=admin&password=x1&channel=1.sdp") == (
        "rtsp://10.0.0.2/user=***&password=***&channel=1.sdp"
    )
    assert redact("clips/me@home.mp4") == "clips/me@home.mp4"


# --- threads in front of sources


class Ticker(FrameSource):
    """A camera that gives numbered frames as fast as `period_s`; may hang or break at a frame."""

    def __init__(self, period_s: float = 0.005, hang_at: int = -1, break_at: int = -1) -> None:
        self.name, self.live, self.fps = "ticker", True, None
        self.period_s, self.hang_at, self.break_at = period_s, hang_at, break_at
        self.given = 0
        self.closed = threading.Event()
        self.freed = threading.Event()

    def read(self) -> Frame | None:
        time.sleep(self.period_s)
        if self.given == self.hang_at:
            self.freed.wait(20)
        if self.given == self.break_at:
            raise SourceError("ticker stopped")
        self.given += 1
        return Frame(np.full((16, 16, 3), self.given % 256, np.uint8), self.given - 1, 0.1)

    def close(self) -> None:
        self.closed.set()


def test_read_ahead_gives_every_frame_to_a_slow_reader_and_holds_few() -> None:
    taken = 0

    def images() -> Iterator[Image]:
        nonlocal taken
        for i in range(30):
            taken += 1
            yield grey(i)

    lead = []
    with ReadAhead(FrameSequence(images(), fps=5.0), ahead=3) as source:
        assert (source.name, source.live, source.fps) == ("memory", False, 5.0)
        frames = []
        while (frame := source.read()) is not None:
            time.sleep(0.003)
            frames.append(frame)
            lead.append(taken - len(frames))
        assert source.read() is None
    assert [number(f) for f in frames] == list(range(30))
    assert [f.index for f in frames] == list(range(30))
    assert max(lead) <= 4  # three that wait and one in the thread's hand
    assert max(lead) >= 3


def test_read_ahead_can_be_closed_while_its_queue_is_full_and_while_it_is_read() -> None:
    source = ReadAhead(FrameSequence(grey(0) for _ in range(10_000)), ahead=2)
    source.read()
    time.sleep(0.05)
    started_s = time.monotonic()
    source.close()
    source.close()
    assert time.monotonic() - started_s < 2
    with pytest.raises(SourceError, match="closed"):
        source.read()


def test_what_the_thread_raises_reaches_the_reader_after_the_frames_before_it() -> None:
    ticker = Ticker(break_at=1)
    with ReadAhead(ticker) as source:
        assert ticker.closed.wait(5)
        assert source.read() is not None
        for _ in range(2):
            with pytest.raises(SourceError, match="ticker stopped"):
                source.read()


def test_an_error_that_is_a_bug_reaches_the_reader_too() -> None:
    def images() -> Iterator[Image]:
        yield grey(0)
        raise ZeroDivisionError

    with ReadAhead(FrameSequence(images())) as source:
        assert source.read() is not None
        with pytest.raises(ZeroDivisionError):
            source.read()


def test_reading_ahead_skips_damaged_frames_and_tells_when_there_is_one(caplog: pytest.LogCaptureFixture) -> None:
    class Torn(FrameSequence):
        def read(self) -> Frame | None:
            frame = super().read()
            if frame is not None and frame.index % 3 == 1:
                raise ImageError("torn")
            return frame

    with ReadAhead(Torn([grey(i) for i in range(9)])) as source:
        assert source.wait(20)
        assert [number(frame) for frame in iter(source.read, None) if frame] == [0, 2, 3, 5, 6, 8]
        assert source.wait(20)  # the end does not block either
    assert source.skipped == 3
    assert "memory: 3 damaged frames were skipped" in caplog.text


def test_waiting_for_a_file_that_cannot_be_read_ends_and_closing_does_not_wait_for_it() -> None:
    ticker = Ticker(hang_at=0)
    source = ReadAhead(ticker)
    assert not source.wait(0.02)
    closing = threading.Thread(target=source.close)
    closing.start()
    with pytest.raises(SourceError, match="ticker is closed"):
        source.read()
    closing.join(20)
    assert not closing.is_alive()
    assert not ticker.closed.is_set()
    ticker.freed.set()
    assert ticker.closed.wait(20)


def test_frames_come_through_the_thread_that_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "a.png", grey(3))
    with open_frames(str(tmp_path)) as folder:
        assert isinstance(folder, ReadAhead)
        assert folder.stills
    fake_camera(monkeypatch, FakeCapture([grey(i) for i in range(1, 20)]))
    with open_frames("0", view=View(crop_xywh=(0, 0, 32, 16)), live=LiveSettings(reconnect=False)) as camera:
        assert isinstance(camera, LiveSource)
        assert camera.read().image.shape == (16, 32, 3)


def test_a_crop_that_does_not_fit_is_refused_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    too_large = View(crop_xywh=(40, 0, 32, 16))
    seen = r"crop 40,0,32,16 reaches out of the picture of 64 x 48 pixels; give a smaller one"
    fake_camera(monkeypatch, FakeCapture([grey(1)] * 5))
    with pytest.raises(SourceError, match=f"camera 0: {seen}"):
        open_frames("0", view=too_large)
    write_video(tmp_path / "a.avi", [grey(1)])
    with open_frames(str(tmp_path / "a.avi"), view=too_large) as source, pytest.raises(SourceError, match=seen):
        source.read()


def test_read_ahead_of_a_real_video_loses_nothing(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", [grey(i) for i in range(30)])
    with open_frames(str(path), ahead=2) as source:
        numbers = [number(frame) for frame in iter(source.read, None) if frame]
    assert numbers == list(range(30))
