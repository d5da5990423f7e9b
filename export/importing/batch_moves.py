"""Of operators that move, take, repeat and join numbers: where do the faces of a batch lie in the result?"""

import math
from typing import Final

import numpy as np
import onnx
from onnx import helper

from edgeface.export.importing.batch import (
    Faces,
    Follower,
    MixedError,
    Rule,
    number,
    only_first,
    same_axis,
    shared,
    whole,
)
from edgeface.export.importing.graphs import attribute, set_attribute


def _transpose(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    rank = len(follower.shape(node.input[0]))
    order = list(attribute(node, "perm", list(range(rank))[::-1]))  # type: ignore[call-overload]
    follower.keep(node, Faces(order.index(place.axis), place.outer, place.inner))


def _move(follower: Follower, node: onnx.NodeProto) -> None:
    """Put the same numbers, in the same order, into another shape."""
    place = only_first(follower, node)
    follower.reshape(node, _moved(follower, node, place))


def _moved(follower: Follower, node: onnx.NodeProto, place: Faces) -> Faces:
    before, after = follower.shape(node.input[0]), follower.shape(node.output[0])
    ahead = math.prod(before[: place.axis]) * place.outer
    found = []
    for axis, size in enumerate(after):
        outer, rest = divmod(ahead, math.prod(after[:axis]))
        if outer and not rest and size % (outer * follower.batch) == 0:
            found.append(Faces(axis, outer, size // (outer * follower.batch)))
    if not found:
        raise MixedError("merges the faces with what is not whole for each")
    found.sort(key=lambda option: (not option.alone, option.inner, option.outer, option.axis))
    return follower.one_of(found)


def _concat(follower: Follower, node: onnx.NodeProto) -> None:
    places = [follower.place(name) for name in node.input]
    place = shared([found for found in places if found is not None])
    axis = same_axis(number(node, "axis", 0), len(follower.shape(node.output[0])))
    if axis == place.axis:
        if None in places or place.outer != 1:
            raise MixedError("appends something else to the faces")
        follower.keep(node, Faces(axis, len(places), place.inner))
        return
    inputs = {}
    for index, name in enumerate(node.input):
        values = follower.fixed(name)
        if values is not None:
            if not place.alone:
                raise MixedError("repeats a constant for parts of faces")
            inputs[index] = follower.repeated(follower.one_face(values, place.axis, place), place.axis)
    follower.keep(node, place, inputs)


def _split(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    if same_axis(number(node, "axis", 0), len(follower.shape(node.input[0]))) != place.axis:
        follower.keep(node, place)
        return
    sizes = {follower.shape(name)[place.axis] for name in node.output}
    if place.outer != len(node.output) or len(sizes) != 1:
        raise MixedError("takes faces out of the batch")
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[1:]
    if follower.opset >= 18:
        set_attribute(copy, "num_outputs", len(node.output))
    follower.write(copy, dict.fromkeys(node.output, Faces(place.axis, 1, place.inner)))


def _slice(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    shape = follower.shape(node.input[0])
    starts, ends = (whole(follower.fixed(node.input[index])) for index in (1, 2))
    axes, steps = (
        whole(follower.fixed(node.input[index])) if len(node.input) > index and node.input[index] else missing
        for index, missing in ((3, list(range(len(starts)))), (4, [1] * len(starts)))
    )
    kept = []
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if same_axis(axis, len(shape)) != place.axis:
            kept.append((start, end, axis, step))
            continue
        every = list(range(shape[place.axis]))
        taken = every[start:end:step]
        if taken == every:
            continue
        if len(starts) > 1:
            raise MixedError("takes faces out of the batch")
        _part(follower, node, place, taken)
        return
    if not kept:
        passed = helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
        follower.write(passed, {node.output[0]: place})
        return
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[1:]
    copy.input.extend(follower.constant(np.array(part, np.int64)) for part in zip(*kept, strict=True))
    follower.write(copy, {node.output[0]: place})


def _part(follower: Follower, node: onnx.NodeProto, place: Faces, taken: list[int]) -> None:
    """Take one of several equal parts of an axis, each of which holds all faces."""
    size = follower.shape(node.input[0])[place.axis] // place.outer
    index = taken[0] // size if taken else 0
    if taken != list(range(index * size, (index + 1) * size)):
        raise MixedError("takes faces out of the batch")
    names = [node.output[0] if part == index else f"{node.output[0]}/part_{part}" for part in range(place.outer)]
    made = helper.make_node("Split", [node.input[0]], names, name=node.name, axis=place.axis)
    if follower.opset >= 18:
        set_attribute(made, "num_outputs", place.outer)
    follower.write(made, dict.fromkeys(names, Faces(place.axis, 1, place.inner)))


def _gather(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    shape, indices = follower.shape(node.input[0]), follower.fixed(node.input[1])
    assert indices is not None
    axis = same_axis(number(node, "axis", 0), len(shape))
    if axis == place.axis:
        # "Of the one face": the axis stays, for as many as there are.
        if shape[axis] != 1 or indices.size != 1:
            raise MixedError("takes faces out of the batch")
        follower.reshape(node, _moved(follower, node, place))
        return
    later = place.axis + (indices.ndim - 1 if axis < place.axis else 0)
    follower.keep(node, Faces(later, place.outer, place.inner))


def _expand(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    before, after = follower.shape(node.input[0]), follower.shape(node.output[0])
    axis = place.axis + len(after) - len(before)
    if before[place.axis] != after[axis]:
        raise MixedError("repeats the faces")
    asked = [1 if index == axis else size for index, size in enumerate(after)]
    follower.keep(node, Faces(axis, place.outer, place.inner), {1: follower.constant(np.array(asked, np.int64))})


def _tile(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    if whole(follower.fixed(node.input[1]))[place.axis] != 1:
        raise MixedError("repeats the faces")
    follower.keep(node, place)


def _pad(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    before, after = follower.shape(node.input[0]), follower.shape(node.output[0])
    if before[place.axis] != after[place.axis]:
        raise MixedError("pads the batch")
    follower.keep(node, place)


MOVING: Final[dict[str, Rule]] = {
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _move),
    "Concat": _concat,
    "Expand": _expand,
    "Gather": _gather,
    "Pad": _pad,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
}
"""By the name of the operator."""
