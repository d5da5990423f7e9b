"""Judging a network before anything runs it: which operators it uses, and how much memory and work it can take.

onnxruntime does what a file says. A file of 80 bytes can say "make 64 GiB of zeros", and onnxruntime only finds out
when it runs. So every network is walked first, with shapes instead of numbers: each node must be an operator that
face networks use, and the size of each result must follow from the sizes of the inputs. A network whose sizes depend
on what it computes, or grow beyond the limits, is refused. The walk is made once when a network is opened, and once
for each new size of its inputs, because a network may be harmless at one size and not at another.

See `edgeface.runtime.inspecting.operators` for the operators, `schemas` for what of a node is looked at without sizes,
and `walking` for the limits.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from edgeface.errors import BundleError
from edgeface.runtime.inspecting.onnx_reader import GraphInput, Model, read_model
from edgeface.runtime.inspecting.operators import OPERATORS
from edgeface.runtime.inspecting.shapes import BrokenNodeError, Shape
from edgeface.runtime.inspecting.walking import (
    MAX_FIXED,
    MAX_LIVE,
    MAX_TENSOR,
    MAX_UNROLLED,
    MAX_WORK,
    Forecast,
    Walk,
    operator_of,
    refused,
)

__all__ = [
    "MAX_FIXED",
    "MAX_LIVE",
    "MAX_TENSOR",
    "MAX_UNROLLED",
    "MAX_WORK",
    "OPERATORS",
    "Forecast",
    "Inspected",
    "inspect_model",
]

MAX_MODEL_BYTES: Final = 1 << 30
MAX_NODES: Final = 8_000
"""Face networks have some hundreds, quantized transformers 3000. onnxruntime's time to open grows with the square."""
IR_VERSIONS: Final = range(3, 14)
OPSETS: Final = range(7, 27)

NOMINAL_SIDE: Final = 640
"""Free sizes are taken to be this when a network is opened, a free batch to be 1."""
SMALL_SIDE: Final = 32
"""The same where more than two sizes are free, so that they cannot all be sides of a picture."""

_WEIGHTS_ARE_CONSTANT: Final = 4
"""IR version from which on a weight that is an input, too, is none; before, all were listed."""
_MAX_ERROR: Final = 400
_MAX_SIZES: Final = 64
"""So many sizes of inputs are remembered as fit."""


class Inspected:
    """A network that was found fit to run. Make it with `inspect_model`."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._fit: set[tuple[Shape, ...]] = set()

    @property
    def inputs(self) -> tuple[GraphInput, ...]:
        """What must be fed."""
        return self._model.inputs

    def check_sizes(self, shapes: Mapping[str, Shape]) -> None:
        """Check that the network stays within the limits for inputs of these shapes.

        Raises:
            BundleError: it does not, an input is missing, or the network does not take such inputs.
        """
        key = tuple(shapes.get(entry.name, ()) for entry in self._model.inputs)
        if key in self._fit:
            return
        self.foretell(shapes)
        if len(self._fit) >= _MAX_SIZES:
            self._fit.clear()
        self._fit.add(key)

    def foretell(self, shapes: Mapping[str, Shape]) -> Forecast:
        """Return what a run on inputs of these shapes takes.

        Raises:
            BundleError: as `check_sizes`.
        """
        with _in_one_line():
            return self._foretell(shapes)

    def _foretell(self, shapes: Mapping[str, Shape]) -> Forecast:
        key = tuple(shapes.get(entry.name, ()) for entry in self._model.inputs)
        for entry, shape in zip(self._model.inputs, key, strict=True):
            fits = len(shape) == len(entry.shape) and all(
                want in (None, got) for want, got in zip(entry.shape, shape, strict=True)
            )
            if not fits:
                raise BundleError(f"{self._name} takes {entry.name} of shape {list(entry.shape)}, got {list(shape)}")
        names = [entry.name for entry in self._model.inputs]
        return Walk(self._model, dict(zip(names, key, strict=True)), self._name).forecast()


def inspect_model(data: bytes, name: str = "model") -> Inspected:
    """Read and judge a network, without running any of it.

    Args:
        data: an ONNX file's bytes.
        name: what to call the network in an error.

    Raises:
        BundleError: it is not ONNX, uses an operator that is not on the list, or could exceed a limit.
    """
    with _in_one_line():
        return _inspect(data, name)


def _inspect(data: bytes, name: str) -> Inspected:
    if len(data) > MAX_MODEL_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes, more than the {MAX_MODEL_BYTES} that are allowed")
    model = read_model(data, name)
    _check_versions(model, name)
    _check_names(model, name)
    for node in model.nodes:
        try:
            operator_of(node, name).check(node)
        except BrokenNodeError as error:
            raise refused(node, name, error) from None
    guessed = any(size is None for entry in model.inputs for size in entry.shape[1:])
    Walk(model, {entry.name: _nominal(entry.shape) for entry in model.inputs}, name, guessed=guessed).forecast()
    return Inspected(model, name)


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Keep what a file calls its nodes from filling the screen, or steering it."""
    try:
        yield
    except BundleError as error:
        text = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(error))
        if text == str(error) and len(text) <= _MAX_ERROR:
            raise
        raise BundleError(text if len(text) <= _MAX_ERROR else f"{text[:_MAX_ERROR]} ...") from None


def _check_versions(model: Model, name: str) -> None:
    for what, version, allowed in (("IR", model.ir_version, IR_VERSIONS), ("opset", model.opset, OPSETS)):
        if version not in allowed:
            raise BundleError(
                f"{name} has {what} version {version}, this edgeface knows {allowed[0]} to {allowed[-1]}; "
                "export it with another one"
            )
    if len(model.nodes) > MAX_NODES:
        raise BundleError(f"{name} has {len(model.nodes)} nodes, more than the {MAX_NODES} that are allowed")


def _check_names(model: Model, name: str) -> None:
    if model.replaceable and model.ir_version >= _WEIGHTS_ARE_CONSTANT:
        raise BundleError(
            f"{name} lets its weight {model.replaceable[0]} be fed, too, so that onnxruntime takes it for no constant; "
            "export it without weights among the inputs, or bring it in with: edgeface export --onnx"
        )
    for what, names in (
        ("weights", [tensor.name for tensor in model.stored]),
        ("inputs", [entry.name for entry in model.inputs]),
        ("outputs", list(model.outputs)),
    ):
        if len(set(names)) < len(names) or "" in names:
            raise BundleError(f"{name} has {what} of one name, or without a name; export it again")


def _nominal(shape: tuple[int | None, ...]) -> Shape:
    side = NOMINAL_SIDE if shape[1:].count(None) <= 2 else SMALL_SIDE
    return tuple((side if axis else 1) if size is None else size for axis, size in enumerate(shape))
