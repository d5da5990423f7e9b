import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeface.errors import ConfigError
from edgeface.runtime.deciding.motion import Motion
from edgeface.runtime.deciding.tracker import Tracker, TrackerSettings, affinity

NONE = np.zeros((0, 4), np.float32)


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


some_boxes = st.lists(
    st.tuples(st.integers(-20, 200), st.integers(-20, 200), st.integers(1, 80), st.integers(1, 80)), max_size=6
)
steps = st.lists(st.tuples(st.floats(0, 2), some_boxes), min_size=1, max_size=12)


def slow_affinity(old, new, settings):
    """Count the shared pixels one by one; boxes have whole coordinates."""

    def pixels(box):
        x, y, w, h = (int(v) for v in box)
        return {(a, b) for a in range(x, x + w) for b in range(y, y + h)}

    first, second = pixels(old), pixels(new)
    iou = len(first & second) / len(first | second)
    if iou >= settings.min_iou:
        return iou
    sides = [math.sqrt(old[2] * old[3]), math.sqrt(new[2] * new[3])]
    distance = math.dist((old[0] + old[2] / 2, old[1] + old[3] / 2), (new[0] + new[2] / 2, new[1] + new[3] / 2)) / (
        sum(sides) / 2
    )
    if distance <= settings.max_shift and max(sides) / min(sides) <= settings.max_growth:
        return -distance
    return -math.inf


@given(some_boxes, some_boxes)
def test_affinity_is_what_counting_pixels_gives(old, new):
    settings = TrackerSettings()
    fast = affinity(boxes(*old), boxes(*new), settings)

    assert fast.shape == (len(old), len(new))
    for row, a in enumerate(old):
        for column, b in enumerate(new):
            assert fast[row, column] == pytest.approx(slow_affinity(a, b, settings), abs=1e-9)


@given(steps)
def test_every_box_has_one_track_and_ids_are_never_used_again(frames):
    tracker = Tracker()
    ended: set[int] = set()
    begun = 0
    time_s = 0.0
    hits: dict[int, int] = {}
    for step_s, rows in frames:
        time_s += step_s
        before = {track.id for track in tracker.tracks}
        result = tracker.update(boxes(*rows), time_s)
        seen = [track.id for track in result.seen]
        lost = {track.id for track in result.lost}

        assert len(seen) == len(set(seen)) == len(rows)
        for row, track in zip(rows, result.seen, strict=True):
            assert track.box.tolist() == list(row)
            assert (track.missed, track.last_seen_s) == (0, time_s)
            hits[track.id] = hits.get(track.id, 0) + 1
            assert track.hits == hits[track.id]
        assert not (set(seen) | {t.id for t in tracker.tracks}) & (ended | lost)
        assert set(seen) - before == set(range(begun + 1, begun + 1 + len(set(seen) - before)))
        begun += len(set(seen) - before)
        # What was there is seen, still waited for, or lost: nothing disappears.
        assert before | set(seen) == {track.id for track in tracker.tracks} | lost
        for track in tracker.tracks:
            assert time_s - track.last_seen_s <= tracker.settings.max_missed_s
        for track in result.lost:
            assert time_s - track.last_seen_s > tracker.settings.max_missed_s
        ended |= lost
    assert {track.id for track in tracker.end()} == set(range(1, begun + 1)) - ended
    assert tracker.tracks == ()


@given(st.permutations(range(4)), st.integers(-5, 5), st.integers(-5, 5))
def test_people_keep_their_tracks_whatever_the_order_of_the_boxes(order, dx, dy):
    places = [(x, 50, 40, 50) for x in (0, 100, 200, 300)]
    tracker = Tracker()
    first = tracker.update(boxes(*places), 0.0).seen
    moved = [(places[i][0] + dx, places[i][1] + dy, 40, 50) for i in order]

    second = tracker.update(boxes(*moved), 0.04).seen

    assert [track.id for track in second] == [first[i].id for i in order]


def test_the_better_overlap_wins():
    tracker = Tracker()
    (track,) = tracker.update(boxes((0, 0, 100, 100)), 0.0).seen
    far, near = tracker.update(boxes((40, 0, 100, 100), (10, 0, 100, 100)), 0.1).seen

    assert near.id == track.id != far.id


def test_of_two_tracks_the_better_one_gets_the_only_box():
    for order in (1, -1):
        tracker = Tracker()
        rows = [(0, 0, 100, 100), (60, 0, 100, 100)][::order]
        near = tracker.update(boxes(*rows), 0.0).seen[rows.index((0, 0, 100, 100))]
        (track,) = tracker.update(boxes((10, 0, 100, 100)), 0.1).seen
        assert track.id == near.id
        assert sorted(t.missed for t in tracker.tracks) == [0, 1]


def test_a_fast_face_is_followed_by_nearness_and_a_far_one_is_not():
    tracker = Tracker()
    (track,) = tracker.update(boxes((0, 0, 50, 50)), 0.0).seen
    assert tracker.update(boxes((38, 0, 50, 50)), 0.1).seen[0].id == track.id  # IoU 0.14, 0.76 sides
    assert tracker.update(boxes((100, 0, 50, 50)), 0.2).seen[0].id != track.id
    # A face of another size at that place is somebody else.
    tracker = Tracker()
    tracker.update(boxes((0, 0, 50, 50)), 0.0)
    assert tracker.update(boxes((30, 30, 100, 100)), 0.1).seen[0].id == 2


def test_a_gap_is_counted_in_frames_and_seconds():
    tracker = Tracker()
    tracker.update(boxes((0, 0, 50, 50)), 0.0)
    for time_s in (0.1, 0.2, 0.3):
        tracker.update(NONE, time_s)
    assert [(track.missed, track.last_seen_s) for track in tracker.tracks] == [(3, 0.0)]

    (track,) = tracker.update(boxes((0, 0, 50, 50)), 0.4).seen
    assert (track.id, track.missed, track.gap_frames, track.hits) == (1, 0, 3, 2)
    assert (track.gap_s, track.age_s) == (0.4, 0.4)
    (track,) = tracker.update(boxes((0, 0, 50, 50)), 0.5).seen
    assert track.gap_frames == 0
    assert track.gap_s == pytest.approx(0.1)


@pytest.mark.parametrize("later_s", [1.1, -1.1, 1e9])
def test_a_track_not_seen_for_too_long_is_lost_and_its_place_is_a_new_face(later_s):
    tracker = Tracker()
    tracker.update(boxes((0, 0, 50, 50)), 0.0)
    result = tracker.update(boxes((0, 0, 50, 50)), later_s)

    assert [track.id for track in result.lost] == [1]
    assert [track.id for track in result.seen] == [2]


def test_empty_and_huge_boxes_do_not_break_it():
    tracker = Tracker()
    tracker.update(boxes((5, 5, 0, 0), (0, 0, 1e6, 1e6)), 0.0)
    assert [t.id for t in tracker.update(boxes((0, 0, 1e6, 1e6), (5, 5, 0, 0)), 0.1).seen] == [2, 1]


@pytest.mark.parametrize(
    "wrong", [{"min_iou": 0}, {"min_iou": 1.1}, {"max_shift": -1}, {"max_growth": 0.5}, {"max_missed_s": math.nan}]
)
def test_settings_that_cannot_be_used_say_so(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        TrackerSettings(**wrong)


# --- boxes that the detector is not sure of, and where a face is going


def sure(*values):
    return np.array(values, bool)


def test_a_doubtful_box_keeps_a_track_and_never_starts_one():
    tracker = Tracker()
    assert tracker.update(boxes((0, 0, 50, 50)), 0.0, sure(False)).seen == ()
    (track,) = tracker.update(boxes((0, 0, 50, 50)), 0.1, sure(True)).seen
    result = tracker.update(boxes((200, 0, 50, 50), (3, 0, 50, 50)), 0.2, sure(False, False))
    assert (result.rows, [t.id for t in result.seen], result.seen[0].missed) == ((1,), [track.id], 0)
    assert tracker.update(boxes((3, 0, 50, 50)), 0.3, sure(True)).seen[0].gap_frames == 0


def test_sure_boxes_choose_first():
    tracker = Tracker()
    tracker.update(boxes((0, 0, 50, 50)), 0.0)
    result = tracker.update(boxes((0, 0, 50, 50), (15, 0, 50, 50)), 0.1, sure(False, True))
    assert (result.rows, result.seen[0].id) == ((1,), 1)


def test_a_doubtful_box_must_overlap_much_and_brings_no_lost_face_back():
    for box, frames_missed in (((30, 0, 50, 50), 0), ((0, 0, 50, 50), 1)):
        tracker = Tracker()
        tracker.update(boxes((0, 0, 50, 50)), 0.0)
        for row in range(frames_missed):
            tracker.update(NONE, 0.1 * (row + 1))
        assert tracker.update(boxes(box), 0.3, sure(False)).seen == ()
        assert [t.missed for t in tracker.tracks] == [frames_missed + 1]


def test_a_face_that_is_hidden_for_a_while_is_met_where_it_was_going():
    tracker = Tracker()
    for row in range(10):  # 200 pixels a second
        (track,) = tracker.update(boxes((8 * row, 0, 40, 40)), 0.04 * row).seen
    for row in range(10, 17):
        tracker.update(NONE, 0.04 * row)
    (again,) = tracker.update(boxes((8 * 17, 0, 40, 40)), 0.04 * 17).seen  # 64 px from where it was, 1.6 sides
    assert again.id == track.id


def test_people_who_cross_keep_their_tracks():
    tracker = Tracker()
    right: dict[str, int] = {}
    for row in range(30):
        places = {"a": (10 * row, 0, 40, 40), "b": (290 - 10 * row, 12, 40, 40)}
        seen = tracker.update(boxes(*places.values()), 0.04 * row).seen
        for name, track in zip(places, seen, strict=True):
            assert right.setdefault(name, track.id) == track.id


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(0, 1e3), st.floats(0, 1e3), st.floats(-10, 10))
def test_a_box_is_expected_within_a_side_of_where_it_was(x, y, width, height, after_s):
    box = np.array([5, 5, width, height], np.float32)
    expected = Motion(x, y).expected(box, after_s)
    moved = np.hypot(*(expected - box)[:2].astype(float))
    assert moved <= math.sqrt(width * height) * (1 + 1e-3) + 1e-3
    assert (expected[2:] == box[2:]).all()


def test_velocity_follows_a_steady_walk_and_forgets_it_when_time_goes_back():
    motion, box = Motion(0, 0), np.array([0, 0, 40, 40], np.float32)
    for _ in range(12):
        ahead = box + np.array([4, -2, 0, 0], np.float32)
        motion, box = motion.after(box, ahead, 0.04), ahead
    assert motion.x == pytest.approx(100, rel=1e-2)
    assert motion.y == pytest.approx(-50, rel=1e-2)
    assert motion.after(box, box, -0.04) == Motion(0, 0)
