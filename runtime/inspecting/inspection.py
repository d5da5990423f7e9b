"""Judging a network before anything runs it: which operators it uses, and how much memory and work it can take.

onnxruntime does what a file says. A file of 80 bytes can say "make 64 GiB of zeros", and onnxruntime only finds out
when it runs. So every network is walked first, with shapes instead of numbers: each node must be an operator that
face networks use, and the size of each result must follow from the sizes of the inputs. A network whose sizes depend
on what it computes, or grow beyond the limits, is refused. The walk is made once when a network is opened, and once
for each new size of its inputs, because a network may be harmless at one size and not at another.

The limits hold for what a network asks for. onnxruntime may need a small multiple of it for copies in its own
layouts.
"""

from collections.abc import Mapping
from typing import Final

from edgeface.errors import BundleError
from edgeface.runtime.inspecting.onnx_reader import Model, Node, read_model
from edgeface.runtime.inspecting.shape_layers import LAYERS, multiply_adds, unrolled
from edgeface.runtime.inspecting.shape_moves import MOVING
from edgeface.runtime.inspecting.shape_values import CREATING, ELEMENTWISE
from edgeface.runtime.inspecting.shapes import Call, Extent, Rule, RuleError, Shape, UnboundedError

OPERATORS: Final[dict[str, Rule]] = {**CREATING, **ELEMENTWISE, **LAYERS, **MOVING}
"""The allow-list: what a network may consist of, with the rule for the sizes of its results."""

MAX_MODEL_BYTES: Final = 1 << 30
MAX_NODES: Final = 20_000
MAX_TENSOR: Final = 1 << 26
"""Numbers in one tensor: 256 MiB of float32. An iResNet on a batch of 32 has 26 million in its largest."""
MAX_LIVE: Final = 1 << 29
"""Numbers that are needed at the same time, without weights: 2 GiB of float32."""
MAX_WORK: Final = 1 << 41
"""Multiply-adds in one run: some minutes. An iResNet-200 on a batch of 32 makes 0.8e12, a third of it."""
MAX_UNROLLED: Final = 1 << 31
"""Numbers in the windows of one convolution on one image: 2 GiB in int8, which is where they are laid out."""
IR_VERSIONS: Final = range(3, 14)
OPSETS: Final = range(7, 27)

NOMINAL_SIDE: Final = 640
"""Free sizes are taken to be this when a network is opened, a free batch to be 1."""

_MAX_SIZES: Final = 64
"""So many sizes of inputs are remembered as fit."""


class Inspected:
    """A network that was found fit to run. Make it with `inspect_model`."""

    def __init__(self, model: Model, name: str) -> None:
        self._model = model
        self._name = name
        self._fit: set[tuple[Shape, ...]] = set()

    def check_sizes(self, shapes: Mapping[str, Shape]) -> None:
        """Check that the network stays within the limits for inputs of these shapes.

        Raises:
            BundleError: it does not, an input is missing, or the network does not take such inputs.
        """
        key = tuple(shapes.get(entry.name, ()) for entry in self._model.inputs)
        if key in self._fit:
            return
        for entry, shape in zip(self._model.inputs, key, strict=True):
            fits = len(shape) == len(entry.shape) and all(
                want in (None, got) for want, got in zip(entry.shape, shape, strict=True)
            )
            if not fits:
                raise BundleError(f"{self._name} takes {entry.name} of shape {list(entry.shape)}, got {list(shape)}")
        _walk(self._model, dict(zip((entry.name for entry in self._model.inputs), key, strict=True)), self._name)
        if len(self._fit) >= _MAX_SIZES:
            self._fit.clear()
        self._fit.add(key)


def inspect_model(data: bytes, name: str = "model") -> Inspected:
    """Read and judge a network, without running any of it.

    Args:
        data: an ONNX file's bytes.
        name: what to call the network in an error.

    Raises:
        BundleError: it is not ONNX, uses an operator that is not on the list, or could exceed a limit.
    """
    if len(data) > MAX_MODEL_BYTES:
        raise BundleError(f"{name} has {len(data)} bytes, more than the {MAX_MODEL_BYTES} that are allowed")
    model = read_model(data, name)
    _check_versions(model, name)
    for node in model.nodes:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise BundleError(
                f"{name} uses the operator {operator}, which is not among those of face networks; export it without"
            )
    guessed = any(size is None for entry in model.inputs for size in entry.shape[1:])
    _walk(model, {entry.name: _nominal(entry.shape) for entry in model.inputs}, name, guessed=guessed)
    return Inspected(model, name)


def _check_versions(model: Model, name: str) -> None:
    for what, version, allowed in (("IR", model.ir_version, IR_VERSIONS), ("opset", model.opset, OPSETS)):
        if version not in allowed:
            raise BundleError(
                f"{name} has {what} version {version}, this edgeface knows {allowed[0]} to {allowed[-1]}; "
                "export it with another one"
            )
    if len(model.nodes) > MAX_NODES:
        raise BundleError(f"{name} has {len(model.nodes)} nodes, more than the {MAX_NODES} that are allowed")


def _nominal(shape: tuple[int | None, ...]) -> Shape:
    return tuple((NOMINAL_SIDE if axis else 1) if size is None else size for axis, size in enumerate(shape))


def _walk(model: Model, shapes: Mapping[str, Shape], name: str, *, guessed: bool = False) -> None:
    """Follow the shapes through the graph.

    Args:
        model: what to walk.
        shapes: of the inputs.
        name: for errors.
        guessed: the shapes may not be what the network is made for. Then a node that does not fit them is passed
            over, with everything behind it; `Inspected.check_sizes` looks at it again with true shapes.

    Raises:
        BundleError: a limit is exceeded, or a size cannot be told.
    """
    tensors: dict[str, Extent | None] = {tensor.name: Extent(tensor.shape, tensor.values) for tensor in model.stored}
    if len(tensors) < len(model.stored):
        raise BundleError(f"{name} has two weights of one name; export it again")
    weights = set(tensors)
    tensors.update({entry: Extent(shape) for entry, shape in shapes.items()})
    last_use = {used: index for index, node in enumerate(model.nodes) for used in node.inputs}
    last_use.update(dict.fromkeys(model.outputs, len(model.nodes)))
    live, work = sum(_count(tensors[entry]) for entry in shapes), 0
    for entry in shapes:
        _check_tensor(tensors[entry], f"input {entry} of {name}")
    for index, node in enumerate(model.nodes):
        results, effort = _results(node, tensors, model.opset, name, guessed)
        for output, extent in zip(node.outputs, results, strict=False):
            if output in tensors:
                raise BundleError(f"{name} makes {output} twice; export it again")
            _check_tensor(extent, f"{_label(node)} of {name}")
            if output:
                tensors[output] = extent
                live += _count(extent)
        work += effort
        if live > MAX_LIVE or work > MAX_WORK:
            needs = f"{live} numbers at once" if live > MAX_LIVE else f"{work} multiply-adds"
            limit = MAX_LIVE if live > MAX_LIVE else MAX_WORK
            raise BundleError(f"{name} would need {needs} for inputs {_listed(shapes)}; allowed are {limit}")
        for used in {*node.inputs, *node.outputs} - weights - {""}:
            if last_use.get(used, index) <= index:
                live -= _count(tensors[used])
    if missing := [output for output in model.outputs if output not in tensors]:
        raise BundleError(f"{name} never makes its output {missing[0]}; export it again")


def _results(
    node: Node, tensors: Mapping[str, Extent | None], opset: int, name: str, guessed: bool
) -> tuple[list[Extent | None], int]:
    """Return what a node makes, None for what is not known, and its multiply-adds."""
    missing = [used for used in node.inputs if used and used not in tensors]
    if missing:
        raise BundleError(f"{_label(node)} of {name} uses {missing[0]} before it is made; export it again")
    unknown: list[Extent | None] = [None for _ in node.outputs]
    if any(used and tensors[used] is None for used in node.inputs):
        return unknown, 0
    call = Call(node, tuple(tensors[used] if used else None for used in node.inputs), opset)
    try:
        results = OPERATORS[node.op_type](call)
        effort, windows = multiply_adds(call, results), unrolled(call, results)
    except (ValueError, TypeError, LookupError, ArithmeticError) as error:
        # RuleError says what is wrong; the others come from attributes and shapes that no exporter writes.
        if guessed and not isinstance(error, UnboundedError):
            return unknown, 0
        reason = str(error) if isinstance(error, RuleError) else "its attributes do not fit its inputs"
        raise BundleError(f"{_label(node)} of {name} is refused: {reason}") from None
    if windows > MAX_UNROLLED:
        raise BundleError(
            f"{_label(node)} of {name} would lay out windows of {windows} numbers; allowed are {MAX_UNROLLED}"
        )
    if len(results) < len(node.outputs):
        raise BundleError(f"{_label(node)} of {name} has {len(node.outputs)} outputs; export it again")
    return list(results), effort


def _check_tensor(extent: Extent | None, what: str) -> None:
    if _count(extent) > MAX_TENSOR:
        assert extent is not None
        raise BundleError(
            f"{what} would make a tensor of {' x '.join(map(str, extent.shape))} = {extent.count} numbers; "
            f"allowed are {MAX_TENSOR}"
        )


def _count(extent: Extent | None) -> int:
    return 0 if extent is None else extent.count


def _label(node: Node) -> str:
    return f"node {node.name} ({node.op_type})" if node.name else f"a {node.op_type} node"


def _listed(shapes: Mapping[str, Shape]) -> str:
    return ", ".join(f"{entry} {list(shape)}" for entry, shape in shapes.items())
