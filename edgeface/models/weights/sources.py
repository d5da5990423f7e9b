"""How others name the parts of networks that we have too: a small table for each of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from torch import nn

from edgeface.models.iresnet import IResNet
from edgeface.models.mbf import WideMobileFaceNet
from edgeface.models.mobilefacenet import Bottleneck

Pairs = Iterator[tuple[str, str]]
"""Our name of a part and theirs."""


@dataclass(frozen=True, slots=True)
class Source:
    """Somebody whose weights fit our networks.

    Attributes:
        name: in words.
        preprocessing: how their networks see a face, `arcface` or `adaface`; both take (pixel - 127.5) / 127.5, the one
            of RGB, the other of BGR.
        parts: gives the parts of a network; None where they have no such network.
    """

    name: str
    preprocessing: str
    parts: Callable[[nn.Module], Pairs | None]

    def names(self, network: nn.Module) -> dict[str, str] | None:
        """Return their name of each tensor by ours; None where they have no such network."""
        parts = self.parts(network)
        if parts is None:
            return None
        theirs = dict(parts)
        return {name: _renamed(name, theirs) for name in network.state_dict()}


def _renamed(name: str, theirs: dict[str, str]) -> str:
    part, _, tensor = name.rpartition(".")
    return f"{theirs[part]}.{tensor}" if part in theirs else name


def _same(_: nn.Module) -> Pairs:
    return iter(())


def _arcface_mbf(network: nn.Module) -> Pairs | None:
    return _mbf_parts(network) if isinstance(network, WideMobileFaceNet) else None


def _mbf_parts(network: WideMobileFaceNet) -> Pairs:
    # Theirs is a list: convolutions, strided bottlenecks, and one entry for each row of bottlenecks with shortcuts.
    children = list(network.features)
    place, row, at = 0, 0, 0
    while at < len(children):
        child = children[at]
        if isinstance(child, Bottleneck):
            where = f"layers.{place}.layers.{row}.layers" if child.shortcut else f"layers.{place}.layers"
            # Ours has eight layers side by side: convolution, norm and slopes twice, then convolution and norm.
            yield from ((f"features.{at}.layers.{i}", f"{where}.{i // 3}.layers.{i % 3}") for i in range(8))
            at += 1
            following = children[at] if at < len(children) else None
            goes_on = child.shortcut and isinstance(following, Bottleneck) and following.shortcut
            row = row + 1 if goes_on else 0
            place += not goes_on
        else:
            last = at + 3 == len(children)
            where = "conv_sep.layers" if last else f"layers.{place}.layers"
            yield from ((f"features.{at + i}", f"{where}.{i}") for i in range(3))
            at += 3
            place += 1
    ends = {0: "0.layers.0", 1: "0.layers.1", 3: "2", 4: "3"}
    yield from ((f"head.{ours}", f"features.layers.{theirs}") for ours, theirs in ends.items())


def _adaface(network: nn.Module) -> Pairs | None:
    return _ir_parts(network) if isinstance(network, IResNet) and network.subsampled else None


def _ir_parts(network: IResNet) -> Pairs:
    yield from (("conv1", "input_layer.0"), ("bn1", "input_layer.1"), ("prelu", "input_layer.2"))
    unit = 0  # theirs are counted through all stages
    for stage in range(1, 5):
        for index in range(len(getattr(network, f"layer{stage}"))):
            ours, theirs = f"layer{stage}.{index}", f"body.{unit}"
            layers = ("bn1", "conv1", "bn2", "prelu", "conv2", "bn3")
            yield from ((f"{ours}.{layer}", f"{theirs}.res_layer.{i}") for i, layer in enumerate(layers))
            yield from ((f"{ours}.downsample.{i}", f"{theirs}.shortcut_layer.{i}") for i in range(2))
            unit += 1
    yield from (("bn2", "output_layer.0"), ("fc", "output_layer.3"), ("features", "output_layer.4"))


SOURCES: Final = (
    Source("our own names, which insightface's arcface_torch has too", "arcface", _same),
    Source("insightface's arcface_torch", "arcface", _arcface_mbf),
    Source("AdaFace", "adaface", _adaface),
)
"""Looked through in this order; the first with most of the tensors is taken."""

HEADS: Final = frozenset(
    {
        *(
            "head",
            "heads",
            "loss",
            "criterion",
            "margin",
            "classifier",
            "class_head",
            "softmax_fc",
            "fc_head",
            "logits",
        ),
        *("module_partial_fc", "partial_fc", "metric_fc", "kernel", "weight", "weight_mom"),
        *(
            "arcface",
            "arc_face",
            "cosface",
            "cos_face",
            "adaface",
            "ada_face",
            "magface",
            "sphereface",
            "curricularface",
        ),
    }
)
"""First parts of names, beside those of the network, that a loss head has."""
