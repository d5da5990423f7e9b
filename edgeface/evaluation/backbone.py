"""A PyTorch backbone as an embedder: the reference that every exported file is compared with."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn


class BackboneEmbedder:
    """Embeds faces with a PyTorch backbone, in eval mode.

    Args:
        backbone: float32 (N, 3, 112, 112) RGB in [-1, 1] -> (N, D), on `device`; is switched to eval mode.
        device: where it runs.
    """

    def __init__(self, backbone: nn.Module, device: torch.device | None = None) -> None:
        self._backbone = backbone.eval()
        self._device = device or torch.device("cpu")

    def embed(self, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Embed (N, 112, 112, 3) uint8 RGB faces; returns (N, D) float32 of unit length."""
        with torch.inference_mode():
            embeddings = self._backbone(to_input(torch.from_numpy(faces), self._device)).float()
            unit: npt.NDArray[np.float32] = nn.functional.normalize(embeddings).cpu().numpy()
        return unit


def to_input(faces: Tensor, device: torch.device) -> Tensor:
    """Turn (N, 112, 112, 3) uint8 into (N, 3, 112, 112) float32 in [-1, 1], channels last in memory."""
    # uint8 travels to the device, a quarter of the bytes.
    return faces.to(device, non_blocking=True).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
