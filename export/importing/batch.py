"""A network for a fixed number of faces made one for any number, where it can be followed through all of the graph.

A file says "one face" in many places: in the shape that a Reshape asks for, in a class token that is repeated once, in
arithmetic with shapes. Here the network is run once with its own number of faces, so the shape of each tensor and the
numbers of all that do not depend on the picture are known. Then each node is asked where in its result the faces lie:
along one axis, whose size is `outer * faces * inner`. Where a Reshape leaves it open which axis that is, one is taken,
and another if that leads nowhere. What a node asks for in numbers of faces is rewritten. A node
that mixes faces, or of which it is not known that it does not, ends the attempt, and the network stays as it is.

That proves that faces do not meet. Whether the result is the same network is then seen by running it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from edgeface.export.importing.graphs import opset_of, stored_arrays, used_names
from edgeface.export.importing.inputs import Image, zeros
from edgeface.export.importing.running import depends_on, run_for

Values = npt.NDArray[Any]

_STEM: Final = "free_batch"


class MixedError(Exception):
    """A node may mix faces, or nothing is known of it; the message says so."""


@dataclass(frozen=True, slots=True)
class Faces:
    """Where the faces of a batch lie in a tensor: along one axis, of size `outer * faces * inner`."""

    axis: int
    outer: int = 1
    inner: int = 1

    @property
    def alone(self) -> bool:
        """Whether the axis holds nothing but the faces."""
        return self.outer == self.inner == 1


@dataclass(slots=True)
class _Fork:
    """A node whose result can have the faces in one of several places, and how things stood before it."""

    index: int
    options: int
    tried: int
    places: dict[str, Faces]
    nodes: int


class Follower:
    """Follows the faces through a graph, and writes the graph for any number of them.

    Args:
        model: a network whose only input is the image, at opset 13 or later.
        image: that input, with a fixed number of faces.
        name: of the network, for errors.

    Raises:
        BundleError, ProviderError: the network cannot be run.
    """

    def __init__(self, model: onnx.ModelProto, image: Image, name: str) -> None:
        assert image.batch is not None
        self.model = model
        self.batch = image.batch
        self.opset = opset_of(model)
        made = [output for node in model.graph.node for output in node.output if output]
        seen = run_for(model, made, {image.name: zeros(image)}, name)
        self._shapes = {key: array.shape for key, array in seen.items()} | {image.name: image.shape()}
        moving = depends_on(model, [image.name])
        self._fixed: dict[str, Values] = {key: array for key, array in seen.items() if key not in moving}
        self._fixed |= stored_arrays(model)
        self._places: dict[str, Faces] = {image.name: Faces(0)}
        self._image = image
        self.nodes: list[onnx.NodeProto] = []
        self._stored: dict[str, Values] = {}
        self._count: str | None = None
        self._forks: list[_Fork] = []
        self._index, self._again = 0, False

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor, for the number of faces that the file was made for."""
        return tuple(self._fixed[name].shape) if name in self._fixed else self._shapes[name]

    def fixed(self, name: str) -> Values | None:
        """Return the numbers of a tensor that does not depend on the picture, None of one that does."""
        return self._fixed.get(name)

    def place(self, name: str) -> Faces | None:
        """Return where the faces lie in a tensor, None if it does not depend on the picture."""
        return self._places.get(name)

    def moving(self, node: onnx.NodeProto) -> list[int]:
        """Return the places of those inputs of a node that depend on the picture."""
        return [index for index, name in enumerate(node.input) if name in self._places]

    def constant(self, value: Values) -> str:
        """Store numbers in the new graph; returns their name."""
        name = f"{_STEM}/{len(self._stored)}"
        self._stored[name] = value
        return name

    def keep(self, node: onnx.NodeProto, place: Faces, inputs: Mapping[int, str] | None = None) -> None:
        """Write a node, all of whose results have the faces in the same place.

        Args:
            node: as it was.
            place: where the faces lie in its results.
            inputs: other inputs, by their place.
        """
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for index, name in (inputs or {}).items():
            copy.input[index] = name
        self.write(copy, dict.fromkeys((name for name in node.output if name), place))

    def write(self, node: onnx.NodeProto, places: Mapping[str, Faces]) -> None:
        """Write a node, with where the faces lie in each of its results."""
        self.nodes.append(node)
        self._places.update(places)

    def one_of(self, options: Sequence[Faces]) -> Faces:
        """Choose among the places that the faces may have in the result of the node at hand; others are tried later.

        Args:
            options: the likeliest first.
        """
        if self._again:  # the last fork, that the way leads back to
            self._again = False
            return options[self._forks[-1].tried]
        if len(options) > 1:
            self._forks.append(_Fork(self._index, len(options), 0, dict(self._places), len(self.nodes)))
        return options[0]

    def begin(self, index: int) -> None:
        """Say which node of the graph comes next."""
        self._index = index

    def back(self) -> int | None:
        """Go back to the last fork that has an option left; returns the index of its node, None if there is none."""
        while self._forks and self._forks[-1].tried + 1 == self._forks[-1].options:
            self._forks.pop()
        if not self._forks:
            return None
        fork = self._forks[-1]
        fork.tried += 1
        self._again = True
        self._places = dict(fork.places)
        del self.nodes[fork.nodes :]
        if not any(self._count in node.output for node in self.nodes):
            self._count = None
        return fork.index

    def reshape(self, node: onnx.NodeProto, place: Faces) -> None:
        """Write a node that only moves numbers as a Reshape to the shape that it gives."""
        asked = list(self.shape(node.output[0]))
        asked[place.axis] = -1
        target = self.constant(np.array(asked, np.int64))
        made = helper.make_node("Reshape", [node.input[0], target], [node.output[0]], name=node.name)
        self.write(made, {node.output[0]: place})

    def repeated(self, values: Values, axis: int) -> str:
        """Write a constant that is 1 long along an axis so that it is repeated for each face; returns the result."""
        if self._count is None:
            first, self._count = self.constant(np.array([0], np.int64)), f"{_STEM}/count"
            self.nodes += [
                helper.make_node("Shape", [self._image.name], [f"{_STEM}/shape"], name=f"{_STEM}/shape"),
                helper.make_node("Gather", [f"{_STEM}/shape", first], [self._count], name=f"{_STEM}/count", axis=0),
            ]
        before, after = (
            self.constant(np.array(sizes, np.int64)) for sizes in (values.shape[:axis], values.shape[axis + 1 :])
        )
        stem = self.constant(values)
        self.nodes += [
            helper.make_node("Concat", [before, self._count, after], [f"{stem}/sizes"], name=f"{stem}/sizes", axis=0),
            helper.make_node("Expand", [stem, f"{stem}/sizes"], [f"{stem}/each"], name=f"{stem}/each"),
        ]
        return f"{stem}/each"

    def one_face(self, values: Values, axis: int, place: Faces) -> Values:
        """Return constants as they are for a single face.

        Args:
            values: that meet a tensor in which the faces lie at `place`.
            axis: of these, that meets the axis of the faces.
            place: where they lie there.

        Returns:
            The same, or where they are repeated for each face, the first: 1 long along the axis.

        Raises:
            MixedError: they are not the same for each face.
        """
        size = values.shape[axis]
        if size == 1:
            return values
        if place.alone and size == self.batch:
            first = np.take(values, [0], axis)
            if np.array_equal(np.broadcast_to(first, values.shape), values):
                return first
        raise MixedError("holds a constant that is not the same for each face")

    def finished(self) -> onnx.ModelProto:
        """Return the graph that was written."""
        copy = onnx.ModelProto()
        copy.CopyFrom(self.model)
        graph = copy.graph
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in used_names(node)}
        numbers = self._fixed | self._stored
        graph.initializer.extend(
            numpy_helper.from_array(np.asarray(numbers[name]), name) for name in sorted(used & set(numbers))
        )
        for value in (*graph.input, *graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
        return copy


def same_axis(axis: int, rank: int) -> int:
    """Return an axis counted from the front."""
    return axis % rank if rank else 0


def whole(values: Values | None) -> list[int]:
    """Return constants as whole numbers.

    Raises:
        MixedError: they depend on the picture.
    """
    if values is None:
        raise MixedError("takes sizes that depend on the picture")
    return [int(value) for value in np.asarray(values).reshape(-1)]


def only_first(follower: Follower, node: onnx.NodeProto) -> Faces:
    """Return where the faces lie in the first input, which must be the only one that depends on the picture.

    Raises:
        MixedError: others do, too.
    """
    if follower.moving(node) != [0]:
        raise MixedError("takes more from the picture than it is followed through")
    place = follower.place(node.input[0])
    assert place is not None
    return place


def shared(places: Sequence[Faces]) -> Faces:
    """Return the place that several tensors have in common.

    Raises:
        MixedError: there is none.
    """
    if len(set(places)) != 1:
        raise MixedError("brings tensors together in which the faces lie in different places")
    return places[0]
