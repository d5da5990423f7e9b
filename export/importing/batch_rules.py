"""Of each operator: does it keep the faces of a batch apart, and where do they lie in its result?"""

import math
from collections.abc import Callable
from typing import Final

import numpy as np
import onnx
from onnx import helper

from edgeface.export.importing.batch import Faces, Follower, MixedError, only_first, same_axis, shared, whole
from edgeface.export.importing.graphs import attribute, set_attribute

Rule = Callable[[Follower, onnx.NodeProto], None]


def _number(node: onnx.NodeProto, name: str, default: int) -> int:
    return int(attribute(node, name, default))  # type: ignore[call-overload,no-any-return]


def _each(follower: Follower, node: onnx.NodeProto) -> None:
    """Work on each number by itself."""
    follower.keep(node, only_first(follower, node))


def _quantize(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    scales = follower.fixed(node.input[1])
    axis = same_axis(_number(node, "axis", 1), len(follower.shape(node.input[0])))
    if scales is None or (scales.size > 1 and (scales.ndim != 1 or axis == place.axis)):
        raise MixedError("has a scale for each face")
    follower.keep(node, place)


def _together(follower: Follower, node: onnx.NodeProto) -> None:
    """Work on numbers that meet by broadcasting."""
    rank = len(follower.shape(node.output[0]))

    def axis_in_result(name: str, axis: int) -> int:
        return axis + rank - len(follower.shape(name))

    moving = {name: follower.place(name) for name in node.input if follower.place(name) is not None}
    found = [Faces(axis_in_result(name, p.axis), p.outer, p.inner) for name, p in moving.items() if p is not None]
    place = shared(found)
    if follower.shape(node.output[0])[place.axis] != place.outer * place.inner * follower.batch:
        raise MixedError("repeats the faces")
    inputs = {}
    for index, name in enumerate(node.input):
        values = follower.fixed(name) if name else None
        if values is None:
            continue
        axis = place.axis - (rank - values.ndim)
        if axis >= 0:
            inputs[index] = follower.constant(follower.one_face(values, axis, place))
    follower.keep(node, place, inputs)


def _picture(follower: Follower, node: onnx.NodeProto) -> None:
    """Work on each picture of (N, C, ...) by itself."""
    place = only_first(follower, node)
    if place.axis != 0:
        raise MixedError("does not have the faces along its first axis")
    if len([name for name in node.output if name]) > 1:
        raise MixedError("gives places in the batch as well")
    follower.keep(node, place)


def _resize(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    before, after = follower.shape(node.input[0]), follower.shape(node.output[0])
    if place.axis != 0 or before[0] != after[0]:
        raise MixedError("resizes the batch")
    sizes = follower.fixed(node.input[3]) if len(node.input) > 3 and node.input[3] else None
    if sizes is None or attribute(node, "axes") is not None:
        follower.keep(node, place)
        return
    scales = np.array([new / old for old, new in zip(before, after, strict=True)], np.float32)
    if [math.floor(old * scale) for old, scale in zip(before, scales, strict=True)] != list(after):
        raise MixedError("resizes to sizes that no scale gives")
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    del copy.input[2:]
    copy.input.append(follower.constant(scales))
    follower.write(copy, {node.output[0]: place})


def _along(follower: Follower, node: onnx.NodeProto, default: int = -1) -> None:
    """Work along one axis."""
    place = only_first(follower, node)
    if same_axis(_number(node, "axis", default), len(follower.shape(node.input[0]))) == place.axis:
        raise MixedError("works along the axis of the faces")
    follower.keep(node, place)


def _from_axis(follower: Follower, node: onnx.NodeProto) -> None:
    """Normalise over an axis and all behind it."""
    place = only_first(follower, node)
    if same_axis(_number(node, "axis", -1), len(follower.shape(node.input[0]))) <= place.axis:
        raise MixedError("normalises over the faces")
    follower.keep(node, place)


def _reduce(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    rank = len(follower.shape(node.input[0]))
    if len(node.input) > 1 and node.input[1]:
        given = whole(follower.fixed(node.input[1]))
    else:
        given = list(attribute(node, "axes", []))  # type: ignore[call-overload]
    if not given and _number(node, "noop_with_empty_axes", 0):
        follower.keep(node, place)
        return
    axes = {same_axis(axis, rank) for axis in given} or set(range(rank))
    if place.axis in axes:
        raise MixedError("reduces over the faces")
    _gone(follower, node, place, axes)


def _arg(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    axis = same_axis(_number(node, "axis", 0), len(follower.shape(node.input[0])))
    if axis == place.axis:
        raise MixedError("searches among the faces")
    _gone(follower, node, place, {axis})


def _gone(follower: Follower, node: onnx.NodeProto, place: Faces, axes: set[int]) -> None:
    fewer = 0 if _number(node, "keepdims", 1) else sum(axis < place.axis for axis in axes)
    follower.keep(node, Faces(place.axis - fewer, place.outer, place.inner))


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
    axis = same_axis(_number(node, "axis", 0), len(follower.shape(node.output[0])))
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
    if same_axis(_number(node, "axis", 0), len(follower.shape(node.input[0]))) != place.axis:
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
    more = {"num_outputs": place.outer} if follower.opset >= 18 else {}
    made = helper.make_node("Split", [node.input[0]], names, name=node.name, axis=place.axis, **more)
    follower.write(made, dict.fromkeys(names, Faces(place.axis, 1, place.inner)))


def _gather(follower: Follower, node: onnx.NodeProto) -> None:
    place = only_first(follower, node)
    shape, indices = follower.shape(node.input[0]), follower.fixed(node.input[1])
    assert indices is not None
    axis = same_axis(_number(node, "axis", 0), len(shape))
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


def _matmul(follower: Follower, node: onnx.NodeProto) -> None:
    left, right = node.input[0], node.input[1]
    shapes = [follower.shape(name) for name in (left, right)]
    rank = len(follower.shape(node.output[0]))
    if min(map(len, shapes)) < 2:
        raise MixedError("multiplies a single row")
    found, inputs = [], {}
    for index, (name, shape) in enumerate(zip((left, right), shapes, strict=True)):
        place = follower.place(name)
        if place is None:
            continue
        from_end = place.axis - len(shape)
        if from_end == (-1, -2)[index]:
            raise MixedError("sums over the faces")
        found.append(Faces(rank + from_end, place.outer, place.inner))
    place = shared(found)
    if len(found) == 2 and place.axis >= rank - 2:
        raise MixedError("compares the faces with one another")
    for index, name in enumerate((left, right)):
        values = follower.fixed(name)
        axis = place.axis - (rank - len(shapes[index]))
        if values is not None and place.axis < rank - 2 and axis >= 0:
            inputs[index] = follower.constant(follower.one_face(values, axis, place))
    follower.keep(node, place, inputs)


def _gemm(follower: Follower, node: onnx.NodeProto) -> None:
    moving = follower.moving(node)
    if moving not in ([0], [1]):
        raise MixedError("multiplies the faces with one another")
    place = follower.place(node.input[moving[0]])
    assert place is not None
    turned = _number(node, ("transA", "transB")[moving[0]], 0)
    if place.axis != ((0, 1)[moving[0]] if not turned else (1, 0)[moving[0]]):
        raise MixedError("sums over the faces")
    result = Faces(moving[0], place.outer, place.inner)
    inputs = {}
    bias = follower.fixed(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if bias is not None and (axis := result.axis - (2 - bias.ndim)) >= 0:
        inputs[2] = follower.constant(follower.one_face(bias, axis, result))
    follower.keep(node, result, inputs)


def _einsum(follower: Follower, node: onnx.NodeProto) -> None:
    equation = attribute(node, "equation", b"")
    text = (equation.decode() if isinstance(equation, bytes) else "").replace(" ", "")
    operands, arrow, result = text.partition("->")
    if not arrow or "." in text:
        raise MixedError("is written in a form that is not followed")
    letters, found = set(), []
    for name, terms in zip(node.input, operands.split(","), strict=True):
        place = follower.place(name)
        if place is not None:
            letters.add(terms[place.axis])
            found.append(Faces(0, place.outer, place.inner))
    fixed = [t for name, t in zip(node.input, operands.split(","), strict=True) if follower.place(name) is None]
    if len(letters) != 1 or (letter := letters.pop()) not in result or any(letter in terms for terms in fixed):
        raise MixedError("sums over the faces")
    place = shared(found)
    follower.keep(node, Faces(result.index(letter), place.outer, place.inner))


_EACH: Final = (
    "Abs Cast Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg "
    "Not Reciprocal Relu Round Selu Sigmoid Sign Sin Softplus Softsign Sqrt Tanh ThresholdedRelu"
)
_TOGETHER: Final = (
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow PRelu Sub Sum Where"
)
_PICTURE: Final = (
    "AveragePool BatchNormalization Conv DepthToSpace GlobalAveragePool GlobalMaxPool GroupNormalization "
    "InstanceNormalization LRN MaxPool QLinearConv SpaceToDepth"
)
_REDUCE: Final = "ReduceL1 ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare"

RULES: Final[dict[str, Rule]] = {
    **dict.fromkeys(_EACH.split(), _each),
    **dict.fromkeys(_TOGETHER.split(), _together),
    **dict.fromkeys(_PICTURE.split(), _picture),
    **dict.fromkeys(_REDUCE.split(), _reduce),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _move),
    **dict.fromkeys(("LogSoftmax", "LpNormalization", "Softmax"), _along),
    **dict.fromkeys(("DequantizeLinear", "QuantizeLinear"), _quantize),
    "ArgMax": _arg,
    "Concat": _concat,
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "Gemm": _gemm,
    "LayerNormalization": _from_axis,
    "MatMul": _matmul,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "Split": _split,
    "Tile": _tile,
    "Transpose": _transpose,
}
"""By the name of the operator, at opset 13 and later; what is not here may mix faces."""
