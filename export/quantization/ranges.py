"""The values that activations take over calibration faces, and the ranges that quantization gives them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import ExportError
from edgeface.runtime.providers.session import Session, open_session

BINS: Final = 8192
"""Bins of a histogram over [-limit, limit): at least 16 for each step of an 8-bit range."""

CHUNK: Final = 8
"""Faces that run at once: all their activations are in memory at that time."""

MIN_IMAGES: Final = 16
"""Fewer calibration images give ranges that a next face leaves."""

PERCENTILE: Final = 99.999
"""Share of activation values, in percent, that the range `percentile` covers; the rest saturates.

With channels equalised by how far they reach, the full range (`minmax`) is as fine and cuts nobody off: on 666 faces
of LFW, with those this percentile serves worst, the smallest cosine of a MobileFaceNet in int8 is 0.993, not 0.969.
"""

_ENTROPY_STEPS: Final = 64
_LEVELS: Final = 256

Range = tuple[float, float]


class Histogram:
    """How often a tensor takes which values, in memory that does not grow with the number of values.

    The limit is a power of two. When a value lies beyond it, the limit doubles and neighbouring bins are merged,
    which is exact: the result does not depend on the order in which values come.
    """

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 2.0**-20
        self.low, self.high = 0.0, 0.0
        """Smallest and largest value; zero is always within."""

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Count the values of a float32 array of any shape.

        Raises:
            ExportError: a value is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise ExportError("the network's activations are not finite on the calibration faces; check the network")
        self.low, self.high = min(self.low, low), max(self.high, high)
        while max(-self.low, self.high) >= self.limit:
            self._double()
        flat = np.ascontiguousarray(values).reshape(1, -1)
        counted = cv2.calcHist([flat], [0], None, [BINS], [-self.limit, self.limit])
        self.counts += counted.reshape(-1).astype(np.int64)

    def _double(self) -> None:
        merged = self.counts.reshape(-1, 2).sum(axis=1)
        self.counts = np.pad(merged, BINS // 4)
        self.limit *= 2

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Borders of the bins, (BINS + 1,)."""
        return np.linspace(-self.limit, self.limit, BINS + 1)


def minmax_range(histogram: Histogram) -> Range:
    """From the smallest to the largest value."""
    return histogram.low, histogram.high


def percentile_range(histogram: Histogram) -> Range:
    """Leave out the same number of values at either end, `PERCENTILE` percent stay within."""
    total = np.cumsum(histogram.counts)
    cut = total[-1] * (100 - PERCENTILE) / 200
    first = int(np.searchsorted(total, cut, side="right"))
    last = int(np.searchsorted(total, total[-1] - cut, side="left"))
    edges = histogram.edges
    return max(histogram.low, min(edges[first], 0.0)), min(histogram.high, max(edges[last + 1], 0.0))


def entropy_range(histogram: Histogram) -> Range:
    """Clip at the magnitude at which 256 levels lose the least information.

    That is the smallest Kullback-Leibler divergence from the histogram, clipped to the range, to its quantized
    form (Migacz, "8-bit inference with TensorRT", GTC 2017), for magnitudes from a quarter of the largest upwards.
    """
    edges, best, chosen = histogram.edges, np.inf, minmax_range(histogram)
    furthest = max(-histogram.low, histogram.high)
    for step in range(_ENTROPY_STEPS // 4, _ENTROPY_STEPS + 1):
        magnitude = furthest * step / _ENTROPY_STEPS
        low, high = max(histogram.low, -magnitude), min(histogram.high, magnitude)
        first = int(np.searchsorted(edges, low, side="right")) - 1
        last = int(np.searchsorted(edges, high, side="left"))
        loss = _divergence(histogram.counts, max(first, 0), last)
        if loss < best:
            best, chosen = loss, (low, high)
    return chosen


def _divergence(counts: npt.NDArray[np.int64], first: int, last: int) -> float:
    """Kullback-Leibler divergence from bins [first, last), what lies outside at its ends, to 256 levels of them."""
    inside = counts[first:last]
    clipped = inside.astype(np.float64)
    clipped[0] += counts[:first].sum()
    clipped[-1] += counts[last:].sum()
    level = np.arange(len(inside)) * _LEVELS // len(inside)
    used = inside > 0
    mass = np.bincount(level, inside, _LEVELS)
    share = np.bincount(level[used], minlength=_LEVELS)
    quantized = np.where(used, mass[level] / np.maximum(share[level], 1), 0.0)
    p, q = clipped / clipped.sum(), quantized / quantized.sum()
    q = np.where((p > 0) & (q == 0), 1e-12, q)
    filled = p > 0
    return float(np.sum(p[filled] * np.log(p[filled] / q[filled])))


METHODS: Final[dict[str, Callable[[Histogram], Range]]] = {
    "minmax": minmax_range,
    "percentile": percentile_range,
    "entropy": entropy_range,
}
"""From the values of a tensor to its range, zero always within."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What calibration faces do in a network, collected once and used for every way to quantize it.

    Attributes:
        histograms: by the name of the tensor.
        means: mean over the faces of each tensor, without the batch axis: (C, H, W) or (C,) float64.
        images: number of faces.
    """

    histograms: Mapping[str, Histogram]
    means: Mapping[str, npt.NDArray[np.float64]]
    images: int

    def ranges(self, method: str) -> dict[str, Range]:
        """Give each tensor its range by one of `METHODS`."""
        return {name: METHODS[method](histogram) for name, histogram in self.histograms.items()}


def collect_activations(model: onnx.ModelProto, tensors: Sequence[str], faces: npt.NDArray[np.uint8]) -> Activations:
    """Run faces through a network and watch float32 tensors of it; memory does not grow with their number.

    Args:
        model: an embedder that meets the contract, or a detector of fixed size.
        tensors: names of what to watch.
        faces: (N, 112, 112, 3) uint8 RGB, N >= 16; of a detector (N, H, W, 3) frames.

    Raises:
        ExportError: too few faces, or an activation is not finite.
    """
    check_faces(len(faces))
    watched = with_outputs(model, tensors).SerializeToString()
    session = open_session(watched, provider="cpu", threads=0, name="calibration")
    places = {output.name: index for index, output in enumerate(session.outputs)}
    histograms = {name: Histogram() for name in tensors}
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for chunk in _chunks(session, faces):
        results = session.run({session.inputs[0].name: chunk})
        for name in tensors:
            values = results[places[name]]
            histograms[name].add(values)
            added = values.sum(axis=0, dtype=np.float64)
            sums[name] = sums[name] + added if name in sums else added
    return Activations(histograms, {name: total / len(faces) for name, total in sums.items()}, len(faces))


def check_faces(count: int) -> None:
    """Refuse too few faces for calibration.

    Raises:
        ExportError: fewer than 16.
    """
    if count < MIN_IMAGES:
        raise ExportError(f"calibration needs at least {MIN_IMAGES} aligned faces, {count} were given")


def channel_reaches(
    model: onnx.ModelProto, tensors: Sequence[str], faces: npt.NDArray[np.uint8]
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the largest magnitude in each channel of tensors over faces, (C,) by the name of the tensor.

    Args:
        model: an embedder that meets the contract.
        tensors: names of feature maps, (N, C, H, W).
        faces: (N, 112, 112, 3) uint8 RGB, N >= 1.
    """
    watched = with_outputs(model, tensors).SerializeToString()
    session = open_session(watched, provider="cpu", threads=0, name="calibration")
    places = {output.name: index for index, output in enumerate(session.outputs)}
    reaches: dict[str, npt.NDArray[np.float32]] = {}
    for chunk in _chunks(session, faces):
        results = session.run({session.inputs[0].name: chunk})
        for name in tensors:
            reach = np.abs(results[places[name]]).max(axis=(0, 2, 3))
            reaches[name] = np.maximum(reaches[name], reach) if name in reaches else reach
    return reaches


def _chunks(session: Session, pictures: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint8]]:
    """Cut pictures (N, H, W, 3) into as many as a network takes at once, which of a detector is one."""
    batch = session.inputs[0].shape[0]
    size = batch if isinstance(batch, int) else CHUNK
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


def with_outputs(model: onnx.ModelProto, tensors: Sequence[str]) -> onnx.ModelProto:
    """Return a copy that gives tensors of the graph besides its own outputs.

    Those whose type cannot be inferred have none, which onnx does not call valid and onnxruntime finds out by itself.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {value.name for value in copy.graph.output}
    shapes = {value.name: value for value in onnx.shape_inference.infer_shapes(copy).graph.value_info}
    wanted = [name for name in tensors if name not in present]
    copy.graph.output.extend(shapes.get(name, onnx.ValueInfoProto(name=name)) for name in wanted)
    return copy
