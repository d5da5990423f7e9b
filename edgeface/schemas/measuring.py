"""What `eval`, `compare` and `bench` print with --json."""

from typing import NotRequired

from typing_extensions import TypedDict

from edgeface.comparison.table import Row as ComparisonRow
from edgeface.evaluation.detection import DetectorReport
from edgeface.manifest import Kind
from edgeface.runtime.batches import BatchGain
from edgeface.runtime.measurements import Row as BenchRow
from edgeface.runtime.measurements import Verdict
from edgeface.schemas.events import Version
from edgeface.schemas.parts import Interval, LeftOutPicture, Output, Rate, with_fields


class Tested(TypedDict):
    """The threshold that was looked at."""

    asked_fmr: float
    fmr: float
    cosine: float
    interval: Interval
    measured_fmr: Rate
    measured_fnmr: Rate


class LeftOut(TypedDict):
    """What could not be used."""

    pairs: int
    pictures: list[LeftOutPicture]


class Bootstrap(TypedDict):
    """How the intervals were made."""

    replicates: int
    drawn: str
    seed: int


class SearchRate(Rate):
    """A rate of a search at a threshold."""

    cosine: float


class Nearest(TypedDict):
    """A stranger and the enrolled person that is most like them."""

    probe: str
    enrolled: str
    score: float


class Identification(TypedDict):
    """A search in a gallery."""

    gallery: int
    mated: int
    non_mated: int
    rank: dict[str, Rate]
    cmc: list[float]
    fnir: dict[str, SearchRate]
    unsupported: dict[str, int]
    nearest: list[Nearest]


class Group(TypedDict):
    """Error rates of one value of a column."""

    column: str
    value: str
    items: int
    impostor_pairs: int
    genuine_pairs: int
    fmr: Rate | None
    fnmr: Rate | None
    why: str | None


class Difference(TypedDict):
    """How much two models differ in one measure."""

    value: float
    interval: Interval | None
    significant: bool | None


class Flip(TypedDict):
    """A pair that two models decide otherwise."""

    first: str
    second: str
    same: bool
    score: float
    against_score: float
    accepted: bool


class Flipped(TypedDict):
    """All such pairs."""

    mended: int
    broken: int
    pairs: list[Flip]


class Agreement(TypedDict):
    """How alike the embeddings of two models of one space are."""

    min_cosine: float
    mean_cosine: float
    worst: str


class Comparison(TypedDict):
    """Another model on the same pairs."""

    model: str
    precision: str
    provider: str
    accuracy: float
    tar: dict[str, float]
    scoring: Kind
    cosine: float
    differences: dict[str, Difference]
    flipped: Flipped
    agreement: Agreement | None


class Shipped(TypedDict):
    """What a threshold that a bundle ships accepts here."""

    promised_fmr: float
    threshold: float
    tar: float
    fmr: float
    tar_interval: Interval | None
    fmr_interval: Interval | None


class Eval(Output):
    """`edgeface eval`; `results.json` of `--out` holds the same."""

    protocol: str
    pairs: int
    accuracy: float
    accuracy_se: float
    eer: float
    auc: float
    tar: dict[str, float]
    scoring: Kind
    precision: str
    provider: str
    model: str
    genuine_pairs: int
    impostor_pairs: int
    d_prime: float | None
    unsupported: dict[str, int]
    threshold: Tested
    left_out: NotRequired[LeftOut]
    intervals: NotRequired[dict[str, tuple[float | None, float | None]]]
    bootstrap: NotRequired[Bootstrap]
    identification: NotRequired[Identification]
    groups: NotRequired[list[Group]]
    columns_left_out: NotRequired[list[str]]
    comparison: NotRequired[Comparison]
    shipped: NotRequired[list[Shipped]]
    files: NotRequired[list[str]]


class ConditionRates(TypedDict):
    """Rates of one side under a condition."""

    genuine: int
    impostors: int
    tar: float | None
    tar_interval: Interval | None
    fmr: float | None
    fmr_interval: Interval | None


class Condition(TypedDict):
    """A condition of a door."""

    name: str
    title: str
    refused: float
    no_template: float
    both: ConditionRates
    probe: ConditionRates


class EvalConditions(Output):
    """`edgeface eval --conditions`."""

    model: str
    precision: str
    data: str
    people: int
    threshold: float
    promised_fmr: float | None
    gated: bool
    conditions: list[Condition]
    files: NotRequired[list[str]]


# Of `edgeface eval --task detect`.
AgainstDetector = with_fields("AgainstDetector", DetectorReport, model=str)


EvalDetector = with_fields(
    "EvalDetector",
    DetectorReport,
    schema=Version,
    model=str,
    split=str,
    max_side=int,
    against=NotRequired[AgainstDetector],
)


class EvalQuality(Output):
    """`edgeface eval --task quality`."""

    model: str
    bundle: str
    people: int
    pairs: int
    threshold: float
    missed: float
    missed_after_refusing: float
    missed_after_refusing_by_measurement: float
    area: float
    area_by_measurement: float
    clean_refused: float
    files: NotRequired[list[str]]


class Compare(Output):
    """`edgeface compare`."""

    rows: list[ComparisonRow]
    files: list[str]


class Machine(TypedDict):
    """Where a bench ran."""

    machine: str
    system: str
    int8_instructions: list[str]
    onnxruntime: str
    python: str


SaidVerdict = with_fields("SaidVerdict", Verdict, says=str)


SaidGain = with_fields("SaidGain", BatchGain, says=str)


class Bench(Output):
    """`edgeface bench`."""

    device: Machine
    rows: list[BenchRow]
    int8: list[SaidVerdict]
    batches: list[SaidGain]
    skipped: list[str]
    warnings: list[str]
    auto: str
