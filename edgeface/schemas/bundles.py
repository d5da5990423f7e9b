"""What `bundle` prints with --json."""

from typing_extensions import TypedDict

from edgeface.manifest import Manifest
from edgeface.schemas.parts import Canary, Output


class Keygen(Output):
    """`edgeface bundle keygen`."""

    key: str
    public_key: str
    fingerprint: str


class Sign(Output):
    """`edgeface bundle sign`."""

    bundle: str
    signed_by: str


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
