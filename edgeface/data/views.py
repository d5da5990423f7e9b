"""A face set enlarged for distillation: each face as it is, and with it faces made of it that nobody has."""

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from edgeface.data.catalog import open_faces
from edgeface.data.faceset import FaceSet, Sample, Skipped
from edgeface.data.morphing import blend, warp
from edgeface.data.packing import new_data_folder, pack_shards
from edgeface.data.parallel import in_order
from edgeface.errors import ConfigError
from edgeface.files import PRIVATE, new_file
from edgeface.images import encode_image

TEACHER_FILE: Final = "teacher.npz"
JPEG_QUALITY: Final = 95
BLENDED: Final = 0.75
"""How often a view is mixed of two faces; else it is a warp of one."""
WARPED: Final = 0.5
"""How often a mixed one is warped as well."""
BATCH: Final = 32

Progress = Callable[[int, int], None]


class Answering(Protocol):
    """Embeds faces; `edgeface.runtime.embedder.Embedder` does."""

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""


class Views(FaceSet):
    """A face set, and behind each of its training faces some that are made of it and of another.

    The first view of a face is the face, byte for byte, with its identity. The others have none. Faces of another
    split than `train` have one view.

    Args:
        faces: the set; where it has no splits, all of it is for training.
        count: views of a training face, the face included.
        seed: fixes the others, each on its own: they are the same whoever makes them in which order.
    """

    def __init__(self, faces: FaceSet, count: int, seed: int) -> None:
        self._faces = faces
        self._seed = seed
        self._train = [place for place, sample in enumerate(faces.samples) if sample.split in ("", "train")]
        training = set(self._train)
        self._places = [
            (place, view) for place in range(len(faces)) for view in range(count if place in training else 1)
        ]
        samples = [_sample(faces.samples[place], view) for place, view in self._places]
        super().__init__(faces.name, samples, faces.skipped)

    def select(self, indices: Sequence[int], skipped: Iterable[Skipped] = ()) -> Self:
        """Return these views; what each looks like stays as it is."""
        chosen = copy(self)
        chosen._places = [self._places[index] for index in indices]
        FaceSet.__init__(chosen, self.name, [self.samples[index] for index in indices], (*self.skipped, *skipped))
        return chosen

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """Return a view, (H, W, 3) uint8 RGB."""
        place, view = self._places[index]
        face = self._faces.read(place)
        if view == 0:
            return face
        rng = np.random.default_rng((self._seed, place, view))
        mixed = rng.random() < BLENDED
        if mixed:
            other = self._faces.read(self._train[int(rng.integers(len(self._train)))])
            face = blend(face, other, rng)
        if not mixed or rng.random() < WARPED:
            face = warp(face, rng)
        return face

    def encoded(self, index: int) -> bytes:
        """Return a view as a file: the original's bytes, or JPEG."""
        place, view = self._places[index]
        return self._faces.encoded(place) if view == 0 else encode_image(self.picture(index), ".jpg", JPEG_QUALITY)


@dataclass(frozen=True, slots=True)
class TeachReport:
    """What was written.

    Attributes:
        faces: originals.
        views: pictures, originals included.
        dimension: length of the teacher's embeddings.
        size: bytes of the shards.
        unreadable: pictures that were left out.
    """

    faces: int
    views: int
    dimension: int
    size: int
    unreadable: tuple[Skipped, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)


def teach_faces(
    faces: FaceSet,
    out: Path,
    teacher: Answering,
    *,
    views: int,
    seed: int = 0,
    workers: int = 0,
    progress: Progress | None = None,
) -> TeachReport:
    """Write shards of the views of a face set, and what a teacher answers for each: `TEACHER_FILE` beside them.

    An answer is the mean over a picture and its mirror image, normalised. The folder appears when all of it is there.

    Args:
        faces: the set.
        out: folder to make.
        teacher: is asked twice a view, which is what takes the time.
        views: of each training face, the face included.
        seed: of the views.
        workers: threads that make and read views; 0 is one a core.
        progress: told how many of how many views are made or answered; each counts twice.

    Raises:
        ConfigError: fewer views than one.
        DataError: the folder exists, no picture can be read, or the disk cannot be written.
    """
    if views < 1:
        raise ConfigError(f"a face has at least one view, itself; {views} were asked for")
    enlarged = Views(faces, views, seed)
    total = 2 * len(enlarged)
    tell = progress or (lambda done, of: None)
    with new_data_folder(out) as folder:
        packed = pack_shards(enlarged, folder, workers=workers, progress=lambda done, _: tell(done, total))
        stored = open_faces(folder)
        missing = len(enlarged) - len(stored)
        answers = answer(
            teacher, stored, workers=workers, progress=lambda done, _: tell(len(enlarged) + missing + done, total)
        )
        keys = np.array([sample.key for sample in stored.samples])
        with new_file(folder / TEACHER_FILE, mode=PRIVATE) as file:
            np.savez(file, key=keys, embedding=answers.astype(np.float16))
    return TeachReport(len(faces), len(stored), answers.shape[1], packed.size, packed.unreadable)


def answer(
    teacher: Answering, faces: FaceSet, *, workers: int = 0, progress: Progress | None = None
) -> npt.NDArray[np.float32]:
    """Ask a teacher about all faces and their mirror images; returns the normalised means, (N, D) float32."""
    starts = range(0, len(faces), BATCH)

    def load(step: int) -> npt.NDArray[np.uint8]:
        return faces.read_many(range(starts[step], min(starts[step] + BATCH, len(faces))))

    answers = []
    for step, batch in enumerate(in_order(load, len(starts), workers)):
        both = teacher.embed(batch) + teacher.embed(np.ascontiguousarray(batch[:, :, ::-1]))
        answers.append(both / np.linalg.norm(both, axis=1, keepdims=True))
        if progress:
            progress(min((step + 1) * BATCH, len(faces)), len(faces))
    return np.concatenate(answers)


def _sample(sample: Sample, view: int) -> Sample:
    """Return what is known of a view. A key with a dot or a slash would be cut by readers of shards."""
    return sample if view == 0 else replace(sample, key=f"{sample.key}~{view}", identity=None)
