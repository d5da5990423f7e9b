"""Reading an ONNX file that somebody else wrote, with the weights that lie in files beside it."""

import math
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import all_graphs
from edgeface.files import sha256
from edgeface.runtime.inspecting.inspection import MAX_MODEL_BYTES

_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@dataclass(frozen=True, slots=True)
class Source:
    """A network as it was stored.

    Attributes:
        model: with all of its weights.
        path: of the file.
        sha256: of that file.
        beside: SHA-256 of each file with weights beside it, by name.
    """

    model: onnx.ModelProto
    path: Path
    sha256: str
    beside: dict[str, str]


def read_source(path: Path) -> Source:
    """Read a network, and what it keeps in files beside it.

    Such a file must lie in the folder of the network or below, and be a plain file: no link, no absolute path, no way
    up. All files together are at most as large as a network may be.

    Raises:
        ExportError: a file is missing, too large or not ONNX, or weights are named that may not be read.
    """
    try:
        size = path.stat().st_size
        if size > MAX_MODEL_BYTES:
            raise ExportError(f"{path} has {size} bytes, more than the {MAX_MODEL_BYTES} that are allowed")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ExportError(f"network not found: {path}") from None
    except OSError as error:
        raise ExportError(f"network {path} cannot be read: {error.strerror}") from error
    try:
        model = onnx.load_model_from_string(data)
    except DecodeError as error:
        raise ExportError(f"{path} is not an ONNX file ({len(data)} bytes): {error}") from None
    files: dict[str, bytes] = {}
    room = MAX_MODEL_BYTES - len(data)
    for tensor in _stored(model):
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data:
            room -= _load(tensor, path, files, room)
    return Source(model, path, sha256(data), {name: sha256(held) for name, held in files.items()})


def _stored(model: onnx.ModelProto) -> Iterator[TensorProto]:
    for graph in all_graphs(model):
        yield from graph.initializer if isinstance(graph, onnx.GraphProto) else ()
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def _load(tensor: TensorProto, path: Path, files: dict[str, bytes], room: int) -> int:
    """Put the bytes of a tensor into it; returns how many, which are at most `room`."""
    stated = {entry.key: entry.value for entry in tensor.external_data}
    what = f"weight {tensor.name} of {path}"
    location = stated.get("location", "")
    try:
        offset, length = int(stated.get("offset", "0")), int(stated["length"]) if "length" in stated else None
        held: int = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (ValueError, KeyError, TypeError):
        raise ExportError(f"{what} says wrongly where it lies ({location!r}); export the network again") from None
    if held > room or (length is not None and length != held) or offset < 0 or any(size < 0 for size in tensor.dims):
        raise ExportError(
            f"{what} has the shape {list(tensor.dims)}, that is {held} bytes, and names {length} bytes from {offset} "
            f"on in {location!r}; all files of a network have at most {MAX_MODEL_BYTES} bytes; export it again"
        )
    if location not in files:
        files[location] = _file_beside(path, location, what)
    data = files[location][offset : offset + held]
    if len(data) != held:
        raise ExportError(
            f"{what} should lie in {location!r} from byte {offset} on, which ends before; copy both files again"
        )
    tensor.raw_data = data
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    return held


def _file_beside(path: Path, location: str, what: str) -> bytes:
    """Read a whole file in the folder of the network, or below it, without following a link."""
    parts = PurePosixPath(location).parts
    if not parts or location.startswith(("/", "\\")) or {"..", ""} & set(parts) or any(c in location for c in "\\:\0"):
        raise ExportError(
            f"{what} lies in {location!r}, which is no plain name in the folder of the network; store the network in "
            "one file: onnx.save(onnx.load(FILE), NEW)"
        )
    place = path.parent
    for part in parts:
        place = place / part
        if place.is_symlink():
            raise ExportError(f"{what} lies in {location!r}, and {place} is a link; put the file itself there")
    try:
        handle = os.open(place, os.O_RDONLY | _NO_LINK)
    except FileNotFoundError:
        raise ExportError(f"{what} lies in {location!r}, which is missing; put that file beside the network") from None
    except OSError as error:
        raise ExportError(f"{what} lies in {location!r}, which cannot be read: {error.strerror}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_MODEL_BYTES:
        os.close(handle)
        raise ExportError(f"{what} lies in {location!r}, which is no plain file of at most {MAX_MODEL_BYTES} bytes")
    with os.fdopen(handle, "rb") as file:
        return file.read(MAX_MODEL_BYTES)
