"""Live sources that are lost and come back, in a time that only passes when somebody waits."""

import random
import re
import statistics
import threading
import traceback
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ConfigError, SourceError
from edgeface.runtime.cameras.frames import Frame, FrameSource, Notice
from edgeface.runtime.cameras.live import LiveSource
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.cameras.reading import ThreadReading
from edgeface.runtime.cameras.watch import WatchSettings
from tests.cameras import HANG, Bench, FakeCamera, FakeCapture, pictures


def live(bench: Bench, settings: LiveSettings | None = None, seed: int = 0) -> LiveSource:
    return LiveSource(
        "door",
        lambda: pytest.fail("the bench opens"),
        settings,
        clock=bench.clock,
        pause=bench.clock.sleep,
        rng=random.Random(seed),
        start=bench.start,
    )


class Watcher:
    """Reads a source for a while, as the loop does, and keeps what came with the time of it."""

    def __init__(self, bench: Bench, source: LiveSource) -> None:
        self.bench, self.source = bench, source
        self.frames: list[tuple[float, Frame]] = []
        self.notices: list[tuple[float, Notice]] = []
        self.error: SourceError | None = None

    @property
    def now_s(self) -> float:
        return self.bench.clock() - 1000.0

    def watch(self, seconds: float, step_s: float = 0.1) -> "Watcher":
        until_s = self.now_s + seconds
        while self.now_s < until_s and self.error is None:
            is_ready = self.source.wait(step_s)
            self.notices += [(self.now_s, notice) for notice in self.source.notices()]
            if is_ready:
                try:
                    self.frames.append((self.now_s, self.source.read()))
                except SourceError as error:
                    self.error = error
        return self

    def told(self, kind: str = "") -> list[str]:
        return [notice.why for _, notice in self.notices if not kind or notice.kind == kind]

    def kinds(self) -> list[str]:
        return [notice.kind for _, notice in self.notices]


def watch(
    captures: Any, seconds: float, settings: LiveSettings | None = None, seed: int = 0, step_s: float = 0.1
) -> Watcher:
    bench = Bench(captures)
    return Watcher(bench, live(bench, settings, seed)).watch(seconds, step_s)


# --- lost and back


def test_frames_pass_with_their_index_and_time() -> None:
    seen = watch([FakeCapture(pictures(60, 0.04))], 1.99)
    assert [f.index for _, f in seen.frames] == list(range(50))
    assert [f.time_s for _, f in seen.frames] == pytest.approx([0.04 * (i + 1) for i in range(50)])
    assert [int(f.image[0, 0, 0]) for _, f in seen.frames] == list(range(50))
    assert seen.notices == []


def test_a_camera_that_fails_is_opened_again_and_both_are_told_once() -> None:
    gone = [FakeCapture(opened=False) for _ in range(4)]
    seen = watch([FakeCapture(pictures(10)), *gone, FakeCapture(pictures(20, first=50))], 12)
    assert seen.kinds()[:2] == ["camera_lost", "camera_back"]
    lost_s, back_s = seen.notices[0][0], seen.notices[1][0]
    assert seen.told("camera_lost")[0] == "door stopped after 10 frames"
    back = re.fullmatch(r"door is back after (\d+\.\d) s and 5 attempts", seen.told("camera_back")[0])
    assert back is not None
    assert float(back[1]) == pytest.approx(back_s - lost_s, abs=0.06)
    assert lost_s == pytest.approx(1.0)
    indices = [f.index for _, f in seen.frames[:30]]
    assert indices == list(range(30))
    times_s = [f.time_s for _, f in seen.frames]
    assert times_s == sorted(times_s)
    assert seen.frames[10][1].time_s == pytest.approx(back_s)  # the clock went on meanwhile
    assert seen.source.losses == 2  # the script ended


def test_after_an_outage_of_any_length_it_is_back_within_three_seconds() -> None:
    for seed in range(40):
        back_at_s = random.Random(seed).uniform(2, 300)

        def capture(now_s: float, back_at_s: float = back_at_s) -> FakeCapture:
            if now_s < 1:
                return FakeCapture(pictures(10))
            return FakeCapture(pictures(1000)) if now_s >= back_at_s else FakeCapture(opened=False)

        seen = watch(capture, back_at_s + 4, seed=seed)
        assert seen.kinds() == ["camera_lost", "camera_back"]
        assert seen.notices[1][0] - back_at_s <= 3.0


def test_pauses_double_up_to_a_limit_and_are_drawn_from_zero() -> None:
    settings = LiveSettings(retry_base_s=0.5, retry_max_s=8.0, wait_at_start=True)
    pauses = [
        np.diff(watch(lambda _: FakeCapture(opened=False), 200, settings, seed).bench.opened_s) for seed in range(40)
    ]
    for attempt in range(20):
        longest_s = min(8.0, 0.5 * 2.0 ** (attempt + 1))
        drawn = [float(p[attempt]) for p in pauses]
        assert max(drawn) <= longest_s + 1e-9
        # Uniform from 0: mean a half and spread a root of 12 of it; 40 draws are within 4 standard errors.
        assert abs(statistics.mean(drawn) - longest_s / 2) < 4 * longest_s / 12**0.5 / 40**0.5
        assert min(drawn) < longest_s / 4


def test_it_tries_for_months() -> None:
    hour_s = 3600.0
    settings = LiveSettings(retry_max_s=600.0)

    def capture(now_s: float) -> FakeCapture:
        return FakeCapture(pictures(5)) if now_s < 0.1 else FakeCapture(opened=False)

    seen = watch(capture, 90 * 24 * hour_s, settings, step_s=hour_s)
    assert seen.kinds() == ["camera_lost"]  # once, and not for each attempt
    attempts = len(seen.bench.opened_s)
    assert 90 * 24 * 6 < attempts < 90 * 24 * 6 * 3
    assert seen.error is None


def test_after_a_steady_time_a_loss_is_answered_at_once_again() -> None:
    for seed in range(20):
        gone = [FakeCapture(opened=False) for _ in range(10)]
        captures = [FakeCapture(pictures(5)), *gone, FakeCapture(pictures(150)), FakeCapture(pictures(500))]
        seen = watch(captures, 40, seed=seed)
        assert seen.kinds() == ["camera_lost", "camera_back"] * 2
        (lost_s, _), (back_s, _) = seen.notices[2:]
        assert back_s - lost_s <= 0.25 + 0.1 + 1e-6


def test_a_camera_that_flaps_is_not_hammered() -> None:
    seen = watch(lambda _: FakeCapture(pictures(1, 0.01)), 60)
    assert len(seen.bench.opened_s) < 60 * 2.5
    assert seen.kinds()[:4] == ["camera_lost", "camera_back"] * 2


def test_without_reconnecting_the_loss_is_the_error() -> None:
    seen = watch([FakeCapture(pictures(10))], 5, LiveSettings(reconnect=False))
    assert len(seen.frames) == 10
    assert str(seen.error) == "door stopped after 10 frames"
    assert seen.notices == []
    assert len(seen.bench.readings) == 1


def test_it_gives_up_after_the_time_it_was_given() -> None:
    seen = watch([FakeCapture(pictures(10))], 100, LiveSettings(give_up_after_s=20.0))
    assert seen.kinds() == ["camera_lost"]
    assert 20 < seen.now_s < 24
    assert "door was away for 2" in str(seen.error)
    assert "door stopped after 10 frames" in str(seen.error)


def test_a_camera_that_is_not_there_is_refused_at_the_start() -> None:
    bench = Bench([FakeCapture(opened=False)])
    with pytest.raises(SourceError, match="door gives no picture"):
        live(bench).await_first()
    assert len(bench.readings) == 1


def test_a_camera_that_is_not_there_yet_is_waited_for_if_asked() -> None:
    def capture(now_s: float) -> FakeCapture:
        return FakeCapture(pictures(500)) if now_s > 30 else FakeCapture(opened=False)

    seen = watch(capture, 40, LiveSettings(wait_at_start=True))
    assert seen.kinds() == ["camera_lost", "camera_back"]
    assert seen.frames[0][1].index == 0


# --- reads that hang


def test_a_read_that_hangs_is_left_alone_and_the_camera_opened_anew() -> None:
    hung = FakeCapture([*pictures(10), (HANG, None)])
    seen = watch([hung, FakeCapture(pictures(500, first=100))], 20)
    assert seen.kinds() == ["camera_lost", "camera_back"]
    assert seen.notices[0][0] == pytest.approx(1.0 + 5.5)
    assert seen.told()[0] == "door gave no frame for 5.5 s; check the camera, its cable and network"
    assert seen.notices[1][0] < 6.5 + 3
    assert not hung.released  # that would end the process, as the driver is still in there
    assert seen.source.hung == 1
    seen.bench.readings[0].free()
    assert seen.source.hung == 0


def test_opening_that_hangs_is_left_alone_too() -> None:
    settings = LiveSettings(open_timeout_s=2.0, read_timeout_s=1.0, wait_at_start=True)
    seen = watch([FakeCapture([(HANG, None)]), FakeCapture(pictures(500))], 8, settings)
    assert seen.kinds() == ["camera_lost", "camera_back"]
    assert seen.notices[0][0] == pytest.approx(3.5)
    bench = Bench([FakeCapture([(HANG, None)])])
    with pytest.raises(SourceError, match=r"door gave no frame for 3.5 s"):
        live(bench, LiveSettings(open_timeout_s=2.0, read_timeout_s=1.0)).await_first()


def test_threads_that_hang_are_few_however_long_it_lasts() -> None:
    settings = LiveSettings(open_timeout_s=2.0, read_timeout_s=1.0, max_hung=3, wait_at_start=True)
    seen = watch(lambda _: FakeCapture([(HANG, None)]), 3600, settings, step_s=60.0)
    assert len(seen.bench.readings) == 3
    assert seen.source.hung == 3
    seen.bench.readings[1].free()
    seen.watch(3600, 60.0)
    assert len(seen.bench.readings) == 4
    assert seen.kinds() == ["camera_lost"]


def test_a_device_that_is_still_being_closed_is_not_opened() -> None:
    bench = Bench([FakeCapture(pictures(10)), FakeCapture(pictures(500))])
    watcher = Watcher(bench, live(bench))
    first = bench.readings[0]
    closed_s = 1.0 + 0.6
    first.holds = lambda: first.is_released and bench.clock() - 1000.0 < closed_s  # type: ignore[method-assign]
    watcher.watch(5)
    assert closed_s <= bench.opened_s[1] < closed_s + 0.7
    assert watcher.kinds() == ["camera_lost", "camera_back"]


def test_waiting_never_takes_longer_than_asked() -> None:
    """So that a stop signal is obeyed, whatever the camera does."""
    for steps in ([*pictures(3), (HANG, None)], [(HANG, None)], [], [(7.0, None)], pictures(3, 3.0)):
        bench = Bench([FakeCapture(steps), *[FakeCapture(opened=False)] * 500])
        source = live(bench, LiveSettings(wait_at_start=True))
        for _ in range(300):
            before_s = bench.clock()
            if source.wait(0.1):
                source.read()
            source.notices()
            assert bench.clock() - before_s <= 0.1 + 1e-9


# --- frames that are not right


def frozen(count: int, value: int = 7) -> list[tuple[float, Any]]:
    return [(0.1, np.full((32, 32, 3), value, np.uint8)) for _ in range(count)]


def test_one_picture_over_and_over_is_a_lost_camera_until_another_comes() -> None:
    settings = LiveSettings(watch=WatchSettings(frozen_after_s=10.0))
    # Opened again, it still gives the same picture, and then at last another one.
    thawed = FakeCapture([*frozen(30), *pictures(100, first=100)])
    seen = watch([FakeCapture([*pictures(5), *frozen(500)]), FakeCapture(frozen(30)), thawed], 25, settings)
    assert seen.kinds() == ["camera_lost", "camera_back"]
    assert seen.told()[0] == "door repeats one picture for 10 s or more"
    assert seen.notices[0][0] == pytest.approx(0.6 + 10, abs=0.11)
    shown = [int(f.image[0, 0, 0]) for _, f in seen.frames]
    assert shown[:5] == [0, 1, 2, 3, 4]
    assert set(shown[5:104]) == {7}
    assert shown.index(100) == 104 + (shown[104] == 7)
    away_s = float(seen.told()[1].split(" is back after ")[1].split()[0])
    assert away_s == pytest.approx(seen.notices[1][0] - 0.6, abs=0.11)  # since the picture last changed


def test_a_picture_that_stands_still_for_less_is_no_loss_and_zero_turns_it_off() -> None:
    still = [FakeCapture([*frozen(95), *pictures(20), *frozen(95, 9), *pictures(1000, first=50)])]
    assert watch(still, 25, LiveSettings(watch=WatchSettings(frozen_after_s=10.0))).notices == []
    off = LiveSettings(watch=WatchSettings(frozen_after_s=0.0))
    assert watch([FakeCapture(frozen(2000))], 100, off).notices == []


def test_one_byte_makes_another_picture() -> None:
    steps = []
    for i in range(300):
        image = np.full((48, 64, 3), 9, np.uint8)
        image.reshape(-1)[i * 31 % image.size] = 10
        steps.append((0.1, image))
    assert watch([FakeCapture(steps)], 29, LiveSettings(watch=WatchSettings(frozen_after_s=5.0))).notices == []


@pytest.mark.parametrize(
    "damage",
    [np.zeros((32, 32, 3), np.float32), np.zeros((32, 32, 2), np.uint8), np.zeros((4, 4, 3), np.uint8), [1, 2]],
)
def test_damaged_frames_are_skipped_counted_and_told_once(damage: Any) -> None:
    if isinstance(damage, list):
        damage = np.zeros((3, 32, 32, 3), np.uint8)
    steps = pictures(40)
    for at in (5, 6, 20):
        steps.insert(at, (0.1, damage))
    seen = watch([FakeCapture(steps)], 4.25)
    assert [int(f.image[0, 0, 0]) for _, f in seen.frames] == list(range(40))
    assert seen.kinds() == ["camera_warning"]
    assert "door gives damaged frames, which are skipped: a frame is no picture" in seen.told()[0]
    assert seen.source.skipped == 3


def test_nothing_but_damaged_frames_is_a_lost_camera_and_says_why() -> None:
    bad = [(0.1, np.zeros((32, 32, 2), np.uint8))] * 200
    seen = watch([FakeCapture([*pictures(5), *bad]), FakeCapture(pictures(500))], 12)
    assert seen.kinds() == ["camera_warning", "camera_lost", "camera_back"]
    assert "gave no frame for 5.5 s that is usable" in seen.told()[1]
    assert "it has 2 channels" in seen.told()[1]


def test_a_picture_of_another_size_is_told_and_passed_on() -> None:
    seen = watch([FakeCapture([*pictures(5), *pictures(5, side=48), *pictures(50)])], 5)
    assert seen.told() == [
        "door changed its picture from 32 x 32 to 48 x 48 pixels",
        "door changed its picture from 48 x 48 to 32 x 32 pixels",
    ]
    assert {f.image.shape[0] for _, f in seen.frames} == {32, 48}


def test_a_clock_of_the_source_that_goes_back_is_told_once_and_changes_no_time() -> None:
    capture = FakeCapture(pictures(50))
    capture.position_ms = [0, 100, 200, 50, 150, 100, *range(200, 6000, 100)]
    seen = watch([capture], 4.9)
    assert seen.told() == ["the clock of door went back by 0.150 s; frames keep the time of their arrival"]
    assert np.diff([f.time_s for _, f in seen.frames]) == pytest.approx(0.1)


def test_a_low_frame_rate_is_told_when_it_begins() -> None:
    fast, slow = pictures(200, 0.05), pictures(20, 1.0)
    capture = FakeCapture([*fast, *slow, *fast, *slow])
    seen = watch([capture], 59, LiveSettings(watch=WatchSettings(min_fps=5.0)))
    assert seen.kinds() == ["camera_warning"] * 2
    assert "door gives 1.0 frames a second, less than 5; check" in seen.told()[0]
    assert 10 < seen.notices[0][0] <= 20
    assert watch([FakeCapture(slow)], 19).notices == []


# --- what must not be told


class Leak(Exception):
    """An error of somebody else's that names the address."""


def test_an_unknown_error_is_told_without_what_it_says() -> None:
    secret = Leak("cannot read rtsp://me:S3cret@h/x")
    seen = watch([FakeCapture([*pictures(3), (0.1, secret)]), FakeCapture(pictures(100))], 5)
    assert seen.told("camera_lost") == ["door failed with Leak"]
    gone = watch([FakeCapture(pictures(3)), *[FakeCapture([(0.1, secret)])] * 400], 60, LiveSettings(give_up_after_s=5))
    assert gone.error is not None
    shown = "".join(traceback.format_exception(gone.error))
    assert "S3cret" not in shown


@pytest.mark.parametrize(
    "wrong",
    [
        {"open_timeout_s": 0.0},
        {"read_timeout_s": float("nan")},
        {"give_up_after_s": -1.0},
        {"retry_max_s": float("inf")},
        {"max_hung": 0},
    ],
)
def test_settings_that_cannot_be_used_say_so(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LiveSettings(**wrong)
    with pytest.raises(ConfigError, match="min_fps"):
        WatchSettings(min_fps=-1)


# --- real threads


class Gate:
    """Makes the reads of a capture wait for the test, and notes which thread called."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.reads = threading.Semaphore(0)
        self.released = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, what: str) -> None:
        self.threads.add(threading.get_ident())
        if what == "read":
            self.reads.release()
            assert self.go.acquire(timeout=20)
        else:
            self.released.set()


def test_a_capture_is_opened_read_and_closed_by_one_thread_even_if_it_hangs() -> None:
    gate = Gate()
    openers: list[int] = []

    def opener() -> FrameSource:
        openers.append(threading.get_ident())
        return FakeCamera(FakeCapture(pictures(100), called=gate))

    reading = ThreadReading(opener, "door", lambda: 5.0)
    gate.go.release()
    reading.wait(20)
    news = reading.take()
    assert news.frame is not None
    assert (news.at_s, news.arrived) == (5.0, 1)
    assert reading.take().frame is None
    for _ in range(2):
        assert gate.reads.acquire(timeout=20)  # the second read hangs
    reading.release(0.0)
    assert reading.holds()
    assert not gate.released.is_set()
    gate.go.release()
    assert gate.released.wait(20)
    reading.release(20)
    assert not reading.holds()
    assert reading.take().frame is None  # what came after the release is nobody's
    assert set(openers) == gate.threads
    assert threading.get_ident() not in gate.threads


def test_only_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    end = threading.Event()

    class Numbers(FrameSource):
        name, live, fps = "numbers", True, 25.0
        count = 0

        def read(self) -> Frame | None:
            if self.count == 20:
                end.set()
                threading.Event().wait(0.01)
                raise SourceError("numbers stopped")
            self.count += 1
            return Frame(np.full((16, 16, 3), self.count, np.uint8), self.count, 0.0)

        def close(self) -> None:
            pass

    source = LiveSource("numbers", Numbers, LiveSettings(reconnect=False))
    assert end.wait(20)
    assert source.read().image[0, 0, 0] == 20
    assert (source.dropped, source.fps) == (19, 25.0)
    with pytest.raises(SourceError, match="numbers stopped"):
        source.read()
    source.close()
    with pytest.raises(SourceError, match="numbers is closed"):
        source.read()


def test_closing_does_not_wait_for_a_read_that_hangs(caplog: pytest.LogCaptureFixture) -> None:
    gate = Gate()
    source = LiveSource(
        "door", lambda: FakeCamera(FakeCapture(pictures(9), called=gate)), clock=iter(range(99)).__next__
    )
    assert gate.reads.acquire(timeout=20)
    source.close()
    source.close()
    assert "door does not answer; it is left open until its driver returns" in caplog.text
    assert not gate.released.is_set()
    gate.go.release()
    assert gate.released.wait(20)


def test_a_source_that_breaks_in_the_thread_reaches_the_reader_as_it_is_without_reconnecting() -> None:
    def opener() -> FrameSource:
        raise ZeroDivisionError

    source = LiveSource("door", opener, LiveSettings(reconnect=False))
    with pytest.raises(ZeroDivisionError):
        source.await_first()
