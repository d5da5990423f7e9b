"""A network for a fixed number of faces made one for any number: each node is followed by its rule."""

from typing import Final

import onnx

from edgeface.export.importing.batch import Faces, Follower, MixedError
from edgeface.export.importing.batch_rules import RULES
from edgeface.export.importing.inputs import Image

_MAX_STEPS: Final = 30
"""So many times the nodes of a graph are followed at most, ways that led nowhere included."""


def free_batch(model: onnx.ModelProto, image: Image, name: str) -> onnx.ModelProto:
    """Return a copy of a network that takes any number of faces.

    Args:
        model: its only input is the image and its only output (batch, dimension), at opset 13 or later.
        image: that input, with a fixed number of faces.
        name: of the network, for errors.

    Raises:
        MixedError: a node may mix faces.
        BundleError, ProviderError: the network cannot be run.
    """
    follower = Follower(model, image, name)
    nodes, output = list(model.graph.node), model.graph.output[0].name
    index, first, left = 0, None, _MAX_STEPS * (len(nodes) + 1)
    while True:
        left -= 1
        try:
            if index == len(nodes):
                if follower.place(output) != Faces(0):
                    raise MixedError(f"output {output} does not have the faces along its first axis")
                return follower.finished()
            follower.begin(index)
            _follow(follower, nodes[index])
            index += 1
        except MixedError as error:
            first = first or error
            fork = follower.back()
            if fork is None or left < 0:
                raise first from None
            index = fork


def _follow(follower: Follower, node: onnx.NodeProto) -> None:
    if not follower.moving(node) or node.op_type in ("Shape", "Size"):
        return  # its numbers are known
    label = f"node {node.name or node.output[0]} ({node.op_type})"
    rule = RULES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if rule is None:
        raise MixedError(f"{label} may mix faces")
    try:
        rule(follower, node)
    except MixedError as error:
        raise MixedError(f"{label} {error}") from None
