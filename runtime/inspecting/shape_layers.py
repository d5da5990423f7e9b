"""Sizes of results of convolutions, pools and matrix products, and how much work these are."""

import math
from collections.abc import Sequence
from typing import Final

from edgeface.runtime.inspecting.shape_integers import dynamic_quantize, in_float
from edgeface.runtime.inspecting.shapes import Call, Extent, Rule, RuleError, broadcast, known


def _window(call: Call, sizes: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """Return the sizes that a window leaves when it slides over `sizes`."""
    rank = len(sizes)
    if not rank or len(kernel) != rank or min(kernel) < 1:
        raise RuleError(f"a window of {list(kernel)} slides over {list(sizes)}")
    strides = call.integers("strides", [1] * rank)
    dilations = call.integers("dilations", [1] * rank)
    pads = call.integers("pads", [0] * (2 * rank))
    padding = call.text("auto_pad", "NOTSET")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or min(*strides, *dilations) < 1:
        raise RuleError(f"it has strides {strides}, dilations {dilations} and pads {pads} for {rank} axes")
    result = []
    for axis, size in enumerate(sizes):
        span = dilations[axis] * (kernel[axis] - 1) + 1
        if padding in ("SAME_UPPER", "SAME_LOWER"):
            result.append(-(-size // strides[axis]))
            continue
        before, after = (pads[axis], pads[axis + rank]) if padding == "NOTSET" else (0, 0)
        room = size + before + after - span
        if room < 0:
            raise RuleError(f"a window of {span} does not fit into {size}")
        steps = room // strides[axis]
        # Rounded up, but no window may begin in the padding at the end.
        if call.integer("ceil_mode", 0) and room % strides[axis] and (steps + 1) * strides[axis] < size + before:
            steps += 1
        result.append(steps + 1)
    return result


def _conv(call: Call) -> list[Extent]:
    shape, weight = call.input(0).shape, call.input(1).shape
    groups = call.integer("group", 1)
    if len(shape) != len(weight) or groups < 1 or weight[1] * groups != shape[1] or weight[0] % groups:
        raise RuleError(f"weights {list(weight)} in {groups} groups do not fit {list(shape)}")
    return known([shape[0], weight[0], *_window(call, shape[2:], weight[2:])])


def _pool(call: Call) -> list[Extent]:
    shape = call.input(0).shape
    pooled = known([*shape[:2], *_window(call, shape[2:], call.integers("kernel_shape"))])
    return pooled * len(call.node.outputs)  # MaxPool may give the places, too


def _global_pool(call: Call) -> list[Extent]:
    shape = call.input(0).shape
    return known([*shape[:2], *(1 for _ in shape[2:])])


def _gemm(call: Call) -> list[Extent]:
    (rows, inner), (inner_right, columns) = call.input(0).shape, call.input(1).shape
    if call.integer("transA", 0):
        rows, inner = inner, rows
    if call.integer("transB", 0):
        inner_right, columns = columns, inner_right
    if inner != inner_right:
        raise RuleError(f"{list(call.input(0).shape)} cannot be multiplied with {list(call.input(1).shape)}")
    return known((rows, columns))


def _matmul(call: Call) -> list[Extent]:
    left, right = call.input(0).shape, call.input(1).shape
    if not left or not right:
        raise RuleError("it multiplies a single number")
    inner = right[-2] if len(right) > 1 else right[0]
    if left[-1] != inner:
        raise RuleError(f"{list(left)} cannot be multiplied with {list(right)}")
    front = broadcast([left[:-2], right[:-2]])
    return known([*front, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())])


def _einsum(call: Call) -> list[Extent]:
    sizes, result = _letters(call)
    return known([sizes[letter] for letter in result])


def _letters(call: Call) -> tuple[dict[str, int], str]:
    """Return the size of each letter of an Einsum, and the letters of its result."""
    operands, arrow, result = call.text("equation", "").replace(" ", "").partition("->")
    terms = operands.split(",")
    if not arrow or len(terms) != len(call.inputs) or not set(result) <= set(operands.replace(",", "")):
        raise RuleError("its equation names no result, or other operands than it has")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        shape = call.input(index).shape
        if len(term) != len(shape) or not (term.isalpha() and term.isascii()) or len(set(term)) != len(term):
            raise RuleError(f"its term {term} does not name the axes of {list(shape)}")
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise RuleError(f"its letter {letter} is {sizes[letter]} and {size}")
    alone = {letter for letter in sizes if sum(letter in term for term in terms) < len(terms)} - set(result)
    if len(set(result)) != len(result) or len(terms) > 2 or (len(terms) == 2 and alone):
        raise RuleError("it is no product of two tensors over the axes that both have")  # others make more on the way
    return sizes, result


def multiply_adds(call: Call, results: Sequence[Extent]) -> int:
    """Return how many multiply-adds (or, in a pool, comparisons) a node makes."""
    call = in_float(call)
    made = sum(extent.count for extent in results)
    match call.node.op_type:
        case "Conv":
            return made * math.prod(call.input(1).shape[1:])
        case "Gemm":
            return made * call.input(0).shape[0 if call.integer("transA", 0) else 1]
        case "MatMul":
            return made * call.input(0).shape[-1]
        case "Einsum":
            return math.prod(_letters(call)[0].values())
        case "MaxPool" | "AveragePool":
            return made * math.prod(call.integers("kernel_shape"))
        case _:
            return made + sum(extent.count for extent in call.inputs if extent is not None)


def unrolled(call: Call, results: Sequence[Extent]) -> int:
    """Return how many numbers a convolution of one image works on once its windows are laid out one by one.

    onnxruntime lays them all out for int8, and piece by piece for floating point.
    """
    call = in_float(call)
    if call.node.op_type != "Conv":
        return 0
    return math.prod(call.input(1).shape[1:]) * math.prod(results[0].shape[2:])


LAYERS: Final[dict[str, Rule]] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "ConvInteger": lambda call: _conv(in_float(call)),
    "DynamicQuantizeLinear": dynamic_quantize,
    "Einsum": _einsum,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _matmul,
    "MatMulInteger": lambda call: _matmul(in_float(call)),
    "MaxPool": _pool,
    "QLinearConv": lambda call: _conv(in_float(call)),
    "QLinearMatMul": lambda call: _matmul(in_float(call)),
}
