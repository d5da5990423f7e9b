"""`If` nodes whose condition is the same for every picture: the branch that is taken stands in the graph itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import helper

from edgeface.errors import ExportError
from edgeface.export.importing.graphs import attribute, rename_inputs, stored_arrays, unused_name
from edgeface.export.importing.inputs import Image, zeros
from edgeface.export.importing.legal import legalised
from edgeface.export.importing.running import depends_on, run_for

_MAX_BRANCHES: Final = 1000
BATCHES: Final = (1, 2)
"""Conditions are looked at for these numbers of faces, where that number is free."""


@dataclass(frozen=True, slots=True)
class Straight:
    """A network without branches.

    Attributes:
        model: the network.
        single: a branch depends on the number of faces, and the one for a single face was taken.
        folded: how many branches there were.
    """

    model: onnx.ModelProto
    single: bool
    folded: int


def fold_branches(model: onnx.ModelProto, image: Image, name: str) -> Straight:
    """Take the branches of all `If` nodes.

    Args:
        model: a network whose only input is the image.
        image: that input.
        name: of the network, for errors.

    Raises:
        ExportError: a condition depends on the picture, or on nothing that can be run.
        BundleError: what makes a condition does not pass inspection.
    """
    single, folded = False, 0
    while (index := _first_if(model)) is not None:
        if folded >= _MAX_BRANCHES:
            raise ExportError(f"{name} has more than {_MAX_BRANCHES} branches (If); export it by tracing")
        node = model.graph.node[index]
        taken, differs = _condition(model, index, image, name)
        single = single or differs
        model = _with_branch(model, index, "then_branch" if taken else "else_branch", node)
        folded += 1
    return Straight(model, single, folded)


def _first_if(model: onnx.ModelProto) -> int | None:
    return next(
        (index for index, node in enumerate(model.graph.node) if node.op_type == "If" and not node.domain), None
    )


def _condition(model: onnx.ModelProto, index: int, image: Image, name: str) -> tuple[bool, bool]:
    """Return the condition of an If for one face, and whether it is another one for several."""
    node = model.graph.node[index]
    wanted = node.input[0]
    stored = stored_arrays(model).get(wanted)
    if stored is not None:
        return bool(np.asarray(stored).any()), False
    before = onnx.ModelProto()
    before.CopyFrom(model)
    del before.graph.node[index:]
    what = f"node {node.name or node.output[0]} (If) of {name}"
    if wanted in depends_on(before, [image.name]):
        raise ExportError(
            f"{what} chooses a branch by the picture, so the network is not the same for every face; export it by "
            "tracing (torch.onnx.export of a module that is not scripted)"
        )
    before, _ = legalised(before)
    seen: Sequence[bool] = [
        bool(run_for(before, [wanted], {image.name: zeros(image, batch)}, f"what decides {what}")[wanted].any())
        for batch in ((image.batch,) if image.batch else BATCHES)
    ]
    return seen[0], len(set(seen)) > 1


def _with_branch(model: onnx.ModelProto, index: int, which: str, node: onnx.NodeProto) -> onnx.ModelProto:
    """Put the nodes of a branch where its If is. Their names could be those of others, so they get new ones."""
    branch = onnx.GraphProto()
    taken = attribute(node, which)
    if not isinstance(taken, onnx.GraphProto) or len(taken.output) != len(node.output):
        raise ExportError(f"node {node.name or node.output[0]} (If) has no {which}; export the network again")
    branch.CopyFrom(taken)
    stem = unused_name(model, f"{node.output[0]}/{which}")
    own = [tensor.name for tensor in branch.initializer]
    own += [output for part in branch.node for output in part.output if output]
    names = {name: f"{stem}/{name}" for name in own}
    results = {
        value.name: output for value, output in zip(branch.output, node.output, strict=True) if value.name in names
    }
    names |= results  # what the branch gives is called as the If called it
    for tensor in branch.initializer:
        tensor.name = names[tensor.name]
    for part in branch.node:
        part.name = f"{stem}/{part.name}" if part.name else ""
        for place, output in enumerate(part.output):
            part.output[place] = names.get(output, output)
    rename_inputs(branch.node, names)
    passed = [
        helper.make_node("Identity", [names.get(value.name, value.name)], [output])
        for value, output in zip(branch.output, node.output, strict=True)
        if names.get(value.name) != output
    ]
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    nodes = [*copy.graph.node[:index], *branch.node, *passed, *copy.graph.node[index + 1 :]]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    copy.graph.initializer.extend(branch.initializer)
    return copy
