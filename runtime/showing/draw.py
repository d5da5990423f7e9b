"""The picture that people see: boxes, names and numbers over the frame, readable at any resolution."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from edgeface.runtime.deciding.decision import Decision, State

Colour = tuple[int, int, int]

COLOURS: Final[dict[State, Colour]] = {
    "match": (64, 190, 90),
    "unknown": (225, 60, 50),
    "rejected": (225, 60, 50),
    "pending": (245, 175, 40),
}
"""RGB of box and label by state; the label also says it in words."""

_PANEL: Final[Colour] = (24, 26, 30)
_WHITE: Final[Colour] = (255, 255, 255)
_BLACK: Final[Colour] = (0, 0, 0)
_WEIGHT: Final = 500  # of 100 to 900
_MAX_LETTERS: Final = 32  # in a line of a label
_REPLACED: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True, eq=False)
class FaceView:
    """What is drawn of one face.

    Attributes:
        track: id of the track.
        box: (4,) x, y, width, height in pixels.
        landmarks: (5, 2) in pixels.
        decision: what is known about it.
    """

    track: int
    box: npt.NDArray[np.floating]
    landmarks: npt.NDArray[np.floating]
    decision: Decision


class Overlay:
    """Draws into frames. It holds the font, so make one and keep it."""

    def __init__(self) -> None:
        # OpenCV 5 brings its own fonts: Latin, Greek, Cyrillic, Chinese, Japanese, Korean, Arabic and Hebrew letters.
        # What they lack is drawn as a question mark.
        self._font = cv2.FontFace("sans")

    def draw(self, image: npt.NDArray[np.uint8], faces: Sequence[FaceView], status: Sequence[str] = ()) -> None:
        """Draw boxes, landmarks and labels into a picture, in place.

        Args:
            image: (H, W, 3) uint8 RGB, contiguous and writable.
            faces: in any order; a label that would hide another one is moved.
            status: lines for the upper left corner, see `status_lines`; those that are too wide are broken where they
                have two spaces, and those that would take more than a third of the height are left out.
        """
        pen = _Pen(image, self._font)
        for face in faces:
            pen.face(face)
        taken = [pen.status(status)] if status else []
        # Labels last, so that no box runs through a name; the nearest face is served first.
        for face in sorted(faces, key=lambda face: -float(face.box[3])):
            others = [_corners(other.box) for other in faces if other is not face]
            taken.append(pen.label(face, taken, others))


def status_lines(
    ms: Mapping[str, float], total_ms: float, fps: float | None, faces: int, note: str = ""
) -> tuple[str, ...]:
    """Return what the corner says: how fast, `note` (what runs, who is known), and where the time goes.

    Args:
        ms: milliseconds by stage, each as it last was.
        total_ms: of this frame so far.
        fps: frames a second, None if that is not known yet.
        faces: in this frame.
        note: its parts separated by two spaces.
    """
    rate = "" if fps is None else f"  {fps:.1f} fps"
    first = f"{total_ms:.1f} ms{rate}  {faces} face{'' if faces == 1 else 's'}"
    stages = "  ".join(f"{stage} {value:.1f}" for stage, value in ms.items())
    return tuple(line for line in (first, note, stages) if line)


def caption(decision: Decision) -> tuple[str, ...]:
    """Return the lines of a label: who it is, and the numbers or the reason."""
    if decision.identity is not None and decision.score is not None:
        return _shorten(decision.identity), f"{decision.score:.2f} ≥ {decision.threshold:.2f}"
    title = "…" if decision.state == "pending" else decision.state
    reason, _, detail = (decision.why or "").partition(": ")
    if decision.score is not None and decision.score < decision.threshold and "threshold" in detail:
        return title, f"{decision.score:.2f} < {decision.threshold:.2f}"
    return tuple(_shorten(line) for line in (title, reason, detail) if line)


def printable(text: str) -> str:
    """Return text that can be drawn on one line: composed letters, and nothing that controls or turns the line."""
    composed = unicodedata.normalize("NFC", text)
    return "".join("?" if unicodedata.category(letter) in _REPLACED else letter for letter in composed)


def _shorten(text: str) -> str:
    clean = printable(text)
    return clean if len(clean) <= _MAX_LETTERS else f"{clean[: _MAX_LETTERS - 1].rstrip()}…"


Rectangle = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside


class _Pen:
    """One picture, with sizes that fit it."""

    def __init__(self, image: npt.NDArray[np.uint8], font: cv2.FontFace) -> None:
        self.image = image
        self.font = font
        self.height: int = image.shape[0]
        self.width: int = image.shape[1]
        self.size: int = max(9, round(min(self.height / 36, self.width / 28)))  # of a letter, in pixels
        self.line = max(1, round(self.size / 10))
        self.pad = max(2, self.size // 4)

    def face(self, face: FaceView) -> None:
        left, top, right, bottom = _corners(face.box)
        colour = COLOURS[face.decision.state]
        start, end = (left, top), (right, bottom)
        # The dark line under the coloured one keeps it visible on any background.
        cv2.rectangle(self.image, start, end, _BLACK, self.line + 2)
        cv2.rectangle(self.image, start, end, colour, self.line)
        radius = max(1, round(min(right - left, bottom - top) / 60))
        for x, y in face.landmarks.tolist():
            cv2.circle(self.image, (round(x), round(y)), radius, _WHITE, -1, cv2.LINE_AA)

    def label(self, face: FaceView, taken: Sequence[Rectangle], others: Sequence[Rectangle]) -> Rectangle:
        """Write a label where it hides no other label and, if that can be, no other face; return its place."""
        lines = [self._fit(line) for line in caption(face.decision)]
        width = max(self._text_width(line) for line in lines) + 2 * self.pad
        height = len(lines) * self._line_height() + self.pad
        left, top, right, bottom = _corners(face.box)
        x = min(max(0, left - self.line), max(0, self.width - width))
        # Above, below, inside; to the right, to the left.
        wishes = [(x, top - height - self.line), (x, bottom + self.line), (x, top + self.line)]
        wishes += [(right + self.line, top), (left - width - self.line, top)]
        places = [self._inside(x, y, width, height) for x, y in wishes]
        for hidden in ((*taken, *others), taken):
            free = [place for place in places if not _overlaps(place, hidden)]
            if free:
                break
        place = free[0] if free else self._nearest_room(places[0], taken)
        self._write(lines, place, COLOURS[face.decision.state], _BLACK)
        return place

    def _inside(self, x: int, y: int, width: int, height: int) -> Rectangle:
        left = min(max(0, x), max(0, self.width - width))
        top = min(max(0, y), max(0, self.height - height))
        return left, top, left + width, top + height

    def status(self, lines: Sequence[str]) -> Rectangle:
        broken = [part for line in lines for part in self._break(printable(line))]
        room = max(1, (self.height // 3 - self.pad) // self._line_height())
        texts = [self._fit(line) for line in broken[:room]]
        width = max(self._text_width(line) for line in texts) + 2 * self.pad
        place = (0, 0, width, len(texts) * self._line_height() + self.pad)
        self._write(texts, place, _PANEL, _WHITE)
        return place

    def _break(self, line: str) -> list[str]:
        """Break a line that is wider than the picture where it has two spaces."""
        first, *rest = line.split("  ")
        lines = [first]
        for part in rest:
            longer = f"{lines[-1]}  {part}"
            if self._text_width(longer) <= self.width - 2 * self.pad:
                lines[-1] = longer
            else:
                lines.append(part)
        return lines

    def _nearest_room(self, place: Rectangle, taken: Sequence[Rectangle]) -> Rectangle:
        """Move a place up or down until it hides nothing; where there is no room at all it stays."""
        left, top, right, bottom = place
        height = bottom - top
        edges = [t - height for _, t, _, _ in taken] + [b for _, _, _, b in taken]
        for y in sorted(edges, key=lambda y: abs(y - top)):
            moved = (left, y, right, y + height)
            if 0 <= y <= self.height - height and not _overlaps(moved, taken):
                return moved
        return place

    def _write(self, lines: Sequence[str], place: Rectangle, paper: Colour, ink: Colour) -> None:
        left, top, right, bottom = place
        self.image[max(0, top) : bottom, max(0, left) : right] = paper
        for row, line in enumerate(lines):
            baseline = top + self.pad // 2 + row * self._line_height() + self.size
            cv2.putText(self.image, line, (left + self.pad, baseline), ink, self.font, self.size, _WEIGHT)

    def _line_height(self) -> int:
        return round(1.25 * self.size)

    def _text_width(self, text: str) -> int:
        rectangle: Sequence[int] = cv2.getTextSize((0, 0), text, (0, 0), self.font, self.size, _WEIGHT)
        return rectangle[2]

    def _fit(self, text: str) -> str:
        """Shorten text that is wider than the picture."""
        room = self.width - 2 * self.pad
        if self._text_width(text) <= room:
            return text
        while text and self._text_width(text + "…") > room:
            text = text[:-1]
        return text + "…"


def _corners(box: npt.NDArray[np.floating]) -> Rectangle:
    left, top, width, height = box.tolist()
    return round(left), round(top), round(left + width), round(top + height)


def _overlaps(place: Rectangle, taken: Sequence[Rectangle]) -> bool:
    left, top, right, bottom = place
    return any(left < r and right > left_ and top < b and bottom > t for left_, t, r, b in taken)
