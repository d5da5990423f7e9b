"""Sizes of results of operators that rearrange, cut, repeat and resize tensors."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

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

_FAR: Final = (1 << 31) - 1


def reshape(call: Call) -> list[Extent]:
    """The same numbers in another shape."""
    extent, asked = call.input(0), call.whole(1)
    if not call.integer("allowzero", 0):
        asked = [extent.shape[axis] if size == 0 else size for axis, size in enumerate(asked)]
    if asked.count(-1) > 1 or any(size < -1 for size in asked):
        raise RuleError(f"it asks for the shape {asked}")
    if -1 in asked:
        rest = math.prod(size for size in asked if size != -1)
        if not rest or extent.count % rest:
            raise RuleError(f"{list(extent.shape)} does not fit into {asked}")
        asked[asked.index(-1)] = extent.count // rest
    if math.prod(asked) != extent.count:
        raise RuleError(f"{list(extent.shape)} does not fit into {asked}")
    return _moved(extent, asked)


def _moved(extent: Extent, shape: list[int]) -> list[Extent]:
    """Return the same numbers in another shape."""
    values = extent.values
    return known(shape, None if values is None else lambda: values.reshape(shape))


def flatten(call: Call) -> list[Extent]:
    """The same numbers as a matrix."""
    extent = call.input(0)
    axis = call.integer("axis", 1)
    if not -len(extent.shape) <= axis <= len(extent.shape):
        raise RuleError(f"axis {axis} is outside {list(extent.shape)}")
    axis = axis + len(extent.shape) if axis < 0 else axis
    return _moved(extent, [math.prod(extent.shape[:axis]), math.prod(extent.shape[axis:])])


def transpose(call: Call) -> list[Extent]:
    """The axes in another order."""
    extent, rank = call.input(0), len(call.input(0).shape)
    order = call.integers("perm", range(rank)[::-1])
    if sorted(order) != list(range(rank)):
        raise RuleError(f"it puts {rank} axes into the order {order}")
    values = extent.values
    shape = [extent.shape[axis] for axis in order]
    return known(shape, None if values is None else lambda: values.transpose(order))


def squeeze(call: Call) -> list[Extent]:
    """Without axes of size 1."""
    extent, rank = call.input(0), len(call.input(0).shape)
    axes = [axis_of(axis, rank) for axis in call.axes(1, [])]
    gone = set(axes) or {axis for axis, size in enumerate(extent.shape) if size == 1}
    if any(extent.shape[axis] != 1 for axis in gone):
        raise RuleError(f"axes {sorted(gone)} of {list(extent.shape)} are not all 1")
    return _moved(extent, [size for axis, size in enumerate(extent.shape) if axis not in gone])


def unsqueeze(call: Call) -> list[Extent]:
    """With more axes of size 1."""
    extent, asked = call.input(0), call.axes(1)
    rank = len(extent.shape) + len(asked)
    added = {axis_of(axis, rank) for axis in asked}
    if len(added) != len(asked):
        raise RuleError(f"axes {asked} repeat")
    rest = iter(extent.shape)
    return _moved(extent, [1 if axis in added else next(rest) for axis in range(rank)])


def concat(call: Call) -> list[Extent]:
    """One tensor behind the other."""
    parts = [call.input(index) for index in range(len(call.inputs))]
    first = parts[0].shape
    axis = axis_of(call.integer("axis", 1), len(first))
    for part in parts:
        if part.shape[:axis] != first[:axis] or part.shape[axis + 1 :] != first[axis + 1 :]:
            raise RuleError(f"{list(part.shape)} cannot follow {list(first)} on axis {axis}")
    shape = list(first)
    shape[axis] = sum(part.shape[axis] for part in parts)
    values = [part.values for part in parts if part.values is not None]
    return known(shape, (lambda: np.concatenate(values, axis)) if len(values) == len(parts) else None)


def split(call: Call) -> list[Extent]:
    """A tensor in pieces."""
    extent, count = call.input(0), len(call.node.outputs)
    axis = axis_of(call.integer("axis", 0), len(extent.shape))
    size = extent.shape[axis]
    if call.integer("num_outputs", count) != count:
        raise BrokenNodeError(f"it has {count} outputs and says {call.integer('num_outputs', count)}")
    if call.optional(1) is not None:
        sizes = call.whole(1)
    elif "split" in call.node.attributes:
        sizes = call.integers("split")
    else:
        step = -(-size // count)
        sizes = [min(step, size - step * index) for index in range(count)]
    if sum(sizes) != size or len(sizes) != count or min(sizes) < 0:
        raise RuleError(f"it splits {size} into {sizes}")
    return [known([part if index == axis else whole for index, whole in enumerate(extent.shape)])[0] for part in sizes]


def sliced(call: Call) -> list[Extent]:
    """A part of a tensor."""
    extent, rank = call.input(0), len(call.input(0).shape)
    if call.opset < 10:
        starts, ends = call.integers("starts"), call.integers("ends")
        axes, steps = call.integers("axes", range(len(starts))), [1] * len(starts)
    else:
        starts, ends = call.whole(1), call.whole(2)
        axes = call.whole(3) if call.optional(3) is not None else list(range(len(starts)))
        steps = call.whole(4) if call.optional(4) is not None else [1] * len(starts)
    kept = [range(size) for size in extent.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis_of(axis, rank)
        kept[place] = _kept(extent.shape[place], start, end, step)
    values = extent.values
    return known([len(places) for places in kept], None if values is None else lambda: values[np.ix_(*kept)])


def _kept(size: int, start: int, end: int, step: int) -> range:
    """Return the places that a slice keeps. Unlike Python, ONNX counts a negative number from the back only once."""
    if not step:
        raise BrokenNodeError("it goes on in steps of 0")
    if step < 0 and end >= _FAR:
        raise BrokenNodeError("it goes backwards to a far end, where onnxruntime ends at the first place")
    start, end = (place + size if place < 0 else place for place in (start, end))
    low, high = (0, size) if step > 0 else (-1, size - 1)
    return range(min(max(start, 0), high), min(max(end, low), high), step) if size else range(0)


def gather(call: Call) -> list[Extent]:
    """Chosen places of an axis."""
    extent, indices = call.input(0), call.input(1)
    axis = axis_of(call.integer("axis", 0), len(extent.shape))
    shape = [*extent.shape[:axis], *indices.shape, *extent.shape[axis + 1 :]]
    values, places = extent.values, indices.values
    if values is None or places is None:
        return known(shape)
    return known(shape, lambda: np.take(values, places.astype(np.int64), axis))


def pad(call: Call) -> list[Extent]:
    """A tensor with margins, or without its own."""
    extent = call.input(0)
    amounts = call.whole(1) if call.opset >= 11 else call.integers("pads", call.integers("paddings", []))
    rank = len(extent.shape)
    axes = list(range(rank))
    if call.optional(3) is not None:
        axes = [axis_of(axis, rank) for axis in call.whole(3)]
    if len(amounts) != 2 * len(axes):
        raise RuleError(f"it has {len(amounts)} amounts for {len(axes)} axes")
    shape = list(extent.shape)
    for place, axis in enumerate(axes):
        shape[axis] += amounts[place] + amounts[place + len(axes)]
    return known(shape)


def resize(call: Call) -> list[Extent]:
    """A picture of another size."""
    extent = call.input(0)
    # Upsample and Resize 10 have the scales as the second input, later ones as the third.
    scales_at = 2 if call.node.op_type == "Resize" and call.opset >= 11 else 1
    scales, sizes = call.optional(scales_at), call.optional(3) if scales_at == 2 else None
    axes = call.integers("axes", range(len(extent.shape)))
    policy = call.text("keep_aspect_ratio_policy", "stretch")
    if call.text("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize" or policy != "stretch":
        raise RuleError("it crops or keeps aspect ratios, which no face network needs")
    shape = list(extent.shape)
    if sizes is not None and sizes.count:
        asked: list[float] = [float(size) for size in call.whole(3)]
    elif scales is None and "scales" in call.node.attributes:  # Upsample 7
        factors = _factors(call.node.attributes["scales"])
        asked = [shape[axis] * factor for axis, factor in zip(axes, factors, strict=True)]
    else:
        factors = _factors(call.values(scales_at).reshape(-1))
        asked = [shape[axis] * factor for axis, factor in zip(axes, factors, strict=True)]
    for axis, size in zip(axes, asked, strict=True):
        # The product may lie just below the whole number that it means: float32 scales are rounded.
        shape[axis_of(axis, len(shape))] = math.floor(size + 1e-3)
    return known(shape)


def _factors(values: Any) -> list[float]:
    factors = [float(value) for value in values]
    if not all(0 < factor < math.inf for factor in factors):
        raise BrokenNodeError(f"its scales are {factors[:4]}; they are positive numbers")
    return factors


def expand(call: Call) -> list[Extent]:
    """A tensor repeated along axes of size 1."""
    extent = call.input(0)
    shape, values = broadcast([extent.shape, tuple(call.whole(1))]), extent.values
    return known(shape, None if values is None else lambda: np.broadcast_to(values, shape))


def tile(call: Call) -> list[Extent]:
    """A tensor repeated along all axes."""
    extent, repeats = call.input(0), call.whole(1)
    return known([size * repeat for size, repeat in zip(extent.shape, repeats, strict=True)])


def depth_to_space(call: Call) -> list[Extent]:
    """Channels laid out as squares."""
    batch, channels, height, width = call.input(0).shape
    block = call.integer("blocksize", 0)
    if block < 1 or channels % block**2:
        raise RuleError(f"{channels} channels do not fill blocks of {block} x {block}")
    return known((batch, channels // block**2, height * block, width * block))


def space_to_depth(call: Call) -> list[Extent]:
    """Squares laid out as channels."""
    batch, channels, height, width = call.input(0).shape
    block = call.integer("blocksize", 0)
    if block < 1 or height % block or width % block:
        raise RuleError(f"{height} x {width} does not divide into blocks of {block}")
    return known((batch, channels * block**2, height // block, width // block))


def resize_work(call: Call, results: Sequence[Extent]) -> int:
    """Count the look-ups and additions of a resize: some 16 for each number, none of them side by side."""
    return 16 * pointwise(call, results)
