"""Sizes of results of convolutions, pools, matrix products and normalisations, and how much work these are."""

import math
from collections.abc import Sequence
from typing import Final

from edgeface.runtime.inspecting.shapes import (
    BrokenNodeError,
    Call,
    Extent,
    RuleError,
    axis_of,
    broadcast,
    known,
    pointwise,
)

_POOLED: Final = 8
"""A comparison or addition of a pool takes as long as so many multiply-adds of a product."""


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
    if padding.startswith("SAME") and max(dilations) > 1:
        raise BrokenNodeError(f"it pads by {padding} with dilations {dilations}, which onnxruntime does in its own way")
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


def conv(call: Call) -> list[Extent]:
    """A convolution: as many channels as there are filters, at the places of the window."""
    shape, weight = call.input(0).shape, call.input(1).shape
    groups = call.integer("group", 1)
    if len(shape) != len(weight) or groups < 1 or weight[1] * groups != shape[1] or weight[0] % groups:
        raise RuleError(f"weights {list(weight)} in {groups} groups do not fit {list(shape)}")
    if (bias := call.optional(2)) is not None and bias.shape != weight[:1]:
        raise RuleError(f"its bias has the shape {list(bias.shape)} for {weight[0]} channels")
    if call.integers("kernel_shape", weight[2:]) != [*weight[2:]]:
        raise RuleError(f"it says its window is {call.integers('kernel_shape')}, its weights are {list(weight)}")
    return known([shape[0], weight[0], *_window(call, shape[2:], weight[2:])])


def pool(call: Call) -> list[Extent]:
    """The largest or mean number of each window, and perhaps its place."""
    shape = call.input(0).shape
    pooled = known([*shape[:2], *_window(call, shape[2:], call.integers("kernel_shape"))])
    return [*pooled, Extent(pooled[0].shape, None, 7)][: len(call.node.outputs)]  # MaxPool may give the places, too


def global_pool(call: Call) -> list[Extent]:
    """One number for each channel."""
    shape = call.input(0).shape
    return known([*shape[:2], *(1 for _ in shape[2:])])


def gemm(call: Call) -> list[Extent]:
    """The product of two matrices."""
    (rows, inner), (inner_right, columns) = call.input(0).shape, call.input(1).shape
    if call.integer("transA", 0):
        rows, inner = inner, rows
    if call.integer("transB", 0):
        inner_right, columns = columns, inner_right
    if inner != inner_right:
        raise RuleError(f"{list(call.input(0).shape)} cannot be multiplied with {list(call.input(1).shape)}")
    if (bias := call.optional(2)) is not None and broadcast([(rows, columns), bias.shape]) != (rows, columns):
        raise RuleError(f"its bias has the shape {list(bias.shape)} for a result of {rows} x {columns}")
    return known((rows, columns))


def matmul(call: Call) -> list[Extent]:
    """The products of stacks of matrices."""
    left, right = call.input(0).shape, call.input(1).shape
    if not left or not right:
        raise RuleError("it multiplies a single number")
    inner = right[-2] if len(right) > 1 else right[0]
    if left[-1] != inner:
        raise RuleError(f"{list(left)} cannot be multiplied with {list(right)}")
    front = broadcast([left[:-2], right[:-2]])
    return known([*front, *left[-2:-1], *(right[-1:] if len(right) > 1 else ())])


def batch_norm(call: Call) -> list[Extent]:
    """The first input, each channel scaled."""
    shape = call.input(0).shape
    if len(shape) < 2:
        raise RuleError(f"it takes batches with channels, got {list(shape)}")
    _each_channel(call, shape[1], 4)
    return [Extent(shape)]


def instance_norm(call: Call) -> list[Extent]:
    """The first input, each channel of each picture scaled."""
    shape = call.input(0).shape
    if len(shape) < 3:
        raise RuleError(f"it takes batches of pictures, got {list(shape)}")
    _each_channel(call, shape[1], 2)
    return [Extent(shape)]


def group_norm(call: Call) -> list[Extent]:
    """The first input, groups of channels scaled."""
    shape, groups = call.input(0).shape, call.integer("num_groups", 1)
    if len(shape) < 3 or shape[1] % groups:
        raise RuleError(f"{list(shape)} has no {groups} groups of channels")
    _each_channel(call, groups if call.opset < 21 else shape[1], 2)
    return [Extent(shape)]


def _each_channel(call: Call, channels: int, count: int) -> None:
    for index in range(1, count + 1):
        if call.input(index).shape != (channels,):
            raise RuleError(f"input {index} has the shape {list(call.input(index).shape)} for {channels} channels")


def layer_norm(call: Call) -> list[Extent]:
    """The first input scaled along its last axes, and their means and deviations."""
    shape = call.input(0).shape
    axis = axis_of(call.integer("axis", -1), len(shape))
    for extent in call.inputs[1:]:
        if extent is not None and broadcast([shape[axis:], extent.shape]) != shape[axis:]:
            raise RuleError(f"scale or bias {list(extent.shape)} does not fit {list(shape[axis:])}")
    left = (*shape[:axis], *(1 for _ in shape[axis:]))
    return [Extent(shape), Extent(left, None, 1), Extent(left, None, 1)][: len(call.node.outputs)]


def lrn_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the sums over channels."""
    return call.integer("size", 1) * pointwise(call, results)


def lrn(call: Call) -> list[Extent]:
    """The first input, scaled by the channels beside each."""
    shape = call.input(0).shape
    if len(shape) != 4 or not call.integer("size", 1) % 2:
        raise RuleError(f"it takes pictures and an odd size, got {list(shape)} and {call.integer('size', 1)}")
    return [Extent(shape)]


def quantized(call: Call) -> list[Extent]:
    """The first input in another type, with one scale, one for each place on an axis, or one for each block."""
    shape, scale, zero = call.input(0).shape, call.input(1).shape, call.optional(2)
    one = scale in ((), (1,))
    if zero is not None and zero.shape != scale and not (one and zero.shape in ((), (1,))):
        raise RuleError(f"its zero point has the shape {list(zero.shape)}, its scale {list(scale)}")
    if one:
        return [Extent(shape)]
    axis = axis_of(call.integer("axis", 1), len(shape))
    block = call.integer("block_size", 0)
    wanted = shape[axis : axis + 1]
    if block:
        wanted = (*shape[:axis], -(-shape[axis] // block), *shape[axis + 1 :])
    if scale != wanted:
        raise RuleError(f"scales {list(scale)} do not fit {list(shape)} on axis {axis}")
    return [Extent(shape)]


def einsum(call: Call) -> list[Extent]:
    """A product of two tensors over the axes that both have, or one tensor turned or summed."""
    sizes, result = _letters(call)
    return known([sizes[letter] for letter in result])


def einsum_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of an Einsum; it turns its tensors, too."""
    return _slowness(call) * math.prod(_letters(call)[0].values()) + pointwise(call, results)


def _letters(call: Call) -> tuple[dict[str, int], str]:
    """Return the size of each letter of an Einsum, and the letters of its result."""
    operands, _, result = call.text("equation", "").replace(" ", "").partition("->")
    terms = operands.split(",")
    if len(terms) != len(call.inputs) or not set(result) <= set(operands.replace(",", "")):
        raise BrokenNodeError("its equation names other tensors or axes than it has")
    sizes: dict[str, int] = {}
    for index, term in enumerate(terms):
        shape = call.input(index).shape
        if len(term) != len(shape) or len(set(term)) != len(term):
            raise RuleError(f"its term {term} does not name the axes of {list(shape)}")
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise RuleError(f"its letter {letter} is {sizes[letter]} and {size}")
    alone = {letter for letter in sizes if sum(letter in term for term in terms) < len(terms)} - set(result)
    if len(set(result)) != len(result) or (len(terms) == 2 and alone):
        raise BrokenNodeError("it is no product of two tensors over the axes that both have")  # others need more room
    return sizes, result


def conv_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of a convolution; few filters on the same channels take as long as some more."""
    filters = call.input(1).shape
    alone = 4 if filters[0] < 4 * call.integer("group", 1) else 1
    return alone * results[0].count * math.prod(filters[1:])


def unrolled(call: Call, results: Sequence[Extent]) -> int:
    """Return how many numbers a convolution of one image works on once its windows are laid out one by one.

    onnxruntime lays them all out for int8, and piece by piece for floating point.
    """
    return math.prod(call.input(1).shape[1:]) * math.prod(results[0].shape[2:])


def gemm_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of a product of two matrices."""
    return _slowness(call) * results[0].count * call.input(0).shape[0 if call.integer("transA", 0) else 1]


def matmul_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the multiply-adds of products of matrices."""
    return _slowness(call) * results[0].count * call.input(0).shape[-1]


def _slowness(call: Call) -> int:
    """Return how many times as long as in float32 a product takes: onnxruntime has no good kernels for most types."""
    return {1: 1, 10: 2, 16: 2, 11: 4, 2: 1, 3: 1, 0: 1}.get(call.kind(0), 32)


def pool_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the comparisons or additions of a pool."""
    return _POOLED * results[0].count * math.prod(call.integers("kernel_shape"))
