"""A face detector in int8: quantized as embedders are, and judged by the faces that it still finds."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.data.detection import DetectionSet
from edgeface.errors import ConfigError, ExportError
from edgeface.evaluation.detection import DetectorReport, evaluate_file
from edgeface.export.cleaning import serialize
from edgeface.export.parity import Parity, compare
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.search import Plan, find_plan
from edgeface.export.quantization.sensitivity import measure_sensitivity, ranked
from edgeface.export.quantization.targets import Target
from edgeface.export.speed import ROUNDS, WARM_UP, explain_speed
from edgeface.manifest import Quantization
from edgeface.runtime.detection.detections import fit
from edgeface.runtime.providers.session import open_session
from edgeface.runtime.timing import take_turns

SIDE: Final = 320
"""Calibration frames are of this width and height; activations do not depend on the size of the frame."""

MAX_DROP: Final = 0.5
"""Points of recall that int8 may lose when nothing is said."""

MAX_LANDMARK_RISE: Final = 0.05
"""Landmark errors may rise by this share."""

SENSITIVITY_FRAMES: Final = 8


@dataclass(frozen=True, slots=True)
class DetectorBounds:
    """What an int8 detector has to keep, measured on labelled pictures.

    Attributes:
        pictures: that it was not calibrated on.
        max_side: larger pictures are shrunk to this, in pixels.
        max_drop: percentage points of recall that it may lose.

    Raises:
        ConfigError: a value is out of range.
    """

    pictures: DetectionSet
    max_side: int = 640
    max_drop: float = MAX_DROP

    def __post_init__(self) -> None:
        if not 0 <= self.max_drop < 100:
            raise ConfigError(f"--max-drop is in percentage points, 0 to 100, got {self.max_drop:g}; use for example 1")

    def judge(self, original: DetectorReport, tried: DetectorReport) -> tuple[bool, str]:
        """Say whether a detector keeps them, and in words what it loses."""
        drop = 100 * (original.recall - tried.recall)
        kept = drop <= self.max_drop + 1e-9
        said = f"{drop:.2f} points of recall lost, at most {self.max_drop:g} asked"
        if original.landmark_error is not None:
            rise = (tried.landmark_error or np.inf) / max(original.landmark_error, 1e-9) - 1
            kept = kept and rise <= MAX_LANDMARK_RISE
            said += f"; landmark error {100 * rise:+.1f} %, at most {100 * MAX_LANDMARK_RISE:+.0f} % asked"
        return kept, f"{said}, on {tried.pictures} pictures"


@dataclass(frozen=True, slots=True)
class Int8Detector:
    """A quantized detector as a file, how that was done, and what it scores."""

    data: bytes
    record: Quantization
    report: DetectorReport


def calibration_frames(pictures: DetectionSet, count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Draw pictures that fix the ranges, letterboxed as at run time.

    Args:
        pictures: to draw from; pictures with faces that look aside come more often, as in training.
        count: how many.
        seed: of the drawing.

    Returns:
        (count, `SIDE`, `SIDE`, 3) uint8 RGB.
    """
    rng = np.random.default_rng(seed)
    return np.stack([fit(pictures.draw(rng).image, SIDE, (SIDE, SIDE)).image for _ in range(count)])


def quantize_detector(
    model: onnx.ModelProto,
    frames: npt.NDArray[np.uint8],
    target: Target,
    method: str,
    bounds: DetectorBounds,
    original: DetectorReport,
) -> Int8Detector:
    """Quantize a detector so that it keeps its bounds with the least in float.

    The convolution of the picture itself stays in float in any case: it sums so few products that int8 makes it slower
    (of a detector of 1.5 ms it takes 0.47 ms in int8, and 0.2 less in float).

    Args:
        model: float32, from `export_detector`.
        frames: (N, H, W, 3) uint8 RGB, from `calibration_frames`.
        target: the processor it is for.
        method: from activations to their ranges; a key of `export.quantization.ranges.METHODS`.
        bounds: what it has to keep.
        original: what the float32 network scores on the pictures of the bounds.

    Raises:
        ExportError: too few frames, or no network keeps the bounds; says how near the nearest came.
        UnknownNameError: no method has that name.
    """
    quantizer = Quantizer(_of_size(model, frames.shape[1], frames.shape[2]), frames, target, method)
    seen: dict[Plan, tuple[bool, str, DetectorReport]] = {}

    def file(plan: Plan) -> bytes:
        return serialize(_of_any_size(quantizer.write(plan), model))

    def holds(plan: Plan) -> bool:
        if plan not in seen:
            report = evaluate_file(file(plan), bounds.pictures, bounds.max_side, "int8 on trial")
            seen[plan] = (*bounds.judge(original, report), report)
        return seen[plan][0]

    first = quantizer.graph.layers[0].name
    start = tuple(dict.fromkeys((first, *quantizer.cheapest.float_layers)))
    ranking: list[str] = []
    if not holds(Plan(start)):
        few = frames[:SENSITIVITY_FRAMES]
        reference = _maps(serialize(model), few)

        def judge(names: Collection[str]) -> Parity:
            return compare(reference, _maps(file(Plan(tuple(names), float_weights=True)), few))

        sensitivities = measure_sensitivity(quantizer.graph, judge)
        order = ranked(sensitivities, lambda name: quantizer.costs.change(start, name))
        ranking = [name for name in order if name not in start]
    plan = find_plan(start, ranking, lambda name: quantizer.costs.change(start, name), holds)
    if plan is None:
        best = seen[Plan((*start, *ranking), True)][1]
        raise ExportError(f"no network fits: even with every layer in float: {best}; lower the bound, or ask for fp32")
    data, (_, said, report) = file(plan), seen[plan]
    speed = _speed(serialize(model), data, frames[:1], target)
    record = quantizer.record(plan).model_copy(update={"bound": said, "speed": speed})
    return Int8Detector(data, record, report)


def _speed(fp32: bytes, int8: bytes, frame: npt.NDArray[np.uint8], target: Target) -> str:
    sessions = [open_session(data, provider="cpu", threads=1, name="detector") for data in (fp32, int8)]
    works = [partial(session.run, {"frame": frame}) for session in sessions]
    float_ms, int8_ms = (float(np.median(times)) for times in take_turns(works, ROUNDS, WARM_UP))
    return explain_speed(float_ms, int8_ms, int8, target)


def _maps(data: bytes, frames: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return all maps of each frame as one row, (N, M)."""
    session = open_session(data, provider="cpu", threads=0, name="detector")
    return np.stack([np.concatenate([m.ravel() for m in session.run({"frame": frame[None]})]) for frame in frames])


def _of_size(model: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """Return a copy for frames of one size: only then is known how much work a layer is."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    dimensions = copy.graph.input[0].type.tensor_type.shape.dim
    dimensions[1].dim_value, dimensions[2].dim_value = height, width
    for value in copy.graph.output:
        for dimension in value.type.tensor_type.shape.dim[2:]:
            dimension.Clear()
    return copy


def _of_any_size(model: onnx.ModelProto, source: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for frames of any size again, as the source has it."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.input[:], copy.graph.output[:], copy.graph.value_info[:]
    copy.graph.input.extend(source.graph.input)
    copy.graph.output.extend(source.graph.output)
    return copy
