"""The input of a foreign network that takes the picture, and what to do with any others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import add_constant, rename_inputs, unused_name, used_names
from edgeface.export.preprocessing import Preprocessing
from edgeface.faces import FACE_SIZE
from edgeface.runtime.inspecting.inspection import inspect_model

_FLOATS: Final = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
_WHOLE: Final = (TensorProto.UINT8, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64)
_PICTURE_RANK: Final = 4


@dataclass(frozen=True, slots=True)
class Image:
    """The input that takes pictures: float32, sizes other than that of the batch fixed.

    Attributes:
        name: of the input.
        batch: number of pictures in a run, None if that is free.
        preprocessing: from faces to what it takes, with the layout and size of the input.
    """

    name: str
    batch: int | None
    preprocessing: Preprocessing

    def shape(self, batch: int | None = None) -> tuple[int, ...]:
        """Return the shape for a number of pictures, for that of the network, or for one."""
        return (batch or self.batch or 1, *self.preprocessing.sizes)


def zeros(image: Image, batch: int | None = None) -> npt.NDArray[np.float32]:
    """Return black pictures in the shape of an input, for a number of them or for that of the network."""
    return np.zeros(image.shape(batch), np.float32)


def set_inputs(model: onnx.ModelProto, values: Mapping[str, float], name: str) -> onnx.ModelProto:
    """Return a copy in which inputs are constants.

    Args:
        model: the network.
        values: by the name of the input; an input of several numbers gets the same one everywhere.
        name: of the network, for errors.

    Raises:
        ExportError: there is no such input, or it holds no numbers.
    """
    if not values:
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    inputs = {value.name: value for value in copy.graph.input}
    for given, number in values.items():
        if given not in inputs:
            raise ExportError(f"--set-input {given}: {name} has no such input, it has {', '.join(inputs) or 'none'}")
        tensor = inputs[given].type.tensor_type
        try:
            dtype = helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        except KeyError:
            raise ExportError(f"--set-input {given}: that input of {name} holds no numbers") from None
        shape = [max(size.dim_value, 1) for size in tensor.shape.dim]
        if int(np.prod(shape)) > FACE_SIZE * FACE_SIZE:
            raise ExportError(
                f"--set-input {given}: that input of {name} has the shape {shape}, too large for a constant"
            )
        stored = add_constant(copy, f"{given}/set", np.full(shape, number).astype(dtype))
        rename_inputs(copy.graph.node, {given: stored})
    kept = [value for value in copy.graph.input if value.name not in values]
    del copy.graph.input[:]
    copy.graph.input.extend(kept)
    return copy


def take_image(
    model: onnx.ModelProto, preprocessing: Preprocessing, name: str
) -> tuple[onnx.ModelProto, Image, tuple[str, ...]]:
    """Find the input that takes the picture; leave out inputs that nothing uses.

    Args:
        model: the network; weights are no inputs.
        preprocessing: what it expects.
        name: of the network, for errors.

    Returns:
        A copy whose only input takes float32 pictures of fixed size; that input; and what a user should be told.

    Raises:
        ExportError: other inputs are needed, too, or the picture's has a type or shape that does not fit.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    used = set().union(*(used_names(node) for node in copy.graph.node), (value.name for value in copy.graph.output))
    needed = [value for value in copy.graph.input if value.name in used]
    if not needed:
        inspect_model(copy.SerializeToString(), name)  # it may have more to say
    image = _only_picture(needed, name)
    said = []
    del copy.graph.input[:]
    copy.graph.input.append(image)
    image = copy.graph.input[0]
    kind = image.type.tensor_type.elem_type
    found = _fixed_size(image, preprocessing)
    if kind in _WHOLE:
        _check_whole(image.name, kind, found.preprocessing)
        inner = unused_name(copy, f"{image.name}/whole")
        rename_inputs(copy.graph.node, {image.name: inner})
        rounded = unused_name(copy, f"{image.name}/rounded")
        nodes = [
            helper.make_node("Round", [image.name], [rounded], name=rounded),
            helper.make_node("Cast", [rounded], [inner], name=inner, to=kind),
            *copy.graph.node,
        ]
        del copy.graph.node[:]
        copy.graph.node.extend(nodes)
        said.append(f"input {image.name} is {_kind(kind)}: pixels are rounded and cast")
    elif kind not in _FLOATS:
        raise ExportError(f"input {image.name} of {name} is {_kind(kind)}, which pixels cannot be given as")
    batch: int | str = found.batch or "batch"
    image.CopyFrom(helper.make_tensor_value_info(found.name, TensorProto.FLOAT, [batch, *found.preprocessing.sizes]))
    return copy, found, tuple(said)


def _only_picture(needed: list[onnx.ValueInfoProto], name: str) -> onnx.ValueInfoProto:
    if len(needed) == 1:
        return needed[0]
    if not needed:
        raise ExportError(f"the output of {name} depends on no input; look at the graph, it is no embedder")
    pictures = [value for value in needed if len(value.type.tensor_type.shape.dim) == _PICTURE_RANK]
    others = [value for value in needed if len(pictures) != 1 or value.name != pictures[0].name]
    options = " ".join(f"--set-input {value.name}=0" for value in others)
    picture = f" besides the picture {pictures[0].name}" if len(pictures) == 1 else ""
    raise ExportError(
        f"{name} needs the inputs {', '.join(_described(value) for value in others)}{picture}, an embedder has one; "
        f"what is the same for every face can be set: {options}"
    )


def _described(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    sizes = [size.dim_value or size.dim_param or "?" for size in tensor.shape.dim]
    return f"{value.name} ({_kind(tensor.elem_type)} {sizes})"


def _kind(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _fixed_size(value: onnx.ValueInfoProto, preprocessing: Preprocessing) -> Image:
    """Return the input with height and width written down, as the preprocessing gives them."""
    tensor = value.type.tensor_type
    # Where not even the rank is declared, it is that of a batch of pictures.
    stated: list[int | str] = ["?"] * 4
    if tensor.HasField("shape"):
        stated = [max(size.dim_value, 0) or size.dim_param or "?" for size in tensor.shape.dim]
    fitted = preprocessing.fitted(value.name, stated)
    return Image(value.name, stated[0] if isinstance(stated[0], int) else None, fitted)


def _check_whole(name: str, kind: int, fitted: Preprocessing) -> None:
    """Refuse preprocessing that gives an input of whole numbers anything else.

    Raises:
        ExportError: it does.
    """
    # Of one colour each, so that they stay so when they are resampled.
    levels = np.array([0, 1, 2, 127, 128, 254, 255], np.uint8)
    faces = np.ascontiguousarray(np.broadcast_to(levels[:, None, None, None], (len(levels), FACE_SIZE, FACE_SIZE, 3)))
    given = fitted.apply(faces)
    limits = np.iinfo(helper.tensor_dtype_to_np_dtype(kind))
    if np.abs(given - given.round()).max() > 1e-3 or given.min() < limits.min or given.max() > limits.max:
        raise ExportError(
            f"input {name} is {_kind(kind)}, which holds whole numbers from {limits.min} to {limits.max}, and the "
            f"preprocessing gives {given.min():g} to {given.max():g}; a network that takes pixels prepares them "
            "itself: --mean 0 --scale 1"
        )
