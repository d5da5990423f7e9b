"""Pictures of decisions, and what they hide."""

import logging
import threading
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.faces import TEMPLATE
from edgeface.files import write_bytes
from edgeface.images import read_image
from edgeface.runtime.deciding.decision import Decision
from edgeface.runtime.showing import snapshots as module
from edgeface.runtime.showing.draw import COLOURS, FaceView
from edgeface.runtime.showing.snapshots import Snapshots, SnapshotSettings, hide

TIME = datetime(2026, 11, 23, 18, 5, 9, 123_456, UTC)
MATCH = Decision("match", "alice", 0.6, 0.4, None, None, 3, 3, None)


def noise(height=240, width=320):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def box(x, y, size):
    return np.array([x, y, size, size], np.float32)


def view(track, x, y, size):
    return FaceView(track, box(x, y, size), (TEMPLATE / 112 * size + (x, y)).astype(np.float32), MATCH)


OWN, OTHER = view(1, 20, 60, 60), view(2, 200, 60, 60)


def detail(image, x, y, size):
    """How much neighbours differ: of noise, about 85; of a mosaic of six cells, next to nothing."""
    patch = image[y : y + size, x : x + size].astype(float)
    return np.abs(np.diff(patch, axis=0)).mean() + np.abs(np.diff(patch, axis=1)).mean()


# --- what is hidden


def test_other_faces_lose_their_detail_and_the_own_one_keeps_every_pixel():
    image = noise()
    before = image.copy()
    result = hide(image, OWN.box, [OTHER.box], [box(120, 170, 40)])
    assert (image == before).all()
    assert (result[60:120, 20:80] == image[60:120, 20:80]).all()
    assert detail(image, 200, 60, 60) > 150
    for place in ((200, 60, 60), (190, 50, 80), (120, 170, 40)):  # with the hair around it
        assert detail(result, *place) < 20
    untouched = np.ones(image.shape[:2], bool)
    untouched[42:138, 182:278] = untouched[158:222, 108:172] = False
    assert (result == image)[untouched].all()


def test_where_faces_overlap_the_other_one_is_hidden_but_its_surroundings_are_not():
    image = noise()
    result = hide(image, box(100, 60, 80), [box(150, 60, 80)])
    changed = (result != image).any(axis=2)
    assert changed[60:140, 150:180].mean() > 0.95  # both claim it
    assert not changed[60:140, 100:150].any()  # the margin around the other one does not count here
    # Where somebody was a moment ago may be where the own face is now.
    result = hide(image, box(100, 60, 80), [], [box(110, 60, 80)])
    assert (result[60:140, 100:180] == image[60:140, 100:180]).all()


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(-100, 400), st.integers(-100, 300), st.integers(0, 300)), min_size=1, max_size=4))
def test_wherever_boxes_are_no_pixel_of_another_face_survives(places):
    image = noise(120, 160)
    first, *others = (box(*place) for place in places)
    result = hide(image, first, others)
    assert result.shape == image.shape
    for x, y, size in places[1:]:
        inside = result[max(0, y) : max(0, y + size), max(0, x) : max(0, x + size)]
        original = image[max(0, y) : max(0, y + size), max(0, x) : max(0, x + size)]
        if inside.shape[0] > 30 and inside.shape[1] > 30:
            assert (inside != original).any(axis=2).mean() > 0.9


# --- the folder


def shoot(folder, settings=None, *, faces=(OWN, OTHER), event="match", track=1, image=None):
    """Take one picture; returns its name and what is in the folder."""
    shots = Snapshots(folder, settings)
    shots.see(noise() if image is None else image, 7, 1.0, faces)
    name = shots.take(event, 7, track, TIME)
    shots.close()
    return name, shots.state()


def test_a_picture_of_the_face_is_cut_out_and_named_by_time_event_frame_and_track(tmp_path):
    name, state = shoot(tmp_path / "new" / "shots")
    assert name == "20261123T180509123Z-match-7-1.jpg"
    (path,) = (tmp_path / "new" / "shots").iterdir()
    assert path.name == name
    picture = read_image(path)
    assert picture.shape == (108, 104, 3)  # 60 and 24 around it, cut at the edge of the frame
    assert detail(picture, 20, 24, 60) > 60
    assert (state.sent, state.waiting, state.lost, state.error) == (1, 0, 0, None)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_picture_of_the_frame_has_the_label_and_hides_the_others(tmp_path):
    grey = np.full((240, 320, 3), 128, np.uint8)
    grey[60:120, 200:260] = noise()[60:120, 200:260]
    name, _ = shoot(tmp_path, SnapshotSettings(subject="frame"), image=grey)
    picture = read_image(tmp_path / str(name))
    assert picture.shape == (240, 320, 3)
    assert detail(picture, 200, 60, 60) < 25
    label = np.abs(picture.astype(int) - np.array(COLOURS["match"])).max(axis=2) < 40
    assert label.sum() > 500
    shown, _ = shoot(tmp_path / "shown", SnapshotSettings(subject="frame", show_others=True), image=grey)
    assert detail(read_image(tmp_path / "shown" / str(shown)), 200, 60, 60) > 60


def test_a_face_that_the_detector_missed_in_this_frame_is_hidden_where_it_was(tmp_path):
    for gap_s, is_hidden in ((0.1, True), (0.9, True), (1.5, False)):
        shots = Snapshots(tmp_path / str(gap_s), SnapshotSettings(subject="frame"))
        shots.see(noise(), 6, 1.0, [OWN, OTHER])
        shots.see(noise(), 7, 1.0 + gap_s, [OWN])
        name = shots.take("match", 7, 1, TIME)
        shots.close()
        picture = read_image(tmp_path / str(gap_s) / str(name))
        assert (detail(picture, 200, 60, 60) < 30) == is_hidden


@pytest.mark.parametrize("event", ["unknown", "rejected"])
def test_strangers_are_pictured_only_if_asked_for(tmp_path, event):
    assert shoot(tmp_path, event=event)[0] is None
    assert list(tmp_path.iterdir()) == []
    assert shoot(tmp_path, SnapshotSettings(unknown=True), event=event)[0] is not None


@pytest.mark.parametrize("event", ["lost", "no_face", "camera_lost", "error"])
def test_other_events_have_no_picture(tmp_path, event):
    assert shoot(tmp_path, SnapshotSettings(unknown=True), event=event)[0] is None


def test_without_the_face_in_this_very_frame_there_is_no_picture(tmp_path):
    shots = Snapshots(tmp_path)
    assert shots.take("match", 7, 1, TIME) is None
    shots.see(noise(), 7, 1.0, [OWN])
    assert shots.take("match", 7, 2, TIME) is None
    assert shots.take("match", 8, 1, TIME) is None
    shots.close()
    assert (shots.state().sent, shots.state().lost) == (0, 0)


def test_only_the_last_are_kept_and_other_files_are_left_alone(tmp_path):
    (tmp_path / "holiday.jpg").touch()
    (tmp_path / "2020.jpg").touch()
    (tmp_path / ".20261123T180509123Z-match-7-1.jpg.abc").touch()  # of a crash
    for run in range(2):
        shots = Snapshots(tmp_path, SnapshotSettings(keep=3))
        for second in range(5):
            shots.see(noise(), second, float(second), [OWN])
            assert shots.take("match", second, 1, TIME + timedelta(minutes=run, seconds=second))
            while shots.state().waiting:
                threading.Event().wait(0.002)
        shots.close()
        names = sorted(path.name for path in tmp_path.iterdir())
        assert names[-2:] == [f"20261123T18{5 + run:02d}13123Z-match-4-1.jpg", "holiday.jpg"]
        assert len(names) == 5


def test_the_source_may_use_its_array_again(tmp_path):
    shots = Snapshots(tmp_path, SnapshotSettings(show_others=True))
    image = noise()
    shots.see(image, 0, 0.0, [OWN])
    name = shots.take("match", 0, 1, TIME)
    image[:] = 0
    shots.close()
    assert read_image(tmp_path / str(name)).mean() > 100


def test_a_full_disk_is_told_once_and_does_not_stop_the_loop(tmp_path, monkeypatch, caplog):
    shots = Snapshots(tmp_path)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_bytes", full)
    shots.see(noise(), 0, 0.0, [OWN])
    for _ in range(3):
        shots.take("match", 0, 1, TIME)
        while shots.state().waiting:
            threading.Event().wait(0.002)
    assert (shots.state().sent, shots.state().lost, shots.state().error) == (0, 3, "No space left on device")
    assert len(caplog.records) == 1
    monkeypatch.undo()
    shots.take("match", 0, 1, TIME)
    shots.close()
    assert (shots.state().sent, shots.state().lost, shots.state().error) == (1, 3, None)


def test_a_disk_that_hangs_does_not_fill_the_memory(tmp_path, monkeypatch):
    go = threading.Event()

    def slow(*arguments, **more):
        assert go.wait(10)
        write_bytes(*arguments, **more)

    shots = Snapshots(tmp_path)
    monkeypatch.setattr(module, "write_bytes", slow)
    names = []
    for frame in range(20):
        shots.see(noise(), frame, float(frame), [OWN])
        names.append(shots.take("match", frame, 1, TIME))
    taken = [name for name in names if name]
    assert 4 <= len(taken) <= 5
    assert (shots.state().waiting, shots.state().lost) == (len(taken), 20 - len(taken))
    go.set()
    shots.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(taken)


def test_a_bug_in_drawing_does_not_end_the_thread(tmp_path, monkeypatch, caplog):
    shots = Snapshots(tmp_path)
    shots.see(noise(), 0, 0.0, [OWN])
    with caplog.at_level(logging.CRITICAL):
        monkeypatch.setattr(module, "hide", lambda *_: 1 / 0)
        shots.take("match", 0, 1, TIME)
        while shots.state().waiting:
            threading.Event().wait(0.002)
    monkeypatch.undo()
    assert shots.take("match", 0, 1, TIME)
    shots.close()
    assert (shots.state().sent, shots.state().lost) == (1, 1)


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"snapshots cannot be written to .*file: .*; give another folder"):
        Snapshots(tmp_path / "file")


@pytest.mark.parametrize("more", [{"keep": 0}, {"quality": 0}, {"quality": 101}])
def test_settings_that_cannot_be_are_refused(more):
    with pytest.raises(ConfigError):
        SnapshotSettings(**more)
