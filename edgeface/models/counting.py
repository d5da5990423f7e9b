"""What a network costs: its parameters, and the multiply-adds of one face."""

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from edgeface.faces import FACE_SIZE


def count_parameters(model: nn.Module) -> int:
    """Return the number of trained parameters (weights, biases, slopes; not running statistics)."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_multiply_adds(model: nn.Module) -> int:
    """Return the multiply-adds of convolutions, linear layers and attention for one face of 112 x 112.

    Norms, activations and sums are left out, as in the papers, most of which call a multiply-add a FLOP. Nothing is
    computed: only shapes go through the network, so that the largest one takes well under a second.

    Args:
        model: float32 (N, 3, 112, 112) -> (N, D); left as it is.
    """
    shapes = {
        name: torch.empty_like(tensor, device="meta")
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    face = torch.empty(1, 3, FACE_SIZE, FACE_SIZE, device="meta")
    modes = {module: module.training for module in model.modules()}
    model.eval()  # in train mode, a norm over a batch of one fails
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            functional_call(model, shapes, (face,))
    finally:
        for module, training in modes.items():
            module.training = training
    return int(counter.get_total_flops()) // 2
