"""Rows of nodes that onnxruntime puts together or leaves out when it opens a network: where odd inputs meet fusions."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import helper
from random_networks import FLOAT, Sketch, Tensor


class Row:
    """Adds nodes one after the other; a name stands for what the last node made."""

    def __init__(self, sketch: Sketch, start: Tensor) -> None:
        self.sketch = sketch
        self.last = start.name
        self.shape = start.shape

    def add(self, op_type: str, *inputs: str | Tensor, count: int = 1, **attributes: Any) -> str:
        """Add a node; without inputs it takes what the last one made."""
        names = [entry.name if isinstance(entry, Tensor) else entry for entry in inputs] or [self.last]
        made = [f"r{len(self.sketch.nodes)}_{place}" for place in range(count)]
        self.sketch.nodes.append(helper.make_node(op_type, names, made, **attributes))
        self.last = made[0]
        return made[0]

    def number(self, value: float, kind: Any = np.float32) -> Tensor:
        """Return a new single number."""
        return self.sketch.constant(kind(value))

    def row(self, size: int, value: float = 1.0) -> Tensor:
        """Return a new row of equal numbers."""
        return self.sketch.constant(np.full(size, value, np.float32))

    def axes(self, op_type: str, source: str, *axes: int, **attributes: Any) -> str:
        """Add a node whose axes are an attribute in old opsets and an input in new ones."""
        since = 13 if op_type in ("ReduceSum", "Squeeze", "Unsqueeze") else 18
        if self.sketch.opset >= since:
            return self.add(op_type, source, self.sketch.longs(*axes), **attributes)
        return self.add(op_type, source, axes=list(axes), **attributes)


def _convolved(row: Row, channels: int, **attributes: Any) -> str:
    weight = row.sketch.weight((channels, row.shape[1], 3, 3))
    row.shape = (row.shape[0], channels, *row.shape[2:])
    return row.add("Conv", row.last, weight, kernel_shape=[3, 3], pads=[1, 1, 1, 1], **attributes)


def _conv_norm(row: Row) -> None:
    _convolved(row, 4)
    row.add("BatchNormalization", row.last, *(row.row(4) for _ in range(4)))
    row.add(row.sketch.rng.choice(["Relu", "Sigmoid", "Tanh", "LeakyRelu"]))


def _conv_scaled(row: Row) -> None:
    _convolved(row, 4)
    for op_type in row.sketch.rng.sample(["Mul", "Add", "Sub", "Div"], 2):
        row.add(op_type, row.last, row.sketch.weight(row.sketch.rng.choice([(4, 1, 1), (1, 4, 1, 1), (1,), ()])))


def _conv_sum(row: Row) -> None:
    start = row.last
    _convolved(row, row.shape[1])
    row.add("Add", row.last, start)
    row.add("Relu")


def _padded_conv(row: Row) -> None:
    amounts = [0, 0, 1, 1, 0, 0, 1, 1]
    if row.sketch.opset >= 11:
        row.add("Pad", row.last, row.sketch.longs(*amounts))
    else:
        row.add("Pad", row.last, pads=amounts)
    _convolved(row, 3)


def _clipped(row: Row) -> None:
    row.add("Relu")
    if row.sketch.opset >= 11:
        row.add("Clip", row.last, row.number(0), row.number(6))
    else:
        row.add("Clip", row.last, min=0.0, max=6.0)


def _quantized(row: Row, source: str, zero: Any, scale: float = 0.1, axis: int | None = None, size: int = 1) -> str:
    more = {} if axis is None else {"axis": axis}
    scales = row.number(scale) if axis is None else row.row(size, scale)
    zeros = row.sketch.constant(zero if axis is None else np.full(size, zero))
    row.add("QuantizeLinear", source, scales, zeros, **more)
    return row.add("DequantizeLinear", row.last, scales, zeros, **more)


def _quantized_conv(row: Row) -> None:
    kind = row.sketch.rng.choice((np.uint8, np.int8))
    data = _quantized(row, row.last, kind(3))
    array = np.random.default_rng(0).integers(-9, 9, (4, row.shape[1], 3, 3)).astype(np.int8)
    each = row.sketch.opset >= 13 and row.sketch.rng.random() < 0.5
    scale = row.row(4, 0.1) if each else row.number(0.1)
    zero = row.sketch.constant(np.zeros(4 if each else (), np.int8))
    weights = row.add("DequantizeLinear", row.sketch.constant(array), scale, zero, **({"axis": 0} if each else {}))
    inputs: list[str | Tensor] = [data, weights]
    if row.sketch.rng.random() < 0.6:
        inputs.append(row.add("DequantizeLinear", row.sketch.constant(np.zeros(4, np.int32)), row.number(0.01)))
    row.add("Conv", *inputs, pads=[1, 1, 1, 1])
    if row.sketch.rng.random() < 0.5:
        row.add("Relu")
    _quantized(row, row.last, kind(1))


def _quantized_sum(row: Row) -> None:
    kind = row.sketch.rng.choice((np.uint8, np.int8))
    start = row.last
    one, two = _quantized(row, start, kind(3)), _quantized(row, start, kind(0), 0.2)
    op_type = row.sketch.rng.choice(["Add", "Mul", "Concat", "Where"])
    if op_type == "Where":
        row.add("Where", row.sketch.constant(np.array(True)), one, two)
    else:
        row.add(op_type, one, two, **({"axis": 1} if op_type == "Concat" else {}))
    _quantized(row, row.last, kind(1))


def _quantized_unary(row: Row) -> None:
    kind = row.sketch.rng.choice((np.uint8, np.int8))
    _quantized(row, row.last, kind(3))
    row.add(row.sketch.rng.choice(["Sigmoid", "LeakyRelu", "Softmax", "GlobalAveragePool", "Flatten", "Transpose"]))
    _quantized(row, row.last, kind(1))


def _quantized_product(row: Row) -> None:
    row.add("Flatten")
    size = int(np.prod(row.shape[1:]))
    data = _quantized(row, row.last, np.uint8(3))
    array = row.sketch.constant(np.ones((size, 3), np.int8))
    weights = row.add("DequantizeLinear", array, row.number(0.1), row.sketch.constant(np.int8(0)))
    row.add(row.sketch.rng.choice(["MatMul", "Gemm"]), data, weights)
    _quantized(row, row.last, np.uint8(1))


def _gelu(row: Row) -> None:
    start = row.last
    row.add("Div", start, row.number(1.4142135))
    row.add("Erf")
    row.add("Add", row.last, row.number(1))
    row.add("Mul", start, row.last)
    row.add("Mul", row.last, row.number(0.5))


def _layer_norm(row: Row) -> None:
    start = row.last
    mean = row.axes("ReduceMean", start, -1)
    less = row.add("Sub", start, mean)
    row.add("Pow", less, row.number(2))
    row.axes("ReduceMean", row.last, -1)
    row.add("Add", row.last, row.number(1e-5))
    row.add("Sqrt")
    row.add("Div", less, row.last)
    row.add("Mul", row.last, row.row(row.shape[-1]))
    row.add("Add", row.last, row.row(row.shape[-1]))


def _skip_norm(row: Row) -> None:
    row.add("Add", row.last, row.row(row.shape[-1]))
    if row.sketch.opset >= 17:
        row.add("LayerNormalization", row.last, row.row(row.shape[-1]), row.row(row.shape[-1]))


def _attention(row: Row) -> None:
    start, width = row.last, row.shape[-1]
    parts = []
    for _ in range(3):
        row.add("MatMul", start, row.sketch.weight((width, width)))
        parts.append(row.add("Add", row.last, row.row(width)))
    order = list(range(len(row.shape)))
    turned = row.add("Transpose", parts[1], perm=[*order[:-2], order[-1], order[-2]])
    row.add("MatMul", parts[0], turned)
    row.add("Div", row.last, row.number(2))
    row.add("Softmax", row.last, axis=-1)
    row.add("MatMul", row.last, parts[2])


def _linear(row: Row) -> None:
    row.add("MatMul", row.last, row.sketch.weight((row.shape[-1], 4)))
    row.add("Add", row.last, row.row(4))
    row.add("Relu")


def _reshaped(row: Row) -> None:
    row.add("Shape", row.last)
    row.add("Gather", row.last, row.sketch.constant(np.array(0, np.int64)))
    batch = row.axes("Unsqueeze", row.last, 0)
    start = row.sketch.tensors[0].name
    shape = row.add("Concat", batch, row.sketch.longs(-1), axis=0)
    row.add("Reshape", start, shape)
    row.add("Reshape", row.last, row.sketch.longs(-1, 1))


def _turned(row: Row) -> None:
    order = row.sketch.rng.sample(range(4), 4)
    row.add("Transpose", row.last, perm=order)
    row.add(row.sketch.rng.choice(["Relu", "Sigmoid", "Exp", "Identity"]))
    row.add("Transpose", row.last, perm=[order.index(axis) for axis in range(4)])
    row.axes("ReduceMean", row.last, row.sketch.rng.randrange(4), keepdims=0)


def _casts(row: Row) -> None:
    for kind in row.sketch.rng.sample([10, 11, 6, 7, 2, 9], 3):
        row.add("Cast", row.last, to=kind)
    row.add("Cast", row.last, to=FLOAT)


def _cut_and_joined(row: Row) -> None:
    parts = []
    start = row.last
    for first, step in ((0, 2), (1, 2)):
        longs = [row.sketch.longs(value) for value in (first, 2**31, 2, step)]
        parts.append(row.add("Slice", start, *longs))
    row.add("Concat", *parts, axis=1)


def _split_and_joined(row: Row) -> None:
    """A piece of no size is split off and put back, as RotaryEmbedding does when it turns everything."""
    axis = row.sketch.rng.randrange(len(row.shape))
    pieces = [row.shape[axis], 0]
    if row.sketch.opset >= 13:
        row.add("Split", row.last, row.sketch.longs(*pieces), count=2, axis=axis)
    else:
        row.add("Split", count=2, axis=axis, split=pieces)
    whole, nothing = row.sketch.nodes[-1].output
    row.add("Concat", *row.sketch.rng.choice([(whole, nothing), (nothing, whole), (nothing, nothing)]), axis=axis)


def _hard_swish(row: Row) -> None:
    start = row.last
    row.add("HardSigmoid", row.last, alpha=1 / 6, beta=0.5)
    row.add("Mul", start, row.last)


def _squeezed_and_excited(row: Row) -> None:
    start, channels = row.last, row.shape[1]
    row.add("GlobalAveragePool")
    row.add("Conv", row.last, row.sketch.weight((channels, channels, 1, 1)))
    row.add("Sigmoid")
    row.add("Mul", start, row.last)


def _unit_length(row: Row) -> None:
    row.add("Flatten")
    start = row.last
    row.axes("ReduceL2", start, 1)
    row.add("Clip", row.last, row.number(1e-12)) if row.sketch.opset >= 11 else row.add("Abs")
    size = row.add("Shape", start)
    row.add("Expand", row.sketch.nodes[-2].output[0], size)
    row.add("Div", start, row.last)


PATTERNS: Sequence[Callable[[Row], None]] = (
    *(_attention, _casts, _clipped, _conv_norm, _conv_scaled, _conv_sum, _gelu, _hard_swish, _layer_norm, _linear),
    *(_padded_conv, _quantized_conv, _quantized_conv, _quantized_product, _quantized_sum, _quantized_unary, _reshaped),
    *(_skip_norm, _split_and_joined, _squeezed_and_excited, _turned, _unit_length),
)
NEW_PATTERNS: Sequence[Callable[[Row], None]] = (_cut_and_joined,)
"""Those that need opset 10."""


def add_pattern(sketch: Sketch) -> None:
    """Add a row of nodes to a network whose first tensor is a batch of pictures."""
    row = Row(sketch, sketch.tensors[0])
    sketch.rng.choice([*PATTERNS, *(NEW_PATTERNS if sketch.opset >= 10 else ())])(row)
