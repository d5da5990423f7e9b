"""The operators of ONNX embedders in torch, so that gradients flow through a graph as it will be written."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from edgeface.errors import ExportError

Inputs = Sequence[Tensor | None]
"""What a node takes, in order; None where it leaves an optional input out."""

Attributes = Mapping[str, Any]
Results = Tensor | tuple[Tensor, ...]


def run_operator(kind: str, inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    """Run one node of the default ONNX domain, opset 17 to 20, in evaluation.

    Args:
        kind: its operator.
        inputs: shapes, axes and the like are integer tensors, as in ONNX.
        attributes: as `onnx.helper.get_attribute_value` gives them.

    Raises:
        ExportError: that form of the operator is not among those of embedders.
    """
    result = OPERATORS[kind](inputs, attributes)
    return (result,) if isinstance(result, Tensor) else result


def check_operators(kinds: Collection[str]) -> None:
    """Refuse a network of other operators than these.

    Raises:
        ExportError: an operator is not among those of embedders.
    """
    if unknown := sorted(set(kinds) - set(OPERATORS)):
        raise ExportError(
            f"the operator {unknown[0]} cannot be fine-tuned through (these can: {', '.join(sorted(OPERATORS))}); "
            "leave out --finetune"
        )


def _given(inputs: Inputs, place: int) -> Tensor | None:
    return inputs[place] if place < len(inputs) else None


def _first(inputs: Inputs) -> Tensor:
    assert inputs[0] is not None
    return inputs[0]


def _numbers(tensor: Tensor | None) -> list[int]:
    assert tensor is not None
    return [int(value) for value in tensor.tolist()]


def _window(attributes: Attributes, kernel: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """Return strides, dilations and pads [top, left, bottom, right] of a window that slides over a picture."""
    if len(kernel) != 2:
        raise ExportError(f"only windows over pictures can be fine-tuned through, not {len(kernel)}-D; no --finetune")
    if attributes.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise ExportError("auto_pad cannot be fine-tuned through; store the network with explicit pads")
    return (
        list(attributes.get("strides", [1, 1])),
        list(attributes.get("dilations", [1, 1])),
        list(attributes.get("pads", [0, 0, 0, 0])),
    )


def _conv(inputs: Inputs, attributes: Attributes) -> Tensor:
    faces, weight = _first(inputs), inputs[1]
    assert weight is not None
    strides, dilations, (top, left, bottom, right) = _window(attributes, weight.shape[2:])
    if (top, left) != (bottom, right):
        faces, top, left = functional.pad(faces, (left, right, top, bottom)), 0, 0
    groups = attributes.get("group", 1)
    return functional.conv2d(faces, weight, _given(inputs, 2), strides, (top, left), dilations, groups)


def _gemm(inputs: Inputs, attributes: Attributes) -> Tensor:
    left, right, bias = _first(inputs), inputs[1], _given(inputs, 2)
    assert right is not None
    left = left.T if attributes.get("transA", 0) else left
    right = right.T if attributes.get("transB", 0) else right
    product: Tensor = attributes.get("alpha", 1.0) * (left @ right)
    scaled: Tensor | None = None if bias is None else attributes.get("beta", 1.0) * bias
    return product if scaled is None else product + scaled


def _pool(inputs: Inputs, attributes: Attributes, largest: bool) -> Tensor:
    kernel = list(attributes["kernel_shape"])
    strides, dilations, (top, left, bottom, right) = _window(attributes, kernel)
    if (top, left) != (bottom, right):
        raise ExportError("a pool with uneven pads cannot be fine-tuned through; leave out --finetune")
    ceil = bool(attributes.get("ceil_mode", 0))
    if largest:
        made: Tensor = functional.max_pool2d(_first(inputs), kernel, strides, (top, left), dilations, ceil)
        return made
    counts_pads = bool(attributes.get("count_include_pad", 0))
    return functional.avg_pool2d(_first(inputs), kernel, strides, (top, left), ceil, counts_pads)


def _global_pool(inputs: Inputs, _: Attributes) -> Tensor:
    return _first(inputs).mean(dim=(2, 3), keepdim=True)


def _batch_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    features, scale, shift, mean, variance = inputs[:5]
    assert features is not None
    return functional.batch_norm(features, mean, variance, scale, shift, False, 0.0, attributes.get("epsilon", 1e-5))


def _layer_norm(inputs: Inputs, attributes: Attributes) -> Tensor:
    features = _first(inputs)
    axis = attributes.get("axis", -1) % features.ndim
    return functional.layer_norm(
        features, features.shape[axis:], inputs[1], _given(inputs, 2), attributes.get("epsilon", 1e-5)
    )


def _prelu(inputs: Inputs, _: Attributes) -> Tensor:
    features, slope = _first(inputs), inputs[1]
    assert slope is not None
    return torch.relu(features) - slope * torch.relu(-features)


def _clip(inputs: Inputs, _: Attributes) -> Tensor:
    features, low, high = _first(inputs), _given(inputs, 1), _given(inputs, 2)
    if low is None and high is None:
        return features
    return torch.clamp(features, low, high)


def _reduce(inputs: Inputs, attributes: Attributes, how: Callable[..., Tensor]) -> Tensor:
    features, axes = _first(inputs), _given(inputs, 1)
    chosen = list(attributes["axes"]) if "axes" in attributes else None if axes is None else _numbers(axes)
    return how(features, dim=chosen or list(range(features.ndim)), keepdim=bool(attributes.get("keepdims", 1)))


def _reshape(inputs: Inputs, attributes: Attributes) -> Tensor:
    features, asked = _first(inputs), _numbers(inputs[1])
    if not attributes.get("allowzero", 0):
        asked = [features.shape[axis] if size == 0 else size for axis, size in enumerate(asked)]
    return features.reshape(asked)


def _flatten(inputs: Inputs, attributes: Attributes) -> Tensor:
    features = _first(inputs)
    axis = attributes.get("axis", 1)
    return features.reshape(int(torch.tensor(features.shape[:axis]).prod()), -1)


def _slice(inputs: Inputs, _: Attributes) -> Tensor:
    """Slice by gathering, since torch's own slices know no negative step."""
    features = _first(inputs)
    starts, ends = _numbers(inputs[1]), _numbers(inputs[2])
    axes = _numbers(inputs[3]) if _given(inputs, 3) is not None else list(range(len(starts)))
    steps = _numbers(inputs[4]) if _given(inputs, 4) is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        chosen = list(range(features.shape[axis]))[_python_slice(start, end, step, features.shape[axis])]
        features = features.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return features


def _python_slice(start: int, end: int, step: int, size: int) -> slice:
    """Return the same in Python, where an end before the first element has to be None and not negative."""
    return slice(start, None if step < 0 and end < -size else end, step)


def _split(inputs: Inputs, attributes: Attributes) -> tuple[Tensor, ...]:
    features, sizes = _first(inputs), _given(inputs, 1)
    axis = attributes.get("axis", 0)
    if sizes is not None:
        return tuple(torch.split(features, _numbers(sizes), dim=axis))
    if "num_outputs" not in attributes:
        raise ExportError("a Split without sizes cannot be fine-tuned through; leave out --finetune")
    return tuple(torch.split(features, -(-features.shape[axis] // attributes["num_outputs"]), dim=axis))


def _squeeze(inputs: Inputs, _: Attributes) -> Tensor:
    axes = _given(inputs, 1)
    return _first(inputs).squeeze() if axes is None else _first(inputs).squeeze(tuple(_numbers(axes)))


def _unsqueeze(inputs: Inputs, _: Attributes) -> Tensor:
    features, axes = _first(inputs), _numbers(inputs[1])
    dimensions = features.ndim + len(axes)
    for axis in sorted(axis % dimensions for axis in axes):
        features = features.unsqueeze(axis)
    return features


def _gather(inputs: Inputs, attributes: Attributes) -> Tensor:
    features, places = _first(inputs), inputs[1]
    assert places is not None
    axis = attributes.get("axis", 0) % features.ndim
    places = torch.where(places < 0, places + features.shape[axis], places)
    taken = features.index_select(axis, places.reshape(-1))
    return taken.reshape(*features.shape[:axis], *places.shape, *features.shape[axis + 1 :])


def _hard_sigmoid(inputs: Inputs, attributes: Attributes) -> Tensor:
    return torch.clamp(attributes.get("alpha", 0.2) * _first(inputs) + attributes.get("beta", 0.5), 0, 1)


def _cast(inputs: Inputs, attributes: Attributes) -> Tensor:
    if attributes["to"] not in _TYPES:
        raise ExportError(f"a Cast to ONNX type {attributes['to']} cannot be fine-tuned through; leave out --finetune")
    return _first(inputs).to(_TYPES[attributes["to"]])


def _both(how: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Inputs, Attributes], Tensor]:
    def run(inputs: Inputs, _: Attributes) -> Tensor:
        assert inputs[1] is not None
        return how(_first(inputs), inputs[1])

    return run


def _each(how: Callable[[Tensor], Tensor]) -> Callable[[Inputs, Attributes], Tensor]:
    return lambda inputs, _: how(_first(inputs))


_TYPES: Final = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 11: torch.float64}
"""Of ONNX, by number."""

OPERATORS: Final[dict[str, Callable[[Inputs, Attributes], Results]]] = {
    "Add": _both(torch.add),
    "AveragePool": lambda inputs, attributes: _pool(inputs, attributes, largest=False),
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": lambda inputs, attributes: torch.cat([t for t in inputs if t is not None], dim=attributes["axis"]),
    "Conv": _conv,
    "Div": _both(torch.div),
    "Dropout": _each(lambda features: features),
    "Erf": _each(torch.erf),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gelu": lambda inputs, attributes: functional.gelu(
        _first(inputs), approximate=attributes.get("approximate", b"none").decode()
    ),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _each(functional.hardswish),
    "Identity": _each(lambda features: features),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda inputs, attributes: functional.leaky_relu(_first(inputs), attributes.get("alpha", 0.01)),
    "MatMul": _both(torch.matmul),
    "MaxPool": lambda inputs, attributes: _pool(inputs, attributes, largest=True),
    "Mul": _both(torch.mul),
    "PRelu": _prelu,
    "Pow": _both(torch.pow),
    "Reciprocal": _each(torch.reciprocal),
    "ReduceL2": lambda inputs, attributes: _reduce(inputs, attributes, torch.linalg.vector_norm),
    "ReduceMean": lambda inputs, attributes: _reduce(inputs, attributes, torch.mean),
    "ReduceSum": lambda inputs, attributes: _reduce(inputs, attributes, torch.sum),
    "Relu": _each(torch.relu),
    "Reshape": _reshape,
    "Shape": _each(lambda features: torch.tensor(features.shape)),
    "Sigmoid": _each(torch.sigmoid),
    "Slice": _slice,
    "Softmax": lambda inputs, attributes: torch.softmax(_first(inputs), attributes.get("axis", -1)),
    "Split": _split,
    "Sqrt": _each(torch.sqrt),
    "Squeeze": _squeeze,
    "Sub": _both(torch.sub),
    "Transpose": lambda inputs, attributes: _first(inputs).permute(*attributes["perm"]),
    "Unsqueeze": _unsqueeze,
}
"""By name; inputs and attributes to results."""
