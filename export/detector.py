"""From a PyTorch face detector to an ONNX graph in the format `detector/1`."""

from typing import Final

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from edgeface.errors import ExportError
from edgeface.export.cleaning import serialize, set_metadata
from edgeface.export.tracing import DEFAULT_OPSET, to_onnx
from edgeface.models.detector import STRIDES, FaceDetector
from edgeface.runtime.detection.edge_detector import FORMAT, FORMAT_KEY, KINDS, MAX_FACE_KEY, MIN_SCORE_KEY, STRIDES_KEY
from edgeface.runtime.providers.session import open_session

MAX_DIFFERENCE: Final = 1e-3
"""Allowed between an output of PyTorch and of onnxruntime, in units of 1 + its size."""

MAX_CELLS: Final = 512
"""Sides of a frame are at most this many times the largest stride."""


class DeployedDetector(nn.Module):
    """The network behind the preprocessing that a device would have to repeat.

    frame (1, H, W, 3) uint8 RGB -> nine maps, see `edgeface.runtime.detection.edge_detector`.
    """

    def __init__(self, network: FaceDetector) -> None:
        super().__init__()
        self.network = network

    def forward(self, frame: Tensor) -> tuple[Tensor, ...]:
        """Predict for one frame."""
        pixels = frame.permute(0, 3, 1, 2).to(torch.float32) * (1 / 255)
        return tuple(tensor for level in self.network(pixels) for tensor in level)


def export_detector(
    network: FaceDetector, *, min_score: float, max_face: int | None = None, opset: int = DEFAULT_OPSET
) -> onnx.ModelProto:
    """Export a detector for frames of any size.

    The same weights give the same bytes, from any folder.

    Args:
        network: in eval mode, on the CPU.
        min_score: what to advise as the lowest score to report, in (0, 1).
        max_face: the largest face that it was taught, in pixels; None if it knows any size.
        opset: ONNX operator set, 18 to 20.

    Raises:
        ExportError: the network is in train mode, a weight is not finite, the file came out with another opset,
            or it does not do in onnxruntime what the network does.
    """
    deployed = DeployedDetector(network)
    rows, columns = (torch.export.Dim(name, min=1, max=MAX_CELLS) for name in ("rows", "columns"))
    model = to_onnx(
        deployed,
        torch.zeros(1, 64, 96, 3, dtype=torch.uint8),
        inputs=["frame"],
        outputs=[f"{kind}_{stride}" for stride in STRIDES for kind in KINDS],
        dynamic={1: STRIDES[-1] * rows, 2: STRIDES[-1] * columns},
        opset=opset,
    )
    strides = ",".join(map(str, STRIDES))
    values = {FORMAT_KEY: FORMAT, STRIDES_KEY: strides}
    set_metadata(model, values if max_face is None else values | {MAX_FACE_KEY: str(max_face)})
    model = with_min_score(model, min_score)
    assert_same_maps(deployed, model)
    return model


def with_min_score(model: onnx.ModelProto, min_score: float) -> onnx.ModelProto:
    """Return a copy that advises a score, in (0, 1), as the lowest to report.

    Raises:
        ExportError: it is not a score.
    """
    if not 0 < min_score < 1:
        raise ExportError(f"min_score lies between 0 and 1, got {min_score}; use for example 0.6")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    set_metadata(copy, {MIN_SCORE_KEY: f"{min_score:.4g}"})
    return copy


def assert_same_maps(deployed: DeployedDetector, model: onnx.ModelProto) -> None:
    """Compare the graph in onnxruntime with the network, on noise of another size than it was traced with.

    Raises:
        ExportError: an output differs by more than `MAX_DIFFERENCE`.
    """
    session = open_session(serialize(model), provider="cpu", name="exported detector")
    frame = np.random.default_rng(0).integers(0, 256, (1, 160, 64, 3), np.uint8)
    with torch.no_grad():
        expected = [tensor.numpy() for tensor in deployed(torch.from_numpy(frame))]
    for tensor, want, got in zip(session.outputs, expected, session.run({"frame": frame}), strict=True):
        difference = float(np.max(np.abs(want - got) / (1 + np.abs(want)))) if want.shape == got.shape else np.inf
        if not difference <= MAX_DIFFERENCE:  # NaN is a difference, too
            raise ExportError(
                f"output {tensor.name} of the exported detector differs from PyTorch's by {difference:.2g}, "
                f"at most {MAX_DIFFERENCE} is allowed; export with another opset"
            )
