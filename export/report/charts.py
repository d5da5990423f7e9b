"""Drawings of a bundle's report: scores, the trade-off between both errors, what each layer costs in int8."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.export.report.effects import LAXEST_FMR, TradeOff
from edgeface.export.report.svg import Axis, Frame, drawing, legend, segment, text
from edgeface.export.report.wording import count, one_in
from edgeface.export.thresholds import PairScores
from edgeface.manifest import Kind, Quantization, Threshold
from edgeface.scoring import WORDS

BINS: Final = 60
LOOKS: Final = ("one", "two dash", "three dots")
"""Of precisions: told apart by colour and by the kind of line."""
_LEAST_LOSS: Final = 1e-7
"""Layers that cost nothing have a bar on a logarithmic axis too."""


def score_chart(scores: Mapping[str, PairScores], threshold: Threshold | None, kind: Kind) -> str:
    """Draw how the scores of both kinds of pairs are spread, the first precision as areas, others as lines on them."""
    low = min(float(min(own.impostor.min(), own.genuine.min())) for own in scores.values())
    high = max(float(max(own.impostor.max(), own.genuine.max())) for own in scores.values())
    low, high = low - 0.02, high + 0.02
    edges = np.linspace(low, high, BINS + 1)
    spread = {name: [_shares(kind, edges) for kind in (own.impostor, own.genuine)] for name, own in scores.items()}
    most = max(float(shares.max()) for kinds in spread.values() for shares in kinds)
    ticks = _even_ticks(0, most)
    frame = Frame(
        Axis(
            low,
            high,
            [(tick, f"{tick:g}") for tick in _even_ticks(low, high)],
            f"{WORDS[kind]}: how alike two faces are",
        ),
        Axis(0, most * 1.05, [(tick, f"{100 * tick:g} %") for tick in ticks], "share of the pairs"),
    )
    steps = np.repeat(edges, 2)[1:-1].tolist()
    parts = frame.axes()
    names = list(scores)
    entries = []
    for look, side, words in (("two", 0, "two people"), ("one", 1, "one person")):
        for place, name in enumerate(names):
            heights = np.repeat(spread[name][side], 2).tolist()
            if place == 0:
                parts.append(frame.area(steps, heights, look))
                entries.append((f"fill area {look}", f"{words}, {name}"))
            else:
                line = f"{look} {'dash' if place == 1 else 'dots'}"
                parts.append(frame.curve(steps, heights, line))
                entries.append((line, name))
    if threshold is not None:
        top = frame.place(threshold.cosine, frame.y.high)
        parts.append(segment(top, frame.place(threshold.cosine, 0), "line ink"))
        parts.append(text((top[0] + 5, top[1] + 12), f"threshold {threshold.cosine:.3f}"))
    words = f"Histogram of the {WORDS[kind]}s of pairs of two people and of one person, for {' and '.join(names)}"
    return drawing([*parts, *legend(entries)], words)


def trade_off_chart(curves: Mapping[str, TradeOff], thresholds: Sequence[Threshold]) -> str:
    """Draw the share of genuine pairs that are refused against the false match rate, as far as the pairs support it.

    Args:
        curves: of each precision, over the same rates; not empty.
        thresholds: marked on the curve of their precision.
    """
    lowest = min(float(curve.fmr[0]) for curve in curves.values())
    left = 10.0 ** math.floor(math.log10(lowest) - 0.3)
    most = max(0.01, *(float(curve.fnmr.max()) for curve in curves.values())) * 1.08
    decades = [10.0**power for power in range(round(math.log10(left)), 0)]
    frame = Frame(
        Axis(left, LAXEST_FMR, [(rate, one_in(rate)) for rate in decades], "strangers who are let in", log=True),
        Axis(0, most, [(tick, f"{100 * tick:g} %") for tick in _even_ticks(0, most)], "own people who are refused"),
    )
    parts = [frame.box((left, lowest), (0, most), "unknown"), *frame.axes()]
    entries = []
    for look, (name, curve) in zip(_looks(len(curves)), curves.items(), strict=True):
        parts.append(frame.curve(curve.fmr.tolist(), curve.fnmr.tolist(), look))
        for threshold in thresholds:
            if (threshold.gallery, threshold.precision) == (name, name) and threshold.tar is not None:
                x, y = frame.place(threshold.fmr, 1 - threshold.tar)
                parts.append(f'<circle class="hollow {look.split()[0]}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        entries.append((look, name))
    entries.append(("unknown", "too few pairs to tell"))
    words = "Detection error trade-off: share of one person's pairs refused, against share of strangers let in"
    return drawing([*parts, *legend(entries)], words)


def layer_chart(record: Quantization) -> str:
    """Draw what each layer alone in int8 costs, in the order in which they run."""
    losses = {name: max(loss, _LEAST_LOSS) for name, loss in record.sensitivity.items()}
    low = 10.0 ** math.floor(math.log10(min(losses.values())) - 1e-9)
    high = 10.0 ** math.ceil(math.log10(max(losses.values())) + 0.1)
    powers = range(round(math.log10(low)), round(math.log10(high)) + 1)
    number = len(losses)
    step = max(1, 10 ** round(math.log10(number / 6))) if number > 6 else 1
    frame = Frame(
        Axis(0, number, [(at - 0.5, str(at)) for at in range(step, number + 1, step)], "layers, in the order they run"),
        Axis(low, high, [(10.0**power, f"{10.0**power:g}") for power in powers], "1 - cosine, one layer in int8", True),
    )
    floats = set(record.float_nodes)
    parts = frame.axes()
    for place, (name, loss) in enumerate(losses.items()):
        look = "hollow two" if name in floats else "fill one"
        parts.append(frame.box((place + 0.12, place + 0.88), (low, loss), look, f"{name}: {loss:.3g}"))
    kept = sum(name in floats for name in losses)
    entries = [("fill one", f"in int8 ({count(number - kept)})"), ("hollow two", f"left in float ({count(kept)})")]
    return drawing([*parts, *legend(entries)], "Bars: what each layer alone costs when it computes in int8")


def _looks(number: int) -> list[str]:
    return [LOOKS[place % len(LOOKS)] for place in range(number)]


def _shares(scores: npt.NDArray[np.float32], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = np.histogram(scores.astype(np.float64), edges)[0]
    return np.asarray(counts, np.float64) / len(scores)


def _even_ticks(low: float, high: float) -> list[float]:
    """Return four to nine round numbers between two, evenly spaced."""
    unit = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = next(unit * factor for factor in (1, 2, 5, 10) if (high - low) / (unit * factor) <= 8)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{step * number:.10g}") for number in range(first, last + 1)]
