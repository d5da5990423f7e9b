"""Random small networks of the operators that edgeface admits: sound ones, and such with faults put in on purpose."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgeface.runtime.inspecting.inspection import OPERATORS

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
KINDS = (FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, INT64, TensorProto.INT32, TensorProto.UINT8, TensorProto.INT8)
KINDS += (BOOL, TensorProto.UINT16, TensorProto.INT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.BFLOAT16)
OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)
ODD_INTEGERS = (
    *(-(2**63), -(2**63) + 1, -(2**62), -(2**32), -(2**31) - 1, -(2**31), -65537, -1000, -17, -5, -3, -2, -1, 0),
    *(1, 2, 3, 4, 5, 7, 8, 16, 17, 31, 64, 255, 256, 1000, 4097, 65536, 2**24, 2**31 - 1, 2**31, 2**32, 2**32 + 1),
    *(2**40, 2**61, 2**62, 2**63 - 1),
)
ODD_FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, 1e-45, 1e30, 3.4e38, -3.4e38, float("inf"), float("-inf"), float("nan"))
ODD_FLOATS += (1e6, 255.0, 65536.0, 2.0**31, 2.0**63, 1e-7)
ODD_TEXTS = ("", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID", "linear", "nearest", "cubic", "constant", "reflect")
ODD_TEXTS += ("edge", "wrap", "CRD", "DCR", "none", "tanh", "x", "half_pixel", "asymmetric", "align_corners", "floor")
ODD_TEXTS += ("pytorch_half_pixel", "tf_half_pixel_for_nn", "half_pixel_symmetric", "tf_crop_and_resize", "ceil")
ATTRIBUTE_NAMES = (
    *(
        "alpha",
        "axis",
        "axes",
        "pads",
        "strides",
        "kernel_shape",
        "auto_pad",
        "group",
        "ceil_mode",
        "to",
        "value",
        "start",
    ),
    *(
        "end",
        "keepdims",
        "blocksize",
        "split",
        "scales",
        "mode",
        "allowzero",
        "block_size",
        "size",
        "seed",
        "max",
        "what",
    ),
)


@dataclass
class Tensor:
    """A tensor of the network in the making."""

    name: str
    kind: int
    shape: tuple[int, ...]


@dataclass
class Sketch:
    """A network in the making: `tensors` can be used by the next node."""

    rng: random.Random
    opset: int
    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def pick(self, *kinds: int, rank: int | None = None, least: int = 0) -> Tensor:
        """Return a tensor of one of these kinds and this rank, a new weight if there is none."""
        wanted = kinds or (FLOAT,)
        fit = [
            tensor
            for tensor in self.tensors
            if tensor.kind in wanted and (rank is None or len(tensor.shape) == rank) and len(tensor.shape) >= least
        ]
        if fit and self.rng.random() < 0.95:
            return self.rng.choice(fit[-6:])
        size = rank if rank is not None else self.rng.randint(least, max(least, 4))
        return self.weight(tuple(self.rng.choice((1, 1, 2, 3, 4, 5, 8)) for _ in range(size)), self.rng.choice(wanted))

    def weight(self, shape: Sequence[int], kind: int = FLOAT) -> Tensor:
        """Return a new weight of random numbers."""
        random_numbers = np.random.default_rng(self.rng.getrandbits(32))
        values = random_numbers.integers(0, 3, shape) if kind != FLOAT else random_numbers.normal(size=shape)
        return self.constant(values.astype(helper.tensor_dtype_to_np_dtype(kind)))

    def constant(self, values: Any, dtype: Any = None) -> Tensor:
        """Return a new weight of these numbers."""
        array = np.asarray(values, dtype)
        tensor = numpy_helper.from_array(array, f"w{len(self.weights)}")
        self.weights.append(tensor)
        return Tensor(tensor.name, tensor.data_type, array.shape)

    def longs(self, *values: int) -> Tensor:
        """Return a new row of int64."""
        return self.constant(values, np.int64)

    def like(self, tensor: Tensor) -> Tensor:
        """Return a tensor that broadcasts with another one."""
        fit = [other for other in self.tensors if other.kind == tensor.kind and other.shape == tensor.shape]
        if fit and self.rng.random() < 0.5:
            return self.rng.choice(fit)
        shape = [1 if self.rng.random() < 0.4 else size for size in tensor.shape][self.rng.choice((0, 0, 1)) :]
        return self.weight(shape, tensor.kind)


Recipe = Callable[[Sketch], tuple[list[Tensor | None], dict[str, Any]]]


def _unary(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick()], {}


def _pair(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    first = s.pick()
    return [first, s.like(first)], {}


def _several(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    first = s.pick()
    return [first, *(s.like(first) for _ in range(s.rng.randint(0, 3)))], {}


def _on_axis(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    return [tensor], {"axis": s.rng.randrange(-len(tensor.shape), len(tensor.shape))}


def _reduce(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    axes = s.rng.sample(range(len(tensor.shape)), s.rng.randint(1, len(tensor.shape)))
    if s.rng.random() < 0.2:
        return [tensor], {"keepdims": s.rng.randint(0, 1)}
    if s.opset >= 18:
        return [tensor, s.longs(*axes)], {"keepdims": s.rng.randint(0, 1)}
    return [tensor], {"axes": axes, "keepdims": s.rng.randint(0, 1)}


def _window(s: Sketch, tensor: Tensor, dilated: bool = True) -> dict[str, Any]:
    rank = len(tensor.shape) - 2
    made: dict[str, Any] = {"kernel_shape": [s.rng.randint(1, min(3, size)) for size in tensor.shape[2:]]}
    if s.rng.random() < 0.6:
        made["strides"] = [s.rng.randint(1, 3) for _ in range(rank)]
    if s.rng.random() < 0.3:
        made["auto_pad"] = s.rng.choice(["SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"])
    elif s.rng.random() < 0.6:
        made["pads"] = [s.rng.randrange(size) for size in made["kernel_shape"] * 2]
    if dilated and s.rng.random() < 0.2:
        made["dilations"] = [s.rng.randint(1, 2) for _ in range(rank)]
    return made


def _conv(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(rank=s.rng.choice((3, 4, 4, 4, 5)))
    made, channels = _window(s, tensor), tensor.shape[1]
    groups = s.rng.choice([number for number in (1, 2, channels) if channels % number == 0])
    weight = s.weight((groups * s.rng.randint(1, 3), channels // groups, *made["kernel_shape"]))
    made |= {"group": groups}
    if s.rng.random() < 0.3:
        del made["kernel_shape"]
    return [tensor, weight, *([s.weight(weight.shape[:1])] if s.rng.random() < 0.5 else [])], made


def _pool(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(rank=s.rng.choice((3, 4, 4, 5)))
    made = _window(s, tensor, dilated=s.opset >= 19)
    if s.opset >= 10 and s.rng.random() < 0.3:
        made["ceil_mode"] = 1
    return [tensor], made


def _global(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick(least=3)], {}


def _gemm(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    left, flip = s.pick(rank=2), s.rng.randint(0, 1)
    turned, columns = s.rng.randint(0, 1), s.rng.randint(1, 5)
    inner = left.shape[0 if flip else 1]
    right = s.weight((columns, inner) if turned else (inner, columns))
    bias = [s.weight(s.rng.choice([(columns,), (1,), (1, columns), ()]))] if s.rng.random() < 0.6 else []
    return [left, right, *bias], {"transA": flip, "transB": turned, "alpha": 0.5}


def _matmul(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    left = s.pick(least=1)
    return [left, s.weight((*left.shape[:-2], left.shape[-1], s.rng.randint(1, 5)))], {}


def _batch_norm(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=2)
    return [tensor, *(s.constant(np.ones(tensor.shape[1], np.float32)) for _ in range(4))], {"epsilon": 1e-5}


def _channel_norm(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=3)
    return [tensor, s.weight(tensor.shape[1:2]), s.weight(tensor.shape[1:2])], {}


def _group_norm(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=3)
    groups = s.rng.choice([n for n in range(1, tensor.shape[1] + 1) if tensor.shape[1] % n == 0] or [1])
    size = tensor.shape[1:2] if s.opset >= 21 else (groups,)
    return [tensor, s.weight(size), s.weight(size)], {"num_groups": groups}


def _layer_norm(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    axis = s.rng.randrange(len(tensor.shape))
    bias = [s.weight(tensor.shape[axis:])] if s.rng.random() < 0.7 else []
    return [tensor, s.weight(tensor.shape[axis:]), *bias], {"axis": axis}


def _quantize(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor, kind = s.pick(), s.rng.choice((np.uint8, np.int8))
    if tensor.shape and s.opset >= 13 and s.rng.random() < 0.4:
        axis = s.rng.randrange(len(tensor.shape))
        size = tensor.shape[axis]
        return [tensor, s.constant(np.full(size, 0.1, np.float32)), s.constant(np.zeros(size, kind))], {"axis": axis}
    return [tensor, s.constant(np.float32(0.1)), s.constant(kind(3))], {}


def _dequantize(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(TensorProto.UINT8, TensorProto.INT8)
    return [tensor, s.constant(np.float32(0.1)), s.constant(np.asarray(1), tensor_dtype(tensor.kind))], {}


def tensor_dtype(kind: int) -> Any:
    return helper.tensor_dtype_to_np_dtype(kind)


def _clip(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    if s.opset < 11:
        return [tensor], {"min": -1.0, "max": 1.0}
    low, high = s.constant(np.float32(-1)), s.constant(np.float32(1))
    choices: list[list[Tensor | None]] = [[tensor, low, high], [tensor, None, high], [tensor, low], [tensor]]
    return s.rng.choice(choices), {}


def _cast(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick(*KINDS)], {"to": s.rng.choice((*KINDS, FLOAT, FLOAT, FLOAT))}


def _constant(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    value = numpy_helper.from_array(np.arange(s.rng.randint(1, 5), dtype=np.float32))
    return [], s.rng.choice([{"value": value}, {"value": value}, {"value_float": 1.5}, {"value_ints": [1, 2]}])


def _constant_of_shape(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    sizes = s.longs(*(s.rng.randint(1, 4) for _ in range(s.rng.randint(0, 4))))
    return [sizes], {"value": numpy_helper.from_array(np.ones(1, np.float32))}


def _range(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    kind = s.rng.choice((np.int64, np.float32, np.int32))
    return [s.constant(kind(value)) for value in (0, s.rng.randint(1, 9), s.rng.randint(1, 3))], {}


def _any_kind(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick(*KINDS)], {}


def _flatten(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    return [tensor], {"axis": s.rng.randint(0, len(tensor.shape))}


def _reshape(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    return [tensor, s.rng.choice([s.longs(-1), s.longs(0, -1), s.longs(1, -1, 1), s.longs(*tensor.shape, 1)])], {}


def _transpose(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    return [tensor], {"perm": s.rng.sample(range(len(tensor.shape)), len(tensor.shape))} if tensor.shape else {}


def _squeeze(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    ones = [axis for axis, size in enumerate(tensor.shape) if size == 1]
    if not ones or s.rng.random() < 0.2:
        return [tensor], {}
    axes = s.rng.sample(ones, s.rng.randint(1, len(ones)))
    return ([tensor, s.longs(*axes)], {}) if s.opset >= 13 else ([tensor], {"axes": axes})


def _unsqueeze(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    axis = s.rng.randint(0, len(tensor.shape))
    return ([tensor, s.longs(axis)], {}) if s.opset >= 13 else ([tensor], {"axes": [axis]})


def _concat(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    first = s.pick(least=1)
    axis = s.rng.randrange(len(first.shape))
    second = list(first.shape)
    second[axis] = s.rng.randint(1, 3)
    return [first, s.weight(second), first][: s.rng.randint(1, 3)], {"axis": axis}


def _split(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    axis = s.rng.randrange(len(tensor.shape))
    size = tensor.shape[axis]
    first = s.rng.randint(0, size)
    if s.opset >= 13 and s.rng.random() < 0.6:
        return [tensor, s.longs(first, size - first)], {"axis": axis}
    if s.opset >= 18:
        return [tensor], {"axis": axis, "num_outputs": s.rng.randint(1, 3)}
    return [tensor], {"axis": axis, "split": [first, size - first]} if s.opset < 13 else {"axis": axis}


def _slice(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    axes = s.rng.sample(range(len(tensor.shape)), s.rng.randint(1, len(tensor.shape)))
    starts = [s.rng.randint(-6, 6) for _ in axes]
    ends = [s.rng.choice((s.rng.randint(-6, 6), 2**63 - 1, -(2**63))) for _ in axes]
    if s.opset < 10:
        return [tensor], {"starts": starts, "ends": ends, "axes": axes}
    steps = [s.rng.choice((1, 1, -1, 2, -2)) for _ in axes]
    return [tensor, s.longs(*starts), s.longs(*ends), s.longs(*axes), s.longs(*steps)][: s.rng.choice((4, 5, 5))], {}


def _gather(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(*KINDS, least=1)
    axis = s.rng.randrange(len(tensor.shape))
    size = max(1, tensor.shape[axis])
    picked = np.random.default_rng(s.rng.getrandbits(32)).integers(-size, size, s.rng.choice([(), (2,), (1, 2)]))
    return [tensor, s.constant(np.asarray(picked, np.int64))], {"axis": axis}


def _pad(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(least=1)
    amounts = [s.rng.choice((0, 0, 1, 2, -1)) for _ in tensor.shape * 2]
    mode = {"mode": s.rng.choice(["constant", "reflect", "edge", *(["wrap"] if s.opset >= 19 else [])])}
    return ([tensor, s.longs(*amounts)], mode) if s.opset >= 11 else ([tensor], {"pads": amounts} | mode)


def _resize(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(rank=s.rng.choice((4, 4, 4, 3, 2, 5)))
    scales = [
        1.0 if axis < 2 and s.rng.random() < 0.8 else s.rng.choice((0.5, 1.0, 2.0, 1.5))
        for axis in range(len(tensor.shape))
    ]
    made: dict[str, Any] = {"mode": s.rng.choice(["nearest", "linear", *(["cubic"] if s.opset >= 11 else [])])}
    if s.opset >= 11:
        if s.rng.random() < 0.5:
            made["coordinate_transformation_mode"] = s.rng.choice(ODD_TEXTS[17:])
        if s.opset >= 18 and s.rng.random() < 0.3:
            made["antialias"] = 1
        if s.rng.random() < 0.5:
            sizes = [max(1, int(size * scale)) for size, scale in zip(tensor.shape, scales, strict=True)]
            return [tensor, None, None, s.longs(*sizes)], made
        return [tensor, None, s.constant(scales, np.float32)], made
    return [tensor, s.constant(scales, np.float32)], made


def _upsample(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick(rank=4)
    scales = [1.0, 1.0, s.rng.choice((1.0, 2.0, 1.5)), s.rng.choice((1.0, 2.0, 3.0))]
    if s.opset < 9:
        return [tensor], {"scales": scales, "mode": s.rng.choice(["nearest", "linear"])}
    return [tensor, s.constant(scales, np.float32)], {"mode": s.rng.choice(["nearest", "linear"])}


def _expand(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    return [tensor, s.longs(*(s.rng.randint(1, 3) if size == 1 else size for size in tensor.shape))], {}


def _tile(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = s.pick()
    return [tensor, s.longs(*(s.rng.randint(1, 3) for _ in tensor.shape))], {}


def _blocks(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.weight((1, 8, 4, 6))], {"blocksize": 2}


def _where(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    first = s.pick()
    return [s.weight(first.shape, BOOL), first, s.like(first)], {}


def _logic(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    first = s.pick(BOOL)
    return [first, s.like(first)], {}


def _lrn(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick(rank=4)], {"size": s.rng.choice((1, 3, 5))}


def _dropout(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [s.pick()], {"ratio": 0.5} if s.opset < 12 else {}


def _einsum(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    left, columns = s.pick(rank=3), s.rng.randint(1, 4)
    if s.rng.random() < 0.3:
        return [left], {"equation": s.rng.choice(["abc->cab", "abc->ac", "abc->", "a b c -> b"])}
    equation = s.rng.choice(["abc,acd->abd", "abc,acd->adb", "abc,adc->abd", "abc,c->ab"])
    shapes = {"acd": (left.shape[0], left.shape[2], columns), "adc": (left.shape[0], columns, left.shape[2])}
    shapes["c"] = left.shape[2:]
    return [left, s.weight(shapes[equation.split(",")[1].split("-")[0]])], {"equation": equation}


def _bytes(s: Sketch, shape: Sequence[int]) -> list[Tensor | None]:
    """Weights in eight bits, with scale and zero point."""
    kind = s.rng.choice((TensorProto.UINT8, TensorProto.INT8))
    return [s.weight(shape, kind), s.constant(np.float32(0.1)), s.constant(np.zeros((), tensor_dtype(kind)))]


def _quantized_conv(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    tensor = Tensor("", FLOAT, (1, 4, 6, 5))
    made, data = _window(s, tensor, dilated=False), _bytes(s, tensor.shape)
    weights = _bytes(s, (3, 4, *made["kernel_shape"]))
    bias = [s.constant(np.zeros(3, np.int32))] if s.rng.random() < 0.5 else []
    return [*data, *weights, *_bytes(s, ())[1:], *bias], made


def _quantized_product(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    return [*_bytes(s, (2, 3)), *_bytes(s, (3, 4)), *_bytes(s, ())[1:]], {}


def _integer_conv(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    inputs, made = _quantized_conv(s)
    return [inputs[0], inputs[3], inputs[2], inputs[5]][: s.rng.choice((2, 3, 4))], made


def _integer_product(s: Sketch) -> tuple[list[Tensor | None], dict[str, Any]]:
    inputs, made = _quantized_product(s)
    return [inputs[0], inputs[3], inputs[2], inputs[5]][: s.rng.choice((2, 3, 4))], made


_RECIPES: dict[str, Recipe] = {
    **dict.fromkeys(
        [
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Mod",
            "Pow",
            "PRelu",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
        ],
        _pair,
    ),
    **dict.fromkeys(["Min", "Max", "Sum", "Mean"], _several),
    **dict.fromkeys(["And", "Or"], _logic),
    **dict.fromkeys(["Softmax", "LogSoftmax", "LpNormalization"], _on_axis),
    **dict.fromkeys(["Identity", "Shape", "Size"], _any_kind),
    **dict.fromkeys((name for name in OPERATORS if name.startswith("Reduce")), _reduce),
    **dict.fromkeys(["DepthToSpace", "SpaceToDepth"], _blocks),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool"], _global),
    **dict.fromkeys(["AveragePool", "MaxPool"], _pool),
    **{"BatchNormalization": _batch_norm, "Cast": _cast, "Clip": _clip, "Concat": _concat, "Constant": _constant},
    **{"ConstantOfShape": _constant_of_shape, "Conv": _conv, "DequantizeLinear": _dequantize, "Dropout": _dropout},
    **{"Expand": _expand, "Flatten": _flatten, "Gather": _gather, "Gemm": _gemm, "GroupNormalization": _group_norm},
    **{"InstanceNormalization": _channel_norm, "LayerNormalization": _layer_norm, "LRN": _lrn, "MatMul": _matmul},
    **{"ConvInteger": _integer_conv, "Einsum": _einsum, "MatMulInteger": _integer_product},
    **{"QLinearConv": _quantized_conv, "QLinearMatMul": _quantized_product},
    **{"Not": lambda s: ([s.pick(BOOL)], {}), "Pad": _pad, "QuantizeLinear": _quantize, "Range": _range},
    **{"Reshape": _reshape, "Resize": _resize, "Slice": _slice, "Split": _split, "Squeeze": _squeeze, "Tile": _tile},
    **{"Transpose": _transpose, "Unsqueeze": _unsqueeze, "Upsample": _upsample, "Where": _where},
}


def recipe(op_type: str) -> Recipe:
    """Return what chooses the inputs and attributes of a node of this kind: one result of one input if not said."""
    return _RECIPES.get(op_type, _unary)
