"""What `doctor` prints with --json."""

from typing import Literal

from typing_extensions import TypedDict

from edgeface.manifest import Kind
from edgeface.runtime.providers.caches import Cache
from edgeface.runtime.sinks.outbox_report import SetAside
from edgeface.schemas.parts import Canary, Output


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
