"""The class matrix and its moments in a checkpoint: read by any number of processes, whoever wrote it.

A folder of safetensors files, one for each process that wrote, by `torch.distributed.checkpoint`: a file says in its
header which rows it has. Nothing is pickled. Rows are those of classes.
"""

import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint._hf_utils import CUSTOM_METADATA_KEY, SAVED_OFFSETS_KEY
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadPlan, LoadPlanner, SavePlan, SavePlanner
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.checkpoint.storage import WriteResult
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard
from torch.futures import Future

from edgeface.errors import CheckpointError
from edgeface.losses.ranks import Ranks

DTYPES: Final = {torch.float32: "F32"}
"""What is written, by the names of the file format."""

BLOCK: Final = 1 << 22
"""Numbers that are read at a time."""


_UNREADABLE: Final = (
    OSError,
    SafetensorError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the library raises for headers that say what it did not expect."""


@dataclass(frozen=True, slots=True)
class ClassRows:
    """Tensors of which each process holds the rows of its classes.

    Attributes:
        tensors: (held * per_class, ...) float32 each.
        classes: of all processes.
        per_class: rows of a class.
        ranks: who shares the classes.
    """

    tensors: Mapping[str, Tensor]
    classes: int
    per_class: int
    ranks: Ranks

    def whole(self) -> dict[str, Tensor]:
        """Return each as (classes, numbers of a class), of which this process has a part; nothing is copied."""
        return {name: self._whole(tensor) for name, tensor in self.tensors.items()}

    def _whole(self, tensor: Tensor) -> Tensor:
        width = self.per_class * math.prod(tensor.shape[1:])
        rows = tensor.detach().view(len(self.ranks.share(self.classes)), width)
        if self.ranks.count == 1:
            return rows
        mesh = init_device_mesh(tensor.device.type, (self.ranks.count,))
        shape = torch.Size((self.classes, width))
        return DTensor.from_local(rows, mesh, [Shard(0)], run_check=False, shape=shape, stride=(width, 1))


def save_classes(folder: Path, rows: ClassRows) -> None:
    """Write the rows; every process calls it with the same folder.

    Raises:
        OSError: it cannot be written in one of the processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = _Writer(str(folder), save_distributed=True)
    try:
        with _quiet():
            save(rows.whole(), storage_writer=writer, no_dist=rows.ranks.count == 1)
    except CheckpointException as error:
        failures = [failure for failure, _ in error.failures.values()]
        raise next((failure for failure in failures if isinstance(failure, OSError)), failures[0]) from None


def load_classes(folder: Path, rows: ClassRows) -> None:
    """Fill the rows; every process calls it.

    Raises:
        CheckpointError: a file is missing or broken, or the classes are others.
    """
    whole, reader = rows.whole(), _Reader(str(folder))
    try:
        stored = reader.read_metadata().state_dict_metadata
        for name, tensor in whole.items():
            _assert_complete(stored.get(name), tensor.shape, f"{name!r} in {folder}")
        with _quiet():
            load(whole, storage_reader=reader, no_dist=rows.ranks.count == 1)
    except (*_UNREADABLE, CheckpointException) as error:
        raise CheckpointError(f"{folder} cannot be read ({error}); use another checkpoint") from error
    for name, tensor in rows.tensors.items():
        if not torch.isfinite(tensor.sum(-1)).all():  # a sum of moderate numbers; saves a mask of them all
            raise CheckpointError(f"{folder} holds numbers that are not finite, in {name}; use another checkpoint")


def _assert_complete(stored: object, shape: torch.Size, name: str) -> None:
    """Check that the files have every row once: the library would leave a gap as it is."""
    chunks = (
        sorted((c.offsets[0], c.sizes[0]) for c in stored.chunks) if isinstance(stored, TensorStorageMetadata) else []
    )
    end = 0
    for first, count in chunks:
        end = end + count if first == end else -1
    if not isinstance(stored, TensorStorageMetadata) or end != shape[0] or stored.size != shape:
        raise CheckpointError(
            f"{name} has the rows of {sum(count for _, count in chunks)} of {shape[0]} classes; a file is missing, or "
            "the configuration was changed"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warning that there is one process only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
        yield


class _Reader(HuggingFaceStorageReader):
    """Reads some rows at a time into their place: the library's own maps the file and copies all that it reads."""

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        for item in plan.items:
            stored = self.storage_data[item.storage_index]
            path, (_, *width) = Path(stored.relative_path), stored.shape
            if stored.dtype not in DTYPES or list(item.lengths[1:]) != width:
                raise CheckpointError(f"{path} has {stored.dtype} of {stored.shape} where whole rows of float32 belong")
            target = planner.resolve_tensor(item).detach()
            with path.open("rb") as file:
                size = int.from_bytes(file.read(8), "little")
                first = json.loads(file.read(size))[item.storage_index.fqn]["data_offsets"][0]
                file.seek(8 + size + first + 4 * item.storage_offsets[0] * math.prod(width))
                rows = max(1, BLOCK // max(1, math.prod(width)))
                for part in torch.split(target, rows):
                    numbers = torch.empty(part.shape, dtype=part.dtype)
                    file.readinto(numbers.numpy().data)
                    part.copy_(numbers)
            planner.commit_tensor(item, target)
        done: Future[None] = Future()
        done.set_result(None)
        return done


class _Writer(HuggingFaceStorageWriter):
    """Writes one tensor after the other: the library's own builds the file in memory, twice over."""

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        place, header, offsets = 0, dict[str, Any](), dict[str, Any]()
        for item in plan.items:
            assert item.tensor_data is not None
            name, chunk = item.index.fqn, item.tensor_data.chunk
            size = 4 * chunk.sizes.numel()
            dtype = DTYPES[item.tensor_data.properties.dtype]
            header[name] = {"dtype": dtype, "shape": list(chunk.sizes), "data_offsets": [place, place + size]}
            offsets[name] = {SAVED_OFFSETS_KEY: list(chunk.offsets)}
            place += size
        header["__metadata__"] = {CUSTOM_METADATA_KEY: json.dumps(offsets), "format": "pt"}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        path = Path(self.path) / f"classes-{plan.storage_data['shard_index']:05}.safetensors"
        results = []
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for item in plan.items:
                tensor = planner.resolve_data(item)
                assert isinstance(tensor, Tensor)
                file.write(tensor.detach().cpu().contiguous().numpy().data)
                results.append(WriteResult(item.index, tensor.numel() * 4, path.name))
            file.flush()
            os.fsync(file.fileno())
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done
