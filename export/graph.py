"""From a PyTorch backbone to an ONNX graph that takes aligned faces and gives unit embeddings."""

import json
import math

import onnx
import torch
from torch import Tensor, nn

from edgeface.errors import ExportError
from edgeface.export.cleaning import set_metadata
from edgeface.export.preprocessing import Channels
from edgeface.export.tracing import DEFAULT_OPSET, to_onnx
from edgeface.faces import FACE_SIZE
from edgeface.files import sha256
from edgeface.manifest import EmbedderContract
from edgeface.runtime.embedder import CONTRACT_KEY, SPACE_KEY


class DeployedEmbedder(nn.Module):
    """The backbone between the preprocessing and the normalisation that a device would have to repeat.

    faces (N, 112, 112, 3) uint8 RGB -> (N, D) float32 of unit length.

    Args:
        backbone: takes (pixel - mean) * scale, RGB.
        mean: of all channels, or of each.
        scale: likewise.
    """

    def __init__(self, backbone: nn.Module, mean: Channels = 127.5, scale: Channels = 1 / 127.5) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean, self.scale = (
            torch.tensor(value)[:, None, None] if isinstance(value, tuple) else value for value in (mean, scale)
        )

    def forward(self, faces: Tensor) -> Tensor:
        """Embed a batch of faces."""
        pixels = faces.permute(0, 3, 1, 2).to(torch.float32)
        embeddings: Tensor = self.backbone((pixels - self.mean) * self.scale)
        # Not F.normalize: it exports as nine nodes with shape arithmetic. Not "+ 1e-12": it is optimized away.
        return embeddings * torch.rsqrt((embeddings * embeddings).sum(1, keepdim=True).clamp_min(1e-12))


def export_backbone(
    backbone: nn.Module,
    *,
    classes: int = 0,
    opset: int = DEFAULT_OPSET,
    mean: Channels = 127.5,
    scale: Channels = 1 / 127.5,
) -> onnx.ModelProto:
    """Export a backbone as an embedder that meets the contract of the project.

    The result holds no external data, no source paths and no names of the machine it was made on; the same
    weights give the same bytes.

    Args:
        backbone: float32 (N, 3, 112, 112) RGB -> (N, D), in eval mode, on the CPU.
        classes: number of classes of the loss head it was trained with, to prove that the head is gone.
        opset: ONNX operator set, 17 to 20.
        mean: taken off each pixel value in [0, 255]; one number, or one for each of R, G and B.
        scale: multiplied after that, likewise.

    Raises:
        ExportError: a part is in train mode, a weight is not finite, the head is still there, or the file
            came out with another opset than asked.
    """
    model = to_onnx(
        DeployedEmbedder(backbone, mean, scale),
        torch.zeros(2, FACE_SIZE, FACE_SIZE, 3, dtype=torch.uint8),
        inputs=["faces"],
        outputs=["embeddings"],
        dynamic={0: "batch"},
        opset=opset,
    )
    assert_head_stripped(model, backbone, classes)
    with torch.no_grad():
        dimension = int(backbone(torch.zeros(1, 3, FACE_SIZE, FACE_SIZE)).shape[1])
    return with_contract(model, dimension)


def with_contract(model: onnx.ModelProto, dimension: int) -> onnx.ModelProto:
    """Write the input contract and the embedding space id into a graph's metadata.

    The space id is the hash of the graph without metadata, so it does not depend on itself.
    """
    space = sha256(model.SerializeToString(deterministic=True))
    contract = EmbedderContract(dimension=dimension).model_dump(mode="json")
    set_metadata(model, {CONTRACT_KEY: json.dumps(contract, sort_keys=True), SPACE_KEY: space})
    return model


def fix_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """Return a copy that takes exactly `batch` faces in a run: some accelerators compile no other."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]  # their batch is free
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return copy


def assert_head_stripped(model: onnx.ModelProto, backbone: nn.Module, classes: int) -> None:
    """Prove that the loss head is not in the graph.

    No initializer may have the number of classes as a dimension, unless the backbone has such a dimension by
    itself; and the graph holds no more numbers than the backbone, so no class matrix fits into it.

    Raises:
        ExportError: the head, or a part of it, is in the graph.
    """
    own_sizes = {size for tensor in backbone.state_dict().values() for size in tensor.shape}
    for tensor in model.graph.initializer:
        if classes > 1 and classes in tensor.dims and classes not in own_sizes:
            raise ExportError(
                f"initializer {tensor.name} {list(tensor.dims)} has the number of classes ({classes}) as a dimension: "
                "the loss head is still in the graph; export the backbone alone"
            )
    held = sum(math.prod(tensor.dims) for tensor in model.graph.initializer)
    allowed = sum(tensor.numel() for tensor in backbone.state_dict().values()) + 256  # shapes and scalar constants
    if held > allowed:
        raise ExportError(
            f"the graph holds {held:,} numbers, the backbone {allowed:,}: something besides it was exported"
        )
