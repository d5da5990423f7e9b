"""The allow-list: of which operators a network may consist, and what each of them may look like.

One line admits an operator: the rule for the sizes of its results, its inputs, its attributes. A network that uses
anything else is refused. Operators of another domain than ONNX's own are named with it, such as `com.microsoft.QGemm`.
"""

import functools
from typing import Final

import numpy as np

from edgeface.runtime.inspecting import shape_integers as integers
from edgeface.runtime.inspecting import shape_layers as layers
from edgeface.runtime.inspecting import shape_moves as moves
from edgeface.runtime.inspecting import shape_values as values
from edgeface.runtime.inspecting.schemas import (
    ANY,
    ANYS,
    AXES,
    AXIS,
    COUNT,
    COUNTS,
    FLAG,
    MANY,
    MARGINS,
    REAL,
    Kind,
    Needed,
    Operator,
    Pattern,
    Real,
    Reals,
    Stored,
    Text,
    Whole,
    Wholes,
)
from edgeface.runtime.inspecting.shapes import slow

INT32, INT64, BOOL = 6, 7, 9
_TYPES: Final = (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16)

_PADDING: Final = Text(("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"))
_WINDOW: Final[dict[str, Kind]] = {
    **{"auto_pad": _PADDING, "dilations": COUNTS, "kernel_shape": COUNTS, "pads": MARGINS, "strides": COUNTS},
}
_POOL: Final[dict[str, Kind]] = {**_WINDOW, "ceil_mode": FLAG, "kernel_shape": Needed(COUNTS)}
_REDUCE: Final[dict[str, Kind]] = {"axes": AXES, "keepdims": FLAG, "noop_with_empty_axes": FLAG}
_STASH: Final = Whole(choices=(1, 10, 11, 16))
_RESIZE: Final[dict[str, Kind]] = {
    "antialias": FLAG,
    "axes": AXES,
    "coordinate_transformation_mode": Text(
        (
            *("align_corners", "asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel"),
            "tf_half_pixel_for_nn",
        )
    ),
    "cubic_coeff_a": REAL,
    "exclude_outside": FLAG,
    "extrapolation_value": REAL,
    "keep_aspect_ratio_policy": Text(("stretch",)),
    "mode": Text(("nearest", "linear", "cubic")),
    "nearest_mode": Text(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")),
}
_QUANTIZED: Final[dict[str, Kind]] = {"axis": AXIS, "block_size": Whole(0, MANY)}
_CONSTANT: Final[dict[str, Kind]] = {
    **{"value": Stored(), "value_float": Real(infinite=True), "value_int": ANY, "value_ints": ANYS},
    "value_floats": Reals(),
}


def _pointwise(*names: str, **attributes: Kind) -> dict[str, Operator]:
    return dict.fromkeys(names, Operator(values.same, attributes=attributes))


def _compared(compute: values.Compute) -> Operator:
    return Operator(values.elementwise(compute), "A B", makes=BOOL)


_REDUCTIONS: Final = (
    *("ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"),
    "ReduceSumSquare",
)

OPERATORS: Final[dict[str, Operator]] = {
    # numbers one by one
    **_pointwise(
        "Abs", "Cos", "Erf", "Exp", "HardSwish", "Log", "Mish", "Reciprocal", "Relu", "Round", "Sigmoid", "Sign", "Sin"
    ),
    **_pointwise("Softplus", "Softsign", "Sqrt", "Tanh"),
    **_pointwise("Celu", "Elu", "LeakyRelu", "ThresholdedRelu", alpha=REAL),
    **_pointwise("HardSigmoid", alpha=REAL, beta=REAL),
    **_pointwise("Selu", alpha=REAL, gamma=REAL),
    **_pointwise("Gelu", approximate=Text(("none", "tanh"))),
    "Ceil": Operator(values.elementwise(np.ceil)),
    "Clip": Operator(values.clip, "X min? max?", {"min": Real(infinite=True), "max": Real(infinite=True)}),
    "Dropout": Operator(values.dropout, "X ratio? mode?", {"ratio": REAL, "seed": ANY}, outputs=2),
    "Floor": Operator(values.elementwise(np.floor)),
    "Identity": Operator(values.through),
    "Neg": Operator(values.elementwise(np.negative)),
    "Not": Operator(values.elementwise(np.logical_not)),
    # of several tensors, which are broadcast to one shape
    "Add": Operator(values.elementwise(np.add), "A B"),
    "And": Operator(values.elementwise(np.logical_and), "A B"),
    "Div": Operator(values.divided, "A B"),
    "Equal": _compared(np.equal),
    "Greater": _compared(np.greater),
    "GreaterOrEqual": _compared(np.greater_equal),
    "Less": _compared(np.less),
    "LessOrEqual": _compared(np.less_equal),
    "Max": Operator(values.elementwise(lambda *parts: functools.reduce(np.maximum, parts)), "X*"),
    "Mean": Operator(values.elementwise(), "X*"),
    "Min": Operator(values.elementwise(lambda *parts: functools.reduce(np.minimum, parts)), "X*"),
    "Mod": Operator(values.remainder, "A B", {"fmod": FLAG}),
    "Mul": Operator(values.elementwise(np.multiply), "A B"),
    "Or": Operator(values.elementwise(np.logical_or), "A B"),
    "PRelu": Operator(values.elementwise(), "X slope"),  # onnxruntime lets the slope widen it, against the standard
    "Pow": Operator(values.elementwise(), "A B"),
    "Sub": Operator(values.elementwise(np.subtract), "A B"),
    "Sum": Operator(values.elementwise(), "X*"),
    "Where": Operator(values.elementwise(np.where), "if A B", makes=lambda call: call.kind(1)),
    # layers
    "AveragePool": Operator(layers.pool, "X", {**_POOL, "count_include_pad": FLAG}, work=layers.pool_work),
    "Conv": Operator(
        layers.conv, "X W B?", {**_WINDOW, "group": COUNT}, work=layers.conv_work, lays_out=layers.unrolled
    ),
    "Gemm": Operator(
        layers.gemm, "A B C?", {"alpha": REAL, "beta": REAL, "transA": FLAG, "transB": FLAG}, work=layers.gemm_work
    ),
    "GlobalAveragePool": Operator(layers.global_pool),
    "GlobalMaxPool": Operator(layers.global_pool),
    "MatMul": Operator(layers.matmul, "A B", work=layers.matmul_work),
    "MaxPool": Operator(layers.pool, "X", {**_POOL, "storage_order": FLAG}, outputs=2, work=layers.pool_work),
    "Einsum": Operator(
        layers.einsum, "A B-", {"equation": Needed(Pattern(r"[a-zA-Z ,]+->[a-zA-Z ]*"))}, work=layers.einsum_work
    ),
    # layers in whole numbers
    "ConvInteger": Operator(
        integers.convolved,
        "x w x_zero? w_zero?",
        {**_WINDOW, "group": COUNT},
        work=integers.conv_work,
        lays_out=integers.unrolled,
        makes=INT32,
    ),
    "DynamicQuantizeLinear": Operator(integers.dynamically_quantized, "x", outputs=3),
    "MatMulInteger": Operator(integers.multiplied, "A B a_zero? b_zero?", work=integers.matmul_work, makes=INT32),
    "QLinearConv": Operator(
        integers.convolved,
        "x x_scale x_zero w w_scale w_zero y_scale y_zero B-",
        {**_WINDOW, "group": COUNT},
        work=integers.conv_work,
        lays_out=integers.unrolled,
        makes=lambda call: call.kind(7),
    ),
    "QLinearMatMul": Operator(
        integers.multiplied,
        "a a_scale a_zero b b_scale b_zero y_scale y_zero",
        work=integers.matmul_work,
        makes=lambda call: call.kind(7),
    ),
    # normalisation
    "BatchNormalization": Operator(
        layers.batch_norm,
        "X scale B mean var",
        {"epsilon": REAL, "momentum": REAL, "spatial": Whole(1, 1), "training_mode": Whole(0, 0)},
    ),
    "GroupNormalization": Operator(
        layers.group_norm, "X scale B", {"epsilon": REAL, "num_groups": Needed(COUNT), "stash_type": _STASH}
    ),
    "InstanceNormalization": Operator(layers.instance_norm, "X scale B", {"epsilon": REAL}),
    "LRN": Operator(
        layers.lrn,
        "X",
        {"alpha": REAL, "beta": REAL, "bias": REAL, "size": Needed(Whole(1, 255))},
        work=layers.lrn_work,
    ),
    "LayerNormalization": Operator(
        layers.layer_norm, "X scale B-", {"axis": AXIS, "epsilon": REAL, "stash_type": _STASH}, outputs=3
    ),
    "LogSoftmax": Operator(values.same_along_axis, attributes={"axis": AXIS}, work=slow(8)),
    "LpNormalization": Operator(values.same_along_axis, attributes={"axis": AXIS, "p": Whole(1, 2)}),
    "Softmax": Operator(values.same_along_axis, attributes={"axis": AXIS}, work=slow(8)),
    **dict.fromkeys(_REDUCTIONS, Operator(values.reduced, "X axes?", _REDUCE)),
    # types
    "Cast": Operator(
        values.cast,
        attributes={
            "to": Needed(Whole(choices=_TYPES)),
            "saturate": FLAG,
            "round_mode": Text(("up", "down", "nearest")),
        },
        makes=lambda call: call.integer("to", 0),
    ),
    "DequantizeLinear": Operator(
        layers.quantized,
        "x scale zero?",
        {**_QUANTIZED, "output_dtype": Whole(choices=(0, 1, 10))},
        makes=lambda call: call.kind(1),
        steady=(2,),
    ),
    "QuantizeLinear": Operator(
        layers.quantized,
        "x scale zero?",
        {**_QUANTIZED, "output_dtype": Whole(choices=(0, 2, 3, 4, 5)), "precision": Whole(0, 16), "saturate": FLAG},
        makes=lambda call: call.kind(2) or call.integer("output_dtype", 0) or 2,
        steady=(2,),
    ),
    # values from nothing
    "Constant": Operator(values.constant, "", _CONSTANT, makes=values.constant_kind),
    "ConstantOfShape": Operator(
        values.constant_of_shape, "shape", {"value": Stored(one=True)}, makes=values.constant_kind
    ),
    "Range": Operator(values.ranged, "start limit delta", {"stash_type": _STASH}),
    "Shape": Operator(values.shape_of, attributes={"start": ANY, "end": ANY}, makes=INT64),
    "Size": Operator(values.size_of, makes=INT64),
    # other places and sizes
    "Concat": Operator(moves.concat, "X*", {"axis": Needed(AXIS)}, empty=True),
    "DepthToSpace": Operator(
        moves.depth_to_space, attributes={"blocksize": Needed(COUNT), "mode": Text(("DCR", "CRD"))}
    ),
    "Expand": Operator(moves.expand, "X shape"),
    "Flatten": Operator(moves.flatten, attributes={"axis": Whole(-16, 16)}),
    "Gather": Operator(moves.gather, "X indices", {"axis": AXIS}),
    "Pad": Operator(
        moves.pad,
        "X pads- value? axes-",
        {"mode": Text(("constant", "edge", "reflect", "wrap")), "pads": Wholes(-MANY, MANY), "value": REAL},
    ),
    "Reshape": Operator(moves.reshape, "X shape", {"allowzero": FLAG}),
    "Resize": Operator(moves.resize, "X roi? scales? sizes?", _RESIZE, work=moves.resize_work),
    "Slice": Operator(moves.sliced, "X starts- ends- axes? steps-", {"axes": AXES, "ends": ANYS, "starts": ANYS}),
    "SpaceToDepth": Operator(
        moves.space_to_depth, attributes={"blocksize": Needed(COUNT), "mode": Text(("DCR", "CRD"))}
    ),
    "Split": Operator(
        moves.split,
        "X sizes?",
        {"axis": AXIS, "num_outputs": COUNT, "split": Wholes(0, (1 << 31) - 1)},
        outputs=MANY,
        empty=True,
    ),
    "Squeeze": Operator(moves.squeeze, "X axes-", {"axes": AXES}),
    "Tile": Operator(moves.tile, "X repeats"),
    "Transpose": Operator(moves.transpose, attributes={"perm": Wholes(0, 15)}, work=slow(4)),
    "Unsqueeze": Operator(moves.unsqueeze, "X axes-", {"axes": AXES}),
    "Upsample": Operator(
        moves.resize, "X scales-", {"mode": Text(("nearest", "linear")), "scales": Reals()}, work=moves.resize_work
    ),
}
