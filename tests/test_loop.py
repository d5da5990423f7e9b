import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edgeface.errors import ConfigError, GalleryError, ImageError, SourceError
from edgeface.faces import TEMPLATE
from edgeface.images import read_image
from edgeface.runtime.cameras.frames import FrameSequence
from edgeface.runtime.cameras.live import LiveSource
from edgeface.runtime.cameras.live_settings import LiveSettings
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import Gate
from edgeface.runtime.deciding.quality import QualitySettings
from edgeface.runtime.deciding.tracker import TrackerSettings
from edgeface.runtime.detection.detector import Detections
from edgeface.runtime.events import ListSink, SinkState
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.loop import RunSettings, run
from edgeface.runtime.showing.snapshots import Snapshots
from tests.cameras import HANG, Bench, FakeCapture

DIMENSION = 16
ALICE, BOB, STRANGER = 40, 90, 140
"""A face in the fake world is a flat patch; its grey value says whose it is."""

ANY_FACE = Gate(compare=QualitySettings(min_size_px=40, min_sharpness=0, min_brightness=0, max_brightness=255))
DECISION = DecisionSettings(threshold=0.5)
SETTINGS = RunSettings(DECISION, ANY_FACE)


def person(grey):
    """The embedding of a person: an axis of its own."""
    return np.eye(DIMENSION, dtype=np.float32)[grey // 10]


class World:
    """Frames with faces, and a detector and an embedder that know them.

    Each frame is a list of (x, grey) or (x, grey, size): a face at x whose patch has that grey value.
    """

    def __init__(self, frames):
        self.frames = [[face if len(face) == 3 else (*face, 80) for face in frame] for frame in frames]
        self.batches = []
        self.detect: Any = self._detect
        self.embed: Any = self._embed

    def source(self, fps=25.0, live=False):
        return FrameSequence((self.picture(f) for f in self.frames), fps=fps, live=live, name="world")

    def picture(self, faces):
        image = np.full((200, 640, 3), 255, np.uint8)
        for x, grey, size in faces:
            image[40 : 40 + size, x : x + size] = grey
            image[40, x] = (1, size, 0)  # a mark that the detector finds
        return image

    def _detect(self, image):
        ys, xs = np.nonzero((image[:, :, 0] == 1) & (image[:, :, 2] == 0))
        found = [(x, y, image[y, x, 1]) for x, y in zip(xs, ys, strict=True)]
        boxes = np.array([(x, y, s, s) for x, y, s in found], np.float32).reshape(-1, 4)
        landmarks = np.array([TEMPLATE / 112 * s + (x, y) for x, y, s in found], np.float32).reshape(-1, 5, 2)
        return Detections(boxes, np.ones(len(found), np.float32), landmarks)

    def _embed(self, faces):
        self.batches.append(len(faces))
        assert faces.shape[1:] == (112, 112, 3)
        return np.stack([person(int(face[56, 56, 0])) for face in faces])


class People:
    """A gallery in memory that can change."""

    def __init__(self, **people):
        self.people = people
        self.news = True
        self.changed: Any = lambda: self.news

    def templates(self, scoring=None):
        self.news = False
        rows = [person(grey) for grey in self.people.values()]
        return tuple(self.people), np.array(rows, np.float32).reshape(-1, DIMENSION)


def play(world, gallery=None, settings=SETTINGS, **more):
    sink = ListSink()
    gallery = gallery or People(alice=ALICE, bob=BOB)
    summary = run(world.source(), world, world, gallery, settings, [sink], **more)
    return sink.events, summary


def names(events, *kinds):
    return [(e.event, e.track, e.identity) for e in events if not kinds or e.event in kinds]


def still(*faces, frames=10):
    return [list(faces)] * frames


# --- who it is


def test_the_right_person_is_matched_once_and_the_end_says_so_again():
    world = World(still((100, ALICE)))
    events, summary = play(world)

    assert names(events) == [("match", 1, "alice"), ("lost", 1, "alice")]
    match = events[0]
    assert (match.frame, match.votes, match.frames) == (2, 3, 3)
    assert (match.score, match.threshold, match.runner_up, match.margin) == (1.0, 0.5, "bob", 1.0)
    assert match.quality is not None
    assert match.quality.size_px == 80
    assert list(match.latency_ms) == ["read", "detect", "track", "align", "embed", "match", "decide", "total"]
    assert match.latency_ms["total"] == pytest.approx(
        sum(ms for stage, ms in match.latency_ms.items() if stage not in ("read", "total"))
    )
    assert events[1].frame == 9
    assert (summary.ended, summary.error) == ("end of source", None)
    assert (summary.frames, summary.faces, summary.tracks) == (10, 10, 1)
    assert summary.decisions == {"match": 1}


def test_a_stranger_is_unknown_and_the_event_says_why():
    events, summary = play(World(still((100, STRANGER))))

    assert names(events) == [("unknown", 1, None), ("lost", 1, None)]
    assert events[0].frame == 4
    assert events[0].why == "no gallery match: best score 0.000 (alice) below threshold 0.500"
    assert summary.decisions == {"unknown": 1}


def test_three_people_at_once_are_embedded_in_one_batch():
    world = World(still((20, ALICE), (200, BOB), (400, STRANGER)))
    events, summary = play(world)

    assert sorted(names(events, "match", "unknown"), key=str) == [
        ("match", 1, "alice"),
        ("match", 2, "bob"),
        ("unknown", 3, None),
    ]
    assert world.batches[:3] == [3, 3, 3]
    assert summary.embedded == sum(world.batches) < summary.faces == 30


def test_two_people_who_swap_places_in_one_frame_are_told_apart_again():
    before, after = [(100, ALICE), (400, BOB)], [(100, BOB), (400, ALICE)]
    events, _ = play(World([before] * 10 + [after] * 60))

    assert names(events, "match") == [
        ("match", 1, "alice"),
        ("match", 2, "bob"),
        ("match", 1, "bob"),
        ("match", 2, "alice"),
    ]
    # At the next regular look, 1 s after the last, and some frames for the votes.
    assert all(e.frame is not None and 10 < e.frame < 2 + 25 + 6 for e in events[2:4])


def test_one_bad_frame_does_not_turn_a_match_into_somebody_else():
    every_frame = RunSettings(DecisionSettings(threshold=0.5, refresh_s=0), ANY_FACE)
    events, _ = play(World(still((100, ALICE)) + still((100, BOB), frames=1) + still((100, ALICE))), None, every_frame)

    assert names(events) == [("match", 1, "alice"), ("lost", 1, "alice")]


def test_somebody_else_in_the_place_of_one_who_left_is_not_taken_for_them():
    left = still((100, ALICE)) + still(frames=15)
    events, _ = play(World(left + still((100, STRANGER))))
    assert names(events) == [("match", 1, "alice"), ("unknown", 1, None), ("lost", 1, None)]
    # Who leaves again before there were enough looks has no name at the end.
    events, _ = play(World(left + still((100, STRANGER), frames=2)))
    assert names(events) == [("match", 1, "alice"), ("lost", 1, None)]
    # And the same person is not told twice.
    events, _ = play(World(left + still((100, ALICE))))
    assert names(events) == [("match", 1, "alice"), ("lost", 1, "alice")]


def test_a_recognised_face_is_embedded_once_a_second():
    world = World(still((100, ALICE), frames=100))  # 4 s
    _, summary = play(world)

    assert summary.embedded == 3 + 3
    assert summary.stage_ms.keys() >= {"read", "detect", "embed", "total"}


def test_a_claim_accepts_one_person_and_rejects_all_others():
    world = World(still((20, ALICE), (200, BOB), (400, STRANGER)))
    settings = RunSettings(DecisionSettings(threshold=0.5, claim="alice"), ANY_FACE)
    events, summary = play(world, None, settings)

    assert names(events, "match") == [("match", 1, "alice")]
    rejected = [e for e in events if e.event == "rejected"]
    assert [(e.track, e.identity) for e in rejected] == [(2, None), (3, None)]
    assert rejected[0].why == "not alice: score 0.000 below threshold 0.500"
    assert summary.decisions == {"match": 1, "rejected": 2}


def test_a_claim_of_nobody_is_an_error_before_the_first_frame():
    settings = RunSettings(DecisionSettings(threshold=0.5, claim="zoe"), ANY_FACE)
    with pytest.raises(GalleryError, match=r"nobody called 'zoe'.*alice, bob"):
        play(World([]), None, settings)


def test_an_empty_gallery_knows_nobody():
    events, _ = play(World(still((100, ALICE))), People())
    assert [(e.event, e.why) for e in events] == [("unknown", "the gallery is empty"), ("lost", "the gallery is empty")]


def test_somebody_removed_by_another_process_is_not_recognised_any_more(tmp_path):
    path = tmp_path / "gallery.db"
    world = World(still((100, ALICE), (400, BOB), frames=30))
    with (
        Gallery(path, "space", DIMENSION, create=True) as gallery,
        Gallery(path) as elsewhere,
    ):
        gallery.add("alice", person(ALICE))
        gallery.add("bob", person(BOB))

        def pictures():
            for row, faces in enumerate(world.frames):
                if row == 15:
                    elsewhere.remove("alice")
                yield world.picture(faces)

        sink = ListSink()
        run(FrameSequence(pictures(), fps=25), world, world, gallery, SETTINGS, [sink])

    assert names(sink.events) == [
        ("match", 1, "alice"),
        ("match", 2, "bob"),
        ("unknown", 1, None),
        ("lost", 1, None),
        ("lost", 2, "bob"),
    ]
    assert sink.events[2].frame == 15 + 4


def test_a_match_says_for_how_long_it_holds_and_counts_from_its_frame(monkeypatch):
    now_s = [100.0]
    for module in ("loop", "events"):
        monkeypatch.setattr(f"edgeface.runtime.{module}.steady_s", lambda: now_s[0])
    world = World(still((100, ALICE), (400, STRANGER)))

    def slow(faces):
        now_s[0] += 2.0  # between the arrival of the frame and its answer
        return world._embed(faces)

    world.embed = slow
    events, _ = play(world, None, replace(SETTINGS, max_age_s=6.0))
    (match,) = (e for e in events if e.event == "match")
    assert match.valid_until is not None
    assert (match.valid_until - match.time).total_seconds() == 4.0
    assert match.until_s == 100.0 + 3 * 2 + 4  # by the clock that no setting of the time moves
    assert {e.valid_until for e in events if e.event != "match"} == {None}
    for_ever, _ = play(world, None, replace(SETTINGS, max_age_s=None))
    assert {(e.valid_until, e.until_s) for e in for_ever} == {(None, None)}
    too_slow, _ = play(world, None, replace(SETTINGS, max_age_s=1.0))
    assert [e.valid_until == e.time for e in too_slow if e.event == "match"] == [True]


@pytest.mark.parametrize("age_s", [0.0, -1.0, float("nan"), float("inf"), 1e6])
def test_an_age_that_cannot_be_is_refused(age_s):
    with pytest.raises(ConfigError, match="max_age_s"):
        RunSettings(DECISION, max_age_s=age_s)


# --- faces that are not looked at


@pytest.mark.parametrize(
    ("settings", "size", "why"),
    [
        (QualitySettings(min_size_px=60, min_sharpness=0), 50, "too small: 50 px, need 60"),
        (QualitySettings(min_sharpness=0, min_brightness=100), 80, "too dark: 40 of 255, need 100"),
        (QualitySettings(min_sharpness=50), 80, "blurred: sharpness "),
    ],
)
def test_a_face_that_is_not_good_enough_is_never_embedded_and_its_end_says_why(settings, size, why):
    world = World(still((100, ALICE, size)))
    events, summary = play(world, None, RunSettings(DECISION, Gate(compare=settings)))

    assert names(events) == [("lost", 1, None)]
    assert str(events[0].why).startswith(why)
    assert (world.batches, summary.embedded) == ([], 0)


def test_landmarks_that_coincide_refuse_the_face_and_not_the_frame():
    world = World(still((20, ALICE), (400, BOB)))
    detect = world.detect

    def broken(image):
        found = detect(image)
        found.landmarks[0] = 7.0
        return found

    world.detect = broken
    events, summary = play(world)

    assert names(events) == [("match", 2, "bob"), ("lost", 1, None), ("lost", 2, "bob")]
    assert "cannot align" in str(events[1].why)
    assert summary.failures == 0


def test_an_empty_scene_is_told_when_it_begins_and_not_in_each_frame():
    frames = still(frames=5) + still((100, ALICE)) + still(frames=60) + still((300, BOB)) + still(frames=40)
    events, _ = play(World(frames))

    assert names(events) == [
        ("no_face", None, None),
        ("match", 1, "alice"),
        ("lost", 1, "alice"),
        ("no_face", None, None),
        ("match", 2, "bob"),
        ("lost", 2, "bob"),
        ("no_face", None, None),
    ]
    assert events[3].frame == 14 + 26  # the first frame more than a second after the last sighting


def test_faces_that_flicker_are_still_recognised():
    frames = [[(100, ALICE)] if row % 2 else [] for row in range(30)]
    events, summary = play(World(frames))

    assert names(events, "match", "lost") == [("match", 1, "alice"), ("lost", 1, "alice")]
    assert summary.tracks == 1


def test_unrelated_pictures_are_decided_one_by_one():
    frames = [[(100, ALICE)], [(100, BOB)], [], [], [(100, STRANGER), (400, ALICE)]]
    settings = RunSettings(DECISION, ANY_FACE, stills=True)
    events, summary = play(World(frames), None, settings)

    assert [(e.frame, e.event, e.track, e.identity) for e in events] == [
        (0, "match", 1, "alice"),
        (0, "lost", 1, "alice"),
        (1, "match", 2, "bob"),
        (1, "lost", 2, "bob"),
        (2, "no_face", None, None),
        (3, "no_face", None, None),
        (4, "unknown", 3, None),
        (4, "match", 4, "alice"),
        (4, "lost", 3, None),
        (4, "lost", 4, "alice"),
    ]
    assert summary.decisions == {"match": 3, "unknown": 1}


def test_every_track_ends_with_exactly_one_lost():
    rng = np.random.default_rng(5)
    frames = [[(x, (ALICE, BOB, STRANGER)[x // 200]) for x in (20, 220, 420) if rng.random() < 0.3] for _ in range(400)]
    settings = RunSettings(DECISION, ANY_FACE, TrackerSettings(max_missed_s=0.1))
    events, summary = play(World(frames), None, settings)

    lost = [e.track for e in events if e.event == "lost"]
    assert sorted(t for t in lost if t) == list(range(1, summary.tracks + 1))
    for event in events:
        assert event.identity is None or (event.votes is not None and event.votes >= 3)


# --- how it ends


def test_it_stops_after_so_many_frames():
    _, summary = play(World(still((100, ALICE), frames=50)), None, RunSettings(DECISION, ANY_FACE, max_frames=7))
    assert (summary.ended, summary.frames) == ("max_frames", 7)


def test_the_stop_event_ends_a_camera_cleanly_and_closes_the_recorder():
    stop, recorder = threading.Event(), FakeRecorder()
    world = World(still((100, ALICE), frames=100_000))
    seen: list[int] = []

    def detect(image):
        seen.append(len(seen))
        if len(seen) == 6:
            stop.set()  # while this frame is in work
        return world._detect(image)

    world.detect = detect
    sink = ListSink()
    gallery = People(alice=ALICE)
    with world.source(fps=100, live=True) as source:
        summary = run(source, world, world, gallery, SETTINGS, [sink], recorder=recorder.open, stop=stop)

    assert (summary.ended, summary.error) == ("stopped", None)
    assert names(sink.events) == [("match", 1, "alice"), ("lost", 1, "alice")]
    assert recorder.closed
    assert recorder.frames == summary.frames == 6


@pytest.fixture
def interruptible():
    """Python's own handler of Ctrl-C: a process started in the background inherits that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_control_c_without_a_handler_is_a_stop_too():
    world = World(still((100, ALICE), frames=20))
    detect = world.detect

    def interrupted(image):
        if len(world.batches) == 3:
            world.batches.append(0)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)
        return detect(image)

    world.detect = interrupted
    recorder = FakeRecorder()
    events, summary = play(world, recorder=recorder.open)

    assert summary.ended == "stopped"
    assert names(events) == [("match", 1, "alice"), ("lost", 1, "alice")]
    assert recorder.closed


def test_a_lost_camera_is_told_and_returned_as_the_error():
    world = World(still((100, ALICE), frames=5))
    sink = ListSink()
    summary = run(world.source(fps=1000, live=True), world, world, People(alice=ALICE), SETTINGS, [sink])

    assert names(sink.events) == [("match", 1, "alice"), ("camera_lost", None, None), ("lost", 1, "alice")]
    assert sink.events[1].why == "world stopped after 5 frames"
    assert (summary.ended, summary.frames) == ("error", 5)
    assert isinstance(summary.error, SourceError)


def test_a_sink_whose_reader_has_gone_ends_the_run():
    class Gone(ListSink):
        def write(self, event):
            raise BrokenPipeError

    world, kept, recorder = World(still((100, ALICE))), ListSink(), FakeRecorder()
    gallery = People(alice=ALICE)
    summary = run(world.source(), world, world, gallery, SETTINGS, [Gone(), kept], recorder=recorder.open)

    assert (summary.ended, summary.error, summary.frames) == ("reader gone", None, 3)
    assert names(kept.events) == [("match", 1, "alice")]
    assert recorder.closed


def test_the_event_names_its_snapshot_and_it_is_of_the_right_face(tmp_path):
    world = World(still((100, ALICE), (400, STRANGER)))
    shots = Snapshots(tmp_path)
    events, summary = play(world, snapshots=shots)
    shots.close()

    (match,) = (event for event in events if event.event == "match")
    assert [path.name for path in tmp_path.iterdir()] == [match.snapshot]
    assert match.snapshot is not None
    assert match.snapshot.endswith(f"Z-match-{match.frame}-{match.track}.jpg")
    assert np.median(read_image(tmp_path / match.snapshot)[40:100, 40:100]) == pytest.approx(ALICE, abs=4)
    assert all(event.snapshot is None for event in events if event is not match)
    assert "snapshots" not in " ".join(sink.name for sink in summary.sinks)  # they belong to the caller


def test_the_summary_says_how_far_each_sink_has_come():
    _, summary = play(World(still((100, ALICE))))
    assert summary.sinks == (SinkState("memory", sent=2),)
    facts = summary.to_json()
    assert facts["lost_events"] == 0
    state = {"name": "memory", "sent": 2, "waiting": 0, "refused": 0, "lost": 0, "late": 0, "error": None}
    assert facts["sinks"] == [state]


def test_what_waits_for_a_disk_is_tried_again_though_nothing_happens(monkeypatch):
    class Counting(ListSink):
        tries = 0

        def catch_up(self):
            self.tries += 1

    monkeypatch.setattr("edgeface.runtime.events._CATCH_UP_S", 0.0)
    world, sink = World(still(frames=9)), Counting()
    run(world.source(), world, world, People(alice=ALICE), SETTINGS, [sink])
    assert (names(sink.events), sink.tries) == ([("no_face", None, None)], 9)


def test_the_picture_says_how_many_people_there_are_and_what_runs():
    notes = []

    def status(ms, total_ms, fps, faces, note):
        notes.append((note, [*ms]))
        return ()

    recorder = FakeRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeface.runtime.showing.pictures.status_lines", status)
        play(World(still((100, ALICE), frames=3)), recorder=recorder.open, note="int8 on cpu")
    assert [note for note, _ in notes] == ["2 people  int8 on cpu"] * 3
    assert notes[0][1] == ["read", "detect", "track", "align", "embed", "match", "decide", "events"]
    assert notes[1][1] == [*notes[0][1], "draw", "output"]  # of the frame before


def test_a_sink_that_fails_does_not_stop_the_door():
    class Full(ListSink):
        def write(self, event):
            raise OSError(28, "No space left on device")

    world, kept = World(still((100, ALICE))), ListSink()
    summary = run(world.source(), world, world, People(alice=ALICE), SETTINGS, [Full(), kept])

    assert names(kept.events) == [("match", 1, "alice"), ("lost", 1, "alice")]
    assert (summary.ended, summary.lost_events) == ("end of source", 2)


# --- what goes wrong in between


@pytest.mark.parametrize("error", [ImageError("the picture is torn"), RuntimeError("bad\n  tensor")])
def test_a_frame_that_fails_is_told_and_the_next_one_is_tried(error):
    world = World(still((100, ALICE), frames=20))
    detect = world.detect
    calls = iter(range(20))

    def sometimes(image):
        if next(calls) in (5, 6, 9):
            raise error
        return detect(image)

    world.detect = sometimes
    events, summary = play(world)

    assert names(events) == [
        ("match", 1, "alice"),
        ("error", None, None),
        ("error", None, None),
        ("lost", 1, "alice"),
    ]
    assert [e.frame for e in events if e.event == "error"] == [5, 9]  # the one in frame 6 is the same
    assert events[1].why in ("the picture is torn", "RuntimeError: bad tensor")
    assert (summary.failures, summary.frames, summary.ended) == (3, 20, "end of source")


def test_while_frames_fail_nobody_is_in_sight():
    world = World(still((100, ALICE)) + still((100, ALICE), frames=18) + still((100, STRANGER), frames=2))
    detect, calls = world.detect, iter(range(100))

    def blackout(image):
        if 10 <= next(calls) < 28:  # 0.72 s
            raise ImageError("torn")
        return detect(image)

    world.detect = blackout
    events, _ = play(world)

    assert names(events, "match", "unknown", "lost") == [("match", 1, "alice"), ("lost", 1, None)]


def test_many_failures_that_are_not_in_a_row_do_not_end_a_run():
    world = World(still((100, ALICE), frames=100))
    detect, calls = world.detect, iter(range(100))

    def every_other(image):
        if next(calls) % 2:
            raise ImageError("torn")
        return detect(image)

    world.detect = every_other
    events, summary = play(world)

    assert (summary.ended, summary.failures, summary.frames) == ("end of source", 50, 100)
    assert names(events, "match", "lost") == [("match", 1, "alice"), ("lost", 1, "alice")]


def test_a_failing_embedder_leaves_nobody_recognised_and_ends_the_run_after_thirty_frames():
    world = World(still((100, ALICE), frames=100))

    def broken(faces):
        raise RuntimeError("out of memory")

    world.embed = broken
    events, summary = play(world)

    assert [e.event for e in events] == ["error", "error", "lost"]
    assert (summary.ended, summary.frames, summary.failures) == ("error", 30, 30)
    assert str(summary.error) == (
        "the last 30 frames could not be processed: RuntimeError: out of memory; check the source and the bundle"
    )
    assert events[1].why == str(summary.error)
    assert events[2].identity is None


def test_embeddings_that_are_not_finite_recognise_nobody():
    world = World(still((100, ALICE), frames=100))
    world.embed = lambda faces: np.full((len(faces), DIMENSION), np.nan, np.float32)
    events, summary = play(world)

    assert "not finite" in str(events[0].why)
    assert summary.ended == "error"
    assert names(events, "match") == []


def test_a_gallery_that_cannot_be_read_any_more_ends_the_run():
    gallery = People(alice=ALICE)
    world = World(still((100, ALICE), frames=20))
    calls = iter(range(100))

    def changed():
        if next(calls) == 6:
            raise GalleryError("gallery g.db cannot be read")
        return False

    gallery.changed = changed
    events, summary = play(world, gallery)

    assert names(events) == [("match", 1, "alice"), ("error", None, None), ("lost", 1, "alice")]
    assert isinstance(summary.error, GalleryError)


# --- pictures


class FakeRecorder:
    def __init__(self):
        self.size_wh = None
        self.frames = 0
        self.closed = False
        self.last = None

    def open(self, size_wh):
        self.size_wh = size_wh
        return self

    def write(self, image):
        self.frames += 1
        self.last = image.copy()

    def close(self):
        self.closed = True


class FakeWindow:
    def __init__(self, stay):
        self.stay = stay
        self.closed = False

    def show(self, image):
        self.stay -= 1
        return self.stay > 0

    def close(self):
        self.closed = True


def test_recorder_and_window_get_the_drawn_frames_and_the_window_can_end_it():
    world, recorder, window = World(still((100, ALICE), frames=20)), FakeRecorder(), FakeWindow(stay=6)
    _, summary = play(world, recorder=recorder.open, window=window)

    assert (summary.ended, summary.frames) == ("window closed", 6)
    assert (recorder.size_wh, recorder.frames, recorder.closed, window.closed) == ((640, 200), 6, True, True)
    assert recorder.last is not None
    assert (recorder.last != world.picture(world.frames[0])).any()
    assert {"draw", "output"} <= summary.stage_ms.keys()


def test_nothing_is_drawn_where_nobody_looks_and_never_into_the_frame_itself():
    world, recorder = World([]), FakeRecorder()
    picture = world.picture([(100, ALICE, 80)])
    picture.flags.writeable = False
    quiet = run(FrameSequence([picture] * 5, fps=25), world, world, People(alice=ALICE), SETTINGS, [])
    assert not {"draw", "output"} & quiet.stage_ms.keys()

    gallery = People(alice=ALICE)
    run(FrameSequence([picture] * 5, fps=25), world, world, gallery, SETTINGS, [], recorder=recorder.open)
    assert recorder.last is not None
    assert (recorder.last != picture).any()


def test_pictures_are_drawn_for_single_pictures_and_failing_frames_too():
    world, recorder = World(still((100, ALICE), frames=6)), FakeRecorder()
    play(world, None, RunSettings(DECISION, ANY_FACE, stills=True), recorder=recorder.open)
    assert recorder.frames == 6

    world, recorder = World(still((100, ALICE), frames=6)), FakeRecorder()

    def broken(image):
        raise ImageError("torn")

    world.detect = broken
    play(world, recorder=recorder.open)
    assert recorder.frames == 6


def test_a_recorder_that_cannot_finish_is_the_error_of_the_run():
    class Full(FakeRecorder):
        def close(self):
            raise SourceError("video out.mp4 could not be finished")

    _, summary = play(World(still((100, ALICE))), recorder=Full().open)
    assert (summary.ended, str(summary.error)) == ("error", "video out.mp4 could not be finished")


def test_the_summary_is_one_json_object():
    _, summary = play(World(still((100, ALICE))))
    line = json.loads(json.dumps(summary.to_json(), allow_nan=False))

    assert line["event"] == "summary"
    assert (line["frames"], line["faces"], line["tracks"], line["error"]) == (10, 10, 1, None)
    assert line["fps"] > 0
    assert set(line["stage_ms"]["total"]) == {"p50", "p95", "p99"}
    empty = run(World([]).source(), World([]), World([]), People(), SETTINGS, [])
    assert json.loads(json.dumps(empty.to_json(), allow_nan=False))["frames"] == 0


def test_many_templates_at_a_loose_rate_are_warned_of(caplog):
    loose = RunSettings(DecisionSettings(threshold=0.5, fmr=1e-2), ANY_FACE)
    play(World([]), None, loose)
    assert "fits one of 2 templates with a chance of 2.0 %" in caplog.text
    caplog.clear()
    play(World([]), None, RunSettings(DecisionSettings(threshold=0.5, fmr=1e-3), ANY_FACE))
    assert caplog.text == ""


@pytest.mark.parametrize("wrong", [{"max_frames": 0}, {"max_failures": 0}])
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RunSettings(DECISION, **wrong)


# --- a camera that is lost and comes back


def live_world(world, captures):
    """A scripted camera (tests/cameras.py) that the loop reads through the real `LiveSource`."""
    bench = Bench(captures)
    opener: Any = None  # the bench opens
    rng = random.Random(0)
    settings = LiveSettings(give_up_after_s=300.0)  # so that a test that goes wrong ends
    source = LiveSource(
        "door", opener, settings, clock=bench.clock, pause=bench.clock.sleep, rng=rng, start=bench.start
    )
    return source, bench


def filmed(world, faces, count, every_s=0.1):
    """Reads that show these faces, each picture with noise, as a sensor has it; in BGR."""
    steps = []
    for i in range(count):
        picture = world.picture([(*face, 80) for face in faces])
        picture[190:, i % 600] = i % 250
        steps.append((every_s, np.ascontiguousarray(picture[:, :, ::-1])))
    return steps


def test_a_camera_that_comes_back_goes_on_and_who_stood_there_is_asked_again():
    world = World([])
    first = FakeCapture(filmed(world, [(100, ALICE)], 10))
    second = FakeCapture(filmed(world, [(100, STRANGER)], 30))
    source, bench = live_world(world, [first, second])
    sink = ListSink()
    settings = RunSettings(DECISION, ANY_FACE, max_frames=40)
    summary = run(source, world, world, People(alice=ALICE), settings, [sink], clock=bench.clock)

    assert names(sink.events) == [
        ("match", 1, "alice"),
        ("camera_lost", None, None),
        ("lost", 1, "alice"),
        ("camera_back", None, None),
        ("unknown", 2, None),  # not alice, who stood in the same place before
        ("lost", 2, None),
    ]
    assert sink.events[1].why == "door stopped after 10 frames"
    assert re.fullmatch(r"door is back after 0\.\d s and 1 attempt", str(sink.events[3].why))
    assert (summary.ended, summary.frames, summary.camera_losses) == ("max_frames", 40, 1)
    assert summary.to_json()["camera_losses"] == 1
    source.close()


def test_while_a_camera_is_away_stop_is_obeyed_and_the_gallery_is_looked_after():
    world, stop = World([]), threading.Event()
    gallery: Any = People(alice=ALICE, bob=BOB)
    taken: list[str] = []

    def changed():
        if bench.clock() > 1060:
            stop.set()
        return bench.clock() > 1030 and len(gallery.people) != len(taken)

    def templates(scoring):
        taken[:] = gallery.people
        return People.templates(gallery)

    source, bench = live_world(world, [FakeCapture([*filmed(world, [(100, ALICE)], 10), (HANG, None)])])
    gallery.changed, gallery.templates = changed, templates
    summary = run(source, world, world, gallery, SETTINGS, [], stop=stop, clock=bench.clock)
    assert summary.ended == "stopped"
    assert bench.clock() <= 1060.3  # 0.2 s and what was left of the wait at work
    gallery.people = {"bob": BOB}
    assert taken == ["alice", "bob"]

    stop.clear()
    source, bench = live_world(world, [FakeCapture([*filmed(world, [(100, ALICE)], 10), (HANG, None)])])
    times = []

    def removed():
        if bench.clock() > 1030:
            gallery.people = {"bob": BOB}
            times.append(bench.clock())
        return changed()

    gallery.people, gallery.changed = {"alice": ALICE, "bob": BOB}, removed
    run(source, world, world, gallery, SETTINGS, [], stop=stop, clock=bench.clock)
    assert taken == ["bob"]
    assert max(np.diff(times)) < 0.2


def test_who_is_not_seen_because_there_are_no_frames_is_lost_before_the_camera_is():
    sink: Any = ListSink()
    world, stop = World([]), threading.Event()
    source, bench = live_world(world, [FakeCapture([*filmed(world, [(100, ALICE)], 10), (HANG, None)])])
    told_s = []
    keep = sink.write

    def write(event):
        told_s.append(bench.clock() - 1000)
        keep(event)
        if event.event == "camera_lost":
            stop.set()

    sink.write = write
    run(source, world, world, People(alice=ALICE), SETTINGS, [sink], stop=stop, clock=bench.clock)
    assert names(sink.events) == [("match", 1, "alice"), ("lost", 1, "alice"), ("camera_lost", None, None)]
    assert told_s[1:] == pytest.approx([1 + 1.1, 1 + 5.5], abs=0.11)


def test_a_camera_that_is_away_for_too_long_ends_the_run_and_is_told_as_lost_once():
    world, sink = World([]), ListSink()
    bench = Bench([FakeCapture(filmed(world, [(100, ALICE)], 10))])
    settings = LiveSettings(give_up_after_s=30)
    opener: Any = None
    source = LiveSource("door", opener, settings, clock=bench.clock, pause=bench.clock.sleep, start=bench.start)
    summary = run(source, world, world, People(alice=ALICE), SETTINGS, [sink], clock=bench.clock)
    assert [e.event for e in sink.events] == ["match", "camera_lost", "lost", "error"]
    assert isinstance(summary.error, SourceError)
    assert summary.camera_losses == 1


def test_a_picture_of_another_size_ends_the_tracks_and_is_told():
    world, sink = World([]), ListSink()
    large = [(s, np.vstack([p, p[-50:]])) for s, p in filmed(world, [(100, ALICE)], 15)]
    source, bench = live_world(world, [FakeCapture([*filmed(world, [(100, ALICE)], 10), *large])])
    recorder = FakeRecorder()
    settings = RunSettings(DECISION, ANY_FACE, max_frames=25)
    gallery = People(alice=ALICE)
    run(source, world, world, gallery, settings, [sink], clock=bench.clock, recorder=recorder.open)
    assert [(e.event, e.track) for e in sink.events] == [
        ("match", 1),
        ("camera_warning", None),
        ("lost", 1),
        ("match", 2),
        ("lost", 2),
    ]
    assert recorder.frames == 25


def test_frames_of_any_shape_are_looked_at_and_not_a_failure():
    world = World([])
    picture = world.picture([(10, ALICE, 80)])
    odd = [
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((5000, 3, 3), np.uint8),
        np.zeros((3, 5000, 3), np.uint8),
        # In memory otherwise than row by row, as from a camera's own buffer.
        np.asfortranarray(picture),
        np.repeat(picture, 2, axis=1)[:, ::2],
        np.ascontiguousarray(picture[::-1, ::-1])[::-1, ::-1],
    ]
    sink = ListSink()
    summary = run(FrameSequence(odd, fps=25.0), world, world, People(alice=ALICE), SETTINGS, [sink])
    assert (summary.ended, summary.frames, summary.failures) == ("end of source", len(odd), 0)
    assert names(sink.events, "match", "error") == [("match", 1, "alice")]


def test_a_crowd_of_two_hundred_is_told_of_one_by_one():
    image = np.full((1800, 1800, 3), 255, np.uint8)
    places = [(88 * column + 4, 128 * row + 4) for row in range(10) for column in range(20)]
    for number, (x, y) in enumerate(places):
        image[y : y + 80, x : x + 80] = ALICE if number == 17 else STRANGER
        image[y, x] = (1, 80, 0)
    world = World([])
    sink = ListSink()
    settings = RunSettings(DECISION, ANY_FACE, stills=True)
    summary = run(FrameSequence([image], fps=25.0), world, world, People(alice=ALICE), settings, [sink])
    counts = Counter(event.event for event in sink.events)
    assert counts == {"match": 1, "unknown": 199, "lost": 200}
    assert summary.faces == 200
    (match,) = [event for event in sink.events if event.event == "match"]
    assert match.box is not None and match.box[:2] == places[17]


def test_a_window_lives_while_a_camera_is_away():
    world, window = World([]), FakeWindow(stay=30)
    source, bench = live_world(world, [FakeCapture([*filmed(world, [(100, ALICE)], 10), (HANG, None)])])
    summary = run(source, world, world, People(alice=ALICE), SETTINGS, [], window=window, clock=bench.clock)
    assert (summary.ended, summary.frames) == ("window closed", 10)
    assert bench.clock() == pytest.approx(1001 + 2, abs=0.3)


def test_stop_is_obeyed_while_a_real_read_hangs():
    freed, hangs = threading.Event(), threading.Event()

    class Hanging(FrameSequence):
        def read(self):
            hangs.set()
            freed.wait(20)

    world, stop = World([]), threading.Event()
    source = LiveSource("door", lambda: Hanging([], live=True))
    runner = threading.Thread(
        target=lambda: run(source, world, world, People(alice=ALICE), SETTINGS, [], stop=stop), daemon=True
    )
    runner.start()
    assert hangs.wait(20)
    stop.set()
    runner.join(5)
    assert not runner.is_alive()
    source.close()
    freed.set()
