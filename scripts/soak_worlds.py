"""Who is before the soak camera: drawn people with a real bundle, or grey patches with stand-ins that cost nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeface.data.synthetic import Stream, demo_plan, nth_identity, render_face
from edgeface.data.synthetic.nuisance import sample_nuisance
from edgeface.faces import TEMPLATE
from edgeface.runtime.deciding.decision import DecisionSettings
from edgeface.runtime.deciding.gate import OPEN, Gate
from edgeface.runtime.deciding.quality import QualitySettings
from edgeface.runtime.detection.detections import Detections
from edgeface.runtime.detection.detector import Detector
from edgeface.runtime.enrolling.enrolment import enroll, portrait
from edgeface.runtime.gallery.gallery import Gallery
from edgeface.runtime.gallery.key import GalleryKey
from edgeface.runtime.pipeline import FaceEmbedder
from edgeface.runtime.portrait import one_face
from edgeface.runtime.recognizer import open_recognizer

Image = npt.NDArray[np.uint8]

_DIMENSION = 16
_PERIOD = 240  # pictures until they begin anew
_SHADES = {"Ada": 40, "Ben": 90, None: 140}


@dataclass(frozen=True, slots=True)
class World:
    """Pictures, what finds and embeds the faces in them, and a gallery of those who are known."""

    pictures: Sequence[Image]
    detector: Detector
    embedder: FaceEmbedder
    space: str
    dimension: int
    people: frozenset[str]
    decision: DecisionSettings
    gate: Gate

    def probe(self) -> npt.NDArray[np.float32]:
        """Return the (1, D) embedding of a face that is always the same."""
        return self.embedder.embed(np.full((1, 112, 112, 3), 40, np.uint8))


def patches(gallery: Path, key: GalleryKey | None, seed: int) -> World:
    """Return noise with a grey patch for a face, whose shade says whose it is."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(_PERIOD):
        image = rng.integers(200, 256, (120, 160, 3), np.uint8)
        for number, shade in enumerate(_SHADES.values()):
            if number * 40 <= index < number * 40 + 120:
                x, y = 8 + 50 * number, 20
                image[y : y + 44, x : x + 44] = shade
                image[y, x] = (1, 44, 0)
        pictures.append(image)
    people = frozenset(name for name in _SHADES if name)
    with Gallery(gallery, "soak", _DIMENSION, create=True, key=key) as opened:
        for name in people:
            opened.add(name, _axis(_SHADES[name]))
    gate = Gate(compare=QualitySettings(min_size_px=40, min_sharpness=0, min_brightness=0, max_brightness=255))
    eye = _Patches()
    return World(pictures, eye, eye, "soak", _DIMENSION, people, DecisionSettings(threshold=0.7), gate)


def drawn(gallery: Path, key: GalleryKey | None, bundle: Path, seed: int) -> World:
    """Return a painted stream, rendered once, and the detector and embedder of a bundle."""
    recognizer = open_recognizer(bundle, threads=1)
    known = {"Ada": 30_000, "Ben": 30_001}
    plan = demo_plan(
        {name: nth_identity(seed, number) for name, number in known.items()},
        [nth_identity(seed, 30_002)],
        seed=seed,
        appearances=4,
        frames=50,
        gap=10,
        size_wh=(320, 240),
    )
    rng = np.random.default_rng(seed)
    for name, number in known.items():
        portraits = []
        for index in range(3):
            image = render_face(nth_identity(seed, number), sample_nuisance(rng, 0.2), size_wh=(320, 320)).image
            found = one_face(recognizer.detector.detect(image), image, f"portrait {index}", largest=True)
            portraits.append(portrait(image, found, f"portrait {index}"))
        enroll(recognizer, gallery, name, portraits, key=key)
    pictures = [frame.image for frame in Stream(seed, plan, size_wh=(320, 240))]
    limits = recognizer.limits.search({recognizer.precision: 6})
    decision = DecisionSettings(threshold=limits.cosine, fmr=limits.fmr)
    embedder = recognizer.embedder
    return World(
        pictures,
        recognizer.detector,
        embedder,
        embedder.space,
        embedder.dimension,
        frozenset(known),
        decision,
        OPEN,
    )


class _Patches:
    """Finds the mark in the corner of a patch, and tells people apart by its shade."""

    def detect(self, image: Image) -> Detections:
        ys, xs = np.nonzero((image[:, :, 0] == 1) & (image[:, :, 2] == 0))
        found = [(x, y, image[y, x, 1]) for x, y in zip(xs, ys, strict=True)]
        boxes = np.array([(x, y, s, s) for x, y, s in found], np.float32).reshape(-1, 4)
        landmarks = np.array([TEMPLATE / 112 * s + (x, y) for x, y, s in found], np.float32).reshape(-1, 5, 2)
        return Detections(boxes, np.ones(len(found), np.float32), landmarks)

    def embed(self, faces: Image) -> npt.NDArray[np.float32]:
        return np.stack([_axis(int(face[56, 56, 0])) for face in faces])


def _axis(shade: int) -> npt.NDArray[np.float32]:
    return np.eye(_DIMENSION, dtype=np.float32)[shade // 10]
