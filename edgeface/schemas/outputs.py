"""What each command prints with `--json`; where a command has several forms, any of them.

Figures that somebody measured come as the dataclasses have them that hold them.
"""

from dataclasses import fields
from typing import Any, Literal, NotRequired, get_type_hints

from pydantic import BaseModel
from typing_extensions import TypedDict

from edgeface.comparison.table import Row as ComparisonRow
from edgeface.data.alignment import AlignReport
from edgeface.data.check import CheckReport
from edgeface.data.packing import PackReport
from edgeface.data.views import TeachReport
from edgeface.evaluation.detection import DetectorReport
from edgeface.evaluation.discard import QualityReport
from edgeface.manifest import CohortEntry, Kind, Manifest, PrecisionEntry, Quantization, Threshold, ThresholdData
from edgeface.runtime.batches import BatchGain
from edgeface.runtime.measurements import Row as BenchRow
from edgeface.runtime.measurements import Verdict
from edgeface.runtime.providers.caches import Cache
from edgeface.runtime.sinks.outbox_report import SetAside
from edgeface.schemas.events import EVENTS, Version

Interval = tuple[float, float]


def with_fields(name: str, part: Any, **more: Any) -> Any:
    """Return the type of an object with the fields of a record, and `more`, which goes before."""
    if issubclass(part, BaseModel):
        found = {key: field.annotation for key, field in part.model_fields.items()}
    else:
        hints = get_type_hints(part)
        found = {field.name: hints[field.name] for field in fields(part)}
    # A checker cannot follow; `tests/test_schemas.py` holds it against what is printed.
    return TypedDict(name, found | more)  # type: ignore[operator]


class Output(TypedDict):
    """What every output has."""

    schema: Version


class Rate(TypedDict):
    """A share of trials with its 95 % interval."""

    rate: float
    interval: Interval
    errors: int
    trials: int


# Training, measuring, exporting


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


class Tested(TypedDict):
    """The threshold that was looked at."""

    asked_fmr: float
    fmr: float
    cosine: float
    interval: Interval
    measured_fmr: Rate
    measured_fnmr: Rate


class LeftOutPicture(TypedDict):
    """A picture that could not be used."""

    picture: str
    why: str
    kind: str


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


# Data

CheckData = with_fields("CheckData", CheckReport, schema=Version, unaligned=int, mislabelled=int)
AlignData = with_fields("AlignData", AlignReport, schema=Version, out=str)
PackData = with_fields("PackData", PackReport, schema=Version, out=str)
TeachData = with_fields("TeachData", TeachReport, schema=Version, out=str)


# Plug-ins and networks


class Plugin(TypedDict):
    """An installed plug-in; what is not known is empty."""

    name: str
    kind: str
    reference: str
    package: str
    version: str


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


# Bundles


class Keygen(Output):
    """`edgeface bundle keygen`."""

    key: str
    public_key: str
    fingerprint: str


class Sign(Output):
    """`edgeface bundle sign`."""

    bundle: str
    signed_by: str


class Canary(TypedDict):
    """What a precision answers for the canary; see `edgeface.runtime.canary`."""

    precision: str
    provider: str
    state: Literal["same", "different", "none", "not run"]
    difference: float | None
    tolerance: float | None
    why: str | None


class Verify(Output):
    """`edgeface bundle verify`."""

    bundle: str
    ok: bool
    files: int
    signed_by: str | None
    unlisted: list[str]
    canaries: list[Canary]


class Inspect(Output):
    """`edgeface bundle inspect`."""

    bundle: str
    signed_by: str | None
    unlisted: list[str]
    manifest: Manifest
    lacks: list[str]


class Pack(Output):
    """`edgeface bundle pack`."""

    bundle: str
    bytes: int
    signed_by: str | None


class Engine(TypedDict):
    """A TensorRT engine."""

    network: str
    built_s: float
    bytes: int
    folder: str


class Warm(Output):
    """`edgeface bundle warm`."""

    bundle: str
    provider: str
    engines: list[Engine]


class NetworkInput(TypedDict):
    """What a public network expects."""

    layout: str
    channel_order: str
    mean: float
    scale: float
    size_wh: tuple[int, int] | None


class _PublicModel(TypedDict):
    name: str
    title: str
    kind: str
    sha256: str
    bytes: int
    licence: str
    licence_address: str
    trained_on: str
    origin: str
    addresses: list[str]
    input: NetworkInput


class ListedModel(_PublicModel):
    """A model that can be fetched."""

    present: bool


class FetchList(Output):
    """`edgeface bundle fetch --list`."""

    models: list[ListedModel]


class Fetch(_PublicModel, Output):
    """`edgeface bundle fetch`."""

    path: str
    notice: str
    fetched: bool
    address: str | None
    use: str


# Recognising


class VerifyFaces(Output):
    """`edgeface verify`; `same` is null where it cannot be said, and `why` says why."""

    same: bool | None
    score: float | None
    scoring: Kind
    threshold: float
    fmr: float | None
    precision: str
    why: str | None


class Enroll(Output):
    """`edgeface enroll`."""

    name: str
    templates: int
    people: int
    gallery: str
    warnings: list[str]


class AttackRate(Rate):
    """A rate of one kind of pictures."""

    no_face: int
    unreadable: int


class StrictRate(Rate):
    """The rate at another threshold."""

    threshold: float


class Liveness(Output):
    """`edgeface liveness test`."""

    threshold: float
    apcer: dict[str, AttackRate]
    worst: str
    bpcer: AttackRate
    bpcer20: StrictRate | None


# The gallery


class ListedPerson(TypedDict):
    """A person in the gallery."""

    name: str
    templates: int
    created: str
    precisions: list[str]


class People(Output):
    """`edgeface gallery list`."""

    gallery: str
    space: str | None
    encrypted: bool
    people: list[ListedPerson]


class ListedTemplate(TypedDict):
    """A template of a person."""

    id: int
    quality: float | None
    source: str
    precision: str | None
    created: str


class Templates(Output):
    """`edgeface gallery list NAME`."""

    name: str
    templates: list[ListedTemplate]


class Removed(Output):
    """`edgeface gallery remove`."""

    name: str
    templates: int
    gallery: str


class Renamed(Output):
    """`edgeface gallery rename`."""

    name: str
    was: str
    gallery: str


class Merged(Renamed):
    """`edgeface gallery merge NAME INTO`."""

    templates: int


TakenIn = TypedDict(
    "TakenIn",
    {"schema": Version, "from": str, "gallery": str, "people": int, "templates": int, "skipped": int},
)
"""`edgeface gallery import`, and `edgeface gallery merge --from`."""


class ExportedGallery(Output):
    """`edgeface gallery export`."""

    file: str
    templates: int
    encrypted: bool


class GalleryKey(Output):
    """`edgeface gallery keygen`."""

    key: str


class Protected(Output):
    """`edgeface gallery encrypt`, `rekey` and `decrypt`."""

    gallery: str
    encrypted: bool
    templates: int


class LogEntry(TypedDict):
    """A change of the gallery; `names` is null where they were erased."""

    id: int
    time: str
    action: str
    names: list[str] | None
    subject: str | None
    detail: dict[str, Any]
    command: str
    user: str


class LogHead(Output):
    """`edgeface gallery log --head`."""

    gallery: str
    head: str


class Log(Output):
    """`edgeface gallery log`."""

    gallery: str
    ok: bool
    why: str | None
    head: str
    log: list[LogEntry]


# The machine


class Provider(TypedDict):
    """A provider, and why it does not work."""

    name: str
    works: bool
    why: str | None


class Wheels(TypedDict):
    """The wheels that brought onnxruntime."""

    installed: list[str]
    ok: bool
    why: str | None


class CameraFound(TypedDict):
    """A camera."""

    index: int
    name: str


class Broken(TypedDict):
    """What cannot be used, and why."""

    ok: Literal[False]
    why: str


class Placement(TypedDict):
    """How much of a network a provider runs."""

    network: str
    provider: str
    nodes: dict[str, int] | None
    why: str | None


class BundleHealth(TypedDict):
    """A bundle that can be opened."""

    ok: bool
    why: str | None
    name: str
    precisions: list[str]
    scoring: Kind
    lacks: list[str]
    signed_by: str | None
    unlisted: list[str]
    placement: list[Placement]
    canaries: list[Canary]


class GalleryHealth(TypedDict):
    """A gallery that can be opened."""

    ok: bool
    why: str | None
    people: int
    encrypted: bool


class SearchLimit(TypedDict):
    """The threshold of a search in the gallery."""

    cosine: float
    fmr: float | None
    templates: int
    fpir: float | None
    tar: float | None
    note: str | None
    evidence: None


class SearchHealth(TypedDict):
    """What a search in the gallery gets."""

    ok: bool
    why: str | None
    templates: int
    precisions: dict[str, SearchLimit]


class OutboxHealth(TypedDict):
    """An outbox that can be opened."""

    ok: bool
    why: str | None
    path: str
    waiting: dict[str, int]
    refused: int
    set_aside: list[SetAside]


class Doctor(Output):
    """`edgeface doctor`; what was not asked for is null."""

    providers: list[Provider]
    wheels: Wheels
    cameras: list[CameraFound]
    display: bool
    processor: str
    instructions: list[str]
    bundle: BundleHealth | Broken | None
    gallery: GalleryHealth | Broken | None
    search: SearchHealth | Broken | None
    outbox: OutboxHealth | Broken | None
    caches: list[Cache]
    versions: dict[str, str]


class Freed(Output):
    """`edgeface doctor --clear-cache`."""

    freed_bytes: int


OUTPUTS: dict[str, Any] = {
    "bench": Bench,
    "bundle-fetch": Fetch | FetchList,
    "bundle-inspect": Inspect,
    "bundle-keygen": Keygen,
    "bundle-pack": Pack,
    "bundle-sign": Sign,
    "bundle-verify": Verify,
    "bundle-warm": Warm,
    "calibrate": Calibrate,
    "compare": Compare,
    "data-align": AlignData,
    "data-check": CheckData,
    "data-pack": PackData,
    "data-teach": TeachData,
    "demo": Demo,
    "doctor": Doctor | Freed,
    "enroll": Enroll,
    "eval": Eval | EvalConditions | EvalDetector | EvalQuality,
    "export": Export | ExportDetector | ExportQuality,
    "gallery-add": Enroll,
    "gallery-decrypt": Protected,
    "gallery-encrypt": Protected,
    "gallery-export": ExportedGallery,
    "gallery-import": TakenIn,
    "gallery-keygen": GalleryKey,
    "gallery-list": People | Templates,
    "gallery-log": Log | LogHead,
    "gallery-merge": Merged | TakenIn,
    "gallery-rekey": Protected,
    "gallery-remove": Removed,
    "gallery-rename": Renamed,
    "liveness-test": Liveness,
    "losses": Losses,
    "models": Models,
    "plugins": Plugins,
    "train": Train | TrainDetector | TrainQuality,
    "verify": VerifyFaces,
    **EVENTS,
}
"""By the words of the command, with hyphens."""
