"""Two sections of a bundle's report: what it scores, and how sure that is."""

from edgeface.evaluation import markup
from edgeface.evaluation.verification import OPERATING_POINTS
from edgeface.export.card import ALIKE
from edgeface.export.report.charts import score_chart, trade_off_chart
from edgeface.export.report.effects import TradeOff, measure_effects, trade_off
from edgeface.export.report.wording import count, counted, interval, one_in, percentage
from edgeface.export.thresholds import Scored
from edgeface.intervals import pairs_needed, people_needed
from edgeface.manifest import Accuracy, Manifest, ThresholdData
from edgeface.metrics import RULE_OF_THREE
from edgeface.scoring import WORDS


def score_section(manifest: Manifest, scored: Scored | None) -> list[str]:
    """Say how often the networks are right: a table of accuracies, and pictures of the scores that are at hand."""
    measured = {name: entry.accuracy for name, entry in manifest.precisions.items() if entry.accuracy is not None}
    parts = [markup.heading("What it scores")]
    if not measured and not manifest.thresholds:
        return [
            *parts,
            markup.paragraph(
                "Not measured. Accuracy and thresholds need pictures of which it is known who is on them, and none "
                "were given when the bundle was made. So nobody knows yet how often this network is right."
            ),
            markup.paragraph(
                "To get them, put pictures of people like those who will use it, taken with the camera that will be "
                "used, into one folder for each person, and run: `edgeface calibrate BUNDLE --data FOLDER --fmr 1e-2 "
                "--out NEW`. It writes a new bundle with thresholds and a new report. That takes people more than "
                f"pictures: {people_needed(pairs_needed(1e-2))} people for {one_in(1e-2)}, "
                f"{people_needed(pairs_needed(1e-3))} for {one_in(1e-3)}. With `edgeface eval BUNDLE --data FOLDER` "
                "the accuracy is measured as well."
            ),
        ]
    parts.append(
        markup.paragraph(
            "It was shown pairs of pictures: genuine pairs, of one person, and impostor pairs, of two people. Two "
            "things can go wrong. A false match takes a stranger for somebody; how often that happens is the false "
            "match rate, FMR (elsewhere FAR). A false non-match does not recognise a person; the share of genuine "
            "pairs that are recognised is the true accept rate, TAR. A stricter threshold makes false matches rarer "
            "and false non-matches more frequent."
        )
    )
    if measured:
        parts += _accuracy_table(measured)
    if scored is None:
        return parts
    names = [name for name in manifest.precisions if (name, name) in scored.scores]
    curves = {name: trade_off(scored.scores[name, name], scored.data.independent) for name in names}
    if not scored.reports:  # other pictures than those of the accuracy
        parts.append(markup.paragraph(f"On {_people(scored.data)}, which the thresholds were chosen on:"))
        rows = [[name, percentage(curves[name].curve.eer), *_rates(curves[name], scored.data)] for name in names]
        parts.append(markup.table(("precision", "equal error rate", *_rate_header(scored.data)), rows))
    return parts + _pictures(manifest, scored, curves)


def certainty_section(manifest: Manifest, scored: Scored | None) -> list[str]:
    """Say how far the numbers can be trusted, and which ones the data cannot show; empty where there are none."""
    data = manifest.threshold_data
    accuracy = manifest.precisions[manifest.baseline].accuracy
    if data is None and accuracy is None:
        return []
    parts = [markup.heading("How sure that is")]
    if accuracy is not None:
        low, high = (accuracy.accuracy + side * 2 * accuracy.accuracy_se for side in (-1, 1))
        parts.append(
            markup.paragraph(
                "The number behind ± is the standard error, by which the accuracy would differ from one such set of "
                f"pairs to the next. The truth lies within two of them with about 95 % confidence: for "
                f"{manifest.baseline} between {interval(max(low, 0), min(high, 1)).replace(' to ', ' and ')}."
            )
        )
    if data is None:
        return parts
    parts += [markup.paragraph(text) for text in _evidence(data)]
    if scored is None:
        return parts
    own = {(t.precision, t.fmr): t for t in manifest.thresholds if t.gallery == t.precision}
    rows = [
        [
            effect.threshold.precision,
            f"{effect.threshold.cosine:.4f}",
            f"{percentage(effect.fmr)} ({interval(*effect.fmr_interval)})",
            f"{percentage(effect.fnmr)} ({interval(*effect.fnmr_interval)})",
        ]
        for effect in measure_effects(tuple(own.values()), scored)
    ]
    return [
        *parts,
        markup.paragraph(
            "What each threshold did to these pairs, in brackets the 95 % interval: of a hundred such intervals about "
            "95 hold the true rate. It is narrow where there were many pairs."
        ),
        markup.table(("precision", "threshold", "strangers let in", "own people refused"), rows),
        markup.note(
            f"Intervals by Wilson, for {counted(data.independent, 'impostor pair')} and "
            f"{counted(scored.disjoint, 'genuine pair')} that count as independent. Where pairs share people the true "
            "uncertainty is somewhat larger."
        ),
    ]


def _accuracy_table(measured: dict[str, Accuracy]) -> list[str]:
    first = next(iter(measured.values()))
    rates = list(first.tar)
    rows = [
        [
            name,
            f"{percentage(entry.accuracy)} ± {percentage(entry.accuracy_se)}",
            percentage(entry.eer),
            *(percentage(entry.tar[rate]) for rate in rates),
        ]
        for name, entry in measured.items()
    ]
    header = ("precision", "accuracy", "equal error rate", *(f"TAR at {one_in(float(rate))}" for rate in rates))
    return [
        markup.paragraph(
            f"Accuracy is the share of right answers among {count(first.pairs)} pairs ({first.protocol}), compared by "
            f"{WORDS[first.scoring]}; the "
            "threshold for each part of them was chosen on the other parts. At the equal error rate, EER, both "
            "mistakes are equally frequent: one number to compare networks by. TAR at 1 in 1 000 is the share of "
            "genuine pairs that are recognised while one impostor pair in a thousand is a false match."
        ),
        markup.table(header, rows),
    ]


def _pictures(manifest: Manifest, scored: Scored, curves: dict[str, TradeOff]) -> list[str]:
    names = list(curves)
    own = [t for t in manifest.thresholds if t.gallery == t.precision == names[0]]
    strictest = min(own, key=lambda threshold: threshold.fmr, default=None)
    parts = [
        markup.subheading("The scores"),
        markup.paragraph(
            "The further apart both heaps lie, the better. What lies right of the threshold is taken for one person. "
            + (f"Areas are {names[0]}; where the others differ, their lines leave them." if len(names) > 1 else "")
        ),
        score_chart({name: scored.scores[name, name] for name in names}, strictest, scored.scoring),
        markup.subheading("The choice"),
    ]
    drawable = {name: curve for name, curve in curves.items() if len(curve.fmr)}
    if not drawable:
        return [*parts, markup.paragraph("The pairs are too few to draw how both mistakes depend on the threshold.")]
    return [
        *parts,
        markup.paragraph(
            "Each threshold is a point on this curve (detection error trade-off, DET): further left fewer strangers "
            "are let in, further up more of one's own people are refused. Lower is better. Circles are the thresholds "
            "of this bundle. In the grey area the pairs are too few."
        ),
        trade_off_chart(drawable, manifest.thresholds),
    ]


def _evidence(data: ThresholdData) -> list[str]:
    tightest = RULE_OF_THREE / data.independent
    short = [(rate, pairs_needed(rate)) for rate in OPERATING_POINTS if pairs_needed(rate) > data.independent]
    told = [
        f"Thresholds and curves rest on {_people(data)}: {count(data.genuine)} genuine and "
        f"{counted(data.impostors, 'impostor pair')}."
    ]
    if data.independent < data.impostors:
        told.append(
            "All pictures were compared with all, but those of the same two people resemble each other. What counts "
            f"are the {count(data.independent)} pairs of people."
        )
    if data.only_alike:
        told.append(ALIKE.strip())
    rule = (
        "Not every rate can be shown. If nothing goes wrong in N trials, the true rate can still be 3 in N (with 95 % "
        f"confidence; this is the rule of three). {counted(data.independent, 'impostor pair')} therefore support no "
        f"false match rate below {one_in(tightest)}."
    )
    if short:
        rate, needed = short[0]
        rule += f" A rate of {one_in(rate)} takes {count(needed)} pairs, each rate ten times rarer ten times as many."
    return [*told, rule]


def _people(data: ThresholdData) -> str:
    people = "" if data.people is None else f" of {counted(data.people, 'person', 'people')}"
    return f"{data.name}, {counted(data.faces, 'picture')}{people}"


def _rate_header(data: ThresholdData) -> list[str]:
    return [f"TAR at {one_in(rate)}" for rate in OPERATING_POINTS if pairs_needed(rate) <= data.independent]


def _rates(curve: TradeOff, data: ThresholdData) -> list[str]:
    return [
        percentage(curve.curve.at_fmr(rate)[0]) for rate in OPERATING_POINTS if pairs_needed(rate) <= data.independent
    ]
