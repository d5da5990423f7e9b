"""The int8 network that keeps a bound, within a budget of time and bytes."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edgeface.data.faceset import FaceSet
from edgeface.data.pairs import Pairs
from edgeface.errors import ConfigError, ExportError
from edgeface.evaluation.verification import verify_pairs
from edgeface.export.cleaning import serialize
from edgeface.export.parity import Parity, compare
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.search import Plan, find_plan, ladder
from edgeface.export.quantization.sensitivity import Sensitivity, measure_sensitivity, ranked
from edgeface.export.speed import race
from edgeface.export.spread import from_relative
from edgeface.manifest import Quantization
from edgeface.runtime.embedder import open_embedder

MIN_COSINE: Final = 0.98
"""The bound when nothing is said, on the scale of `edgeface.export.spread`."""

SENSITIVITY_FACES: Final = 32
"""Faces for the sensitivity of a layer: its mean needs fewer than a minimum does."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an int8 network has to keep, and what it may cost.

    Attributes:
        min_cosine: between its embedding and the original's, for every face it is measured on, on the scale on which
            two different faces have 0: see `edgeface.export.spread`.
        max_drop: percentage points of true accept rate that it may lose against fp32 at `fmr` on the labelled pairs.
        fmr: that false match rate.
        max_latency_ms: median for one face on one thread of this machine.
        max_bytes: size of the file.
        sensitivity: measure every layer even where the bound holds with all of them in int8.

    Raises:
        ConfigError: a value is out of range.
    """

    min_cosine: float | None = MIN_COSINE
    max_drop: float | None = None
    fmr: float = 1e-3
    max_latency_ms: float | None = None
    max_bytes: int | None = None
    sensitivity: bool = False

    def __post_init__(self) -> None:
        if self.min_cosine is not None and not 0 < self.min_cosine < 1:
            raise ConfigError(f"--min-cosine lies between 0 and 1, got {self.min_cosine:g}; use for example 0.98")
        if self.max_drop is not None and not 0 <= self.max_drop < 100:
            raise ConfigError(
                f"--max-drop is in percentage points, 0 to 100, got {self.max_drop:g}; use for example 0.1"
            )
        for option, value in (("--max-latency", self.max_latency_ms), ("--max-bytes", self.max_bytes)):
            if value is not None and not value > 0:
                raise ConfigError(f"{option} must be above 0, got {value:g}")


@dataclass(frozen=True, slots=True)
class Trial:
    """Faces and pairs that networks are tried on.

    Attributes:
        faces: (N, 112, 112, 3) uint8 RGB.
        reference: (N, D) embeddings of the original network.
        name: of these faces, in words.
        labelled: faces and pairs of them, needed for `Bounds.max_drop` alone.
        fp32: the float32 network as a file, for the same.
        common: cosine that embeddings of two different faces have, which `Bounds.min_cosine` is relative to.
    """

    faces: npt.NDArray[np.uint8]
    reference: npt.NDArray[np.float32]
    name: str
    labelled: tuple[FaceSet, Pairs] | None
    fp32: bytes
    common: float = 0.0

    def parity(self, data: bytes, count: int | None = None) -> Parity:
        """Compare a network with the original on the first `count` faces, all by default."""
        embedder = open_embedder(data, provider="cpu", threads=0, name="int8 on trial")
        return compare(self.reference[:count], embedder.embed(self.faces[:count]))

    def tar(self, data: bytes, fmr: float) -> float:
        """True accept rate of a network at a false match rate on the labelled pairs.

        Raises:
            ConfigError: there are none.
        """
        if self.labelled is None:
            raise ConfigError("--max-drop needs labelled pairs; give --data, and --pairs if they lie elsewhere")
        embedder = open_embedder(data, provider="cpu", threads=0, name="int8 on trial")
        report = verify_pairs(embedder, *self.labelled)
        return float(report.roc.at_fmr(fmr)[0])


@dataclass(frozen=True, slots=True)
class Bounded:
    """A network that keeps its bounds, as a file.

    Attributes:
        data: ONNX.
        record: how it was quantized, None if it was not.
        sensitivities: of its layers; empty if they were not measured.
    """

    data: bytes
    record: Quantization | None
    sensitivities: tuple[Sensitivity, ...]


class _Search:
    """Tries plans, each once."""

    def __init__(self, quantizer: Quantizer, bounds: Bounds, trial: Trial) -> None:
        self._quantizer = quantizer
        self._bounds = bounds
        self._trial = trial
        self._drop_from = trial.tar(trial.fp32, bounds.fmr) if bounds.max_drop is not None else 0.0
        self._seen: dict[Plan, bool] = {}
        self.reached: dict[Plan, str] = {}

    def file(self, plan: Plan) -> bytes:
        return serialize(self._quantizer.write(plan))

    def holds(self, plan: Plan) -> bool:
        if plan not in self._seen:
            self._seen[plan] = self._try(plan)
        return self._seen[plan]

    def _try(self, plan: Plan) -> bool:
        data, reached = self.file(plan), []
        fits = True
        if self._bounds.min_cosine is not None:
            parity = self._trial.parity(data)
            asked, common = self._bounds.min_cosine, self._trial.common
            least = from_relative(asked, common)
            fits = parity.min_cosine >= least
            scaled = f" ({asked:g}, with {common:.2f} between strangers)" if least > asked + 1e-4 else ""
            reached.append(
                f"minimum cosine {parity.min_cosine:.4f}, at least {round(least, 5):g} asked{scaled}, "
                f"on {parity.images} {self._trial.name}"
            )
        if fits and self._bounds.max_drop is not None:
            drop = 100 * (self._drop_from - self._trial.tar(data, self._bounds.fmr))
            fits = drop <= self._bounds.max_drop + 1e-9
            reached.append(
                f"{drop:.2f} points of TAR at FMR {self._bounds.fmr:g} lost, at most {self._bounds.max_drop:g} asked"
            )
        self.reached[plan] = "; ".join(reached)
        return fits


def quantize_within(quantizer: Quantizer, bounds: Bounds, trial: Trial) -> Bounded:
    """Find the int8 network with the least in float that keeps the bounds.

    Raises:
        ExportError: none fits; says how near the nearest came.
        ConfigError: a bound needs labelled pairs and there are none.
    """
    search = _Search(quantizer, bounds, trial)
    start = quantizer.cheapest.float_layers

    def price(name: str) -> float:
        return quantizer.costs.change(start, name)

    sensitivities: tuple[Sensitivity, ...] = ()
    if bounds.sensitivity or not search.holds(quantizer.cheapest):

        def judge(names: Collection[str]) -> Parity:
            return trial.parity(search.file(Plan(tuple(names), float_weights=True)), SENSITIVITY_FACES)

        sensitivities = measure_sensitivity(quantizer.graph, judge)
    every = ranked(sensitivities, price) or tuple(layer.name for layer in quantizer.graph.layers)
    ranking = [name for name in every if name not in start]
    plan = find_plan(start, ranking, price, search.holds)
    if plan is None:
        best = search.reached[Plan((*start, *ranking), True)]
        raise ExportError(f"no network fits: even with every layer in float: {best}; lower the bound, or ask for fp32")
    if bounds.max_latency_ms is not None:
        plan = _fast_enough(search, [p for p in ladder(plan, ranking) if search.holds(p)], trial, bounds.max_latency_ms)
    data = search.file(plan)
    if bounds.max_bytes is not None and len(data) > bounds.max_bytes:
        raise ExportError(
            f"no network fits: the one that keeps the bound ({search.reached[plan]}) has {len(data)} bytes, "
            f"at most {bounds.max_bytes} were asked; lower the bound or raise --max-bytes"
        )
    record = quantizer.record(plan).model_copy(
        update={
            "bound": search.reached[plan] or None,
            "sensitivity": {entry.layer.name: float(f"{entry.loss:.3g}") for entry in sensitivities},
        }
    )
    return Bounded(data, record, sensitivities)


def _fast_enough(search: _Search, plans: Collection[Plan], trial: Trial, budget_ms: float) -> Plan:
    """Return the first plan that is within a budget of time on this machine."""
    seen = {}
    for plan in plans:
        embedder = open_embedder(search.file(plan), provider="cpu", threads=1, name="int8 on trial")
        seen[plan] = race({"trial": embedder}, trial.faces[:1])["trial"]
        if seen[plan] <= budget_ms:
            return plan
    fastest = min(seen, key=lambda plan: seen[plan])
    raise ExportError(
        f"no network fits: the fastest of those that keep the bound takes {seen[fastest]:.2f} ms, at most "
        f"{budget_ms:g} were asked, with {len(fastest.float_layers)} layers in float ({search.reached[fastest]}); "
        "lower the bound, raise --max-latency, or train a smaller network"
    )
