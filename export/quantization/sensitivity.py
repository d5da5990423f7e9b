"""What each layer alone costs in int8, in the cosine of the embedding."""

import io
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from edgeface.export.parity import Parity
from edgeface.export.quantization.layers import Graph, Layer

CHART_NAME: Final = "sensitivity.png"


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One layer in int8 while all others are in float.

    Attributes:
        layer: which.
        loss: mean of 1 - cosine to the float32 embedding.
    """

    layer: Layer
    loss: float


def measure_sensitivity(graph: Graph, judge: Callable[[Collection[str]], Parity]) -> tuple[Sensitivity, ...]:
    """Quantize one layer at a time.

    One at a time, not all but one: errors of layers add up nearly independently (Wu et al., "Integer Quantization for
    Deep Learning Inference", 2020, arXiv 2004.09602, section 6.1), and next to 60 others the share of one drowns.

    Args:
        graph: whose layers.
        judge: compares the network with these layers in float, every weight of theirs in float32, with the original.

    Returns:
        In the order of the layers.
    """
    names = [layer.name for layer in graph.layers]
    return tuple(
        Sensitivity(layer, 1.0 - judge([name for name in names if name != layer.name]).mean_cosine)
        for layer in graph.layers
    )


def ranked(sensitivities: Collection[Sensitivity], price: Callable[[str], float]) -> tuple[str, ...]:
    """Name the layers, the one to leave in float first in front; equals in the order in which they run.

    First comes what saves the most loss for its price.

    Args:
        sensitivities: of all layers.
        price: what a layer costs in float, by its name; anything below one counts as one.
    """
    urgencies = {entry.layer.name: entry.loss / max(1.0, price(entry.layer.name)) for entry in sensitivities}
    return tuple(sorted(urgencies, key=lambda name: -urgencies[name]))


def draw_sensitivity(sensitivities: Collection[Sensitivity], float_layers: Collection[str]) -> bytes:
    """Draw the loss of each layer as a bar, in the order in which they run; returns a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 0.17 * len(sensitivities) + 2), 4.8), layout="constrained")
    axes = figure.subplots()
    places = range(len(sensitivities))
    losses = [max(entry.loss, 1e-7) for entry in sensitivities]
    floats = [entry.layer.name in float_layers for entry in sensitivities]
    for wanted, colour, label in ((False, "tab:blue", "in int8"), (True, "tab:orange", "left in float")):
        chosen = [place for place, kept in zip(places, floats, strict=True) if kept == wanted]
        axes.bar(chosen, [losses[place] for place in chosen], color=colour, label=f"{label} ({len(chosen)})")
    axes.set_yscale("log")
    axes.set_ylabel("mean of 1 - cosine, this layer alone in int8")
    labels = [f"{entry.layer.name.split('/')[-1]}{' dw' if entry.layer.depthwise else ''}" for entry in sensitivities]
    axes.set_xticks(list(places), labels, rotation=90, fontsize=7)
    axes.set_xlim(-0.7, len(losses) - 0.3)
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    axes.set_title("What quantization costs, layer by layer")
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110, metadata={"Software": None})
    return picture.getvalue()
