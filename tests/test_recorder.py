"""Recording a video, and showing one in a window (of which only the part that needs no screen)."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from edgeface.errors import ConfigError, SourceError, UnknownNameError
from edgeface.runtime.cameras.sources import Frame, VideoFile
from edgeface.runtime.showing import display
from edgeface.runtime.showing.display import Window, has_display
from edgeface.runtime.showing.recorder import CODECS, VideoRecorder, letterbox
from edgeface.runtime.showing.recording import Recording

ROOT = Path(__file__).resolve().parents[1]
Image = npt.NDArray[np.uint8]


def colour(rgb: tuple[int, int, int], size_wh: tuple[int, int] = (64, 48)) -> Image:
    return np.full((size_wh[1], size_wh[0], 3), rgb, np.uint8)


def read_all(path: Path) -> list[Frame]:
    with VideoFile(path) as source:
        return [frame for frame in iter(source.read, None) if frame]


# --- recorder


@pytest.mark.parametrize("suffix", sorted(CODECS))
@pytest.mark.parametrize("fps", [0.5, 10, 23.976, 1000])
def test_what_is_recorded_plays_with_all_frames_rate_and_colours(tmp_path: Path, suffix: str, fps: float) -> None:
    path = tmp_path / "new" / f"out{suffix}"
    greys = [10 * i for i in range(21)]
    with VideoRecorder(path, fps, (64, 48)) as recorder:
        for grey in greys:
            recorder.write(colour((grey, grey, grey)))
        recorder.write(colour((200, 30, 60)))
        assert recorder.frames == 22
        assert not path.exists()
        assert [file.suffix for file in path.parent.iterdir()] == [suffix]
    assert list(path.parent.iterdir()) == [path]
    frames = read_all(path)
    assert [round(float(f.image.mean())) for f in frames[:21]] == pytest.approx(greys, abs=4)
    assert frames[21].image.mean(axis=(0, 1)) == pytest.approx([200, 30, 60], abs=8)
    with VideoFile(path) as source:
        assert source.fps == pytest.approx(fps, rel=1e-3)


def test_an_odd_size_keeps_every_line(tmp_path: Path) -> None:
    image = colour((0, 200, 0), (65, 49))
    image[:, -9:] = (200, 0, 0)
    with VideoRecorder(tmp_path / "out.avi", 10, (65, 49)) as recorder:
        recorder.write(image)
    (frame,) = read_all(tmp_path / "out.avi")
    assert frame.image.shape == (50, 66, 3)
    assert frame.image[10:40, 58:64].mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=12)
    assert frame.image[10:40, 2:50].mean(axis=(0, 1)) == pytest.approx([0, 200, 0], abs=12)


def test_another_frame_size_is_fitted_in(tmp_path: Path) -> None:
    with VideoRecorder(tmp_path / "out.avi", 10, (160, 120)) as recorder:
        recorder.write(colour((200, 200, 200), (160, 120)))
        recorder.write(colour((200, 200, 200), (50, 100)))
    frames = read_all(tmp_path / "out.avi")
    assert [f.image.shape for f in frames] == [(120, 160, 3)] * 2
    assert frames[1].image[:, 56:104].mean() == pytest.approx(200, abs=6)
    assert frames[1].image[:, :46].mean() < 6
    assert frames[1].image[:, 114:].mean() < 6


@pytest.mark.parametrize(
    ("size_wh", "box"),  # left, top, width, height of the picture within 40 x 20
    [((40, 20), (0, 0, 40, 20)), ((80, 40), (0, 0, 40, 20)), ((10, 10), (10, 0, 20, 20)), ((100, 10), (0, 8, 40, 4)),
     ((39, 19), (0, 0, 39, 19)), ((1, 1000), (19, 0, 1, 20))],
)  # fmt: skip
def test_letterbox_keeps_proportions_and_centres(size_wh: tuple[int, int], box: tuple[int, int, int, int]) -> None:
    result = letterbox(colour((255, 255, 255), size_wh), (40, 20))
    left, top, width, height = box
    expected = np.zeros((20, 40, 3), np.uint8)
    expected[top : top + height, left : left + width] = 255
    np.testing.assert_array_equal(result, expected)


def test_an_unknown_ending_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown video format '.gif'; choose one of: .avi, .mkv, .mov, .mp4"):
        VideoRecorder(tmp_path / "out.gif", 10, (64, 48))
    with pytest.raises(UnknownNameError, match="unknown video format 'out'"):
        VideoRecorder(tmp_path / "out", 10, (64, 48))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 2000])
def test_a_rate_that_cannot_be_is_refused(tmp_path: Path, fps: float) -> None:
    with pytest.raises(ConfigError, match=r"frames a second; use 0.001 to 1000"):
        VideoRecorder(tmp_path / "out.avi", fps, (64, 48))


@pytest.mark.parametrize("size_wh", [(0, 48), (64, -2), (64, 20_000)])
def test_a_size_that_cannot_be_is_refused(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="pixels; use 1 to 16384"):
        VideoRecorder(tmp_path / "out.avi", 10, size_wh)


def test_a_place_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="cannot be written: "):
        VideoRecorder(tmp_path / "file" / "out.avi", 10, (64, 48))
    (tmp_path / "folder.avi").mkdir()
    with pytest.raises(SourceError, match="it is a folder"):
        VideoRecorder(tmp_path / "folder.avi", 10, (64, 48))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.avi"]


def test_without_an_encoder_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CODECS, ".mp4", ("zzzz", "yyyy"))
    with pytest.raises(SourceError, match=r"cannot write .mp4 of 64 x 48 pixels \(tried zzzz, yyyy\); try .avi"):
        VideoRecorder(tmp_path / "out.mp4", 10, (64, 48))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_as_one_and_not_as_a_missing_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CODECS, ".mp4", ("zzzz",))
    full = SimpleNamespace(free=512_000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: full)
    with pytest.raises(SourceError, match=r"out.mp4 cannot be written: its disk is full \(500 kB are free\)"):
        VideoRecorder(tmp_path / "out.mp4", 10, (64, 48))
    assert list(tmp_path.iterdir()) == []


def test_the_old_video_stays_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    path.write_bytes(b"old")
    recorder = VideoRecorder(path, 10, (64, 48))
    recorder.write(colour((1, 2, 3)))
    assert path.read_bytes() == b"old"
    recorder.close()
    recorder.close()
    assert len(read_all(path)) == 1
    with pytest.raises(SourceError, match="is closed"):
        recorder.write(colour((1, 2, 3)))


def test_without_a_frame_there_is_no_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    VideoRecorder(tmp_path / "out.mp4", 10, (64, 48)).close()
    assert list(tmp_path.iterdir()) == []
    assert "no frame was recorded" in caplog.text


def test_after_an_error_the_frames_so_far_are_kept(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoRecorder(tmp_path / "out.mp4", 10, (64, 48)) as recorder:
        recorder.write(colour((1, 2, 3)))
        recorder.write(colour((1, 2, 3)))
        raise KeyboardInterrupt
    assert len(read_all(tmp_path / "out.mp4")) == 2


@pytest.mark.parametrize("suffix", [".avi", ".mp4", ".mkv"])
def test_a_video_that_does_not_fit_on_the_disk_is_an_error(tmp_path: Path, suffix: str) -> None:
    resource = pytest.importorskip("resource")
    noise = np.random.default_rng(0)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))  # behaves as a full disk for this file
    try:
        recorder = VideoRecorder(tmp_path / f"out{suffix}", 10, (320, 240))
        for _ in range(40):
            recorder.write(noise.integers(0, 256, (240, 320, 3), np.uint8))
        with pytest.raises(SourceError, match="could not be finished after 40 frames") as caught:
            recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value).endswith("; check that the disk is not full")
    # What plays is kept, and told; nothing else stays.
    kept = list(tmp_path.iterdir())
    if kept:
        assert f"what can be played is in {kept[0].name};" in str(caught.value)
        assert 0 < len(read_all(kept[0])) < 40
    else:
        assert "nothing of it can be played" in str(caught.value)


@pytest.mark.parametrize("suffix", [".avi", ".mkv"])
def test_what_was_recorded_before_kill_9_plays(tmp_path: Path, suffix: str) -> None:
    program = (
        "import os, pathlib, signal, sys, numpy as np\n"
        "from edgeface.runtime.showing.recorder import VideoRecorder\n"
        "recorder = VideoRecorder(pathlib.Path(sys.argv[1]), 25, (320, 240))\n"
        "noise = np.random.default_rng(0)\n"
        "for frame in range(60):\n"
        "    image = noise.integers(0, 256, (240, 320, 3), np.uint8)\n"
        "    image[:120] = 4 * frame\n"
        "    recorder.write(image)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / f"out{suffix}")]
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode < 0
    (partial,) = tmp_path.iterdir()
    assert partial.name.startswith("out.")
    assert partial.name.endswith(f".partial{suffix}")
    frames = read_all(partial)
    assert len(frames) > 30
    assert frames[25].image[:100].mean() == pytest.approx(100, abs=4)


# --- a recording that goes on for days


class Disk:
    """A clock and a disk that are what the test says."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.free = 10**9

    def recording(self, path: Path, piece_s: float | None = None) -> Recording:
        return Recording(path, 10, (64, 48), piece_s=piece_s, clock=lambda: self.now_s, free_bytes=lambda _: self.free)


def test_pieces_are_complete_one_by_one_and_numbers_go_on(tmp_path: Path) -> None:
    (tmp_path / "out-0007.mp4").write_bytes(b"of an earlier run")
    disk = Disk()
    recording = disk.recording(tmp_path / "out.mp4", piece_s=2.0)
    for grey in range(45):
        recording.write(colour((grey, grey, grey)))
    recording.write(colour((99, 99, 99)))
    assert sorted(path.name for path in tmp_path.glob("out-????.mp4")) == [
        "out-0007.mp4",
        "out-0008.mp4",
        "out-0009.mp4",
    ]
    disk.now_s += 2.0  # a slow camera: by the clock
    recording.write(colour((1, 1, 1)))
    recording.close()
    recording.close()

    assert (tmp_path / "out-0007.mp4").read_bytes() == b"of an earlier run"
    assert [len(read_all(tmp_path / f"out-{number:04d}.mp4")) for number in (8, 9, 10, 11)] == [20, 20, 6, 1]
    assert len(list(tmp_path.iterdir())) == 5
    state = recording.state()
    assert (state.sent, state.lost, state.error) == (47, 0, None)


def test_before_the_disk_is_full_the_file_is_finished(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    disk = Disk()
    recording = disk.recording(tmp_path / "out.mp4")
    for second in range(6):
        disk.now_s += 1
        disk.free = 10**9 if second < 3 else 50 * 2**20
        recording.write(colour((9, 9, 9)))
    assert len(read_all(tmp_path / "out.mp4")) == 3
    disk.free = 10**9
    disk.now_s += 1
    recording.write(colour((9, 9, 9)))  # one file cannot go on
    recording.close()
    state = recording.state()
    assert (state.sent, state.lost) == (3, 4)
    assert [record.getMessage() for record in caplog.records] == [
        f"recording to {tmp_path / 'out.mp4'} stops: only 50 MB of the disk are free"
    ]


def test_in_pieces_recording_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    disk = Disk()
    recording = disk.recording(tmp_path / "out.avi", piece_s=100)
    for free in (10**9, 50 * 2**20, 150 * 2**20, 250 * 2**20):
        disk.now_s += 1
        disk.free = free
        recording.write(colour((9, 9, 9)))
    recording.close()
    assert [len(read_all(path)) for path in sorted(tmp_path.iterdir())] == [1, 1]
    assert (recording.state().sent, recording.state().lost, recording.state().error) == (2, 2, None)


def test_a_piece_that_cannot_be_begun_does_not_end_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk()
    recording = disk.recording(tmp_path / "out.avi", piece_s=1)
    for _ in range(10):
        recording.write(colour((9, 9, 9)))
    monkeypatch.setitem(CODECS, ".avi", ("zzzz",))
    recording.write(colour((9, 9, 9)))
    assert "cannot write .avi" in str(recording.state().error)
    monkeypatch.undo()
    disk.now_s += 1
    recording.write(colour((9, 9, 9)))
    recording.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out-0001.avi", "out-0002.avi"]
    assert (recording.state().sent, recording.state().lost) == (11, 1)


# --- display


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("the variables are those of Linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


@pytest.mark.usefixtures("linux")
def test_without_variables_there_is_no_display_and_nothing_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert not has_display()
    with pytest.raises(ConfigError, match=r"no display: .*run without a window"):
        Window()


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize("variable", ["DISPLAY", "WAYLAND_DISPLAY"])
def test_a_variable_that_names_no_display_does_not_abort(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    # OpenCV's Qt aborts the process that tries, so that a wrong answer here would end the test run.
    monkeypatch.setenv(variable, ":9876" if variable == "DISPLAY" else "wayland-9876")
    assert not has_display()
    with pytest.raises(ConfigError, match="no display"):
        Window()


@pytest.mark.usefixtures("linux")
def test_the_probe_runs_once_and_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(command: list[str], **_: object) -> object:
        calls.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setenv("DISPLAY", ":9875")
    assert has_display()
    assert has_display()
    assert len(calls) == 1
    monkeypatch.setattr(cv2, "currentUIFramework", lambda: "")  # as the headless package answers
    assert not has_display()


class FakeScreen:
    """Stands in for the window functions of cv2."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shown: list[Image] = []
        self.key = -1
        self.visible = 0.0
        self.closing_raises = False
        self.destroyed = 0
        monkeypatch.setattr(display, "has_display", lambda: True)
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: self.appear())
        monkeypatch.setattr(cv2, "resizeWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, image: self.shown.append(image))
        monkeypatch.setattr(cv2, "waitKey", lambda _: self.key)
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: self.visibility())
        monkeypatch.setattr(cv2, "destroyWindow", lambda _: self.destroy())

    def appear(self) -> None:
        self.visible = 1.0

    def vanish(self) -> int:
        self.visible = 0.0
        return -1

    def visibility(self) -> float:
        if self.closing_raises and self.visible == 0:
            raise cv2.error("NULL guiReceiver (please create a window)")
        return self.visible

    def destroy(self) -> None:
        assert self.visible == 1.0  # cv2 raises for a window that is gone
        self.visible = 0.0
        self.destroyed += 1


def test_a_window_shows_rgb_until_it_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = FakeScreen(monkeypatch)
    with Window() as window:
        assert window.show(colour((200, 100, 50)))
        assert screen.shown[0][0, 0].tolist() == [50, 100, 200]  # OpenCV wants BGR
        screen.key = ord("x")
        assert window.show(colour((0, 0, 0)))
    assert screen.destroyed == 1
    assert not window.show(colour((0, 0, 0)))
    assert len(screen.shown) == 2


@pytest.mark.parametrize("key", [ord("q"), 27, 0x100000 + ord("q")])  # some systems add modifiers above the byte
def test_q_and_escape_close_the_window(monkeypatch: pytest.MonkeyPatch, key: int) -> None:
    screen = FakeScreen(monkeypatch)
    with Window() as window:
        assert window.show(colour((0, 0, 0)))
        screen.key = key
        assert not window.show(colour((0, 0, 0)))
        assert screen.destroyed == 1
        assert not window.show(colour((0, 0, 0)))


@pytest.mark.parametrize("closing_raises", [False, True])  # Qt raises once its only window is gone
@pytest.mark.parametrize("during", ["imshow", "pause"])
def test_a_window_closed_by_the_user_does_not_come_back(
    monkeypatch: pytest.MonkeyPatch, closing_raises: bool, during: str
) -> None:
    screen = FakeScreen(monkeypatch)
    screen.closing_raises = closing_raises
    with Window() as window:
        assert window.show(colour((0, 0, 0)))
        if during == "pause":
            screen.visible = 0.0
        else:
            monkeypatch.setattr(cv2, "waitKey", lambda _: screen.vanish())
        assert not window.show(colour((0, 0, 0)))
        assert not window.show(colour((0, 0, 0)))
    assert (len(screen.shown), screen.destroyed) == (1 if during == "pause" else 2, 0)
