"""The canary: a drawn face, and five numbers of what each network of a bundle answers for it.

They are written into the manifest where the bundle is made, and held against what the same network answers here. A
hash says that a file is the same; the canary says that what this onnxruntime, on this processor, makes of it is.

The face is drawn in whole numbers, so it is the same bytes everywhere. The numbers are spread over the embedding. Their
differences are told in units of the root mean square of an embedding's numbers, so that they mean the same whatever its
length. `docs/bundles.md` has the measurements behind the tolerances.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import EdgefaceError
from edgeface.faces import FACE_SIZE
from edgeface.manifest import Canary, Manifest
from edgeface.runtime.bundle import Bundle
from edgeface.runtime.embedder import bundle_embedder
from edgeface.runtime.placement import processor
from edgeface.runtime.providers.choice import ProviderLike, as_choice
from edgeface.runtime.providers.session import Announce
from edgeface.telemetry import import_onnxruntime

logger = logging.getLogger(__name__)

NUMBERS: Final = 5
TOLERANCES: Final = {"fp32": 0.005, "fp16": 0.01, "int8": 0.12}
"""By precision, in units of the root mean square of an embedding's numbers."""

State = Literal["same", "different", "none", "not run"]


class FaceEmbedder(Protocol):
    """What a canary is shown to."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB as (N, D) float32 of unit length."""
        ...


@dataclass(frozen=True, slots=True)
class CanaryCheck:
    """What became of the canary of one precision.

    Attributes:
        precision: of the network.
        provider: that ran it.
        state: `same`, `different`, `none` in an old bundle, or `not run`.
        difference: the largest of the five, see `TOLERANCES`; None if it was not compared.
        tolerance: that it was held against.
        why: what is different and what to do, or why it was not run; None if it is the same.
    """

    precision: str
    provider: str
    state: State
    difference: float | None = None
    tolerance: float | None = None
    why: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it for `json.dumps`."""
        return asdict(self)


def canary_face() -> npt.NDArray[np.uint8]:
    """Draw the face, (112, 112, 3) uint8 RGB: in whole numbers only, the same on every machine."""
    y, x = np.mgrid[:FACE_SIZE, :FACE_SIZE].astype(np.int64)
    grain = (x * 73 + y * 151 + x * y * 7) % 17 - 8
    face = np.stack([40 + y, 70 + x, 150 - y // 2], axis=2)

    def paint(cx: int, cy: int, width: int, height: int, red: int, green: int, blue: int) -> None:
        """Fill an ellipse, twice its centre and its half axes given in pixels, darker to the right and below."""
        dx, dy = 2 * x - cx, 2 * y - cy
        inside = dx * dx * height * height + dy * dy * width * width <= 4 * width * width * height * height
        shade = (dx + dy) // 6
        for channel, value in enumerate((red, green, blue)):
            face[:, :, channel] = np.where(inside, value - shade + grain, face[:, :, channel])

    paint(112, 88, 52, 54, 70, 45, 30)  # hair
    paint(112, 130, 40, 50, 205, 150, 120)  # face
    for side, eye in ((-1, 77), (1, 147)):
        paint(eye, 84, 11, 3, 60, 40, 30)  # brow
        paint(eye, 103, 9, 5, 235, 235, 230)
        paint(eye + side, 103, 4, 4, 60, 90, 130)  # iris
        paint(eye + side, 103, 2, 2, 15, 15, 15)
    paint(116, 134, 4, 14, 185, 125, 100)  # nose
    paint(112, 152, 9, 4, 165, 105, 85)
    paint(112, 184, 17, 6, 175, 70, 75)  # mouth
    paint(112, 184, 13, 1, 90, 30, 35)
    drawn: npt.NDArray[np.uint8] = np.clip(face, 0, 255).astype(np.uint8)
    return drawn


def make_canary(embedder: FaceEmbedder) -> Canary:
    """Show the canary to a network, and write down what a manifest holds of the answer."""
    numbers = tuple(round(float(number), 6) for number in _answer(embedder))
    return Canary(numbers=numbers, onnxruntime=import_onnxruntime().__version__, processor=processor())


def with_canaries(manifest: Manifest, embedders: Mapping[str, FaceEmbedder]) -> Manifest:
    """Return the manifest with the canaries of its networks as they answer here; `embedders` by precision."""
    entries = {
        name: entry.model_copy(update={"canary": make_canary(embedders[name])}) if name in embedders else entry
        for name, entry in manifest.precisions.items()
    }
    return manifest.model_copy(update={"precisions": entries})


def check_canaries(
    bundle: Bundle, provider: ProviderLike = "cpu", *, threads: int = 1, announce: Announce = logger.warning
) -> tuple[CanaryCheck, ...]:
    """Show the canary to each network of a bundle, on one provider. Problems are facts: nothing is raised for them."""
    name = as_choice(provider).name
    return tuple(
        _check(bundle, precision, name, provider, threads, announce) for precision in bundle.manifest.precisions
    )


def _check(
    bundle: Bundle, precision: str, name: str, provider: ProviderLike, threads: int, announce: Announce
) -> CanaryCheck:
    known = bundle.manifest.precisions[precision].canary
    if known is None:
        return CanaryCheck(precision, name, "none", why="the bundle has none; `edgeface calibrate` adds it")
    try:
        embedder, _ = bundle_embedder(
            bundle, precision=precision, provider=provider, threads=threads, announce=announce
        )
        numbers = _answer(embedder)
    except EdgefaceError as error:
        return CanaryCheck(precision, name, "not run", why=str(error))
    unit = math.sqrt(bundle.manifest.embedder.dimension)
    tolerance = TOLERANCES.get(precision, TOLERANCES["int8"])
    if len(numbers) != len(known.numbers):
        difference = math.inf
    else:
        difference = float(np.abs(np.subtract(numbers, known.numbers)).max()) * unit
    if difference <= tolerance:
        return CanaryCheck(precision, name, "same", difference, tolerance)
    why = _different(bundle, precision, name, known, difference, tolerance)
    return CanaryCheck(precision, name, "different", difference, tolerance, why)


def _answer(embedder: FaceEmbedder) -> npt.NDArray[np.float64]:
    """Return the numbers of the embedding at `NUMBERS` places spread over it, or all if there are fewer."""
    embedding = embedder.embed(canary_face()[None])[0].astype(np.float64)
    count = min(NUMBERS, len(embedding))
    numbers: npt.NDArray[np.float64] = embedding[[place * len(embedding) // count for place in range(count)]]
    return numbers


def _different(
    bundle: Bundle, precision: str, provider: str, known: Canary, difference: float, tolerance: float
) -> str:
    here = {"onnxruntime": import_onnxruntime().__version__, "processor": processor()}
    then = {"onnxruntime": known.onnxruntime, "processor": known.processor}
    changed = [f"the {what} is {here[what]} and was {then[what]}" for what in here if here[what] != then[what]]
    if provider != "cpu":
        changed.append(f"the provider is {provider} and was cpu")
    cause = "; ".join(changed) or "onnxruntime and processor are the ones that it was made with"
    return (
        f"{precision} on {provider} answers otherwise than where bundle {bundle.manifest.name} was made: the canary is "
        f"off by {difference:.3g}, and {tolerance:g} is usual ({cause}); its thresholds may not hold here: measure "
        "them with `edgeface calibrate`, or use another precision, provider or onnxruntime"
    )
