"""The manifest: what a bundle holds, what it expects, what it scores and under which licences."""

import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edgeface.door import DoorRates
from edgeface.errors import BundleError

SCHEMA_VERSION: Final = 2
"""Version 2 knows cohorts; version 1 is read as before."""
MANIFEST_NAME: Final = "manifest.json"
SIGNATURE_NAME: Final = "manifest.sig"

MAX_MANIFEST_BYTES: Final = 1 << 22
MAX_FILES: Final = 100
MAX_FILE_BYTES: Final = 1 << 30
"""No file of a bundle may be larger: protobuf's limit is 2 GB, and face networks are far smaller."""

Cosine = Annotated[float, Field(ge=-1.0, le=1.0)]
Rate = Annotated[float, Field(ge=0.0, le=1.0)]
Kind = Literal["cosine", "normalised"]
"""What a score is; see `edgeface.scoring`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

NOT_STATED: Final = "not stated"
"""The licence of what nobody gave one for."""

_SAFE_NAME: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def is_plain_name(name: str) -> bool:
    """Say whether a file of this name stays in its folder, whatever the system: no separators, no leading dot."""
    return _SAFE_NAME.match(name) is not None


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(_Record):
    """One file of the bundle. `bytes` is its size."""

    sha256: Sha256
    bytes: int = Field(ge=1, le=MAX_FILE_BYTES)


class EmbedderContract(_Record):
    """What every embedder of a bundle takes and gives.

    Input: (N, size, size, 3) uint8 RGB, aligned to the template. Output: (N, dimension) float32 of unit length.
    """

    version: Literal[1] = 1
    input: str = "faces"
    output: str = "embeddings"
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    channel_order: Literal["RGB"] = "RGB"
    size: int = Field(default=112, ge=1, le=1024)
    template: Literal["arcface-112"] = "arcface-112"
    dimension: int = Field(ge=1, le=65536)
    normalised: Literal[True] = True


class Finetuning(_Record):
    """How an int8 network was trained to give what the float32 one gives.

    `faces` were learned from, each once an epoch. The losses are the mean of 1 - cosine between both on the
    `held_apart` ones, before and after, with in int8 what is faster there. `kept` is False where the network from
    before was the better one and is the one in the bundle.
    """

    epochs: int = Field(ge=1)
    faces: int = Field(ge=1)
    held_apart: int = Field(ge=1)
    loss_before: float = Field(ge=0, le=2)
    loss_after: float = Field(ge=0, le=2)
    kept: bool


class Quantization(_Record):
    """How an int8 network was quantized.

    `float_nodes` are the layers that compute in float, `float_weights` says that their weights are in float32 too.
    `bound` is what was asked of the network and what it reaches, `speed` whether it is faster than fp32 where it was
    exported, and if not, why. `sensitivity` is the mean of 1 - cosine with one layer alone in int8, by layer, if it
    was measured. `finetuning` is None where it was not asked for.
    """

    target: str
    activations: str
    weights: str
    per_channel: bool
    reduce_range: bool
    method: str
    float_nodes: tuple[str, ...] = ()
    float_weights: bool = False
    bound: str | None = None
    speed: str | None = None
    sensitivity: dict[str, float] = {}
    finetuning: Finetuning | None = None


class Accuracy(_Record):
    """Verification accuracy of one precision on named pairs; `scoring` says by what they were compared."""

    protocol: str
    pairs: int = Field(ge=1)
    accuracy: Rate
    accuracy_se: float = Field(ge=0)
    eer: Rate
    tar: dict[str, Rate]
    scoring: Kind = "cosine"


class Canary(_Record):
    """What a network answered for a drawn face where the bundle was made, see `edgeface.runtime.canary`.

    `numbers` are of the embedding, `onnxruntime` is a version, `processor` says which instructions it has.
    """

    numbers: tuple[Annotated[float, Field(ge=-1.001, le=1.001)], ...] = Field(min_length=1, max_length=5)
    onnxruntime: str
    processor: str


class PrecisionEntry(_Record):
    """One precision of the embedder.

    `min_cosine` and `mean_cosine` compare its embeddings with those of the network it was made from, on
    `parity_images` aligned faces. `latency_ms` is the median for one face on one thread, by provider.
    `canary` is None in older bundles.
    """

    file: str
    parity_images: int = Field(ge=1)
    min_cosine: Cosine
    mean_cosine: Cosine
    latency_ms: dict[str, float]
    quantization: Quantization | None = None
    accuracy: Accuracy | None = None
    canary: Canary | None = None


class Threshold(_Record):
    """A score from which on two faces count as one person, and where it comes from.

    `cosine` is a cosine, or a normalised score if `scoring` says so; see `edgeface.scoring`.

    It holds for templates made with the precision `gallery` and faces embedded with `precision`; a manifest that does
    not name `gallery` means the same precision. `fmr` is what the pairs support; it is larger than `asked_fmr` when
    they were too few for that.
    """

    asked_fmr: float = Field(gt=0, lt=1)
    fmr: float = Field(gt=0, lt=1)
    cosine: float = Field(ge=-1.001, le=1.001)
    interval: tuple[float, float]
    gallery: str
    precision: str
    pairs: int = Field(ge=1)
    tar: Rate | None = None
    data: str
    scoring: Kind = "cosine"

    @model_validator(mode="before")
    @classmethod
    def _gallery_is_named(cls, values: Any) -> Any:
        if isinstance(values, dict) and "gallery" not in values and "precision" in values:
            return {**values, "gallery": values["precision"]}
        return values

    @property
    def pair(self) -> str:
        """The precisions in words: `int8`, or `int8 against fp32` for faces in int8 and templates in fp32."""
        return self.precision if self.gallery == self.precision else f"{self.precision} against {self.gallery}"


class ThresholdData(_Record):
    """The labelled faces that thresholds were chosen on.

    `sha256` is over the pixels of the aligned faces, in order. `people` is None where the pairs do not say who is who.
    `independent` is how many impostor pairs count as independent of one another. With `only_alike` only pairs of two
    people who are alike were taken, see `edgeface.export.alike`.
    """

    name: str
    sha256: Sha256
    people: int | None = Field(default=None, ge=2)
    faces: int = Field(ge=2)
    genuine: int = Field(ge=1)
    impostors: int = Field(ge=1)
    independent: int = Field(ge=1)
    only_alike: bool = False


class CohortEntry(_Record):
    """The cohort of the bundle, see `edgeface.cohort`. `source` says where its faces come from, in words.

    `members` are its faces, of which the `nearest` to a face make that one's cohort mean.
    """

    file: str
    members: int = Field(ge=1)
    nearest: int = Field(ge=1)
    source: str


class DetectorEntry(_Record):
    """The face detector of the bundle. `format` is `yunet` or `detector/1`."""

    file: str
    format: str
    min_score: Rate


class QualityEntry(_Record):
    """The quality network of the bundle, see `edgeface.fitness`.

    A face of less fitness than `min_fitness` is not compared, one of less than `enrol_fitness` does not become a
    template. For each unit of fitness that a face lacks to `enrol_fitness`, its scores are lower by `allowance`, which
    needs a cohort. `data` says on which faces all of them were chosen, and how.
    """

    file: str
    min_fitness: Rate
    enrol_fitness: Rate
    allowance: float = Field(default=0.0, ge=0, le=10)
    data: str = ""


class Calibration(_Record):
    """The faces that fixed the quantization ranges. `sha256` is over their pixels, in order."""

    source: str
    images: int = Field(ge=1)
    sha256: Sha256


class Licences(_Record):
    """SPDX identifiers or plain words for each thing that has a licence of its own; see `NOT_STATED`."""

    code: str = "MIT"
    weights: str = NOT_STATED
    data: str = NOT_STATED


class Manifest(_Record):
    """Everything a device needs to know about a bundle; see `Manifest.parse` for reading one.

    `space` identifies the embedding space: templates of one space are never compared with another's. `scores` is the
    file of score tables that thresholds of other rates are read off, see `edgeface.scores`. `door` is what one of the
    thresholds does under the conditions of a door, where that was measured.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    name: str
    space: Sha256
    embedder: EmbedderContract
    precisions: dict[str, PrecisionEntry] = Field(min_length=1)
    detector: DetectorEntry | None = None
    quality: QualityEntry | None = None
    thresholds: tuple[Threshold, ...] = ()
    threshold_data: ThresholdData | None = None
    scores: str | None = None
    cohort: CohortEntry | None = None
    door: DoorRates | None = None
    calibration: Calibration | None = None
    opset: int
    ir_version: int
    origin: dict[str, str | int | float | None] = {}
    tools: dict[str, str] = {}
    licences: Licences = Licences()
    files: dict[str, FileEntry] = Field(max_length=MAX_FILES)

    @field_validator("files")
    @classmethod
    def _names_are_plain(cls, files: dict[str, FileEntry]) -> dict[str, FileEntry]:
        for name in files:
            if not is_plain_name(name) or name in (MANIFEST_NAME, SIGNATURE_NAME):
                raise ValueError(f"{name!r} is not a plain file name")
        return files

    @model_validator(mode="after")
    def _networks_are_listed(self) -> "Manifest":
        named = [entry.file for entry in self.precisions.values()]
        named += [] if self.detector is None else [self.detector.file]
        named += [] if self.quality is None else [self.quality.file]
        named += [] if self.scores is None else [self.scores]
        named += [] if self.cohort is None else [self.cohort.file]
        missing = [name for name in named if name not in self.files]
        if missing:
            raise ValueError(f"no hash for {', '.join(missing)}")
        return self

    @model_validator(mode="after")
    def _scores_are_of_one_kind(self) -> "Manifest":
        if self.cohort is not None and self.schema_version < 2:
            raise ValueError("schema version 1 has no cohort")
        if self.cohort is None and self.quality is not None and self.quality.allowance:
            raise ValueError("an allowance for fitness needs a cohort")
        if wrong := next((t for t in self.thresholds if t.scoring != self.scoring), None):
            cohort = "no cohort" if self.cohort is None else "a cohort"
            raise ValueError(f"a threshold is a {wrong.scoring} score, and there is {cohort}")
        return self

    @property
    def lacks(self) -> tuple[str, ...]:
        """What a bundle of today has and this one has not, in words, with what to do."""
        found = []
        if self.cohort is None:
            found.append(
                "It has no cohort, so its scores rise where both faces are dark, blurred or covered; `edgeface "
                "calibrate BUNDLE --data PEOPLE --cohort STRANGERS --out NEW` adds one"
            )
        if any(entry.canary is None for entry in self.precisions.values()):
            found.append(
                "It has no canaries, so nothing tells whether its networks answer here as they did where it was made; "
                "`edgeface calibrate BUNDLE --data PEOPLE --out NEW` on that machine adds them"
            )
        return tuple(found)

    @property
    def scoring(self) -> Kind:
        """What a score of the bundle is."""
        return "cosine" if self.cohort is None else "normalised"

    @classmethod
    def parse(cls, data: bytes, name: str = MANIFEST_NAME) -> "Manifest":
        """Read a manifest from JSON.

        Raises:
            BundleError: not JSON, a field is missing, unknown or out of range, or another schema version.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the file"
            if place == "schema_version":
                raise BundleError(
                    f"{name} has schema version {first['input']!r}, this edgeface reads 1 to {SCHEMA_VERSION}; "
                    "export the bundle again or install the edgeface that wrote it"
                ) from None
            raise BundleError(f"{name} is not a valid manifest: {place}: {first['msg']}; export it again") from None

    def to_json(self) -> bytes:
        """Write the manifest as indented JSON, ending in a newline."""
        return self.model_dump_json(indent=2).encode() + b"\n"

    @property
    def baseline(self) -> str:
        """The precision that others are held against: fp32, or the first where there is none."""
        return "fp32" if "fp32" in self.precisions else next(iter(self.precisions))

    def fastest_precision(self, provider: str = "cpu") -> str:
        """Return the precision with the lowest measured latency; a tie goes to the one listed first."""
        return min(self.precisions, key=lambda name: self.precisions[name].latency_ms.get(provider, float("inf")))

    def threshold_for(self, precision: str, fmr: float | None = None, *, gallery: str | None = None) -> Threshold:
        """Return the threshold of a precision for a false match rate, the strictest stored one by default.

        Args:
            precision: of the faces that are compared.
            fmr: as it was asked for when the bundle was made.
            gallery: precision of the templates; the same by default.

        Raises:
            BundleError: there is none for these precisions, or none for `fmr`.
        """
        pair = (gallery or precision, precision)
        stored = sorted((t for t in self.thresholds if (t.gallery, t.precision) == pair), key=lambda t: t.fmr)
        if not stored:
            templates = "" if pair[0] == precision else f" against templates in {pair[0]}"
            raise BundleError(
                f"bundle {self.name} has no threshold for {precision}{templates}; measure one on labelled faces with "
                "`edgeface calibrate`, or give --threshold"
            )
        if fmr is None:
            return stored[0]
        for threshold in stored:
            if abs(threshold.asked_fmr - fmr) <= 1e-9:
                return threshold
        rates = ", ".join(f"{t.asked_fmr:g}" for t in stored)
        raise BundleError(f"bundle {self.name} has no threshold for FMR {fmr:g} at {precision}; it has: {rates}")
