"""What `verify`, `enroll`, `liveness` and `gallery` print with --json."""

from typing import Any

from typing_extensions import TypedDict

from edgeface.manifest import Kind
from edgeface.schemas.events import Version
from edgeface.schemas.parts import Output, Rate


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
