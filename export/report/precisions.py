"""A section of a bundle's report: what smaller numbers cost, and what they bring."""

from typing import Any, Final

from edgeface.evaluation import markup
from edgeface.export.report.charts import layer_chart
from edgeface.export.report.effects import count_flips
from edgeface.export.report.wording import count, counted, megabytes, one_in, points
from edgeface.export.thresholds import Scored
from edgeface.manifest import Manifest, Quantization

COSTLIEST: Final = 8
"""Layers that are named below the chart of all."""

_TOLD_ELSEWHERE: Final = ("float_nodes", "bound", "speed", "sensitivity", "finetuning")
_WORDS: Final = {
    "target": "made for the processor",
    "activations": "numbers between layers",
    "weights": "numbers within layers",
    "per_channel": "a scale for each channel",
    "reduce_range": "one bit less, for processors that overflow",
    "method": "how ranges were found",
    "float_weights": "weights of layers in float are in float32",
}


def cost_section(manifest: Manifest, scored: Scored | None) -> list[str]:
    """Compare every precision with the first: size, speed, cosines, errors, decisions; and say how int8 was made."""
    name = manifest.baseline
    others = [other for other in manifest.precisions if other != name]
    shortened = [precision for precision in manifest.precisions if precision != "fp32"]
    if not shortened:
        return []
    parts = [
        markup.heading(f"What {'int8' if 'int8' in shortened else shortened[0]} costs"),
        markup.paragraph(
            "Quantization stores and computes with shorter numbers. The file becomes smaller, the network often "
            "faster, and the embeddings a little different. How different is told by the cosine between the embedding "
            "of a face and that of the network it was made from: 1 would be not at all."
        ),
        markup.table(
            ("precision", "size", "one face, one thread", "smallest cosine", "mean cosine"),
            [_network_row(manifest, precision) for precision in manifest.precisions],
        ),
        markup.note(
            f"Cosines are of {counted(manifest.precisions[name].parity_images, 'face')}; the smallest is that of the "
            "face that changed most. Times are medians on the machine that made the bundle; `edgeface bench` measures "
            "them on yours."
        ),
    ]
    for precision, entry in manifest.precisions.items():
        if entry.quantization is not None and entry.quantization.speed is not None:
            parts.append(markup.paragraph(f"Speed of {precision}: {entry.quantization.speed}."))
    parts += _differences(manifest, name, others)
    if scored is not None:
        parts += _decisions(manifest, scored, name, others)
    for precision, entry in manifest.precisions.items():
        if entry.quantization is not None:
            parts += _making(precision, entry.quantization)
    return parts


def _network_row(manifest: Manifest, precision: str) -> list[str]:
    entry = manifest.precisions[precision]
    times = ", ".join(f"{milliseconds:.2f} ms ({provider})" for provider, milliseconds in entry.latency_ms.items())
    size = megabytes(manifest.files[entry.file].bytes)
    return [precision, size, times, f"{entry.min_cosine:.4f}", f"{entry.mean_cosine:.4f}"]


def _differences(manifest: Manifest, name: str, others: list[str]) -> list[str]:
    first = manifest.precisions[name].accuracy
    measured = {other: own for other in others if (own := manifest.precisions[other].accuracy) is not None}
    if first is None or not measured:
        return []
    rows = [
        ["accuracy", *(points(own.accuracy - first.accuracy) for own in measured.values())],
        ["equal error rate", *(points(own.eer - first.eer) for own in measured.values())],
    ]
    rows += [
        [f"TAR at {one_in(float(rate))}", *(points(own.tar[rate] - tar) for own in measured.values())]
        for rate, tar in first.tar.items()
        if all(rate in own.tar for own in measured.values())
    ]
    return [
        markup.paragraph(
            f"Against {name} on {count(first.pairs)} pairs ({first.protocol}), in percentage points. More is better, "
            "except for the equal error rate."
        ),
        markup.table(("difference in", *measured), rows),
    ]


def _decisions(manifest: Manifest, scored: Scored, name: str, others: list[str]) -> list[str]:
    rows = [
        [
            other,
            f"{one_in(flips.fmr)} strangers",
            f"{count(flips.worse + flips.better)} of {count(flips.pairs)}",
            count(flips.genuine_lost),
            count(flips.impostors_let_in),
            count(flips.better),
        ]
        for other in others
        for flips in count_flips(manifest.thresholds, scored, other, name)
    ]
    if not rows:
        return []
    return [
        markup.paragraph(
            f"Decisions on {scored.data.name} that came out differently from {name}, each precision at its own "
            "threshold. Where it is right instead about as often as wrong, only close calls fell to either side."
        ),
        markup.table(
            (
                "precision",
                "threshold for",
                "differ",
                "wrong: own people refused",
                "wrong: strangers let in",
                f"right where {name} is wrong",
            ),
            rows,
        ),
        markup.note(
            "Whether a difference is more than chance: `edgeface eval BUNDLE --data FOLDER --precision "
            f"{name} --against-precision {others[-1]}`."
        ),
    ]


def _making(precision: str, record: Quantization) -> list[str]:
    parts = [markup.subheading(f"How {precision} was made")]
    if record.bound is not None:
        told = f"What was asked of it, and what it reaches: {record.bound}. The cosines above are of all faces."
        parts.append(markup.paragraph(told))
    if record.float_nodes:
        parts.append(
            markup.paragraph(
                f"{counted(len(record.float_nodes), 'layer')} stayed in float, as {precision} would be no faster there "
                f"or cost too much: {', '.join(record.float_nodes)}."
            )
        )
    else:
        parts.append(markup.paragraph(f"All layers compute in {precision}; none had to stay in float."))
    facts: dict[str, Any] = record.model_dump()
    rows = [
        (_WORDS.get(fact, fact.replace("_", " ")), _plain(value))
        for fact, value in facts.items()
        if fact not in _TOLD_ELSEWHERE and value is not None and _plain(value)
    ]
    if (tuned := record.finetuning) is not None:
        outcome = "is the one here" if tuned.kept else "was not better, so the one from before is here"
        parts.append(
            markup.paragraph(
                f"It was fine-tuned: trained for {counted(tuned.epochs, 'epoch')} on {counted(tuned.faces, 'face')} to "
                f"give the embeddings of fp32. On {counted(tuned.held_apart, 'face')} held apart the mean of 1 - cosine"
                f" went from {tuned.loss_before:.3g} to {tuned.loss_after:.3g}. The network after it {outcome}."
            )
        )
    return [*parts, markup.facts(rows), *_sensitivity(record)]


def _sensitivity(record: Quantization) -> list[str]:
    if not record.sensitivity:
        return [markup.note("What each layer costs was not measured; export with `--sensitivity` measures it.")]
    losses = sorted(record.sensitivity.items(), key=lambda entry: -entry[1])
    rows = [
        [layer, f"{loss:.3g}", "float" if layer in record.float_nodes else "int8"] for layer, loss in losses[:COSTLIEST]
    ]
    return [
        markup.paragraph(
            "A bar for each layer: by how much the embeddings change if this layer alone computes in int8. Each line "
            "of the scale is ten times the one below it."
        ),
        layer_chart(record),
        markup.table(("costliest layers", "1 - cosine", "computes in"), rows),
    ]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{str(key).replace('_', ' ')}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, float):
        return f"{value:g}"
    return ", ".join(map(_plain, value)) if isinstance(value, (tuple, list)) else str(value)
