"""Following shapes through a graph, to foretell what a run takes, and refusing what takes too much.

The limits hold for what a network asks for. onnxruntime may need a small multiple of it for copies in its own layouts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edgeface.errors import BundleError
from edgeface.runtime.inspecting.onnx_reader import Model, Node, StoredTensor, dtype_of
from edgeface.runtime.inspecting.operators import OPERATORS
from edgeface.runtime.inspecting.schemas import Operator
from edgeface.runtime.inspecting.shapes import BrokenNodeError, Call, Extent, RuleError, Shape

MAX_TENSOR: Final = 1 << 26
"""Numbers in one tensor: 256 MiB of float32. An iResNet on a batch of 32 has 26 million in its largest."""
MAX_LIVE: Final = 1 << 29
"""Memory that is needed at the same time, without weights, as numbers of float32: 2 GiB."""
MAX_FIXED: Final = MAX_LIVE
"""Memory for results that do not depend on inputs, in the same unit: onnxruntime makes them all before it begins."""
MAX_WORK: Final = 1 << 41
"""Multiply-adds in one run: some minutes. An iResNet-200 on a batch of 32 makes 0.8e12, a third of it."""
MAX_UNROLLED: Final = 1 << 31
"""Numbers in the windows of one convolution on one image: 2 GiB in int8, which is where they are laid out."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What one run will take.

    Attributes:
        outputs: shapes of the outputs of the network, None where a shape does not follow from those of the inputs.
        numbers: most memory that is needed at the same time, without weights, as numbers of float32.
        work: multiply-adds.
    """

    outputs: Mapping[str, Shape | None]
    numbers: int
    work: int


def operator_of(node: Node, name: str) -> Operator:
    """Return what is known of a node's operator.

    Raises:
        BundleError: it is not admitted; `name` is that of the network.
    """
    operator = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
    if operator not in OPERATORS:
        raise BundleError(
            f"{name} uses the operator {operator}, which is not among those of face networks; export it without"
        )
    return OPERATORS[operator]


def refused(node: Node, name: str, reason: object) -> BundleError:
    """Return the error that a node of a network is refused with."""
    return BundleError(f"{label(node)} of {name} is refused: {reason}")


def label(node: Node) -> str:
    """Return a few words for a node."""
    return f"node {node.name} ({node.op_type})" if node.name else f"a {node.op_type} node"


class Walk:
    """One walk through a graph.

    Args:
        model: what to walk.
        shapes: of the inputs, by name.
        name: of the network, for errors.
        guessed: the shapes may not be what the network is made for. Then a node that does not fit them is passed
            over, with everything behind it; it must be walked again with true shapes.
    """

    def __init__(self, model: Model, shapes: Mapping[str, Shape], name: str, *, guessed: bool = False) -> None:
        self._model = model
        self._shapes = shapes
        self._name = name
        self._guessed = guessed
        self._tensors: dict[str, Extent | None] = {tensor.name: stored_extent(tensor) for tensor in model.stored}
        self._weights = set(self._tensors)
        self._steady = {"", *self._weights}  # names of what does not depend on what is fed
        self._tensors |= {entry.name: Extent(shapes[entry.name], None, entry.kind) for entry in model.inputs}
        self._live = self._peak = self._work = self._fixed = 0

    def forecast(self) -> Forecast:
        """Walk.

        Raises:
            BundleError: a limit is exceeded, a size cannot be told, or the graph is not whole.
        """
        for entry in self._shapes:
            self._keep(self._tensors[entry], f"input {entry}")
        last_use = {used: index for index, node in enumerate(self._model.nodes) for used in node.inputs}
        last_use.update(dict.fromkeys(self._model.outputs, len(self._model.nodes)))
        for index, node in enumerate(self._model.nodes):
            self._make(node)
            for used in {*node.inputs, *node.outputs} - self._weights - {""}:
                if last_use.get(used, index) <= index:
                    self._live -= _floats(self._tensors[used])
        if missing := [output for output in self._model.outputs if output not in self._tensors]:
            raise BundleError(f"{self._name} never makes its output {missing[0]}; export it again")
        extents = {output: self._tensors[output] for output in self._model.outputs}
        shapes = {name: None if extent is None else extent.shape for name, extent in extents.items()}
        return Forecast(shapes, self._peak, self._work)

    def _make(self, node: Node) -> None:
        results = self._results(node)
        for output, extent in zip(node.outputs, results, strict=False):
            if output in self._tensors:
                raise BundleError(f"{self._name} makes {output} twice; export it again")
            self._tensors[output] = extent
            self._keep(extent, label(node))
        if self._live > MAX_LIVE or self._work > MAX_WORK:
            listed = ", ".join(f"{entry} {list(shape)}" for entry, shape in self._shapes.items())
            what = f"{self._live} numbers at once" if self._live > MAX_LIVE else f"{self._work} multiply-adds"
            limit = MAX_LIVE if self._live > MAX_LIVE else MAX_WORK
            raise BundleError(f"{self._name} would need {what} for inputs {listed}; allowed are {limit}")
        if self._fixed > MAX_FIXED:
            raise BundleError(
                f"{self._name} would make {self._fixed} numbers that depend on no input; allowed are {MAX_FIXED}"
            )

    def _keep(self, extent: Extent | None, what: str) -> None:
        if extent is None:
            return
        if extent.count > MAX_TENSOR:
            raise BundleError(
                f"{what} of {self._name} would make a tensor of {' x '.join(map(str, extent.shape))} = {extent.count} "
                f"numbers; allowed are {MAX_TENSOR}"
            )
        self._live += extent.floats
        self._fixed += extent.floats if extent.fixed else 0
        self._peak = max(self._peak, self._live)

    def _results(self, node: Node) -> list[Extent | None]:
        """Return what a node makes, None for what is not known."""
        if missing := [used for used in node.inputs if used and used not in self._tensors]:
            raise BundleError(f"{label(node)} of {self._name} uses {missing[0]} before it is made; export it again")
        operator = operator_of(node, self._name)
        if loose := [index for index in operator.steady if not self._steady.issuperset(node.inputs[index : index + 1])]:
            raise refused(
                node, self._name, f"input {loose[0]} depends on what is fed; it is a constant in face networks"
            )
        if self._steady.issuperset(node.inputs):
            self._steady.update(node.outputs)
        inputs = [self._tensors[used] if used else None for used in node.inputs]
        unknown: list[Extent | None] = [None for _ in node.outputs]
        if any(used and extent is None for used, extent in zip(node.inputs, inputs, strict=True)):
            return unknown
        call = Call(node, tuple(inputs), self._model.opset)
        fixed = all(extent is None or extent.fixed for extent in inputs)
        try:
            results = operator(call)
            if not operator.empty:
                _refuse_empty(call, results)
            kind = operator.makes if isinstance(operator.makes, int) else operator.makes(call)
            effort, windows = operator.work(call, results), operator.lays_out(call, results)
        except (ValueError, TypeError, LookupError, ArithmeticError) as error:
            # RuleError says what is wrong; the others come from attributes and shapes that no exporter writes.
            if self._guessed and not fixed and not isinstance(error, BrokenNodeError):
                return unknown
            reason = error if isinstance(error, RuleError) else "its attributes do not fit its inputs"
            raise refused(node, self._name, reason) from None
        if windows > MAX_UNROLLED:
            raise BundleError(
                f"{label(node)} of {self._name} would lay out windows of {windows} numbers; allowed are {MAX_UNROLLED}"
            )
        if len(results) < len(node.outputs):
            raise BundleError(f"{label(node)} of {self._name} has {len(node.outputs)} outputs; export it again")
        self._work += effort
        self._peak = max(self._peak, self._live + windows // 4)  # where they are laid out, they are bytes
        return [_typed(replace(extent, kind=extent.kind or kind, fixed=fixed)) for extent in results]


def stored_extent(tensor: StoredTensor) -> Extent:
    """Return what is known of a weight."""
    return Extent(tensor.shape, tensor.values, tensor.kind, fixed=True)


def _refuse_empty(call: Call, results: list[Extent]) -> None:
    """Tensors without a number end the process in some kernels; face networks have none but empty rows of sizes, and
    pieces that are split off and put back.
    """
    for extent in (*call.inputs, *results):
        if extent is not None and len(extent.shape) > 1 and not extent.count:
            raise RuleError(f"it takes or makes an empty tensor of shape {list(extent.shape)}")


def _typed(extent: Extent) -> Extent:
    """Give values the type that onnxruntime will have for them, so that they wrap where its own do."""
    dtype = dtype_of(extent.kind)
    if extent.values is None or dtype is None or extent.values.dtype == dtype:
        return extent
    with np.errstate(all="ignore"):
        return replace(extent, values=extent.values.astype(dtype))


def _floats(extent: Extent | None) -> int:
    return 0 if extent is None else extent.floats
