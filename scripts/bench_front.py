"""Whether the int8 network that the export chooses lies on the measured front: is any other better in both?

usage: bench_front.py FACES [--min-cosine C] [--onnx NET ... | --model NAME]

Chooses as `edgeface export` does, then moves one layer at a time from int8 to float or back, and times each such
network and the chosen one in turns. Where a network lies in memory makes a difference of per cents, so that a swap
that comes nearer to the original and seems faster is timed again with both opened anew several times: it is better in
both if it is then faster by more than two standard errors over those openings.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
from networks import network_options, open_subject

from edgeface.export.cleaning import serialize
from edgeface.export.parity import compare
from edgeface.export.prelu import rewrite_prelu
from edgeface.export.quantization.bounded import Bounds, Trial, quantize_within
from edgeface.export.quantization.quantize import Quantizer
from edgeface.export.quantization.search import Plan
from edgeface.export.quantization.targets import resolve_target
from edgeface.runtime.embedder import Embedder, open_embedder
from edgeface.runtime.timing import take_turns

OPENINGS = 8


def main() -> None:
    parser = network_options(__doc__.splitlines()[0])
    parser.add_argument("--min-cosine", type=float, default=0.98)
    options = parser.parse_args()
    subject = open_subject(options)
    model = rewrite_prelu(subject.model)
    quantizer = Quantizer(model, subject.calibration, resolve_target(options.target))
    original = _open(serialize(model))
    reference = original.embed(subject.test)
    trial = Trial(subject.test, reference, "held-out faces", None, serialize(model))
    record = quantize_within(quantizer, Bounds(min_cosine=options.min_cosine), trial).record
    assert record is not None
    plan = Plan(record.float_nodes, record.float_weights)
    data = serialize(quantizer.write(plan))
    chosen = _open(data)
    parity = compare(reference, chosen.embed(subject.test))
    layers, face = quantizer.graph.layers, subject.test[:1]
    print(
        f"{subject.name}, target {quantizer.target.name}, {len(layers)} layers, {len(plan.float_layers)} in float: ",
        end="",
    )
    print(f"mean cosine {parity.mean_cosine:.5f}, smallest {parity.min_cosine:.4f}")

    better = []
    print(f"{'layer':32} {'becomes':8} {'1 - mean cosine':>16} {'time':>8} {'+- 2 se':>8}")
    for layer in layers:
        was_float = layer.name in plan.float_layers
        others = tuple(name for name in plan.float_layers if name != layer.name)
        swap = Plan(others if was_float else (*others, layer.name), plan.float_weights)
        swapped = _open(serialize(quantizer.write(swap)))
        loss = (1 - compare(reference, swapped.embed(subject.test)).mean_cosine) / (1 - parity.mean_cosine) - 1
        change, error = _paired(chosen, swapped, face, options.rounds)
        if loss < 0 and change < -2 * error:
            change, error = _reopened(data, serialize(quantizer.write(swap)), face, options.rounds)
            if change < -2 * error:
                better.append(layer.name)
        mark = "better in both" if layer.name in better[-1:] else ""
        becomes = "int8" if was_float else "float"
        print(f"{layer.name:32} {becomes:8} {loss:+16.1%} {change:+8.2%} {2 * error:8.2%} {mark}", flush=True)
    change, error = _paired(original, chosen, face, options.rounds)
    print(f"int8 takes {1 + change:.1%} +- {2 * error:.1%} of the time of fp32: {1 / (1 + change):.2f} times as fast")
    print(f"{len(better)} of {len(layers)} swaps are better in both")


def _open(data: bytes) -> Embedder:
    return open_embedder(data, provider="cpu", threads=1)


def _paired(base: Embedder, other: Embedder, face: npt.NDArray[np.uint8], rounds: int) -> tuple[float, float]:
    """Return by what share the time of the other one differs, the median of pairs, and its standard error."""
    base_ms, other_ms = take_turns([partial(base.embed, face), partial(other.embed, face)], rounds, 10)
    changes = np.array(other_ms) / np.array(base_ms) - 1
    low, middle, high = np.quantile(changes, [0.25, 0.5, 0.75])
    return float(middle), float(1.2533 * (high - low) / 1.349 / np.sqrt(rounds))


def _reopened(base: bytes, other: bytes, face: npt.NDArray[np.uint8], rounds: int) -> tuple[float, float]:
    """Return the same over several openings of both networks, which of them is first in turns, too."""
    changes = []
    for opening in range(OPENINGS):
        if opening % 2:
            changes.append(_paired(_open(base), _open(other), face, rounds)[0])
        else:
            second, first = _open(other), _open(base)
            changes.append(1 / (1 + _paired(second, first, face, rounds)[0]) - 1)
    return float(np.mean(changes)), float(np.std(changes, ddof=1) / np.sqrt(OPENINGS))


if __name__ == "__main__":
    main()
