"""What the teacher answers for the faces of a batch: from its stored embeddings, or from its network as it goes."""

import logging
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from edgeface.data import FaceSet
from edgeface.data.loader import Batch
from edgeface.data.teacher import read_targets, read_transform
from edgeface.errors import ConfigError
from edgeface.runtime.embedder import Embedder, open_embedder
from edgeface.training.config import TrainConfig

log = logging.getLogger(__name__)


class Teacher(Protocol):
    """Knows what a student should answer."""

    def targets(self, batch: Batch) -> Tensor:
        """Return (N, D) float32 of unit length on the device of the run; rows of zeros for faces not known."""


class StoredTeacher:
    """Answers from embeddings (F, D) of all faces, as they are without augmentation."""

    def __init__(self, embeddings: Tensor) -> None:
        self.embeddings = embeddings

    def targets(self, batch: Batch) -> Tensor:
        """Return the rows of the batch's faces."""
        return self.embeddings[batch.indices.to(self.embeddings.device)]


class LiveTeacher:
    """Asks an embedder for each batch, so it sees the same augmented faces as the student.

    Args:
        embedder: meets the contract of the project.
        transform: as `edgeface.data.teacher.read_targets`, or None.
        device: where the targets go.
    """

    def __init__(self, embedder: Embedder, transform: Path | None, device: torch.device) -> None:
        self.embedder = embedder
        self.transform = None if transform is None else read_transform(transform)
        self.device = device

    def targets(self, batch: Batch) -> Tensor:
        """Return what the embedder answers, transformed and normalised."""
        embeddings = self.embedder.embed(batch.faces.numpy())
        if self.transform is not None:
            embeddings = self.transform(embeddings)
        return functional.normalize(torch.from_numpy(embeddings).float()).to(self.device)


def open_teacher(config: TrainConfig, faces: FaceSet, device: torch.device) -> Teacher | None:
    """Open the teacher of a run, or return None if it has none.

    Raises:
        ConfigError: its embeddings are of another length than the student's, or it cannot be read.
        DataError: stored embeddings or the transform are malformed.
        BundleError: the network does not meet the contract of the project.
    """
    taught = bool(config.teacher.path and config.teacher.weight)
    path = Path(config.teacher.path)
    if config.augment.makes_faces and not (taught and path.suffix == ".onnx"):
        raise ConfigError(
            "augment.blend and augment.warp make faces that nobody has; only a teacher that sees them can say what to "
            f"answer: name its .onnx file as teacher.path (now {config.teacher.path or 'empty'!r}), or make the faces "
            "beforehand with: edgeface data teach"
        )
    if not taught:
        return None
    transform = Path(config.teacher.transform) if config.teacher.transform else None
    teacher: Teacher
    if path.suffix == ".onnx":
        try:
            embedder = open_embedder(path.read_bytes(), threads=0, name=str(path))
        except OSError as error:
            raise ConfigError(f"cannot read teacher.path = {path}: {error.strerror}; check the path") from None
        teacher = LiveTeacher(embedder, transform, device)
        blank = torch.zeros(1, embedder.contract.size, embedder.contract.size, 3, dtype=torch.uint8)
        nowhere = torch.zeros(1, dtype=torch.int64)
        size = teacher.targets(Batch(blank, nowhere, nowhere)).shape[1]
    else:
        stored = torch.from_numpy(read_targets(path, faces, transform)).to(device)
        silent = torch.nonzero(~stored.any(dim=1)).flatten().tolist()
        if silent:
            first = faces.samples[silent[0]].key
            log.warning(
                "%d of %d faces have no embedding in %s, the first is %s: %s",
                *(len(silent), len(faces), path, first),
                "of these only who it is is learned, where that is known",
            )
        teacher, size = StoredTeacher(stored), stored.shape[1]
    if size != config.model.embedding_size:
        raise ConfigError(
            f"the teacher's embeddings have {size} numbers and model.embedding_size is "
            f"{config.model.embedding_size}; set it to {size}"
        )
    return teacher
