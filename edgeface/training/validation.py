"""How well a network verifies pairs of faces that it was not trained on, while it is trained."""

from dataclasses import dataclass

import torch
from torch import nn

from edgeface.data import FaceSet, Pairs
from edgeface.evaluation.backbone import BackboneEmbedder
from edgeface.evaluation.verification import VerificationReport, verify_pairs


@dataclass(frozen=True, slots=True)
class Validation:
    """Pairs to verify during training, and the faces that they point to."""

    faces: FaceSet
    pairs: Pairs


def verify(backbone: nn.Module, validation: Validation, device: torch.device) -> VerificationReport:
    """Embed the faces of the pairs and compare them; leaves the mode of the network as it was.

    Raises:
        DataError: an embedding is zero or not finite, or a face cannot be read.
    """
    was_training = backbone.training
    report = verify_pairs(BackboneEmbedder(backbone, device), validation.faces, validation.pairs)
    backbone.train(was_training)
    return report
