import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeface.faces import TEMPLATE
from edgeface.runtime.deciding.decision import Decision, DecisionSettings, decide
from edgeface.runtime.gallery.comparison import Comparison
from edgeface.runtime.gallery.matching import Match
from edgeface.runtime.showing.draw import COLOURS, FaceView, Overlay, caption, printable, status_lines

OVERLAY = Overlay()


def decision(state, identity=None, score=None, why=None):
    return Decision(state, identity, score, 0.41, None, None, 0, 0, why)


MATCH = decision("match", "alice", 0.63)
UNKNOWN = decision("unknown", None, 0.2, "no gallery match: best score 0.200 (bob) below threshold 0.410")


def view(x, y, size, what=MATCH, track=1):
    box = np.array([x, y, size, size], np.float32)
    return FaceView(track, box, (TEMPLATE / 112 * size + (x, y)).astype(np.float32), what)


def grey(height, width):
    return np.full((height, width, 3), 128, np.uint8)


def area(image, colour):
    return int((image == np.array(colour, np.uint8)).all(axis=2).sum())


@pytest.mark.parametrize(
    ("what", "lines"),
    [
        (MATCH, ("alice", "0.63 ≥ 0.41")),
        (UNKNOWN, ("unknown", "0.20 < 0.41")),
        (decision("rejected", None, 0.2, "not alice: score 0.200 below threshold 0.410"), ("rejected", "0.20 < 0.41")),
        (decision("pending", why="too small: 38 px, need 60"), ("…", "too small", "38 px, need 60")),
        (decision("pending", why="not looked at yet"), ("…", "not looked at yet")),
        (
            decision("pending", None, 0.2, "turned away: about 70°, at most 60°"),
            ("…", "turned away", "about 70°, at most 60°"),
        ),
        (
            decision("unknown", None, 0.5, "ambiguous between alice and bob: margin 0.030, need 0.050"),
            ("unknown", "ambiguous between alice and bob", "margin 0.030, need 0.050"),
        ),
        (decision("match", "A" * 50, 0.5), ("A" * 31 + "…", "0.50 ≥ 0.41")),
        (decision("unknown", why="the gallery is empty"), ("unknown", "the gallery is empty")),
    ],
)
def test_captions_known_by_hand(what, lines):
    assert caption(what) == lines


def test_every_real_decision_has_a_caption_of_short_lines():
    wordy = Comparison(Match("B" * 60, 0.5), Match("C" * 60, 0.49))
    for looks in ([], [wordy], [wordy] * 5, [Comparison(None)] * 5):
        for claim in (None, "D" * 60):
            found = decide(looks, DecisionSettings(threshold=0.4, min_margin=0.1, claim=claim))
            assert all(0 < len(line) <= 32 for line in caption(found))


@given(st.text(max_size=40))
def test_what_is_drawn_has_no_control_characters_and_keeps_letters(text):
    clean = printable(text)
    assert "\n" not in clean
    assert not any(letter in clean for letter in "\u202e\u2066\u200f\x07\x00")
    assert printable(clean) == clean


def test_names_of_the_world_are_not_question_marks():
    for name in ("Łucja Żółć", "Дмитрий", "Αθηνά", "王小明", "さくら", "김철수", "José"):
        drawn = []
        for text in (name, "?" * len(name)):
            image = grey(60, 400)
            OVERLAY.draw(image, [view(5, 40, 15, decision("match", text, 0.6))])
            drawn.append(image)
        assert (drawn[0] != drawn[1]).any(), name
        assert printable(name) == name
    assert printable("Jose\u0301") == "José"


@pytest.mark.parametrize(("state", "colour"), COLOURS.items())
def test_the_colour_of_the_box_says_the_state(state, colour):
    image = grey(480, 640)
    OVERLAY.draw(image, [view(200, 200, 100, decision(state))])
    column = image[250:280, 198:203].reshape(-1, 3).tolist()
    assert list(colour) in column
    assert sum(area(image, other) for other in COLOURS.values() if other != colour) == 0


@pytest.mark.parametrize(("width", "height"), [(160, 120), (640, 480), (1080, 1920), (3840, 2160)])
def test_a_label_takes_the_same_share_of_any_picture(width, height):
    image = grey(height, width)
    size = min(width, height) // 4
    OVERLAY.draw(image, [view(width // 3, height // 2, size)], ["12.3 ms  30.0 fps  1 face"])

    share = area(image, COLOURS["match"]) / (min(height / 36, width / 28) ** 2)
    assert share > 8  # letters high, letters wide
    label = np.argwhere((image == np.array(COLOURS["match"], np.uint8)).all(axis=2))
    assert label[:, 0].min() >= 0.2 * height  # above the box, not somewhere else
    assert area(image, (24, 26, 30)) > 0  # the panel


def test_a_label_at_the_edge_stays_in_the_picture_and_labels_do_not_hide_each_other():
    image = grey(480, 640)
    faces = [view(-30, -20, 90), view(600, 5, 80, UNKNOWN), view(590, 450, 80), view(300, 200, 60), view(310, 205, 60)]
    OVERLAY.draw(image, faces, ["status"])
    # Five labels: each is a filled rectangle, found as one region of its colour without holes.
    mask = (image == np.array(COLOURS["match"], np.uint8)).all(axis=2).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 9), np.uint8))
    mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((9, 25), np.uint8))
    big = [s for s in cv2.connectedComponentsWithStats(mask)[2][1:] if s[cv2.CC_STAT_AREA] > 800]
    assert len(big) == 4


@settings(max_examples=60)
@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.lists(st.tuples(st.integers(-500, 500), st.integers(-500, 500), st.integers(0, 600)), max_size=5),
    st.lists(st.text(max_size=20), max_size=4),
)
def test_nothing_breaks_whatever_the_picture(height, width, places, status):
    image = grey(height, width)
    OVERLAY.draw(image, [view(x, y, size, UNKNOWN) for x, y, size in places], status)
    assert image.shape == (height, width, 3)


def test_without_faces_and_status_the_picture_stays_as_it_is():
    image = grey(100, 100)
    OVERLAY.draw(image, [])
    assert (image == 128).all()


# --- the corner

PANEL = (24, 26, 30)
MS = {"read": 12.04, "detect": 21.3, "track": 0.1, "align": 0.31, "embed": 5.8, "match": 0.0, "decide": 0.0,
      "events": 0.2, "draw": 3.1, "output": 8.8}  # fmt: skip


def test_the_corner_says_how_fast_what_runs_and_where_the_time_goes():
    assert status_lines(MS, 27.85, 24.96, 1, "3 people  int8 on cpu") == (
        "27.9 ms  25.0 fps  1 face",
        "3 people  int8 on cpu",
        "read 12.0  detect 21.3  track 0.1  align 0.3  embed 5.8  match 0.0  decide 0.0  events 0.2  draw 3.1"
        "  output 8.8",
    )
    assert status_lines({}, 0.0, None, 0) == ("0.0 ms  0 faces",)


def panel(image):
    """Right and lower edge of the panel."""
    ys, xs = np.nonzero((image == np.array(PANEL, np.uint8)).all(axis=2))
    return int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize(("width", "height"), [(320, 240), (640, 480), (1920, 1080), (1080, 1920)])
def test_the_corner_is_readable_and_leaves_the_picture_at_any_size(width, height):
    written = []
    put = cv2.putText
    image = grey(height, width)

    def noted(picture, text, *rest):
        written.append((text, *rest))
        return put(picture, text, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "putText", noted)
        OVERLAY.draw(image, [], status_lines(MS, 27.85, 24.96, 1, "3 people  int8 on cpu"))
    right, bottom = panel(image)
    assert right <= width
    assert bottom <= height / 3 + 1
    texts = [text for text, *_ in written]
    assert texts[:2] == ["27.9 ms  25.0 fps  1 face", "3 people  int8 on cpu"]
    assert "  ".join(texts[2:]) == "  ".join(f"{stage} {ms:.1f}" for stage, ms in MS.items())  # broken, not cut
    assert all(size >= max(9, min(width, height) / 40) for _, _, _, _, size, _ in written)
    lines = [y for _, (_, y), *_ in written]
    assert all(below - above >= size for above, below, (*_, size, _) in zip(lines, lines[1:], written, strict=False))


def test_what_would_take_more_than_a_third_of_the_picture_is_left_out():
    image = grey(240, 320)
    OVERLAY.draw(image, [], [f"line {number}" for number in range(100)])
    assert panel(image)[1] <= 80
    image = grey(60, 900)
    OVERLAY.draw(image, [], ["x" * 500])
    assert panel(image)[0] <= 900
