"""Named tensors out of the files that people save: nothing in such a file is run.

torch's own restricted reader (`weights_only`) makes tensors and plain containers. Training frameworks put other objects
beside the weights, such as the state of a callback; those come out empty, whatever their class is.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edgeface.errors import CheckpointError

SUFFIXES: Final = (".pt", ".pth", ".ckpt", ".bin", ".safetensors")
"""Names of such files end like this."""

MAX_FILE_BYTES: Final = 8 << 30
"""Of a file: the largest ones carry the class matrix of millions of people and the optimizer's copies of it."""

MAX_PICKLE_BYTES: Final = 64 << 20
"""Of what says which tensors there are; it grows with their number, not with their size."""

MAX_TENSORS: Final = 100_000
MAX_DEPTH: Final = 64
MAX_CLASSES: Final = 256
"""Names of classes in a file that are not torch's."""

_REMEDY: Final = "save the weights alone with torch.save(model.state_dict(), FILE)"


class _Empty:
    """Stands for an object of any class: takes everything, holds nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class _EmptyMapping:
    """Stands for a class whose objects may get items: calling it gives a plain dictionary."""

    def __new__(cls, *_: object) -> Any:
        """Return the dictionary; what was given is left out."""
        return OrderedDict()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file, by names whose parts are joined with dots.

    Args:
        path: written by `torch.save` (a state dict, dictionaries around one, or a whole module) or in the safetensors
            format.

    Returns:
        Tensors on the CPU. Those of a file of `torch.save` are mapped, so that only what is used is read.

    Raises:
        CheckpointError: the file is missing, broken, too large, of another kind, or holds no tensors.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(16)
            size = file.seek(0, 2)
    except FileNotFoundError:
        raise CheckpointError(f"weights not found: {path}") from None
    except OSError as error:
        raise CheckpointError(f"weights {path} cannot be read: {error.strerror}") from error
    if size > MAX_FILE_BYTES:
        raise CheckpointError(f"{path} has {size:,} bytes, at most {MAX_FILE_BYTES:,} are read; {_REMEDY}")
    if beginning[8:9] == b"{":
        content: Any = _read_safetensors(path)
    else:
        content = _read_torch(path, is_zip=beginning.startswith(b"PK\x03\x04"))
    tensors: dict[str, Tensor] = {}
    _collect(content, "", 0, tensors, set())
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors; {_REMEDY}")
    if len(tensors) > MAX_TENSORS:
        raise CheckpointError(f"{path} holds more than {MAX_TENSORS:,} tensors; {_REMEDY}")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is no whole safetensors file ({_line(error)}); copy it again") from None
    return tensors


def _read_torch(path: Path, *, is_zip: bool) -> Any:
    try:
        unknown = _unknown_classes(path) if is_zip else ()
        stand_ins: list[Any] = [(_Empty if name.startswith("numpy.") else _EmptyMapping, name) for name in unknown]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} cannot be read without running code from it ({_line(error)}); {_REMEDY}"
        ) from None
    except Exception as error:  # a broken file makes the reader raise what it likes
        raise CheckpointError(
            f"{path} is no whole file of torch.save or safetensors ({type(error).__name__}: {_line(error)}); give one"
        ) from None


def _unknown_classes(path: Path) -> tuple[str, ...]:
    """Check the archive that torch.save writes, and return the names of the classes that are not torch's own."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise CheckpointError(f"{path} is a compressed archive, which torch.save never writes; {_REMEDY}")
    pickles = [member for member in members if member.filename.endswith("/data.pkl")]
    if any(member.filename.endswith("/constants.pkl") for member in members):
        raise CheckpointError(f"{path} is a program of TorchScript; {_REMEDY}, or export it to ONNX")
    if len(pickles) != 1 or pickles[0].file_size > MAX_PICKLE_BYTES:
        raise CheckpointError(f"{path} is an archive, but none of torch.save of usual size; {_REMEDY}")
    names = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    if len(names) > MAX_CLASSES:
        raise CheckpointError(f"{path} names {len(names)} classes; {_REMEDY}")
    return tuple(names)


def _collect(value: Any, name: str, depth: int, tensors: dict[str, Tensor], seen: set[int]) -> None:
    """Add the tensors in nested containers to `tensors`, each under the way to it."""
    if len(tensors) > MAX_TENSORS or depth > MAX_DEPTH:
        return
    if type(value) in (Tensor, nn.Parameter):
        if value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized:
            tensors[name] = value.detach()
        return
    items: list[tuple[object, Any]]
    if isinstance(value, Mapping):
        # A whole module that was pickled keeps its parts as attributes.
        attributes = getattr(value, "__dict__", {})
        parts = [attributes.get(part) for part in ("_parameters", "_buffers", "_modules")]
        items = [*value.items(), *(item for part in parts if isinstance(part, Mapping) for item in part.items())]
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    else:
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    for key, item in items:
        if isinstance(key, str | int):
            _collect(item, f"{name}.{key}" if name else str(key), depth + 1, tensors, seen)


def _line(error: Exception) -> str:
    """Return what torch says, without its paragraphs of advice."""
    text = " ".join(str(error).split())
    _, found, reason = text.partition("WeightsUnpickler error: ")
    return (reason if found else text)[:160].partition(" Please use")[0].rstrip(". ")
