"""A set of aligned faces, each with a key and perhaps an identity and a split."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, Self

import numpy as np
import numpy.typing as npt

from edgeface.errors import DataError, EdgefaceError
from edgeface.faces import FACE_SIZE
from edgeface.files import readable_name
from edgeface.image_kinds import describe_kinds
from edgeface.images import MAX_BYTES, Photograph, decode_image, decode_photograph, encode_image

UNKNOWN: Final = -1
"""Label of a face whose identity is not known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of one face.

    Attributes:
        key: its name in the set, unique, without a suffix.
        identity: who it is, None where that is not known.
        split: `train`, `val`, ...; empty where the set has no splits.
    """

    key: str
    identity: str | None = None
    split: str = ""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that was left out.

    Attributes:
        key: its name.
        reason: why, in a sentence.
        kind: why, in a few words, by which such pictures are counted: `HEIC`, `truncated JPEG`, ...
    """

    key: str
    reason: str
    kind: str = EdgefaceError.kind


def _readable(sample: Sample) -> Sample:
    """Return a sample whose names can be written anywhere; those of files and members of archives may be any bytes."""
    if sample.key.isprintable() and (sample.identity is None or sample.identity.isprintable()):
        return sample
    identity = None if sample.identity is None else readable_name(sample.identity)
    return replace(sample, key=readable_name(sample.key), identity=identity)


def left_out(skipped: Iterable[Skipped]) -> str:
    """Say how many pictures were left out, of which kinds, and what to do: `8 HEIC, 1 truncated JPEG; ...`."""
    every = tuple(skipped)
    return f"{describe_kinds(one.kind for one in every)}; the first: {every[0].reason}" if every else "none"


class FaceSet(ABC):
    """Aligned faces that are read one by one; the order is fixed and the same on every machine.

    Attributes:
        name: what to call the set in messages, usually its path.
        samples: one for each face; their names, and that of the set, can be written anywhere (`readable_name`).
        skipped: pictures that were left out.
        identities: the distinct known identities, sorted; a label is an index into it.
        labels: (N,) int64, `UNKNOWN` where the identity is not known.
    """

    def __init__(self, name: str, samples: Sequence[Sample], skipped: Iterable[Skipped] = ()) -> None:
        self.name = readable_name(name)
        self.samples = tuple(map(_readable, samples))
        self.skipped = tuple(skipped)
        self.identities = tuple(sorted({s.identity for s in self.samples if s.identity is not None}))
        number = {identity: label for label, identity in enumerate(self.identities)}
        self.labels: npt.NDArray[np.int64] = np.array(
            [UNKNOWN if s.identity is None else number[s.identity] for s in self.samples], np.int64
        )

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def splits(self) -> frozenset[str]:
        """The names of the splits; empty where the set has none."""
        return frozenset(sample.split for sample in self.samples) - {""}

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Return face `index`, (112, 112, 3) uint8 RGB.

        Raises:
            ImageError: the picture is missing or broken.
            DataError: it has another size.
        """
        face = self.picture(index)
        if face.shape != (FACE_SIZE, FACE_SIZE, 3):
            raise DataError(
                f"{self.samples[index].key} in {self.name} is {face.shape[1]} x {face.shape[0]} pixels; "
                f"aligned crops of {FACE_SIZE} x {FACE_SIZE} are needed: align the photographs first",
                f"not {FACE_SIZE} x {FACE_SIZE}",
            )
        return face

    def read_many(self, indices: Iterable[int]) -> npt.NDArray[np.uint8]:
        """Return several faces, (N, 112, 112, 3) uint8 RGB; raises as `read`."""
        faces = [self.read(int(index)) for index in indices]
        return np.stack(faces) if faces else np.zeros((0, FACE_SIZE, FACE_SIZE, 3), np.uint8)

    def split(self, name: str) -> Self:
        """Return the faces of one split.

        Raises:
            DataError: the set has no such split.
        """
        if name not in self.splits:
            known = ", ".join(sorted(self.splits)) or "none"
            raise DataError(f"{self.name} has no split {name!r}; its splits: {known}")
        return self.select([index for index, sample in enumerate(self.samples) if sample.split == name])

    def checked(self) -> Self:
        """Decode every picture once and return the set without those that cannot be used.

        Doing so before the first step keeps training reproducible: whether a picture is broken does not
        depend on when a worker meets it. Takes about 0.2 ms a picture and core.

        Raises:
            DataError: no picture can be used.
        """

        bad = self.faults(range(len(self)))
        if len(bad) == len(self):
            raise DataError(f"none of the {len(self)} pictures in {self.name} can be used: {left_out(bad.values())}")
        return self.select([i for i in range(len(self)) if i not in bad], bad.values()) if bad else self

    def faults(self, indices: Iterable[int]) -> dict[int, Skipped]:
        """Decode faces and return those that `read` refuses, by their index."""

        def fault(index: int) -> Skipped | None:
            try:
                self.read(index)
            except EdgefaceError as error:
                return Skipped(self.samples[index].key, str(error), error.kind)
            return None

        chosen = [int(index) for index in indices]
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV decodes without the interpreter's lock
            found = zip(chosen, pool.map(fault, chosen), strict=True)
            return {index: skipped for index, skipped in found if skipped is not None}

    def label_counts(self) -> Counter[int]:
        """Return how many faces each label has, `UNKNOWN` included."""
        return Counter(self.labels.tolist())

    @abstractmethod
    def select(self, indices: Sequence[int], skipped: Iterable[Skipped] = ()) -> Self:
        """Return the set of these faces, in this order; `skipped` joins those left out before."""

    @abstractmethod
    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """Return picture `index` as it is stored, of whatever size, (H, W, 3) uint8 RGB; raises as `read`."""

    def photograph(self, index: int) -> Photograph:
        """Return picture `index` where its exact size does not matter: a huge one comes smaller; raises as `read`."""
        image = self.picture(index)
        return Photograph(image, 1, (image.shape[1], image.shape[0]))

    def encoded(self, index: int) -> bytes:
        """Return the file of picture `index`; a set that has pixels only gives a PNG of them."""
        return encode_image(self.picture(index))


class Stored(Protocol):
    """Something that holds the encoded bytes of a picture."""

    def read(self) -> bytes:
        """Read the bytes; raises DataError."""
        ...


@dataclass(frozen=True, slots=True)
class Blob:
    """The encoded bytes of a picture, in memory."""

    data: bytes | bytearray

    def read(self) -> bytes:
        """Return the bytes."""
        return bytes(self.data)


@dataclass(frozen=True, slots=True)
class Extent:
    """Where the encoded bytes of a picture lie: `size` bytes from `offset` of a file; all of it if None."""

    path: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Read the bytes.

        Raises:
            DataError: the file is gone or cannot be read.
        """
        # Opened anew each time: costs microseconds, and loader processes share no file position.
        name = readable_name(str(self.path))
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                data = file.read(MAX_BYTES + 1 if self.size is None else min(self.size, MAX_BYTES + 1))
        except OSError as error:
            raise DataError(
                f"cannot read {name}: {error.strerror}; is the disk still there?", "unreadable file"
            ) from error
        if len(data) > MAX_BYTES:
            raise DataError(f"{name} has more than {MAX_BYTES:,} bytes; shrink it first", "too large")
        return data


class StoredFaces(FaceSet):
    """Faces whose encoded pictures lie in files, shards or memory. Make it with `edgeface.data.open_faces`."""

    def __init__(
        self, name: str, samples: Sequence[Sample], extents: Sequence[Stored], skipped: Iterable[Skipped] = ()
    ) -> None:
        super().__init__(name, samples, skipped)
        self.extents = tuple(extents)

    def select(self, indices: Sequence[int], skipped: Iterable[Skipped] = ()) -> Self:
        """Return the set of these faces, in this order; `skipped` joins those left out before."""
        samples, extents = [self.samples[i] for i in indices], [self.extents[i] for i in indices]
        return type(self)(self.name, samples, extents, (*self.skipped, *skipped))

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """Return picture `index` as it is stored, of whatever size, (H, W, 3) uint8 RGB; raises as `read`."""
        return decode_image(self.encoded(index), f"{self.samples[index].key} in {self.name}")

    def photograph(self, index: int) -> Photograph:
        """Return picture `index` where its exact size does not matter: a huge one comes smaller; raises as `read`."""
        return decode_photograph(self.encoded(index), f"{self.samples[index].key} in {self.name}")

    def encoded(self, index: int) -> bytes:
        """Return the file of picture `index`.

        Raises:
            DataError: it cannot be read.
        """
        return self.extents[index].read()


class InMemoryFaces(FaceSet):
    """Faces that are already decoded: synthetic ones, or a test's.

    Args:
        images: (N, 112, 112, 3) uint8 RGB.
        labels: (N,) integers, `UNKNOWN` for no identity. An identity is named by its number with leading
            zeros.
        split: of all these faces.
        name: what to call the set in messages.
    """

    def __init__(
        self,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.integer],
        split: str = "",
        name: str = "memory",
    ) -> None:
        if images.dtype != np.uint8 or images.shape != (len(labels), FACE_SIZE, FACE_SIZE, 3):
            raise DataError(
                f"{len(labels)} labelled faces are ({len(labels)}, {FACE_SIZE}, {FACE_SIZE}, 3) uint8, "
                f"got {images.shape} {images.dtype}"
            )
        width = len(str(max(int(labels.max(initial=0)), len(labels))))
        samples = [
            Sample(f"{index:0{width}}", None if label == UNKNOWN else f"{label:0{width}}", split)
            for index, label in enumerate(labels.tolist())
        ]
        super().__init__(name, samples)
        self.images = images

    def select(self, indices: Sequence[int], skipped: Iterable[Skipped] = ()) -> Self:
        """Return the set of these faces, in this order; `skipped` joins those left out before."""
        selected = object.__new__(type(self))
        FaceSet.__init__(selected, self.name, [self.samples[i] for i in indices], (*self.skipped, *skipped))
        selected.images = self.images[np.asarray(indices, np.int64)]
        return selected

    def picture(self, index: int) -> npt.NDArray[np.uint8]:
        """Return picture `index`, (112, 112, 3) uint8 RGB."""
        face: npt.NDArray[np.uint8] = self.images[index]
        return face
