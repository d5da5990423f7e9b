"""What `train`, `export`, `calibrate`, `demo`, `data`, `models`, `losses` and `plugins` print with --json."""

from typing import Literal, NotRequired

from typing_extensions import TypedDict

from edgeface.data.alignment import AlignReport
from edgeface.data.check import CheckReport
from edgeface.data.packing import PackReport
from edgeface.data.views import TeachReport
from edgeface.evaluation.detection import DetectorReport
from edgeface.evaluation.discard import QualityReport
from edgeface.manifest import CohortEntry, Kind, PrecisionEntry, Quantization, Threshold, ThresholdData
from edgeface.schemas.events import Version
from edgeface.schemas.parts import Interval, LeftOutPicture, Output, Plugin, with_fields


class Train(Output):
    """`edgeface train`."""

    run: str
    model: str
    loss: str
    classes: int
    faces: int
    steps: int
    seconds: float
    accuracy: float | None
    best_accuracy: float | None


ExportedPrecision = with_fields("ExportedPrecision", PrecisionEntry, bytes=int, latency_ms=float)


# `fmr` is what was asked, `supported_fmr` what the pairs support.
MeasuredThreshold = with_fields("MeasuredThreshold", Threshold, supported_fmr=float)


class Export(Output):
    """`edgeface export`."""

    bundle: str
    space: str
    scoring: Kind
    cohort: CohortEntry | None
    precisions: dict[str, ExportedPrecision]
    thresholds: list[MeasuredThreshold]


ExportedDetector = with_fields(
    "ExportedDetector", DetectorReport, file=str, bytes=int, quantization=NotRequired[Quantization]
)


class ExportDetector(Output):
    """`edgeface export --task detect`."""

    precisions: dict[str, ExportedDetector]


class ExportQuality(Output):
    """`edgeface export --task quality`."""

    file: str
    bytes: int
    min_fitness: float
    enrol_fitness: float


TrainDetector = with_fields("TrainDetector", DetectorReport, schema=Version, run=str, steps=int)


TrainQuality = with_fields("TrainQuality", QualityReport, schema=Version, run=str, epochs=int)


CalibratedThreshold = with_fields(
    "CalibratedThreshold",
    Threshold,
    supported_fmr=float,
    measured_fmr=float,
    measured_fmr_interval=Interval,
    measured_fnmr=float,
    measured_fnmr_interval=Interval,
)


class Suspect(TypedDict):
    """Two names that may be one person."""

    names: tuple[str, str]
    score: float


class Calibrate(Output):
    """`edgeface calibrate`."""

    bundle: str
    data: ThresholdData | None
    scoring: Kind
    cohort: CohortEntry | None
    before: list[CalibratedThreshold]
    thresholds: list[CalibratedThreshold]
    suspects: list[Suspect]
    skipped: list[LeftOutPicture]
    must_be_signed_again: bool


class Photograph(TypedDict):
    """What the demo made of a photograph."""

    name: str
    faces: int
    known: int
    unknown: int
    mistaken: int


class Demo(Output):
    """`edgeface demo`."""

    decisions: int
    correct: int
    seconds: float
    accuracy: float
    files: list[str]
    photographs: list[Photograph]


CheckData = with_fields("CheckData", CheckReport, schema=Version, unaligned=int, mislabelled=int)


AlignData = with_fields("AlignData", AlignReport, schema=Version, out=str)


PackData = with_fields("PackData", PackReport, schema=Version, out=str)


TeachData = with_fields("TeachData", TeachReport, schema=Version, out=str)


class Plugins(Output):
    """`edgeface plugins`."""

    plugins: list[Plugin]


class Loss(TypedDict):
    """A loss of edgeface."""

    name: str
    compares: Literal["classes", "pairs"]
    options: list[str]


class Losses(Output):
    """`edgeface losses`."""

    losses: list[Loss]
    plugins: list[Plugin]


class Network(TypedDict):
    """A network that can be trained."""

    name: str
    parameters: int
    multiply_adds: int
    embedding_size: int
    source: str


class Models(Output):
    """`edgeface models`."""

    models: list[Network]
    plugins: list[Plugin]
