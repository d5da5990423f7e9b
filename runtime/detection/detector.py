"""Face detectors: one protocol, and networks recognised by what they are.

Detector            what the camera loop and the aligner need
├── YuNetDetector   OpenCV Zoo, runtime/detection/yunet.py
├── EdgeDetector    our own format, runtime/detection/edge_detector.py
├── FixedDetector   says what it was told to; for tests
└── a plug-in       a class from outside that the user names, see `load_detector`
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeface.errors import BundleError
from edgeface.plugin_options import split_options
from edgeface.plugins import Kind, build, is_plugin
from edgeface.runtime.detection import edge_detector, yunet
from edgeface.runtime.detection.detections import MULTIPLE, Detections, DetectorSettings
from edgeface.runtime.detection.edge_detector import EdgeDetector
from edgeface.runtime.detection.yunet import YuNetDetector
from edgeface.runtime.inspecting.onnx_reader import read_model
from edgeface.runtime.providers.choice import ProviderLike, as_choice
from edgeface.runtime.providers.session import Announce, Sizes, absent, open_session
from edgeface.runtime.providers.table import PROVIDERS

__all__ = [
    "Detections",
    "Detector",
    "DetectorSettings",
    "EdgeDetector",
    "FixedDetector",
    "YuNetDetector",
    "load_detector",
    "names_plugin",
    "open_detector",
]


logger = logging.getLogger(__name__)


class Detector(Protocol):
    """Anything that finds faces in pictures."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Find the faces in `image`, (H, W, 3) uint8 RGB of any size."""
        ...


def names_plugin(choice: str) -> bool:
    """Tell whether a text names a detector from outside, with or without options; a file of that name does not."""
    return is_plugin(Kind.detector, choice.partition("?")[0]) and not os.path.exists(choice)


def load_detector(choice: str) -> Detector:
    """Load the detector that a user named as `NAME` or `NAME?key=value&key=value`, which runs its code.

    Its class derives from `Detector`; what the constructor takes are its options.

    Raises:
        ConfigError: the options are not of that form.
        UnknownNameError, PluginError: as `edgeface.plugins.build`.
    """
    name, options = split_options(choice)
    detector: Detector = build(Kind.detector, name, Detector, (), options)
    return detector


class FixedDetector:
    """A detector for tests: gives back what it was made with, one answer for each picture, then none.

    Args:
        answers: what to find in the first picture, the second, ...; a single `Detections` is found in each one.
    """

    def __init__(self, answers: Detections | Sequence[Detections]) -> None:
        self._always = answers if isinstance(answers, Detections) else None
        self._answers = [] if isinstance(answers, Detections) else list(answers)
        self.seen: list[tuple[int, ...]] = []
        """Shapes of the pictures it was shown."""

    def detect(self, image: npt.NDArray[np.uint8]) -> Detections:
        """Return the next answer, whatever the picture."""
        self.seen.append(image.shape)
        if self._always is not None:
            return self._always
        return self._answers.pop(0) if self._answers else Detections.empty()


def open_detector(
    model: bytes,
    *,
    provider: ProviderLike = "auto",
    threads: int = 1,
    min_score: float | None = None,
    max_side: int = 640,
    iou: float = 0.3,
    max_faces: int = 256,
    min_face: float | None = None,
    low_share: float = 1.0,
    name: str = "detector",
    announce: Announce = logger.warning,
) -> YuNetDetector | EdgeDetector:
    """Load a face detector, whichever of the known formats it has.

    Args:
        model: the ONNX file's bytes, already verified.
        provider: as `edgeface.runtime.providers.session.open_session`.
        threads: as `edgeface.runtime.providers.session.open_session`.
        min_score: faces with a lower score are not reported; None takes what the network's maker advises.
        max_side: a larger picture is shrunk until its longest side is this, in pixels.
        iou: of two boxes that overlap more than this the better one stays.
        max_faces: at most so many faces are reported, the best ones.
        min_face: as in `DetectorSettings`.
        low_share: likewise.
        name: what to call the network in an error.
        announce: as `edgeface.runtime.providers.session.open_session`.

    Raises:
        BundleError: the network is neither YuNet nor in our own format.
        ConfigError: an option is out of range.
        ProviderError: as `edgeface.runtime.providers.session.open_session`.
    """
    choice = as_choice(provider)
    if _needs_fixed_sizes(choice.name) and any(None in entry.shape[1:] for entry in read_model(model, name).inputs):
        logger.warning("%s takes pictures of any size, which %s does not; it runs on the CPU", name, choice.name)
        choice = replace(choice, name="cpu")
    session = open_session(
        model, provider=choice, threads=threads, name=name, sizes=_sizes(max_side), announce=announce
    )
    make: type[YuNetDetector] | type[EdgeDetector]
    if edge_detector.FORMAT_KEY in session.metadata:
        make, advised = EdgeDetector, edge_detector.advised_min_score(session, name)
    elif yunet.OUTPUTS.issubset(tensor.name for tensor in session.outputs):
        make, advised = YuNetDetector, yunet.MIN_SCORE
    else:
        outputs = ", ".join(tensor.name for tensor in session.outputs[:12])
        raise BundleError(
            f"{name} is not a face detector that this edgeface knows (outputs: {outputs}); "
            f"use YuNet of the OpenCV Zoo or a network in the format {edge_detector.FORMAT}"
        )
    score = advised if min_score is None else min_score
    return make(session, DetectorSettings(score, max_side, iou, max_faces, min_face, low_share), name)


def _sizes(max_side: int) -> Sizes:
    """Return what a picture may measure after shrinking: up to a square, mostly 4 to 3."""
    most = -(-max_side // MULTIPLE) * MULTIPLE
    usual = min(most, -(-most * 3 // 4 // MULTIPLE) * MULTIPLE)
    return Sizes(height=(MULTIPLE, usual, most), width=(MULTIPLE, most, most))


def _needs_fixed_sizes(provider: str) -> bool:
    row = PROVIDERS.get(provider)
    return row is not None and row.fixed_sizes and absent(provider) is None
