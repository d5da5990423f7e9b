"""Two sections of a bundle's report: where the thresholds come from, and what they mean in a gallery."""

import math
from typing import Final

from edgeface.evaluation import markup
from edgeface.export.card import GALLERY_SIZES
from edgeface.export.report.wording import count, counted, listed, one_in, percentage, strangers
from edgeface.intervals import pairs_needed, people_needed
from edgeface.manifest import Manifest, Threshold
from edgeface.metrics import RULE_OF_THREE
from edgeface.operating_points import false_positive_rate
from edgeface.scoring import WORDS

WANTED_FPIR: Final = 1e-2
"""The false positive rate of a search that the largest gallery is told for."""


def threshold_section(manifest: Manifest) -> list[str]:
    """List the thresholds: for how many strangers, how sure, and on what they were measured."""
    parts = [markup.heading("Where the threshold comes from")]
    if not manifest.thresholds:
        return [
            *parts,
            markup.paragraph(
                "There is none yet, because nothing was measured that one could be chosen on. A threshold from another "
                "network or another camera is a guess: measure one with `edgeface calibrate`, as said above. Until "
                "then a device must be told one (`--threshold`)."
            ),
        ]
    rows = [
        [
            strangers(threshold),
            threshold.precision,
            threshold.gallery,
            f"{threshold.cosine:.4f}",
            f"{threshold.interval[0]:.4f} to {threshold.interval[1]:.4f}",
            "not measured" if threshold.tar is None else percentage(threshold.tar),
            f"{threshold.data}, {counted(threshold.pairs, 'impostor pair')}",
        ]
        for threshold in _distinct(manifest.thresholds)
    ]
    word = WORDS[manifest.scoring]
    header = ("lets in", "camera in", "templates in", word, "95 % interval", "recognises", "measured on")
    return [
        *parts,
        markup.paragraph(
            "Each threshold was chosen so that it lets in a stated share of strangers, and was read off the scores of "
            "pairs of two people. It belongs to the network that made these scores: there is one for each pair of "
            "precisions, because templates may have been enrolled in one and faces of the camera be computed in "
            "another. The interval is where the threshold for this rate truly lies, with 95 % confidence."
        ),
        markup.table(header, rows),
        *([markup.paragraph(_too_few(manifest.thresholds))] if _short(manifest.thresholds) else []),
    ]


def gallery_section(manifest: Manifest) -> list[str]:
    """Say how often a stranger is taken for somebody among many; empty without thresholds."""
    if not manifest.thresholds:
        return []
    rates = sorted({threshold.fmr for threshold in manifest.thresholds}, reverse=True)
    rows = [
        [f"{one_in(rate)} strangers", *(_chances(false_positive_rate(rate, size)) for size in GALLERY_SIZES)]
        for rate in rates
    ]
    header = ("threshold lets in", *(counted(size, "template") for size in GALLERY_SIZES))
    parts = [
        markup.heading("What it means in a gallery of many people"),
        markup.paragraph(
            "The rates above are of one comparison. A camera compares a face with every template of the gallery, and "
            "a stranger has as many chances to be taken for somebody. With N templates that happens to at most "
            "FPIR = 1 - (1 - FMR)^N of the strangers; FPIR is the false positive identification rate. Somebody with "
            "three pictures counts as three templates."
        ),
        markup.table(header, rows),
        markup.paragraph(
            "So a gallery needs a stricter threshold the larger it is. `edgeface run --fpir` takes the right one for "
            "the templates that are enrolled, as far as the measured pairs support one."
        ),
    ]
    if manifest.threshold_data is not None:
        tightest = RULE_OF_THREE / manifest.threshold_data.independent
        largest = 0 if tightest >= 1 else math.floor(math.log1p(-WANTED_FPIR) / math.log1p(-tightest) + 1e-9)
        held = (
            f"up to {counted(largest, 'template')}"
            if largest
            else "not even with one template; calibrate on more people"
        )
        parts.append(
            markup.paragraph(
                f"These pairs support no rate below {one_in(tightest)}. A search that takes {one_in(WANTED_FPIR)} "
                f"strangers for somebody can be promised with them {held}."
            )
        )
    return parts


def _chances(rate: float) -> str:
    words = one_in(rate)
    return words if words.endswith("in 100") and rate > WANTED_FPIR else f"{words} ({100 * rate:.2g} %)"


def _distinct(thresholds: tuple[Threshold, ...]) -> list[Threshold]:
    """Leave out thresholds that were asked for a smaller rate and became one that is there already."""
    kept: dict[tuple[str, str, float], Threshold] = {}
    for threshold in sorted(thresholds, key=lambda threshold: threshold.fmr != threshold.asked_fmr):
        kept.setdefault((threshold.gallery, threshold.precision, threshold.fmr), threshold)
    return [threshold for threshold in thresholds if threshold in kept.values()]


def _short(thresholds: tuple[Threshold, ...]) -> list[Threshold]:
    return [threshold for threshold in thresholds if threshold.fmr != threshold.asked_fmr]


def _too_few(thresholds: tuple[Threshold, ...]) -> str:
    asked = sorted({threshold.asked_fmr for threshold in _short(thresholds)})
    reached = max(threshold.fmr for threshold in _short(thresholds))
    needed = pairs_needed(asked[0])
    return (
        f"Asked was also for {listed([one_in(rate) for rate in asked])}. The pairs cannot show so small a rate, so "
        f"that threshold is for {one_in(reached)}. `edgeface calibrate` reaches it with {count(needed)} pairs of "
        f"people, which takes {count(people_needed(needed))} people."
    )
