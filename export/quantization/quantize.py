"""Static int8 quantization of an embedder or a detector, in the form that the target runs fast."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx

from edgeface.errors import UnknownNameError
from edgeface.export.cleaning import clean_model, set_metadata
from edgeface.export.quantization.bias import corrected_biases
from edgeface.export.quantization.cost import CostModel
from edgeface.export.quantization.equalization import equalize, find_neighbours
from edgeface.export.quantization.layers import Graph, find_layers
from edgeface.export.quantization.qdq import QdqWriter, Tuned
from edgeface.export.quantization.ranges import METHODS, channel_reaches, check_faces, collect_activations
from edgeface.export.quantization.search import Plan
from edgeface.export.quantization.targets import Target
from edgeface.manifest import Finetuning, Quantization

EQUALIZATION_FACES: Final = 128
"""Faces that show how far each channel reaches: only the proportions matter."""


class Quantizer:
    """Quantizes one network for one target, in as many ways as asked: the activations are watched only once.

    Only the backbone becomes int8; preprocessing and the L2 norm stay in float. Scales are equalised across
    neighbouring layers first, and biases make up for what rounding the weights shifts.

    Args:
        model: an embedder that meets the contract, float32, or a detector of fixed size.
        faces: (N, 112, 112, 3) uint8 RGB aligned faces that fix the activation ranges, N >= 16; of a detector frames.
        target: the processor it is for.
        method: from the values of an activation to its range; a key of `export.quantization.ranges.METHODS`.

    Raises:
        ExportError: too few faces, or nothing in the graph can be quantized.
        UnknownNameError: no method has that name.
    """

    def __init__(
        self, model: onnx.ModelProto, faces: npt.NDArray[np.uint8], target: Target, method: str = "minmax"
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("calibration method", method, METHODS)
        self.target = target
        self.method = method
        check_faces(len(faces))
        self.graph: Graph = _equalized(find_layers(model), faces[:EQUALIZATION_FACES])
        self.costs = CostModel(self.graph)
        """What layers in float cost."""
        self.cheapest = Plan(self.costs.cheapest() if target.costs_known else ())
        """The plan with in float what is no slower there."""
        self._metadata = {entry.key: entry.value for entry in model.metadata_props}
        activations = collect_activations(self.graph.model, self.graph.tensors, faces)
        self.finetuning: Finetuning | None = None
        """What came of fine-tuning, if there was any: goes into the manifest."""
        self._ranges = activations.ranges(method)
        self._writer = QdqWriter(self.graph, self._ranges, target)
        every = [layer.name for layer in self.graph.layers]
        self._corrected = corrected_biases(self.graph, activations.means, self._writer.rounded())
        self._in_integer = dict(self._corrected)
        self._in_float = corrected_biases(self.graph, activations.means, self._writer.rounded(every))

    @property
    def biases(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Of layers in int8, (C,) by the name of the layer."""
        return self._in_integer

    def tune(self, tuned: Tuned | None) -> None:
        """Take weights and biases of layers in int8 from fine-tuning, None for those of post-training.

        Layers in float keep the network's own, so that with all of them in float it is still the original.
        """
        self._writer = QdqWriter(self.graph, self._ranges, self.target, tuned)
        self._in_integer = dict(self._corrected if tuned is None else tuned.biases)

    def write(self, plan: Plan) -> onnx.ModelProto:
        """Return the network with the layers in float that the plan names."""
        kept = set(plan.float_layers)
        biases = {name: bias for name, bias in self._in_integer.items() if name not in kept}
        if not plan.float_weights:
            biases |= {name: bias for name, bias in self._in_float.items() if name in kept}
        model = clean_model(self._writer.write(kept, float_weights=plan.float_weights, biases=biases))
        set_metadata(model, self._metadata)
        return model

    def record(self, plan: Plan) -> Quantization:
        """Describe the network of a plan for the manifest."""
        return Quantization(
            target=self.target.name,
            activations=self.target.activations,
            weights="int8 symmetric",
            per_channel=True,
            reduce_range=self.target.reduce_range,
            method=self.method,
            float_nodes=plan.float_layers,
            float_weights=plan.float_weights,
            finetuning=self.finetuning,
        )


def _equalized(graph: Graph, faces: npt.NDArray[np.uint8]) -> Graph:
    between = list(dict.fromkeys(pair.first.output for pair in find_neighbours(graph)))
    return equalize(graph, channel_reaches(graph.model, between, faces)) if between else graph
