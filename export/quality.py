"""From a trained quality network to an ONNX file that takes aligned faces and says how fit each is."""

from typing import Final

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from edgeface.errors import ConfigError, ExportError
from edgeface.export.cleaning import serialize, set_metadata
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.targets import Target
from edgeface.export.tracing import DEFAULT_OPSET, to_onnx
from edgeface.faces import FACE_SIZE
from edgeface.fitness import FORMAT, FORMAT_KEY, LIMITS_KEY, FitnessLimits
from edgeface.models.quality import QualityNet, probabilities
from edgeface.runtime.providers.session import open_session

MAX_DIFFERENCE: Final = 1e-4
"""Allowed between PyTorch and onnxruntime in float32; all outputs lie in [0, 1]."""
MAX_INT8_DIFFERENCE: Final = 0.02
"""Allowed in int8, in the mean over the calibration faces, of the fitness."""


class DeployedQuality(nn.Module):
    """The network between the preprocessing and the functions that make probabilities of what it says.

    faces (N, 112, 112, 3) uint8 RGB -> (N, 10) float32 in [0, 1].
    """

    def __init__(self, network: QualityNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, faces: Tensor) -> Tensor:
        """Judge a batch of faces."""
        pixels = faces.permute(0, 3, 1, 2).to(torch.float32)
        return probabilities(self.network((pixels - 127.5) * (1 / 127.5)))


def export_quality(
    network: QualityNet, faces: npt.NDArray[np.uint8], refused: tuple[float, float], opset: int = DEFAULT_OPSET
) -> onnx.ModelProto:
    """Export a quality network, with the limits that it advises.

    Args:
        network: in eval mode, on the CPU.
        faces: (N, 112, 112, 3) uint8 RGB good faces, on which the limits are chosen.
        refused: shares of good faces that may be refused: to be compared, and to become a template, in [0, 1).
        opset: ONNX operator set.

    Raises:
        ConfigError: a share is out of range.
        ExportError: a weight is not finite, or the file does not say in onnxruntime what the network says.
    """
    if not all(0 <= share < 1 for share in refused):
        raise ConfigError(f"shares of good faces to refuse lie in 0 to 1, got {refused}; use for example 0.005,0.02")
    deployed = DeployedQuality(network)
    model = to_onnx(
        deployed,
        torch.zeros(2, FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8),
        inputs=["faces"],
        outputs=["quality"],
        dynamic={0: "batch"},
        opset=opset,
    )
    set_metadata(model, {FORMAT_KEY: FORMAT})
    said = answers(serialize(model), faces)
    with torch.no_grad():
        wanted = deployed(torch.from_numpy(faces[:64])).numpy()
    difference = float(np.abs(said[:64] - wanted).max())
    if not difference <= MAX_DIFFERENCE:
        raise ExportError(f"the exported quality network differs from PyTorch's by {difference:.2g}; try another opset")
    limits = FitnessLimits(*(float(np.quantile(said[:, 0], share)) for share in refused))
    set_metadata(model, {LIMITS_KEY: limits.text()})
    return model


def quantize_quality(model: onnx.ModelProto, faces: npt.NDArray[np.uint8], target: Target, method: str) -> bytes:
    """Return the network in int8, as a file.

    Raises:
        ExportError: its fitness differs too much from that of the float network, or there are too few faces.
    """
    quantizer = Quantizer(model, faces, target, method)
    written = quantizer.write(quantizer.cheapest)
    set_metadata(written, {entry.key: entry.value for entry in model.metadata_props})
    data = serialize(written)
    difference = float(np.abs(answers(data, faces)[:, 0] - answers(serialize(model), faces)[:, 0]).mean())
    if difference > MAX_INT8_DIFFERENCE:
        raise ExportError(
            f"in int8 the fitness of a face is off by {difference:.3f} in the mean, at most {MAX_INT8_DIFFERENCE} is "
            "allowed; export with --precision fp32"
        )
    return data


def answers(data: bytes, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what a quality network in a file says of faces, (N, 10)."""
    session = open_session(data, provider="cpu", threads=0, name="quality network")
    batches = [session.run({"faces": faces[start : start + 64]})[0] for start in range(0, len(faces), 64)]
    return np.concatenate(batches).astype(np.float32)
