"""A bundle opened for work: detector, embedder and threshold together."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError
from edgeface.runtime.bundle import Bundle, open_bundle
from edgeface.runtime.deciding.gate import OPEN, Gate, bundle_gate
from edgeface.runtime.deciding.limits import Limits, OperatingThreshold, bundle_limits
from edgeface.runtime.detection.detector import Detector, load_detector, names_plugin, open_detector
from edgeface.runtime.embedder import Embedder, bundle_embedder
from edgeface.runtime.portrait import Portrait, take_portrait
from edgeface.runtime.providers.choice import ProviderLike
from edgeface.runtime.providers.session import Announce
from edgeface.runtime.signature import refuse_loose
from edgeface.scoring import COSINE, Scoring

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recognizer:
    """Everything that turns a picture into embeddings and compares them.

    Attributes:
        detector: finds faces.
        embedder: embeds them.
        precision: of the embedder.
        limits: thresholds for faces that it embedded.
        name: of the bundle.
        gate: says which faces are good enough.
        scoring: how two faces are compared.
    """

    detector: Detector
    embedder: Embedder
    precision: str
    limits: Limits
    name: str
    gate: Gate = OPEN
    scoring: Scoring = COSINE

    @property
    def threshold(self) -> OperatingThreshold:
        """The threshold for two faces that both were embedded here.

        Raises:
            BundleError: as `Limits.search`.
        """
        return self.limits.search({self.precision: 1})

    def take(self, image: npt.NDArray[np.uint8], name: str, *, largest: bool = False) -> Portrait:
        """Find the one face of a picture, (H, W, 3) uint8 RGB; see `edgeface.runtime.portrait.take_portrait`.

        Raises:
            NoFaceError: there is no face, or several and not `largest`.
        """
        return take_portrait(image, self.detector, self.gate, name, largest=largest)

    def embed_one(self, image: npt.NDArray[np.uint8], name: str, *, largest: bool = False) -> npt.NDArray[np.float32]:
        """Embed the face of a picture, however good it is; as `take`. Returns (D,) float32 of unit length."""
        return self.embed_face(self.take(image, name, largest=largest).face)

    def embed_face(self, face: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed an aligned face, (112, 112, 3) uint8 RGB; returns (D,) float32 of unit length."""
        embedding: npt.NDArray[np.float32] = self.embedder.embed(face[None])[0]
        return embedding


def open_recognizer(
    bundle: Path | str,
    *,
    precision: str = "auto",
    provider: ProviderLike = "auto",
    threads: int = 1,
    fmr: float | None = None,
    fpir: float | None = None,
    threshold: float | None = None,
    detector: Path | str | None = None,
    min_score: float | None = None,
    max_side: int = 640,
    min_face: float | None = None,
    low_share: float = 1.0,
    require_keys: Sequence[Path] = (),
    announce: Announce = logger.warning,
) -> Recognizer:
    """Open a bundle for work.

    Args:
        bundle: folder, zip, or the word `default`.
        precision: `auto` takes the one measured to be the fastest.
        provider: as `edgeface.runtime.providers.session.open_session`.
        threads: as there.
        fmr: false match rate of one comparison to take the threshold of, however many there are.
        fpir: how often a search for a stranger may find somebody, whatever the size of the gallery; by default as
            often as one comparison at the bundle's strictest threshold.
        threshold: score to use instead, in [-1, 1]; a cosine, or a normalised score if the bundle has a cohort.
        detector: ONNX file to use instead of the bundle's detector, or a plug-in, as
            `edgeface.runtime.detection.detector.load_detector`.
        min_score: faces with a lower detector score are ignored; by default as the bundle says.
        max_side: pictures are shrunk to this longest side, in pixels, to find faces.
        min_face: as in `edgeface.runtime.detection.detections.DetectorSettings`.
        low_share: likewise.
        require_keys: as `edgeface.runtime.bundle.open_bundle`; a detector of one's own is refused with them.
        announce: is told before something takes minutes.

    Raises:
        BundleError: the bundle cannot be used or is not signed as it must be, or it has no detector or threshold and
            none was given.
        ProviderError: the provider cannot run here.
        ConfigError: more than one of `fmr`, `fpir` and `threshold` is given, or one is out of range.
    """
    if detector is not None:
        refuse_loose(detector, require_keys, "a plug-in" if names_plugin(str(detector)) else "a loose ONNX file")
    opened = open_bundle(bundle, require_keys=require_keys)
    embedder, chosen = bundle_embedder(
        opened, precision=precision, provider=provider, threads=threads, announce=announce
    )
    limits = bundle_limits(opened, chosen, cosine=threshold, fmr=fmr, fpir=fpir)
    return Recognizer(
        detector=bundle_detector(
            opened,
            detector,
            provider=provider,
            threads=threads,
            min_score=min_score,
            max_side=max_side,
            announce=announce,
            min_face=min_face,
            low_share=low_share,
        ),
        embedder=embedder,
        precision=chosen,
        limits=limits,
        name=opened.manifest.name,
        gate=bundle_gate(opened, provider=provider, threads=threads, announce=announce),
        scoring=opened.scoring(),
    )


def bundle_detector(
    bundle: Bundle,
    detector: Path | str | None = None,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    min_score: float | None = None,
    max_side: int = 640,
    min_face: float | None = None,
    low_share: float = 1.0,
    announce: Announce = logger.warning,
) -> Detector:
    """Open the face detector of a bundle, or what is to be used instead; see `open_recognizer`.

    Raises:
        UnknownNameError, PluginError: as `edgeface.runtime.detection.detector.load_detector`.
        BundleError: there is none, or it cannot be used.
        ProviderError: the provider cannot run here.
    """
    if detector is not None and names_plugin(str(detector)):
        return load_detector(str(detector))
    if detector is not None:
        if not Path(detector).is_file():
            raise BundleError(f"detector not found: {detector}")
        network = Path(detector).read_bytes()
    else:
        network = bundle.detector()
        if min_score is None and bundle.manifest.detector is not None:
            min_score = bundle.manifest.detector.min_score
    return open_detector(
        network,
        provider=provider,
        threads=threads,
        min_score=min_score,
        max_side=max_side,
        min_face=min_face,
        low_share=low_share,
        announce=announce,
    )
