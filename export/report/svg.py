"""Drawings for a page that fetches nothing and runs nothing: axes and marks as SVG, the same bytes each time.

Colours are names of CSS classes, so that they follow light and dark pages; see `STYLE`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

SIZE_WH: Final = (680, 360)
LEFT, RIGHT, TOP, BOTTOM = 70, 15, 42, 50
"""Margins around the axes, in the units of the drawing, as its size."""

STYLE: Final = """
:root { --one: #0066a6; --two: #b23c00; --three: #5b3fa0; }
@media (prefers-color-scheme: dark) { :root { --one: #5cb8f0; --two: #f5a04a; --three: #c3a6ff; } }
svg { width: 100%; max-width: 46rem; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--ink); } svg .small { fill: var(--dim); font-size: 12px; }
.axis { stroke: var(--dim); } .grid { stroke: var(--line); } .unknown { fill: var(--line); fill-opacity: 0.55; }
.line { fill: none; stroke-width: 2; } .dash { stroke-dasharray: 7 4; } .dots { stroke-dasharray: 2 3; }
.one { stroke: var(--one); } .two { stroke: var(--two); } .three { stroke: var(--three); } .ink { stroke: var(--ink); }
.fill.one { fill: var(--one); } .fill.two { fill: var(--two); } .area { fill-opacity: 0.25; stroke: none; }
.hollow { fill: var(--paper); stroke-width: 1.5; }
"""


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values along a side of the drawing.

    Attributes:
        low: value at its begin.
        high: value at its end, above `low`.
        ticks: values to mark, with what to write there.
        title: what it shows.
        log: whether equal steps are equal factors; then `low` is above 0.
    """

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    log: bool = False

    def share(self, value: float) -> float:
        """Return where a value lies, 0 at the begin and 1 at the end; values outside are taken to the nearer one."""
        kept = min(max(value, self.low), self.high)
        if self.log:
            return math.log(kept / self.low) / math.log(self.high / self.low)
        return (kept - self.low) / (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Frame:
    """The area between two axes."""

    x: Axis
    y: Axis

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies in the drawing."""
        width, height = SIZE_WH[0] - LEFT - RIGHT, SIZE_WH[1] - TOP - BOTTOM
        return LEFT + width * self.x.share(x), TOP + height * (1 - self.y.share(y))

    def axes(self) -> list[str]:
        """Draw both axes, their ticks and titles."""
        (left, bottom), (right, top) = self.place(self.x.low, self.y.low), self.place(self.x.high, self.y.high)
        parts = []
        for value, words in self.x.ticks:
            at = self.place(value, self.y.low)[0]
            parts.append(segment((at, top), (at, bottom), "grid"))
            parts.append(text((at, bottom + 17), words, "middle", small=True))
        for value, words in self.y.ticks:
            at = self.place(self.x.low, value)[1]
            parts.append(segment((left, at), (right, at), "grid"))
            parts.append(text((left - 7, at + 4), words, "end", small=True))
        parts.append(segment((left, bottom), (right, bottom), "axis"))
        parts.append(segment((left, top), (left, bottom), "axis"))
        parts.append(text(((left + right) / 2, SIZE_WH[1] - 10), self.x.title, "middle"))
        parts.append(text((15, (top + bottom) / 2), self.y.title, "middle", turned=True))
        return parts

    def curve(self, xs: Sequence[float], ys: Sequence[float], look: str) -> str:
        """Draw a line through points."""
        return f'<polyline class="line {look}" points="{self._points(xs, ys)}"/>'

    def area(self, xs: Sequence[float], ys: Sequence[float], look: str) -> str:
        """Fill what lies between points and the lower axis."""
        closed = self._points([xs[0], *xs, xs[-1]], [self.y.low, *ys, self.y.low])
        return f'<polygon class="fill area {look}" points="{closed}"/>'

    def box(self, x: tuple[float, float], y: tuple[float, float], look: str, words: str = "") -> str:
        """Draw a rectangle between two values of each axis; `words` are shown where a pointer rests on it."""
        (left, bottom), (right, top) = self.place(x[0], y[0]), self.place(x[1], y[1])
        place = f'x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"'
        return f'<rect class="{look}" {place}>{f"<title>{escape(words)}</title>" if words else ""}</rect>'

    def _points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        places = (self.place(x, y) for x, y in zip(xs, ys, strict=True))
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def drawing(parts: Sequence[str], words: str) -> str:
    """Return a whole drawing, with words for those who do not see it."""
    body = "\n".join(parts)
    width, height = SIZE_WH
    return f'<svg role="img" aria-label="{escape(words)}" viewBox="0 0 {width} {height}">\n{body}\n</svg>'


def segment(begin: tuple[float, float], end: tuple[float, float], look: str) -> str:
    """Draw a straight line between two places."""
    return f'<line class="{look}" x1="{begin[0]:.1f}" y1="{begin[1]:.1f}" x2="{end[0]:.1f}" y2="{end[1]:.1f}"/>'


def text(
    place: tuple[float, float], words: str, anchor: str = "start", *, small: bool = False, turned: bool = False
) -> str:
    """Write words at a place."""
    x, y = place
    look = ' class="small"' if small else ""
    turn = f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text{look} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turn}>{escape(words)}</text>'


def legend(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Write a row above the axes: for each (look, words), a sample and what it is."""
    parts, at = [], float(LEFT)
    for look, words in entries:
        if {"fill", "hollow", "unknown"} & set(look.split()):
            parts.append(f'<rect class="{look}" x="{at:.1f}" y="12" width="24" height="11"/>')
        else:
            parts.append(segment((at, 18), (at + 24, 18), f"line {look}"))
        parts.append(text((at + 30, 22), words))
        at += 30 + 6.6 * len(words) + 22
    return parts
