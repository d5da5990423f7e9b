"""Batches of augmented faces in an order that depends on the seed and the step only."""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.context import BaseContext
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from edgeface.children import deaf_children
from edgeface.data.augment import Augmentation, AugmentConfig, augment, build_augmentation
from edgeface.data.faceset import UNKNOWN, FaceSet
from edgeface.data.morphing import blend, warp
from edgeface.errors import DataError
from edgeface.faces import FACE_SIZE

Place = tuple[int, int]
"""(epoch, index of the face). A face that comes again in an epoch is placed in one after the last, which no other
pass uses, so that it is augmented in another way."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Faces for one step.

    Attributes:
        faces: (N, 112, 112, 3) uint8 RGB.
        labels: (N,) int64.
        indices: (N,) int64, index into the face set.
    """

    faces: Tensor
    labels: Tensor
    indices: Tensor

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; called by the loader."""
        return Batch(self.faces.pin_memory(), self.labels.pin_memory(), self.indices.pin_memory())


class EpochBatches(Sampler[list[Place]]):
    """Lists of places, each epoch in another order, from any step on; each face at most once an epoch.

    Other samplers override `order` (`edgeface.data.samplers`).

    Args:
        count: number of faces.
        batch_size: faces in a step; what is left at the end of an epoch is dropped.
        epochs: number of epochs.
        seed: of the orders.
        first_step: steps that were done before.
    """

    def __init__(self, count: int, batch_size: int, epochs: int, seed: int, first_step: int = 0) -> None:
        self.count = count
        self.batch_size = batch_size
        self.epochs = epochs
        self.seed = seed
        self.first_step = first_step

    @property
    def steps_per_epoch(self) -> int:
        """Number of whole batches in an epoch."""
        return self.count // self.batch_size

    def __len__(self) -> int:
        return self.epochs * self.steps_per_epoch - self.first_step

    def __iter__(self) -> Iterator[list[Place]]:
        first_epoch, skip = divmod(self.first_step, self.steps_per_epoch)
        for epoch in range(first_epoch, self.epochs):
            order = self.order(epoch)
            draws = (epoch + self.epochs * occurrences(order)).tolist()
            places = list(zip(draws, order.tolist(), strict=True))
            for batch in range(skip, self.steps_per_epoch):
                yield places[batch * self.batch_size : (batch + 1) * self.batch_size]
            skip = 0

    def order(self, epoch: int) -> npt.NDArray[np.int64]:
        """Return the faces of one epoch by index, batch after batch; what follows the last whole batch is dropped."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.count)


def occurrences(values: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return for each of (N,) values how often it came before."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.searchsorted(ordered, ordered)  # where the run of equal values begins
    result = np.empty_like(order)
    result[order] = np.arange(len(values)) - starts
    return result


class AugmentedFaces(Dataset[tuple[torch.Tensor, int, int]]):
    """A face set, addressed by (epoch, index): the two fix the augmentation together with the seed."""

    def __init__(self, faces: FaceSet, config: AugmentConfig, seed: int) -> None:
        self.faces = faces
        self.config = config
        self.seed = seed

    @cached_property
    def plugin(self) -> Augmentation | None:
        """The change from outside, made in the process that prepares faces."""
        return build_augmentation(self.config)

    def __len__(self) -> int:
        return len(self.faces)

    def __getitem__(self, place: Place) -> tuple[Tensor, int, int]:
        epoch, index = place
        rng = np.random.default_rng((self.seed, epoch, index))
        face, label = self.faces.read(index), int(self.faces.labels[index])
        if self.config.makes_faces:
            chance = rng.random(2)
            if chance[0] < self.config.blend:
                face, label = blend(face, self.faces.read(int(rng.integers(len(self.faces)))), rng), UNKNOWN
            if chance[1] < self.config.warp:
                face, label = warp(face, rng), UNKNOWN
        face = augment(face, self.config, rng)
        if self.plugin is not None:
            face = self._checked(self.plugin(face, rng))
        return torch.from_numpy(np.ascontiguousarray(face)), label, index

    def _checked(self, face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        if getattr(face, "shape", None) != (FACE_SIZE, FACE_SIZE, 3) or face.dtype != np.uint8:
            seen = f"{face.shape} {face.dtype}" if isinstance(face, np.ndarray) else type(face).__name__
            raise DataError(
                f"the augmentation {self.config.name} gave {seen}; it has to give ({FACE_SIZE}, {FACE_SIZE}, 3) uint8"
            )
        return face


def open_loader(
    faces: AugmentedFaces,
    batches: Sampler[list[Place]],
    *,
    workers: int = -1,
    processes: int = 1,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    """Return the loader of all steps that `batches` has, which keeps its processes to the end.

    The processes start afresh rather than as copies of this one: OpenCV's and torch's threads do not survive a
    fork, and a child that needs their locks hangs. As always with such processes, a script that trains does so
    below `if __name__ == "__main__":`.

    Args:
        faces: what to read.
        batches: in which order.
        workers: processes; 0 prepares batches between the steps, -1 chooses by the number of cores.
        processes: that train on this machine, each with a loader.
        pin_memory: True when the batches go to a GPU.
    """
    workers = max(1, default_workers() // processes) if workers < 0 else workers
    return _Loader(
        faces,  # type: ignore[arg-type]  # collate makes a Batch of its items
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=_collate,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        prefetch_factor=4 if workers else None,
        multiprocessing_context=_context() if workers else None,
    )


class _Loader(DataLoader[Batch]):
    """Starts its processes so that Ctrl-C is left to this one."""

    def __iter__(self) -> Any:
        with deaf_children():
            return super().__iter__()


def default_workers() -> int:
    """Return how many processes prepare faces.

    Decoding and augmenting takes about 0.5 ms a face, a quarter of what a small network takes on a core, so a
    CPU run needs one for each two cores; on a GPU, eight keep up with some ten thousand faces a second.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // 2))


def _context() -> BaseContext:
    """Return how processes are started: from a server that has imported this module once, where there is one."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _collate(items: list[tuple[Tensor, int, int]]) -> Batch:
    faces, labels, indices = zip(*items, strict=True)
    return Batch(torch.stack(faces), torch.tensor(labels), torch.tensor(indices))


def _start_worker(_number: int) -> None:
    cv2.setNumThreads(1)  # the parallelism lies in the processes
    threading.Thread(target=_end_with_trainer, daemon=True).start()


def _end_with_trainer() -> None:
    """End this process when the one that trains is killed: to the system its parent is the server, which lives on."""
    trainer = multiprocessing.parent_process()
    if trainer is not None:
        trainer.join()
        os._exit(1)
